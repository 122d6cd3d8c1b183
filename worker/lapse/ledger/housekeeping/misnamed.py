"""What applications stored under the plural of a kind, where no worker looks: found, and moved to where one does.

Clients before this one took any name for a kind. The slots of two kinds are two slots of a cluster: what is moved is
first written where it belongs and then removed where it was, a hold before all else, and only if it is still the same.
It is removed once replicas have it where it belongs: the two slots may fail over one without the other.
"""

import json
import time
from collections.abc import Iterable, Mapping
from itertools import starmap
from typing import Any

import structlog

from lapse.errors import InvalidResource
from lapse.registry import codec, keys
from lapse.registry.aio import Carrier
from lapse.registry.commands import Commands
from lapse.registry.kind_names import PLURALS, singular
from lapse.registry.model import EDGES_MARKER, FORGOTTEN_MARKER, HOLDS_MARKER, Resource
from lapse.registry.protocol import at_replicas
from lapse.registry.scripts import Call, as_it_is

CHUNK = 100
_HOLDING = (keys.HOLDS, keys.POLICIES, keys.FORGOTTEN, keys.EDGES, keys.ASIDE, keys.FACTS)

log = structlog.get_logger("lapse")


class Misnamed:
    """Moves what stands under a wrong name of a kind."""

    def __init__(self, carrier: Carrier, namespace: str) -> None:
        self._carrier = carrier
        self._namespace = namespace
        self._commands = Commands(namespace, None)

    async def run(self, providers: Iterable[str], until: float) -> int:
        """Move all that is found until a time of ``time.monotonic``; return how much."""
        moved = 0
        for provider, wrong, kind in await self._found(providers):
            slot = _Slot(self._carrier, self._commands, provider, wrong, kind)
            counts = {"holds": 0, "ids": 0, "forgotten": 0, "edges": 0}
            for what, move in (
                ("holds", slot.holds),
                ("ids", slot.ids),
                ("forgotten", slot.forgotten),
                ("edges", slot.edges),
            ):
                while time.monotonic() < until and (n := await move()):
                    counts[what] += n
            moved += sum(counts.values())
            if any(counts.values()):
                log.warning("kind.corrected", provider=provider, written=wrong, kind=kind, **counts)
        return moved

    async def _found(self, providers: Iterable[str]) -> list[tuple[str, str, str]]:
        """Return (provider, wrong name, kind) of every slot that holds something under a wrong name."""
        asked = {(provider, plural, kind) for provider in providers for kind, plural in PLURALS.items()}
        (told,) = await self._carrier.run([("SMEMBERS", keys.slots(self._namespace))])
        asked |= {
            (provider, word, kind) for provider, word, kind in starmap(_meant, keys.slots_named(told)) if word != kind
        }
        chosen = sorted(asked)
        slots = [keys.slot(self._namespace, provider, wrong) for provider, wrong, _ in chosen]
        there = await self._carrier.run([("EXISTS", *(slot + name for name in _HOLDING)) for slot in slots])
        return [one for one, count in zip(chosen, there, strict=True) if count]


