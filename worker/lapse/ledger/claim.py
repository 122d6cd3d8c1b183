"""Leases: what a worker may delete now, and until when. Each claim is one script, one round trip.

A claim whose reply was lost is asked again under the name that it had, and leases nothing on top.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from lapse.errors import RegistryUnavailable
from lapse.ledger.connection import LedgerConnection
from lapse.policy import Rule, SweepSection
from lapse.providers.deadline import Deadline
from lapse.registry import codec
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition, Resource
from lapse.registry.scripts import Call, text

T = TypeVar("T")

AGAIN = (0.1, 0.5, 1.0)
"""Seconds before each further try. What a question leased whose reply never came is nobody's for a whole lease."""

PATIENCE = 6.0
"""Seconds within which a further try begins: one more after a reply that did not come in time, not three."""

RAMP_STEPS, RAMP_FIRST, RAMP_SHARE = 2, 10, 10
"""The ramp: how many steps it has, how many ids the first one deletes, and of how many that are due the second deletes
one, but no fewer. ``include/budget.lua`` says the same."""

Expected = tuple[str | int, str | int, str | int, int]
"""What a claim insists on: the epoch its rules were adopted under, the earliest and latest Redis TIME, or '' each; and
up to which number its slot knows the subjects that are held."""
UNCHECKED: Expected = ("", "", "", 0)


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


class Status(StrEnum):
    """Why a claim leased what it did, or nothing: as the claim scripts say it."""

    OK = "ok"
    LIMITED = "limited"
    """max_deletions or ramp."""
    HALTED = "halted"
    SUPERSEDED = "superseded"
    """Other rules are in force."""
    INDEXING = "indexing"
    """The rules count from creations, and the index of these is not whole yet."""
    AUDIT = "audit"
    """The slot's audit stream is full."""
    LOST = "lost"
    """The registry is not of the epoch that was expected."""
    CLOCK = "clock"
    """Redis TIME is not what it has to be."""
    BREAKER = "breaker"
    """That of this kind is open."""
    DAMAGED = "damaged"
    """A key that protects ids is not whole."""
    SUBJECTS = "subjects"
    """The slot does not know yet which subjects are held."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one claim leased.

    ``parked`` counts ids that were found held or referenced and taken out of the way: a batch without claims is the
    end only if nothing was parked. ``left``: ids of a plan that are not as they were, and why.
    """

    status: Status
    now: int
    claims: tuple[Claim, ...] = ()
    parked: int = 0
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """What is asked of one child of what is about to be deleted.

    Attributes:
        resource: The child, in its own slot.
        rules: What its policies say, by name, and the parent's pace: as ``claim_child.lua`` takes it.
        going: What goes with it: these uses do not protect it. The parent is the last.
        lease: Seconds.
        deadline: The parent's: it ends before the child's own lease does.
        since: Registry milliseconds; a use of it from then on lets it live.
        stamped: The policy in the stamp of one that is not registered.
        named: True if a use by what goes has to name it.
        active: The parent's last activity in registry milliseconds; what was used later lives.

    """

    resource: Resource
    rules: Mapping[str, Any]
    going: Sequence[Resource]
    lease: float
    deadline: Deadline
    since: int
    stamped: str = ""
    named: bool = False
    active: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedIds:
    """Some ids of a plan: id -> when it was due as the plan was made. ``alone``: a worker crashed on it before."""

    plan: str
    due: Mapping[str, int]
    alone: bool = False


@dataclass(frozen=True, slots=True)
class CircleMember:
    """One of what uses each other: its id, all members ("provider|kind|id"), the account's place.

    ``token``: that of its claim, where it is asked about again.
    """

    id: str
    members: Sequence[str]
    place: str
    token: int | None = None


