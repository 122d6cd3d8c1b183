"""The worker's view of the registry: survey, claim, settle. Each is one script, one round trip."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lapse import codec, keys
from lapse.aio import Carrier
from lapse.commands import Commands
from lapse.model import Partition, Resource
from lapse.outcomes import Outcome
from lapse.policy import Rule, SweepSection
from lapse.release import Release
from lapse.scripts import Call

UNLIMITED = -1
RULES_LAST = 7 * 86400.0  # seconds; which rules a worker swept with before

Expected = tuple[str | int, str | int, str | int]
"""What a claim insists on: the epoch its rules were adopted under, the earliest and latest Redis TIME; or '' each."""
UNCHECKED: Expected = ("", "", "")


@dataclass(frozen=True, slots=True)
class Claim:
    """A due resource leased to this worker.

    ``due``, and ``at``, when it was leased, are in registry milliseconds; ``by`` is the rule that made it due; no
    request for it may begin after ``begin_by``, on this process' monotonic clock.
    """

    resource: Resource
    policy: str
    token: int
    due: int
    by: str
    attempts: int
    after_unknown: bool
    begin_by: float
    at: int = 0


@dataclass(frozen=True, slots=True)
class Claims:
    """A batch.

    ``status``: ok, limited (max_deletions or ramp), halted, superseded (other rules are in force), audit (its stream
    is full), lost (not the epoch that was expected), clock (not the time).
    ``parked`` counts ids that were found held or referenced and taken out of the way: a batch without claims is the
    end only if nothing was parked. ``left``: ids of a plan that are not as they were, and why.
    """

    status: str
    now: int
    claims: tuple[Claim, ...] = ()
    parked: int = 0
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one claim: ``act`` is done, retry, keep, touch, quarantine or release.

    ``delay`` and ``active``, the last activity that the provider showed, are in milliseconds.
    """

    id: str
    token: int
    policy: str
    due: int
    act: str
    outcome: Outcome
    delay: int = 0
    counted: bool = False
    unknown: bool = False
    reason: str | None = None
    detail: str | None = None
    status: int | None = None
    request: str | None = None
    items: int = 0
    active: int | None = None
    left: Mapping[str, int] = field(default_factory=dict)
    extra: int = 0

    def stored(self) -> dict[str, Any]:
        """Return the fields that say something: a script reads a null as a value."""
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        return {
            name: value for name, value in fields if value is not None and value is not False and value not in ("", {})
        }


@dataclass(frozen=True, slots=True)
class Survey:
    """What a partition holds before a sweep acts; times in registry milliseconds.

    ``place`` is that of the account whose ids these are, None before a first enforced sweep.
    """

    now: int
    bar: str | None
    halts: tuple[str, ...]
    registered: int
    due: int
    newly_due: int
    oldest: int | None
    baseline: bool
    touched: bool
    edges: bool
    active: int | None
    created: int | None
    old_active: int | None
    old_created: int | None
    capped: int | None = None
    old_capped: int | None = None
    place: str | None = None


