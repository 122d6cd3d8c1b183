"""Operators' switches and the halts a guard sets: pause, resume, approve, epoch; audited with actor and reason."""

import hashlib
import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lapse.ledger.halts.names import lineage, names_known
from lapse.ledger.reasons import BESIDE, OF_A_RULE, HaltReason
from lapse.registry import codec, keys
from lapse.registry.aio import Carrier
from lapse.registry.commands import actor
from lapse.registry.model import PURGED, Partition
from lapse.registry.protocol import at_replicas
from lapse.registry.scripts import Call, script


@dataclass(frozen=True, slots=True)
class Halt:
    """A state in which nothing of a scope is deleted until an operator answers.

    ``policy`` is ``*`` for a whole (provider, kind). ``plan`` is set where ``lapse approve`` answers it; all others
    need ``lapse resume --reason``. ``since`` is in registry milliseconds, as is ``began``: since when what it is about
    went on, where that is known.
    """

    provider: str
    kind: str
    policy: str
    reason: str
    detail: str
    since: int
    plan: str | None = None
    began: int | None = None


_COPY = "paused|"
"""Fields beside the epoch: each pause a second time, so that a ``control`` that is gone ends none."""

_OWED = "owed|"
"""Fields beside them: the audit record of a pause, or of its end, that is not in every slot yet."""

_ALSO_OURS = "stamp|"
"""Fields beside them: what the stamps begin with of a registry that was imported here from another namespace."""

REWIND = 1_000_000
"""By how much accepting an older state moves the sequence on: past whatever any process remembers."""


