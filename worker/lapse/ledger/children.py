"""How children stand in the registry: asked in slices, without a request, before their parent is touched."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lapse.ledger.claim import Expected
from lapse.ledger.partition import Ledger
from lapse.registry import codec, keys
from lapse.registry.model import Resource

SLICE = 1000
MOST_USERS = 100
FOR_EVER = 2**53

FREE = frozenset({"free", "unknown"})
"""Nothing in the registry is in the way; of ``unknown`` ones a stamp has to say that they are ours."""
UNPLANNED = "unplanned"
"""The plan that lets its parent go does not name it."""
STAYS = frozenset(
    {"foreign", "held", "used", "unnamed", "kept", "quarantined", "observed", "active", "shared", UNPLANNED}
)
"""It lives on, whatever becomes of its parent."""
NOT_NOW = frozenset({"claimed", "paused", "halted", "superseded", "lost", "clock", "elsewhere"})
"""Nobody may delete it at this moment. One that is backed off is none of these: it holds up its parent alone."""


@dataclass(frozen=True, slots=True)
class Question:
    """Children of one kind that stand under the same conditions.

    Attributes:
        ids: Theirs.
        going: What goes with them: its uses do not protect them. Their own parent is the last.
        named: True if one of those has to say in its ``uses`` that it uses them.
        active: When the parent was last active, in registry milliseconds; None: not known.
        since: When it was leased; a use from then on lets a child live.

    """

    ids: Sequence[str]
    going: tuple[Resource, ...]
    named: bool
    active: int | None
    since: int = FOR_EVER

    def stored(self) -> dict[str, Any]:
        """Return it as the script takes it: a null would be a value there."""
        going = [codec.edge_text(source) for source in self.going]
        said = {"ids": list(self.ids), "going": going, "named": self.named, "since": self.since}
        return said if self.active is None else said | {"active": self.active}


@dataclass(frozen=True, slots=True)
class ChildState:
    """A child's status; of a ``used`` one what else uses it, at most MOST_USERS; of a ``free`` one its policy."""

    status: str
    users: frozenset[Resource] = frozenset()
    policy: str = ""


async def standings(
    ledger: Ledger, slot: tuple[str, str], asked: Sequence[Question], rules: Mapping[str, Any], expected: Expected
) -> list[ChildState]:
    """Return how children of one (provider, kind) stand, in their order."""
    found: list[ChildState] = []
    for part in _slices(asked):
        said = codec.dump([one.stored() for one in part])
        call = ledger.on_slot("ledger/lua/check_children", *slot, said, codec.dump(rules), *expected)
        found += [_standing(each) for each in json.loads((await ledger.carrier.carry([call]))[0])]
    return found


def _slices(asked: Sequence[Question]) -> list[list[Question]]:
    slices: list[list[Question]] = [[]]
    room = SLICE
    for one in asked:
        rest = list(one.ids)
        while rest:
            chunk, rest = rest[:room], rest[room:]
            slices[-1].append(replace(one, ids=chunk))
            room -= len(chunk)
            if not room:
                slices.append([])
                room = SLICE
    return [part for part in slices if part]


def _standing(said: str | list[str]) -> ChildState:
    if isinstance(said, str):
        return ChildState(said)
    if said[0] == "free":
        return ChildState("free", policy=said[1])
    return ChildState(said[0], frozenset(codec.edge(user) for user in said[1:]))


async def named_below(
    ledger: Ledger, parents: Sequence[Resource], kinds: Mapping[str, Collection[str]]
) -> list[tuple[Resource, Resource]]:
    """Return each child that the registrations of parents say that these use, and of which; and theirs in turn.

    ``kinds``: of each kind, which kinds of children. Whether one would go along is not asked.
    """
    found: dict[Resource, Resource] = {}
    above = [one for one in parents if kinds.get(one.kind)]
    while above:
        facts = [("HGET", keys.slot(ledger.namespace, one.provider, one.kind) + keys.FACTS, one.id) for one in above]
        stored = zip(above, await ledger.carrier.run(list(facts)), strict=True)
        level = {
            used: parent
            for parent, text in stored
            for used in map(codec.edge, json.loads(text or "{}").get("uses", ()))
            if used.provider == parent.provider and used.kind in kinds[parent.kind] and used not in found
        }
        found |= level
        above = [one for one in level if kinds.get(one.kind)]
    return list(found.items())


async def users(ledger: Ledger, target: Resource, kind: str) -> list[str]:
    """Return the ids of a kind at the target's own provider that use it."""
    key = keys.slot(ledger.namespace, target.provider, target.kind) + keys.EDGES
    prefix = f"{target.id}|{target.provider}|{kind}|"
    found: list[str] = []
    begin = f"[{prefix}"
    while begin:
        command = ("ZRANGEBYLEX", key, begin, f"({prefix[:-1]}}}", "LIMIT", 0, SLICE)
        edges = [edge.decode() for edge in (await ledger.carrier.run([command]))[0]]
        found += [edge.removeprefix(prefix) for edge in edges]
        begin = f"({edges[-1]}" if len(edges) == SLICE else ""
    return found


async def claimed_among(ledger: Ledger, resources: Sequence[Resource]) -> set[Resource]:
    """Return those that are leased now."""
    slots = [keys.slot(ledger.namespace, one.provider, one.kind) for one in resources]
    commands = [("HGET", slot + keys.ASIDE, one.id) for slot, one in zip(slots, resources, strict=True)]
    records = await ledger.carrier.run(commands) if commands else []
    states = [json.loads(record)["s"] if record else "tracked" for record in records]
    return {one for one, state in zip(resources, states, strict=True) if state == "claimed"}


async def last_active(ledger: Ledger, claimed: Resource) -> int | None:
    """Return the last activity of something that is leased, in registry milliseconds; None: it has none to go by.

    One with an expiry of its own counts from its creation: its activity is not kept.
    """
    slot = keys.slot(ledger.namespace, claimed.provider, claimed.kind)
    (stored,) = await ledger.carrier.run([("HGET", slot + keys.ASIDE, claimed.id)])
    record = json.loads(stored) if stored else {}
    at = record.get("a") or record.get("f") or record.get("k")
    return None if at is None else int(at)