class Ledger:
    """Claims and settles for one worker process.

    ``worker`` names it in audit records; ``host`` is the name that all processes of one worker share, this one's own
    if left out.
    """

    def __init__(self, carrier: Carrier, namespace: str, worker: str, *, max_pending: int, host: str = "") -> None:
        self.carrier = carrier
        self.namespace = namespace
        self.worker = worker
        self._host = host or worker
        self._max_pending = max_pending
        self._commands = Commands(namespace, None)

    async def adopt(self, rule: Rule, epoch: str = "") -> str:
        """Make a rule the one its partition is swept with: adopted, current, or divergence (it was superseded).

        Claims that expect another ``epoch`` of the registry are refused from then on.
        """
        published = {"mode": "enforce" if rule.enforce else "observe"} | {
            name: value
            for name, value in {
                "ttl": _millis(rule.ttl), "anchor": rule.anchor, "max_age": _millis(rule.max_age),
                "orphan": 1 if rule.orphan else None, "along": rule.along,
            }.items()
            if value is not None
        }  # fmt: skip
        call = self.on(
            rule.partition,
            "adopt",
            rule.digest,
            self._host,
            codec.dump(published),
            codec.dump(rule.formerly),
            epoch,
            round((RULES_LAST + 2 * rule.every) * 1000),
            parse=_text,
        )
        return str((await self.carrier.carry([call]))[0])

    async def survey(self, rule: Rule) -> Survey:
        """Count a partition as its rule stands. Changes nothing."""
        seen = json.loads((await self.carrier.carry([self.on(rule.partition, "survey", rule.digest, parse=_text)]))[0])
        seen["halts"] = tuple(seen["halts"])
        return Survey(**{name: seen.get(name) for name in Survey.__slots__})

    async def claim(
        self, rule: Rule, sweep: SweepSection, limit: int, *, alone: bool = False, expected: Expected = UNCHECKED
    ) -> Claims:
        """Lease up to ``limit`` due ids, or with ``alone`` one that a worker crashed on before."""
        begin_by = time.monotonic() + sweep.lease / 2
        call = self.on(
            rule.partition, "claim", rule.digest, limit, round(sweep.lease * 1000), int(alone),
            *self._room(rule, sweep), *expected, parse=lambda reply: _claims(rule.partition, reply, begin_by),
        )  # fmt: skip
        return (await self.carrier.carry([call]))[0]  # type: ignore[no-any-return]

    async def claim_orphans(
        self, rule: Rule, sweep: SweepSection, wanted: Mapping[str, int], *, alone: bool, expected: Expected = UNCHECKED
    ) -> Claims:
        """Lease orphan candidates: id -> when first seen. What was named, held or touched since then is refused."""
        begin_by = time.monotonic() + sweep.lease / 2
        listed = codec.dump([{"id": id_, "first": first} for id_, first in wanted.items()])
        call = self.on(
            rule.partition, "claim_orphans", rule.digest, listed, round(sweep.lease * 1000), int(alone),
            *self._room(rule, sweep), *expected, parse=lambda reply: _claims(rule.partition, reply, begin_by),
        )  # fmt: skip
        return (await self.carrier.carry([call]))[0]  # type: ignore[no-any-return]

    async def claim_purged(
        self, partition: Partition, sweep: SweepSection, ids: Sequence[str], actor: str, *, expected: Expected
    ) -> Claims:
        """Lease what a confirmed purge names; what is held, halted or with another worker is left."""
        begin_by = time.monotonic() + sweep.lease / 2
        call = self.on(
            partition, "claim_purged", codec.dump(list(ids)), round(sweep.lease * 1000), self.worker,
            self._max_pending, codec.dump(actor), *expected,
            parse=lambda reply: _planned(partition, reply, begin_by),
        )  # fmt: skip
        return (await self.carrier.carry([call]))[0]  # type: ignore[no-any-return]

    async def claim_planned(
        self, rule: Rule, sweep: SweepSection, wanted: Mapping[str, int], plan: str, *, alone: bool,
        expected: Expected = UNCHECKED,
    ) -> Claims:  # fmt: skip
        """Lease ids of a plan: id -> due. What is not as it was when the plan was made is left out."""
        begin_by = time.monotonic() + sweep.lease / 2
        listed = codec.dump([{"id": id_, "due": due} for id_, due in wanted.items()])
        call = self.on(
            rule.partition, "claim_planned", rule.digest, listed, round(sweep.lease * 1000), int(alone),
            *self._room(rule, sweep), *expected, plan, parse=lambda reply: _planned(rule.partition, reply, begin_by),
        )  # fmt: skip
        return (await self.carrier.carry([call]))[0]  # type: ignore[no-any-return]

    async def claim_child(
        self, child: Resource, rules: Mapping[str, Any], going: Sequence[Resource], lease: float, begin_by: float,
        *, since: int, stamped: str = "", expected: Expected = UNCHECKED,
    ) -> tuple[str, Claim | None]:  # fmt: skip
        """Lease one child of what is about to be deleted; return the script's word for it, and the claim if granted.

        Args:
            child: The id, in its own slot.
            rules: What its policies say, by name, and the parent's pace: as ``claim_child.lua`` takes it.
            going: What goes with it: these uses do not protect it. The parent is the last.
            lease: Seconds.
            begin_by: The parent's: no request begins later.
            since: Registry milliseconds; a use of it from then on lets it live.
            expected: As for ``claim``.
            stamped: The policy in the stamp of one that is not registered.

        """
        sources = codec.dump([codec.edge_text(source) for source in going])
        call = self._commands.call(
            "claim_child", child, stamped, sources, round(lease * 1000), codec.dump(rules), self.worker,
            self._max_pending, since, *expected, parse=list,
        )  # fmt: skip
        status, now, token, policy, attempts, unknown = (await self.carrier.carry([call]))[0]
        if _text(status) != "granted":
            return _text(status), None
        claim = Claim(child, _text(policy), token, now, "cascade", attempts, unknown == 1, begin_by, now)
        return "granted", claim

    async def users(self, target: Resource, kind: str, limit: int) -> list[str]:
        """Return ids of a kind at the target's own provider that use it, at most ``limit``."""
        key = keys.slot(self.namespace, target.provider, target.kind) + keys.EDGES
        prefix = f"{target.id}|{target.provider}|{kind}|"
        command = ("ZRANGEBYLEX", key, f"[{prefix}", f"({prefix[:-1]}}}", "LIMIT", 0, limit)
        return [codec.edge(_text(edge).split("|", 1)[1]).id for edge in (await self.carrier.run([command]))[0]]

    async def claimed_user(self, target: Resource, besides: Sequence[Resource]) -> Resource | None:
        """Return something that uses a target and is leased now, among the first 100 users."""
        key = keys.slot(self.namespace, target.provider, target.kind) + keys.EDGES
        (edges,) = await self.carrier.run([("ZRANGEBYLEX", key, f"[{target.id}|", f"({target.id}}}", "LIMIT", 0, 100)])
        users = [user for edge in edges if (user := codec.edge(_text(edge).split("|", 1)[1])) not in besides]
        slots = [keys.slot(self.namespace, user.provider, user.kind) for user in users]
        commands = [("HGET", slot + keys.ASIDE, user.id) for slot, user in zip(slots, users, strict=True)]
        records = await self.carrier.run(list(commands)) if users else []
        states = [json.loads(record)["s"] if record else "tracked" for record in records]
        return next((user for user, state in zip(users, states, strict=True) if state == "claimed"), None)

    async def settled_before(self, child: Resource) -> bool:
        """Return True if there is a tombstone of this id."""
        key = keys.slot(self.namespace, child.provider, child.kind) + keys.TOMBSTONES
        return (await self.carrier.run([("ZSCORE", key, child.id)]))[0] is not None

    async def settle(
        self, partition: Partition, identity: str, settled: Sequence[Settled], counters: Mapping[str, int],
        attempts: int, *, listable: bool, batch: str | None = None,
    ) -> list[str]:  # fmt: skip
        """Record outcomes and counters in one step; return the ids whose lease another worker had taken over.

        ``batch`` names it: what is sent again under a name within ten minutes is not recorded twice.
        """
        said = {
            "batch": batch or secrets.token_hex(8), "identity": identity,
            "worker": self.worker, "attempts": attempts, "listable": listable,
            "counters": dict(counters), "settled": [one.stored() for one in settled],
        }  # fmt: skip
        call = self._commands.on_slot("settle", partition.provider, partition.kind, codec.dump(said), parse=list)
        _now, released, *refused = (await self.carrier.carry([call]))[0]
        if released:
            await self.release_edges(partition.provider, partition.kind)
        return [_text(id_) for id_ in refused]

    async def release_edges(self, provider: str, kind: str) -> int:
        """Remove the edges of settled or forgotten sources, in the slots of their targets; return how many sources."""
        return await Release(self.carrier, self._commands, provider, kind).run()

    async def end_tombstones(self, provider: str, kind: str, before: int) -> int:
        """Forget what was settled before a registry time in milliseconds; return how many ended."""
        ended = 0
        while n := (
            await self.carrier.carry([self._commands.on_slot("housekeep", provider, kind, before, 500, parse=int)])
        )[0]:
            ended += n
        return ended

    async def count(self, partition: Partition, counters: Mapping[str, int]) -> None:
        """Add to counters of a slot that no settled claim carries."""
        if counters:
            await self.settle(partition, "", [], counters, 1, listable=False)

    async def note(self, partition: Partition, **fields: str | int) -> None:
        """Write fields of a partition's rules hash: baseline, success, would."""
        await self.carrier.write(("HSET", self._prefix(partition) + keys.RULES, *_flat(fields)))

    async def settle_at(self, partition: Partition, place: str) -> None:
        """Write down the account that the ids of a slot belong to, unless one is written down."""
        key = keys.slot(self.namespace, partition.provider, partition.kind) + keys.MARKS
        await self.carrier.write(("HSETNX", key, "place", place))

    async def rename(self, rule: Rule) -> int:
        """Move what was registered under the rule's old names to it; return how many ids."""
        moved = 0
        for old in rule.formerly:
            while n := (await self.carrier.carry([self.on(rule.partition, "rename", old, 500, parse=int)]))[0]:
                moved += n
        return moved

    async def newest(self, provider: str, kind: str, limit: int) -> list[str]:
        """Return the ids of a slot most recently registered or touched, newest first."""
        slot = keys.slot(self.namespace, provider, kind)
        policies = [_text(name) for name in (await self.carrier.run([("SMEMBERS", slot + keys.POLICIES)]))[0]]
        names = [f"{slot}{policy}:{index}" for policy in policies for index in (keys.FRESH, keys.ACTIVE)]
        if not names:
            return []
        replies = await self.carrier.run([("ZRANGE", name, 0, limit - 1, "REV", "WITHSCORES") for name in names])
        scored = [
            (float(score), _text(id_)) for flat in replies for id_, score in zip(flat[::2], flat[1::2], strict=True)
        ]
        return [id_ for _score, id_ in sorted(scored, reverse=True)[:limit]]

    async def mark(self, provider: str, kind: str, field: str, value: int | None = None) -> int | None:
        """Read a once-only fact of a slot, or write it first."""
        key = keys.slot(self.namespace, provider, kind) + keys.MARKS
        if value is not None:
            await self.carrier.write(("HSET", key, field, value))
            return value
        stored = (await self.carrier.run([("HGET", key, field)]))[0]
        return None if stored is None else int(stored)

    def on(self, partition: Partition, name: str, *args: str | float, parse: Any) -> Call[Any]:  # noqa: ANN401 - each script's own reply
        """Return a call of a script on a partition."""
        return self._commands.on_slot(name, partition.provider, partition.kind, partition.policy, *args, parse=parse)

    def on_slot(self, name: str, provider: str, kind: str, *args: str | float, parse: Any) -> Call[Any]:  # noqa: ANN401 - each script's own reply
        """Return a call of a script on a slot."""
        return self._commands.on_slot(name, provider, kind, *args, parse=parse)

    def _prefix(self, partition: Partition) -> str:
        return keys.partition(self.namespace, partition.provider, partition.kind, partition.policy)

    def _room(self, rule: Rule, sweep: SweepSection) -> tuple[int | str, ...]:
        pace = rule.max_deletions
        limits = (pace.amount, round(pace.window * 1000)) if pace else (UNLIMITED, 0)
        ramp = UNLIMITED if sweep.ramp is None else round(sweep.ramp * 1000)
        return (*limits, ramp, self.worker, self._max_pending)


def _millis(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply


def _flat(fields: Mapping[str, str | int]) -> list[str | int]:
    return [part for pair in fields.items() for part in pair]


def _claims(partition: Partition, reply: list[Any], begin_by: float) -> Claims:
    status, now, token, parked, *rest = reply
    claims = tuple(
        Claim(
            Resource(partition.provider, partition.kind, _text(rest[i])), partition.policy, token, rest[i + 1],
            _text(rest[i + 2]), rest[i + 3], rest[i + 4] == 1, begin_by, now,
        )
        for i in range(0, len(rest), 5)
    )  # fmt: skip
    return Claims(_text(status), now, claims, parked)


def _planned(partition: Partition, reply: list[Any], begin_by: float) -> Claims:
    left = json.loads(reply.pop(4))
    return replace(_claims(partition, reply, begin_by), left=left)
