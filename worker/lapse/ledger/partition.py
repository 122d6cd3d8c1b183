"""The worker's view of the registry: survey, claim, settle. Each is one script, one round trip."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lapse.ledger import leasing
from lapse.ledger.edges import Release
from lapse.ledger.settling import said
from lapse.policy import Rule, SweepSection
from lapse.policy.enforced import NOTHING, Base, Edit
from lapse.providers.deadline import Deadline
from lapse.providers.outcomes import Outcome
from lapse.registry import codec, keys
from lapse.registry.aio import Carrier
from lapse.registry.commands import Commands
from lapse.registry.model import Partition, Resource
from lapse.registry.scripts import Call

UNLIMITED = -1
RULES_LAST = 7 * 86400.0  # seconds; which rules a worker swept with before

Expected = tuple[str | int, str | int, str | int]
"""What a claim insists on: the epoch its rules were adopted under, the earliest and latest Redis TIME; or '' each."""
UNCHECKED: Expected = ("", "", "")


@dataclass(frozen=True, slots=True)
class Claim:
    """A due resource leased to this worker.

    ``due``, and ``at``, when it was leased, are in registry milliseconds; ``by`` is the rule that made it due;
    ``deadline`` says until when requests for it may be sent.
    """

    resource: Resource
    policy: str
    token: int
    due: int
    by: str
    attempts: int
    after_unknown: bool
    deadline: Deadline
    at: int = 0


@dataclass(frozen=True, slots=True)
class Claims:
    """A batch.

    ``status``: ok, limited (max_deletions or ramp), halted, superseded (other rules are in force), audit (its stream
    is full), lost (not the epoch that was expected), clock (not the time), breaker (this kind's is open).
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

    ``delay`` and ``active``, the last activity that the provider showed, are in milliseconds. ``identity`` is that of
    the deciding answer, and ``seen`` what it shows of the object: present, absent, or None for neither.
    ``believed``: an operator said that this id would not be found. ``told``: how many of ``items`` are counted
    already. ``at``: when it was claimed, in registry milliseconds. ``good``: its DELETE was confirmed, or
    recognised as that of something absent. ``doubt``: ``answer``, ``failure`` or ``error`` where all of the kind
    may get the same, ``outage`` where everything does: it counts as this id's only by what others get.
    """

    id: str
    token: int
    policy: str
    due: int
    act: str
    outcome: Outcome
    delay: int = 0
    identity: str | None = None
    seen: str | None = None
    believed: bool = False
    at: int = 0
    counted: bool = False
    unknown: bool = False
    reason: str | None = None
    detail: str | None = None
    status: int | None = None
    request: str | None = None
    items: int = 0
    told: int = 0
    active: int | None = None
    left: Mapping[str, int] = field(default_factory=dict)
    extra: int = 0
    good: bool = False
    doubt: str | None = None

    def stored(self) -> dict[str, Any]:
        """Return the fields that say something: a script reads a null as a value."""
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        return {
            name: value for name, value in fields if value is not None and value is not False and value not in ("", {})
        }


@dataclass(frozen=True, slots=True)
class Recorded:
    """What of a batch is not as it was said.

    ``refused``: ids whose lease another worker had taken over. ``unbelieved``: ids that were not found, and were one
    too many: they wait, and their policy is halted. ``unrecordable``: ids whose outcome Redis refuses for good.
    """

    refused: tuple[str, ...] = ()
    unbelieved: tuple[str, ...] = ()
    unrecordable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """What a partition holds before a sweep acts; times in registry milliseconds.

    ``place`` is that of the account whose ids these are, None before a first enforced sweep. ``enforced`` and ``base``
    are the rules and cut-offs of the last one, ``since`` is when the rules of now were adopted, ``fence`` the last
    token. ``edit``: what edits since make due at once, where that was counted.
    """

    now: int
    bar: str | None
    halts: tuple[str, ...]
    registered: int
    due: int
    oldest: int | None
    touched: bool
    edges: bool
    active: int | None
    created: int | None
    capped: int | None = None
    place: str | None = None
    fence: int = 0
    own_expiry: int = 0
    kept: int = 0
    since: int = 0
    enforced: str | None = None
    base: Base | None = None
    edit: Edit = NOTHING


class Ledger:
    """Claims and settles for one worker process.

    ``worker`` names it in audit records; ``host`` is the name that all processes of one worker share, this one's own
    if left out. ``freed``: the partitions of what nothing uses any more, by what was settled here.
    """

    def __init__(self, carrier: Carrier, namespace: str, worker: str, *, max_pending: int, host: str = "") -> None:
        self.carrier = carrier
        self.namespace = namespace
        self.worker = worker
        self.host = host or worker
        self._max_pending = max_pending
        self.commands = Commands(namespace, None)
        self.freed: set[Partition] = set()

    async def adopt(self, rule: Rule, epoch: str = "") -> str:
        """Make a rule the one its partition is swept with: adopted, current, or divergence (it was superseded).

        Claims that expect another ``epoch`` of the registry are refused from then on.
        """
        published = {"mode": "enforce" if rule.enforce else "observe"} | {
            name: value
            for name, value in {
                "ttl": _millis(rule.ttl),
                "anchor": rule.anchor,
                "max_age": _millis(rule.max_age),
                "orphan": 1 if rule.orphan else None,
                "along": rule.along,
            }.items()
            if value is not None
        }
        call = self.on(
            rule.partition,
            "ledger/lua/adopt",
            rule.digest,
            self.host,
            codec.dump(published),
            codec.dump(rule.formerly),
            epoch,
            round((RULES_LAST + 2 * rule.every) * 1000),
            parse=_text,
        )
        return str((await self.carrier.carry([call]))[0])

    async def survey(self, rule: Rule) -> Survey:
        """Count a partition as its rule stands. Changes nothing."""
        seen = json.loads(
            (await self.carrier.carry([self.on(rule.partition, "ledger/lua/survey", rule.digest, parse=_text)]))[0]
        )
        seen["halts"] = tuple(seen["halts"])
        base = seen.pop("base", None)
        absent = dict.fromkeys(("bar", "oldest", "active", "created"))
        return Survey(**{**absent, **seen, "base": base and Base(**base)})

    async def claim(
        self, rule: Rule, sweep: SweepSection, limit: int, *, alone: bool = False, expected: Expected = UNCHECKED
    ) -> Claims:
        """Lease up to ``limit`` due ids, or with ``alone`` one that a worker crashed on before."""
        deadline = Deadline.of(sweep.lease)
        call = self.on(
            rule.partition,
            "ledger/lua/claim/claim",
            rule.digest,
            limit,
            round(sweep.lease * 1000),
            int(alone),
            *self._room(rule, sweep),
            *expected,
            leasing.name(),
            parse=lambda reply: _claims(rule.partition, reply, deadline),
        )
        return await leasing.lease(self.carrier, call, deadline)

    async def claim_orphans(
        self, rule: Rule, sweep: SweepSection, wanted: Mapping[str, int], *, alone: bool, expected: Expected = UNCHECKED
    ) -> Claims:
        """Lease orphan candidates: id -> when first seen. What was named, held or touched since then is refused."""
        deadline = Deadline.of(sweep.lease)
        listed = codec.dump([{"id": id_, "first": first} for id_, first in wanted.items()])
        call = self.on(
            rule.partition,
            "ledger/lua/claim/claim_orphans",
            rule.digest,
            listed,
            round(sweep.lease * 1000),
            int(alone),
            *self._room(rule, sweep),
            *expected,
            leasing.name(),
            parse=lambda reply: _claims(rule.partition, reply, deadline),
        )
        return await leasing.lease(self.carrier, call, deadline)

    async def claim_purged(
        self, partition: Partition, sweep: SweepSection, ids: Sequence[str], actor: str, *, expected: Expected
    ) -> Claims:
        """Lease what a confirmed purge names; what is held, halted or with another worker is left."""
        deadline = Deadline.of(sweep.lease)
        call = self.on(
            partition,
            "ledger/lua/claim/claim_purged",
            codec.dump(list(ids)),
            round(sweep.lease * 1000),
            self.worker,
            self._max_pending,
            codec.dump(actor),
            *expected,
            leasing.name(),
            parse=lambda reply: _planned(partition, reply, deadline),
        )
        return await leasing.lease(self.carrier, call, deadline)

    async def claim_planned(
        self,
        rule: Rule,
        sweep: SweepSection,
        wanted: Mapping[str, int],
        plan: str,
        *,
        alone: bool,
        expected: Expected = UNCHECKED,
    ) -> Claims:
        """Lease ids of a plan: id -> due. What is not as it was when the plan was made is left out."""
        deadline = Deadline.of(sweep.lease)
        listed = codec.dump([{"id": id_, "due": due} for id_, due in wanted.items()])
        call = self.on(
            rule.partition,
            "ledger/lua/claim/claim_planned",
            rule.digest,
            listed,
            round(sweep.lease * 1000),
            int(alone),
            *self._room(rule, sweep),
            *expected,
            plan,
            leasing.name(),
            parse=lambda reply: _planned(rule.partition, reply, deadline),
        )
        return await leasing.lease(self.carrier, call, deadline)

    async def claim_child(
        self,
        child: Resource,
        rules: Mapping[str, Any],
        going: Sequence[Resource],
        lease: float,
        deadline: Deadline,
        *,
        since: int,
        stamped: str = "",
        expected: Expected = UNCHECKED,
        named: bool = False,
        active: int | None = None,
    ) -> tuple[str, Claim | None]:
        """Lease one child of what is about to be deleted; return the script's word for it, and the claim if granted.

        Args:
            child: The id, in its own slot.
            rules: What its policies say, by name, and the parent's pace: as ``claim_child.lua`` takes it.
            going: What goes with it: these uses do not protect it. The parent is the last.
            lease: Seconds.
            deadline: The parent's: it ends before the child's own lease does.
            since: Registry milliseconds; a use of it from then on lets it live.
            expected: As for ``claim``.
            stamped: The policy in the stamp of one that is not registered.
            named: True if a use by what goes has to name it.
            active: The parent's last activity in registry milliseconds; what was used later lives.

        """
        sources = codec.dump([codec.edge_text(source) for source in going])
        call = self.commands.call(
            "ledger/lua/claim/claim_child",
            child,
            stamped,
            sources,
            round(lease * 1000),
            codec.dump(rules),
            self.worker,
            self._max_pending,
            since,
            *expected,
            int(named),
            "" if active is None else active,
            leasing.name(),
            parse=list,
        )
        status, now, token, policy, attempts, unknown = await leasing.lease(self.carrier, call, deadline)
        if _text(status) != "granted":
            return _text(status), None
        claim = Claim(child, _text(policy), token, now, "cascade", attempts, unknown == 1, deadline, now)
        return "granted", claim

    def circle(
        self,
        rule: Rule,
        sweep: SweepSection,
        id_: str,
        members: str,
        place: str,
        *,
        token: int | None,
        expected: Expected,
    ) -> Call[list[Any]]:
        """Return the call that leases one member of a circle, or with its ``token`` asks about it again."""
        return self.on(
            rule.partition,
            "ledger/lua/claim/claim_circle",
            rule.digest,
            id_,
            round(sweep.lease * 1000),
            "" if token is None else token,
            *self._room(rule, sweep),
            *expected,
            members,
            place,
            leasing.name(),
            parse=list,
        )

    async def settle(
        self,
        partition: Partition,
        settled: Sequence[Settled],
        counters: Mapping[str, int],
        attempts: int,
        **more: Any,  # noqa: ANN401 - those of ``said``
    ) -> Recorded:
        """Record outcomes and counters in one step, and once; see ``settling.said`` and ``record``."""
        return await self.record(partition, said(self.worker, settled, counters, attempts, **more))

    async def record(self, partition: Partition, batch: Mapping[str, Any]) -> Recorded:
        """Record a batch; return what was not recorded as it was said.

        Raises:
            RegistryUnavailable: no answer; it may be recorded, and sending it again changes nothing then.
            RegistryRefused: Redis said no.

        """
        call = self.commands.on_slot(
            "ledger/lua/settle", partition.provider, partition.kind, codec.dump(batch), parse=list
        )
        _now, released, walled, *refused = (await self.carrier.carry([call]))[0]
        if released:
            await self.release_edges(partition.provider, partition.kind)
        return Recorded(tuple(_text(id_) for id_ in refused), tuple(json.loads(walled)))

    async def release_edges(self, provider: str, kind: str) -> int:
        """Remove the edges of settled or forgotten sources, in the slots of their targets; return how many sources."""
        release = Release(self.carrier, self.commands, provider, kind)
        sources = await release.run()
        self.freed |= release.freed
        return sources

    async def end_tombstones(self, provider: str, kind: str, before: int, deleted: int | str = "") -> int:
        """Forget what was settled before a registry time in milliseconds, and ``deleted`` before another one."""
        ended, call = 0, self.commands.on_slot("ledger/lua/housekeep", provider, kind, before, 500, deleted, parse=int)
        while n := (await self.carrier.carry([call]))[0]:
            ended += n
        return ended

    async def count(self, partition: Partition, counters: Mapping[str, int]) -> None:
        """Add to counters of a slot that no settled claim carries."""
        if counters:
            await self.settle(partition, [], counters, 1, listable=False)

    async def note(self, partition: Partition, **fields: str | int) -> None:
        """Write fields of a partition's rules hash: baseline, success, would."""
        await self.carrier.write(("HSET", self._prefix(partition) + keys.RULES, *_flat(fields)))

    async def settle_at(self, partition: Partition, place: str) -> None:
        """Write down the account that the ids of a slot belong to, unless one is written down."""
        key = keys.slot(self.namespace, partition.provider, partition.kind) + keys.MARKS
        await self.carrier.write(("HSETNX", key, "place", place))

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
        return self.commands.on_slot(name, partition.provider, partition.kind, partition.policy, *args, parse=parse)

    def on_slot(self, name: str, provider: str, kind: str, *args: str | float, parse: Any = None) -> Call[Any]:  # noqa: ANN401 - each script's own reply
        """Return a call of a script on a slot, which answers with text unless ``parse`` says otherwise."""
        return self.commands.on_slot(name, provider, kind, *args, parse=parse or _text)

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


def _claims(partition: Partition, reply: list[Any], deadline: Deadline) -> Claims:
    status, now, token, parked, *rest = reply
    claims = tuple(
        Claim(
            Resource(partition.provider, partition.kind, _text(rest[i])),
            partition.policy,
            token,
            rest[i + 1],
            _text(rest[i + 2]),
            rest[i + 3],
            rest[i + 4] == 1,
            deadline,
            now,
        )
        for i in range(0, len(rest), 5)
    )
    return Claims(_text(status), now, claims, parked)


def _planned(partition: Partition, reply: list[Any], deadline: Deadline) -> Claims:
    left = json.loads(reply.pop(4))
    return replace(_claims(partition, reply, deadline), left=left)