class _Slot:
    """One slot under a wrong name. Each method moves a page, and returns how much of it."""

    def __init__(self, carrier: Carrier, commands: Commands, provider: str, wrong: str, kind: str) -> None:
        self._carrier = carrier
        self._commands = commands
        self._provider, self._wrong, self._kind = provider, wrong, kind
        self._slot = keys.slot(commands.namespace, provider, wrong)

    async def holds(self) -> int:
        """Move holds. Where both names hold an id, the hold without an end stays."""
        ((_, flat),) = await self._carrier.run([("HSCAN", self._slot + keys.HOLDS, 0, "COUNT", CHUNK)])
        held = dict(zip((id_.decode() for id_ in flat[::2]), flat[1::2], strict=True))
        held.pop(HOLDS_MARKER, None)
        for id_, stored in held.items():
            hold = _readable(json.loads(stored))
            place = keys.slot(self._commands.namespace, self._provider, self._kind) + keys.HOLDS
            (there,) = await self._carrier.run([("HGET", place, id_)])
            if not there or ("until" in json.loads(there) and "until" not in hold):
                right = Resource(self._provider, self._kind, id_)
                said = (codec.dump(hold), hold.get("until", ""))
                await self._carry(self._commands.call("registry/lua/hold", right, *said, parse=bytes))
            await self._carrier.say(at_replicas(self._carrier.replicas, place))
            await self._carry(self._on("ledger/lua/housekeeping/misnamed", "hold", id_, stored.decode()))
        return len(held)

    async def ids(self) -> int:
        """Move what is tracked, with its times and facts."""
        (policies,) = await self._carrier.run([("SMEMBERS", self._slot + keys.POLICIES)])
        names = [
            f"{self._slot}{policy}:{index}"
            for policy in keys.policies_named(policies)
            for index in (keys.FRESH, keys.ACTIVE, keys.EXPLICIT)
        ]
        pages = await self._carrier.run([("ZRANGE", name, 0, CHUNK - 1) for name in names]) if names else []
        ((_, aside),) = await self._carrier.run([("HSCAN", self._slot + keys.ASIDE, 0, "COUNT", CHUNK)])
        ids = {id_.decode() for page in [*pages, aside[::2]] for id_ in page}
        moved = [await self._move(id_) for id_ in sorted(ids)]
        return sum(moved)

    async def _move(self, id_: str) -> int:
        wrong = Resource(self._provider, self._wrong, id_)
        ((seen),) = await self._carry(self._commands.call("registry/lua/get", wrong, parse=json.loads))
        record, stored = seen.get("record"), seen.get("facts") or {}
        if not record:
            return 0
        uses = [_right_edge(edge) for edge in stored.get("uses", ())]
        times = {"created": _first(record, "f", "c", "k"), "active": _first(record, "f", "a"), "at": record.get("e")}
        # It comes late: what was said since under the right name stands, above all that it was forgotten.
        said = {"said": times["active"] or times["created"], "uses": uses or None}
        facts = {name: value for name, value in {**stored, **times, **said}.items() if value is not None}
        right = Resource(self._provider, self._kind, id_)
        refers = [
            self._commands.on_slot(
                "registry/lua/refer", use.provider, use.kind, codec.edge_text(right), use.id, parse=int
            )
            for use in map(codec.edge, uses)
        ]
        register = self._commands.on_slot(
            "registry/lua/register", self._provider, self._kind, id_, record["p"], codec.dump(facts), parse=as_it_is
        )
        await self._lasting(*refers, register, *refers)
        same = {name: record.get(name) for name in "facek"}
        (gone,) = await self._carry(
            self._on(
                "ledger/lua/housekeeping/misnamed",
                "id",
                id_,
                codec.dump({k: v for k, v in same.items() if v is not None}),
            )
        )
        return int(gone)

    async def forgotten(self) -> int:
        """Move what was forgotten, unless the id was registered or used since under its right name."""
        (flat,) = await self._carrier.run([("ZRANGE", self._slot + keys.FORGOTTEN, 0, CHUNK - 1, "WITHSCORES")])
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        found.pop(FORGOTTEN_MARKER.encode(), None)
        for id_, since in found.items():
            right = Resource(self._provider, self._kind, id_.decode())
            (seen,) = await self._carry(self._commands.call("registry/lua/get", right, parse=json.loads))
            record = seen.get("record") or {}
            if (_first(record, "a", "f", "k") or 0) <= int(since):
                await self._lasting(self._commands.call("registry/lua/forget", right, parse=as_it_is))
            await self._carry(self._on("ledger/lua/housekeeping/misnamed", "forgotten", right.id, since.decode()))
        return len(found)

    async def edges(self) -> int:
        """Move what protects the ids of this kind, and what their sources say that they use."""
        (flat,) = await self._carrier.run([("ZRANGE", self._slot + keys.EDGES, 0, CHUNK - 1)])
        found = [text for text in flat if text != EDGES_MARKER.encode()]
        for text in found:
            target, _, source = text.decode().partition("|")
            named = codec.edge(_right_edge(source))
            right = Resource(self._provider, self._kind, target)
            old, new = f"{self._provider}|{self._wrong}|{target}", codec.edge_text(right)
            await self._lasting(
                self._commands.on_slot(
                    "registry/lua/refer", self._provider, self._kind, codec.edge_text(named), target, parse=int
                )
            )
            await self._lasting(self._commands.call("ledger/lua/housekeeping/resay", named, old, new, parse=int))
            await self._carry(self._on("ledger/lua/housekeeping/misnamed", "edge", text.decode(), ""))
        return len(found)

    def _on(self, script: str, *args: str) -> Call[Any]:
        return self._commands.on_slot(script, self._provider, self._wrong, *args, parse=int)

    async def _lasting(self, *calls: Call[Any]) -> None:
        for call in calls:
            await self._carrier.carry_lasting([call])

    async def _carry(self, *calls: Call[Any]) -> list[Any]:
        return await self._carrier.carry(calls)


def _meant(provider: str, word: str) -> tuple[str, str, str]:
    try:
        return provider, word, singular(word)
    except InvalidResource:
        return provider, word, word


def _right_edge(text: str) -> str:
    """Return an edge, or a source, with the right name of its kind."""
    one = codec.edge(text)
    _, _, kind = _meant(one.provider, one.kind)
    return codec.edge_text(Resource(one.provider, kind, one.id))


def _first(record: Mapping[str, Any], *names: str) -> int | None:
    return next((int(record[name]) for name in names if record.get(name) is not None), None)


def _readable(hold: Mapping[str, Any]) -> dict[str, Any]:
    # Half of a character, which clients before this one stored, no script can read.
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in hold.items()
    }