class Claims(LedgerConnection):
    """The seven ways to lease."""

    async def claim(
        self, rule: Rule, sweep: SweepSection, limit: int, *, alone: bool = False, expected: Expected = UNCHECKED
    ) -> Batch:
        """Lease up to ``limit`` due ids, or with ``alone`` one that a worker crashed on before."""
        asked = self._asked(rule, sweep, expected, limit=limit, alone=alone)
        return await self._leased("ledger/lua/claim/claim", rule.partition, sweep, asked)

    async def claim_orphans(
        self, rule: Rule, sweep: SweepSection, wanted: Mapping[str, int], *, alone: bool, expected: Expected = UNCHECKED
    ) -> Batch:
        """Lease orphan candidates: id -> when first seen. What was named, held or touched since then is refused."""
        listed = [{"id": id_, "first": first} for id_, first in wanted.items()]
        asked = self._asked(rule, sweep, expected, wanted=listed, alone=alone)
        return await self._leased("ledger/lua/claim/claim_orphans", rule.partition, sweep, asked)

    async def claim_planned(
        self, rule: Rule, sweep: SweepSection, planned: PlannedIds, expected: Expected = UNCHECKED
    ) -> Batch:
        """Lease ids of a plan. What is not as it was when the plan was made is left out."""
        listed = [{"id": id_, "due": due} for id_, due in planned.due.items()]
        asked = self._asked(rule, sweep, expected, wanted=listed, plan=planned.plan, alone=planned.alone)
        return await self._leased("ledger/lua/claim/claim_planned", rule.partition, sweep, asked)

    async def claim_purged(
        self, partition: Partition, sweep: SweepSection, ids: Sequence[str], actor: str, *, expected: Expected
    ) -> Batch:
        """Lease what a confirmed purge names; what is held, halted or with another worker is left."""
        asked = self._request(sweep.lease, expected) | {"policy": partition.policy, "ids": list(ids), "actor": actor}
        return await self._leased("ledger/lua/claim/claim_purged", partition, sweep, asked)

    async def claim_erased(
        self, partition: Partition, sweep: SweepSection, errand: Mapping[str, Any], *, expected: Expected
    ) -> Batch:
        """Lease what a request to erase a subject names, as ``claim_erased.lua`` has it; what may not go is left."""
        asked = {**self._request(sweep.lease, expected), **errand, "policy": partition.policy}
        return await self._leased("ledger/lua/claim/claim_erased", partition, sweep, asked)

    async def claim_child(self, child: ChildRequest, expected: Expected = UNCHECKED) -> tuple[str, Claim | None]:
        """Lease one child of what is about to be deleted; return the script's word for it, and the claim if granted."""
        asked = self._request(child.lease, expected) | {
            "id": child.resource.id,
            "stamped": child.stamped,
            "going": [codec.edge_text(source) for source in child.going],
            "rules": child.rules,
            "since": child.since,
            "named": child.named,
        }
        if child.active is not None:
            asked["active"] = child.active
        call = self.commands.on_slot(
            "ledger/lua/claim/claim_child", child.resource.provider, child.resource.kind, codec.dump(asked), parse=list
        )
        status, now, token, policy, attempts, unknown = await self.lease(call, child.deadline)
        if text(status) != "granted":
            return text(status), None
        claim = Claim(child.resource, text(policy), token, now, "cascade", attempts, unknown == 1, child.deadline, now)
        return "granted", claim

    def circle(self, rule: Rule, sweep: SweepSection, member: CircleMember, expected: Expected) -> Call[list[Any]]:
        """Return the call that leases one member of a circle, or with its ``token`` asks about it again."""
        # The token makes it the second question: it is granted only while that very claim stands, and takes no other.
        said = {"id": member.id, "members": list(member.members), "place": member.place}
        asked = self._asked(rule, sweep, expected, **said)
        if member.token is not None:
            asked["token"] = member.token
        at = rule.partition
        return self.commands.on_slot(
            "ledger/lua/claim/claim_circle", at.provider, at.kind, codec.dump(asked), parse=list
        )

    async def lease(self, call: Call[T], deadline: Deadline) -> T:
        """Run a call that leases; a slot that does not know which subjects are held is told first."""
        reply = await lease_of(self.carrier, call, deadline)
        if _status(reply) != Status.SUBJECTS:
            return reply
        provider, kind = str(call.args[0]), str(call.args[1])
        await self.tell_subjects(provider, kind)
        return await lease_of(self.carrier, call, deadline)

    async def _leased(self, script: str, at: Partition, sweep: SweepSection, asked: Mapping[str, Any]) -> Batch:
        # Before the script is sent: Redis begins the lease later, so this clock runs out first, and never after it.
        deadline = Deadline.of(sweep.lease)
        call = self.commands.on_slot(
            script,
            at.provider,
            at.kind,
            codec.dump(asked),
            parse=lambda reply: _batch(at, reply, deadline),
        )
        return await self.lease(call, deadline)

    def _asked(self, rule: Rule, sweep: SweepSection, expected: Expected, **more: Any) -> dict[str, Any]:
        """Return a request for ids of a rule's own partition: within its pace and ramp."""
        pace, asked = rule.max_deletions, self._request(sweep.lease, expected) | more
        # The digest fences rules as the token fences leases: a worker with a file that is out of date leases nothing.
        asked |= {"policy": rule.partition.policy, "digest": rule.digest}
        if pace:
            asked |= {"amount": pace.amount, "window": round(pace.window * 1000)}
        if sweep.ramp is not None:
            asked["ramp"] = round(sweep.ramp * 1000)
        return asked

    def _request(self, lease: float, expected: Expected) -> dict[str, Any]:
        """Return what every claim says, as ``include/request.lua`` has it."""
        epoch, earliest, latest, subjects = expected
        asked = {"name": secrets.token_hex(8), "lease": round(lease * 1000), "worker": self.worker}
        asked |= {"pending": self.max_pending, "epoch": epoch, "earliest": earliest, "latest": latest}
        asked["subjects"] = subjects
        return asked


async def lease_of(carrier: Carrier, call: Call[T], deadline: Deadline) -> T:
    """Run a script that leases, again while its reply gets lost; the script knows the question by its name.

    Raises:
        RegistryUnavailable: no reply came, or none while a request could begin.
        RegistryRefused: Redis refused.

    """
    # What is leased after begin_by is of no use: no request may begin under it, and nobody else gets the ids meanwhile.
    until = min(deadline.begin_by, time.monotonic() + PATIENCE)
    for pause in AGAIN:
        try:
            return await _once(carrier, call)
        except RegistryUnavailable:
            if time.monotonic() + pause >= until:
                raise
        await asyncio.sleep(pause)
    return await _once(carrier, call)


async def _once(carrier: Carrier, call: Call[T]) -> T:
    reply: T = (await carrier.carry_lasting([call]))[0]
    return reply


def _status(reply: Any) -> str:
    return reply.status if isinstance(reply, Batch) else text(reply[0])


def _batch(partition: Partition, reply: list[Any], deadline: Deadline) -> Batch:
    status, now, token, parked, left, *rest = reply
    claims = tuple(
        Claim(
            Resource(partition.provider, partition.kind, text(rest[i])),
            partition.policy,
            token,
            rest[i + 1],
            text(rest[i + 2]),
            rest[i + 3],
            rest[i + 4] == 1,
            deadline,
            now,
        )
        for i in range(0, len(rest), 5)
    )
    return Batch(Status(text(status)), now, claims, parked, json.loads(left))