class Halts:
    """Reads and writes the switches of one namespace."""

    def __init__(self, carrier: Carrier, namespace: str) -> None:
        self._carrier = carrier
        self._namespace = namespace

    async def epoch(self) -> str:
        """Return the registry's epoch, made once by the first worker."""
        key = keys.epoch(self._namespace)
        (stored,) = await self._carrier.run([("HGET", key, "id")])
        if stored is None:
            now = await self.now()
            # Two first workers may come here at once: one wins, and both go by what they read afterwards.
            await self._carrier.write(("HSETNX", key, "id", secrets.token_hex(6)), ("HSETNX", key, "created", now))
            (stored,) = await self._carrier.run([("HGET", key, "id")])
        return str(stored.decode())

    async def began(self) -> int:
        """Return when the registry's epoch began, in registry milliseconds."""
        (stored,) = await self._carrier.run([("HGET", keys.epoch(self._namespace), "created")])
        return int(stored)

    async def rolled_back(self) -> int:
        """Return when an operator accepted an older state of the registry, in registry milliseconds; 0 for never."""
        (stored,) = await self._carrier.run([("HGET", keys.epoch(self._namespace), "rolled_back")])
        return int(stored or 0)

    async def now(self) -> int:
        """Return Redis TIME in milliseconds."""
        ((seconds, micros),) = await self._carrier.run([("TIME",)])
        return int(seconds) * 1000 + int(micros) // 1000

    async def pause(
        self,
        scope: str,
        reason: str,
        by: str | None = None,
        *,
        slots: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Stop everything of a scope: ``*``, a provider, ``provider/kind`` or ``provider/kind/policy``.

        ``slots``: every (provider, kind) there is; the audit of each that the scope covers gets the record.
        """
        who = by or actor()
        stored = codec.dump({"actor": who, "reason": reason, "since": await self.now()})
        epoch, owed = keys.epoch(self._namespace), codec.dump({"why": reason, "actor": who})
        # The switch first: whatever becomes of the rest, nothing is deleted from here on.
        await self._carrier.write(
            ("HSET", keys.control(self._namespace), scope, stored),
            ("HSET", epoch, _COPY + scope, stored, _owed("paused", scope), owed),
        )
        await self._carrier.say(at_replicas(self._carrier.replicas, keys.control(self._namespace)))
        await self._tell("paused", scope, owed, slots)

    async def unpause(self, scope: str, by: str | None = None, *, slots: Iterable[tuple[str, str]] = ()) -> bool:
        """Take a pause back, with a record as ``pause`` writes; False if there was none on exactly this scope."""
        key, epoch = keys.control(self._namespace), keys.epoch(self._namespace)
        (stored,) = await self._carrier.run([("HGET", key, scope)])
        if stored is None:
            return False
        owed = codec.dump({"why": f"ends the pause: {json.loads(stored)['reason']}", "actor": by or actor()})
        await self._carrier.write(("HSET", epoch, _owed("unpaused", scope), owed))
        copy = ("HDEL", epoch, _COPY + scope)
        # The copy goes before the pause, so that it never stands alone; and once more, if a worker made it meanwhile.
        _, removed, _ = await self._carrier.run([copy, ("HDEL", key, scope), copy])
        if removed:
            await self._tell("unpaused", scope, owed, slots)
        return bool(removed)

    async def tell_owed(self, slots: Iterable[tuple[str, str]]) -> None:
        """Write the records of pauses whose writer ended before it had: some of them a second time, perhaps."""
        chosen = list(slots)
        (flat,) = await self._carrier.run([("HGETALL", keys.epoch(self._namespace))])
        for field, owed in _pairs(flat):
            if field.startswith(_OWED.encode()):
                event, _, scope = field.decode().removeprefix(_OWED).partition("|")
                (stands,) = await self._carrier.run([("HEXISTS", keys.control(self._namespace), scope)])
                if event == "unpaused" and stands:  # who began it ended before it came to that
                    await self._carrier.run([("HDEL", keys.epoch(self._namespace), _owed(event, scope))])
                else:
                    await self._tell(event, scope, owed.decode(), chosen)

    async def _tell(self, event: str, scope: str, owed: str, slots: Iterable[tuple[str, str]]) -> None:
        await self._audit_all(scope, slots, event, **json.loads(owed))
        await self._carrier.run([("HDEL", keys.epoch(self._namespace), _owed(event, scope))])

    async def lost_pauses(self, partition: Partition | None = None, formerly: Collection[str] = ()) -> tuple[str, ...]:
        """Return the scopes of pauses that are gone and were not taken back; those of a policy's names, if given."""
        there, copies = await self._switches()
        return _lost(there, copies, partition, formerly)

    async def copy_pauses(self) -> None:
        """Let pauses of a version that wrote no copy have one."""
        there, copies = await self._switches()
        for scope in there - copies:
            key, copy = keys.control(self._namespace), keys.epoch(self._namespace)
            (stored,) = await self._carrier.run([("HGET", key, scope)])
            if stored is not None:
                await self._carrier.write(("HSET", copy, _COPY + scope, stored))
                (still,) = await self._carrier.run([("HEXISTS", key, scope)])
                await self._carrier.run([] if still else [("HDEL", copy, _COPY + scope)])

    async def forget_pauses(self, scopes: Iterable[str]) -> None:
        """Take pauses back that are gone: the answer of an operator."""
        for scope in scopes:
            await self._carrier.run([("HDEL", keys.epoch(self._namespace), _COPY + scope)])

    async def _switches(self) -> tuple[set[str], set[str]]:
        """Return the scopes that are paused, and those that have a copy."""
        there, beside = await self._carrier.run(
            [("HKEYS", keys.control(self._namespace)), ("HKEYS", keys.epoch(self._namespace))]
        )
        return {name.decode() for name in there}, _copies(beside)

    async def stopped(self, partition: Partition, formerly: Collection[str] = ()) -> tuple[str, str] | None:
        """Return what stands in the way of a partition as the result of a sweep and its text, or None.

        ``formerly``: old names of its policy; a pause or halt of one of them counts for it.
        """
        slot = keys.slot(self._namespace, partition.provider, partition.kind)
        pauses, beside, halts = await self._carrier.run(
            [
                ("HKEYS", keys.control(self._namespace)),
                ("HKEYS", keys.epoch(self._namespace)),
                ("HKEYS", slot + keys.HALTS),
            ]
        )
        paused = {name.decode() for name in pauses}
        if scope := _covering(partition, paused, formerly):
            return "paused", f"lapse pause on {scope}"
        # A pause that is gone, and that nobody took back, goes on: a damaged key must not be what resumes deletions.
        if _lost(paused, _copies(beside), partition, formerly):
            return "halted", HaltReason.REGISTRY_DAMAGED
        for policy, _, reason in (name.decode().partition("|") for name in halts):
            old = policy in formerly and reason not in OF_A_RULE
            if (old or policy in {"*", partition.policy}) and reason not in BESIDE:
                return "halted", reason
        return None

    async def accept(self, reason: str) -> None:
        """Take the registry as it is now for the one that is known: the answer to a halt of everything.

        What was lost is not brought back. Processes that remember more, or another clock, go on.
        """
        key, now = keys.epoch(self._namespace), await self.now()
        if reason == HaltReason.REGISTRY_LOST:
            (fields,) = await self._carrier.run([("HKEYS", key)])
            lost = [name.decode().partition("|")[2] for name in fields if name.startswith(b"lost|")]
            for epoch in lost:
                await self._carrier.write(("HSET", key, f"accepted|{epoch}", now), ("HDEL", key, f"lost|{epoch}"))
        if reason == HaltReason.REGISTRY_ROLLED_BACK:
            # As young as a new registry: what it no longer knows must not make anything look unreferenced.
            await self._carrier.write(
                ("HINCRBY", key, "sequence", REWIND),
                ("HSET", key, "created", now, "rolled_back", now),
            )
        if reason == HaltReason.CLOCK_JUMPED:
            await self._carrier.write(("HSET", key, "at", now, "clock_accepted", now))
        if reason == HaltReason.MOVED:
            await self._carrier.run([("HDEL", key, "moved")])

    async def moved(self) -> str | None:
        """Return where everything was moved to, or None."""
        (stored,) = await self._carrier.run([("HGET", keys.epoch(self._namespace), "moved")])
        return None if stored is None else str(stored.decode())

    async def move(self, slots: Iterable[tuple[str, str]], target: str) -> None:
        """Halt everything, as its ids are decided about elsewhere from now on.

        Raises:
            RegistryUnavailable: no answer in time; ``Unreplicated``: it stands, and too few replicas have it.

        """
        await self._carrier.write(("HSET", keys.epoch(self._namespace), "moved", target))
        await self._carrier.say(at_replicas(self._carrier.replicas, keys.epoch(self._namespace)))
        for slot in slots:
            await self.halt(Partition(*slot, "*"), HaltReason.MOVED, f"moved to {target}", whole_kind=True)

    async def also_ours(self) -> set[str]:
        """Return the beginnings of stamps, ``NAMESPACE/EPOCH``, that are ours besides this registry's own."""
        (fields,) = await self._carrier.run([("HKEYS", keys.epoch(self._namespace))])
        names = [name.decode() for name in fields]
        return {name.removeprefix(_ALSO_OURS) for name in names if name.startswith(_ALSO_OURS)}

    async def pauses(self) -> dict[str, dict[str, Any]]:
        """Return every pause by scope."""
        (flat,) = await self._carrier.run([("HGETALL", keys.control(self._namespace))])
        return {scope.decode(): json.loads(stored) for scope, stored in _pairs(flat)}

    async def paused(self, partition: Partition, formerly: Collection[str] = ()) -> str | None:
        """Return the scope of a pause that covers a partition, or an old name of its policy, or None."""
        return _covering(partition, await self.pauses(), formerly)

    async def inherit_pauses(self, partition: Partition, formerly: Collection[str]) -> None:
        """Let a pause on an old name of a policy stand on its own name too: it outlasts ``formerly``."""
        there, copies = await self._switches() if formerly else (set(), set())
        scope = str(partition)
        for old in (str(replace(partition, policy=name)) for name in formerly):
            if old in there | copies and scope not in there | copies:
                await self._inherit(old, scope)
                there.add(scope)

    async def _inherit(self, old: str, scope: str) -> None:
        control, epoch = keys.control(self._namespace), keys.epoch(self._namespace)
        stands, copy = await self._carrier.run([("HGET", control, old), ("HGET", epoch, _COPY + old)])
        if stands is None and copy is None:
            return
        stored = (stands or copy).decode()
        why = json.loads(stored)
        owed = codec.dump({"why": why["reason"], "actor": why["actor"]})
        # Of a lost one there is the copy alone, and so of what is inherited from it: it goes on as one that is lost.
        switch = [("HSETNX", control, scope, stored)] if stands is not None else []
        told = ("HSET", epoch, _owed("paused", scope), owed)
        await self._carrier.write(*switch, ("HSETNX", epoch, _COPY + scope, stored), told)
        await self._tell("paused", scope, owed, ())

    async def halt(
        self,
        partition: Partition,
        reason: str,
        detail: str,
        *,
        whole_kind: bool = False,
        plan: str | None = None,
    ) -> bool:
        """Set a halt; False if it stood already. Counts the guard's trip and audits it."""
        # One script: set, counted and audited, or none of it. Two workers that see the same trouble set one halt, and
        # the reply says which of them was first: that one alone logs it.
        policy = "*" if whole_kind else partition.policy
        said = (policy, reason, detail, partition.policy, plan or "")
        return await self._run("ledger/lua/halts/halt", partition.provider, partition.kind, *said)

    async def retry(self, provider: str) -> bool:
        """Let an open breaker's next attempt through now; False if it is closed."""
        key = keys.throttle(self._namespace, provider)
        (since,) = await self._carrier.run([("HGET", key, "breaker_since")])
        if since is not None:
            await self._carrier.write(("HSET", key, "breaker_until", 0))
        return since is not None

    async def halts(self, slots: Iterable[tuple[str, str]]) -> list[Halt]:
        """Return every halt of these (provider, kind) slots, oldest first; those of one moment by where and why."""
        chosen = list(slots)
        commands = [("HGETALL", keys.slot(self._namespace, *slot) + keys.HALTS) for slot in chosen]
        found = []
        for (provider, kind), flat in zip(chosen, await self._carrier.run(list(commands)), strict=True):
            for field, stored in _pairs(flat):
                policy, reason = field.decode().split("|")
                seen = json.loads(stored)
                at = (provider, kind, policy, reason)
                found.append(Halt(*at, seen["detail"], seen["since"], seen.get("plan"), seen.get("began")))
        return sorted(found, key=lambda halt: (halt.since, halt.provider, halt.kind, halt.policy, halt.reason))

    async def lift(self, halt: Halt, why: str, by: str | None = None) -> None:
        """Remove one halt, with the operator's reason in the audit; under every name of its policy."""
        for policy in await self._names(halt):
            said = (policy, halt.reason, why, by or actor())
            await self._run("ledger/lua/halts/lift", halt.provider, halt.kind, *said)

    async def _names(self, halt: Halt) -> list[str]:
        """Return under which names one halt stands: where it is inherited from first, else it would be again."""
        same = [
            one.policy
            for one in await self.halts([(halt.provider, halt.kind)])
            if one == replace(halt, policy=one.policy)
        ]
        if len({*same, halt.policy}) == 1:
            return [halt.policy]
        taken = await names_known(self._carrier, self._namespace, (halt.provider, halt.kind), *same)
        lines = {name: lineage(name, taken) for name in {*same, halt.policy}}
        mine = [name for name, line in lines.items() if line[-1] == lines[halt.policy][-1]]
        return sorted(mine, key=lambda name: (-len(lines[name]), name))

    async def _run(self, path: str, provider: str, kind: str, *said: str) -> bool:
        call = Call(script(path), keys.slot(self._namespace, provider, kind), (provider, kind, *said), bool)
        return bool((await self._carrier.carry([call]))[0])

    async def publish(self, fields: Mapping[str, str | int]) -> None:
        """Publish what worker processes know, for applications and for ``status``."""
        flat = [part for pair in fields.items() for part in pair]
        await self._carrier.write(("HSET", keys.published(self._namespace), *flat))

    async def published(self) -> dict[str, str]:
        """Return what worker processes published."""
        (flat,) = await self._carrier.run([("HGETALL", keys.published(self._namespace))])
        return {field.decode(): value.decode() for field, value in _pairs(flat)}

    async def record(self, partition: Partition, event: str, **facts: str | int) -> None:
        """Write what an operator did into the audit."""
        about = {"policy": partition.policy, "actor": actor(), **facts}
        await self._audit(partition.provider, partition.kind, event, **about)

    async def _audit_all(self, scope: str, slots: Iterable[tuple[str, str]], event: str, **facts: str) -> None:
        """Write one record into every slot that a scope covers: the audit of one kind says why it stood still."""
        provider, _, rest = scope.partition("/")
        kind, _, policy = rest.partition("/")
        named = {(provider, kind)} if kind else set()
        for slot in sorted({*slots, *named}):
            if provider in {"*", slot[0]} and kind in {"", slot[1]}:
                await self._audit(*slot, event, policy=policy or "*", scope=scope, **facts)

    async def _audit(self, provider: str, kind: str, event: str, **facts: str | int) -> None:
        record = {"at": await self.now(), "event": event, "provider": provider, "kind": kind, **facts}
        stream = keys.slot(self._namespace, provider, kind) + keys.AUDIT
        await self._carrier.write(("XADD", stream, "*", "e", codec.dump(record)))


def _covering(partition: Partition, scopes: Collection[str], formerly: Collection[str] = ()) -> str | None:
    """Return the widest of these scopes that covers a partition, or None. A purge is of every policy of its kind."""
    provider, kind, policy = partition.provider, partition.kind, partition.policy
    mine = ("*", provider, f"{provider}/{kind}", *(f"{provider}/{kind}/{name}" for name in (policy, *formerly)))
    theirs = [scope for scope in scopes if policy == PURGED and scope.startswith(f"{provider}/{kind}/")]
    return next((scope for scope in (*mine, *theirs) if scope in scopes), None)


def _owed(event: str, scope: str) -> str:
    return f"{_OWED}{event}|{scope}"


def _copies(fields: Iterable[bytes]) -> set[str]:
    return {name.decode().removeprefix(_COPY) for name in fields if name.startswith(_COPY.encode())}


def _lost(
    there: Collection[str], copies: Collection[str], partition: Partition | None, formerly: Collection[str] = ()
) -> tuple[str, ...]:
    gone = sorted(set(copies) - set(there))
    return tuple(scope for scope in gone if partition is None or _covering(partition, {scope}, formerly))


def plan_hash(partition: Partition, digest: str, guard: str, since: int) -> str:
    """Return the name of one plan: what ``lapse approve`` has to be given."""
    return hashlib.sha256(f"{partition}|{digest}|{guard}|{since}".encode()).hexdigest()[:12]


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
