"""Is "not found" the truth about an id, or are we looking at the wrong place?

A wrong key, project, base URL or replica looks like "everything is gone". So an absence is believed only if the same
identity got a positive answer to a request sent after it, and the id, asked once more, is again not found. Until then
the claim waits here, and holds no slot of ``concurrency``.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lapse.guards.absence.positives import Positives
from lapse.guards.absence.principals import Principals
from lapse.guards.context import SweepContext
from lapse.ledger.claim import Claim
from lapse.ledger.known import histories
from lapse.policy import Rule
from lapse.providers.deadline import Deadline, Requests
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Limited, Outcome, Verdict, classify, classify_read, exists, unnamed
from lapse.registry.model import Partition

_BY_CREATION = frozenset({"ttl", "max_age", "expires_at"})


@dataclass(frozen=True, slots=True)
class Absent:
    """A claim whose id was not found, and the verdict that says so."""

    claim: Claim
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Scope:
    """What one sweep asks about, and how.

    Attributes:
        context: What the sweep works with.
        kind: What the ids are.
        partition: Where they stand.
        lenient: The ids also go by themselves: a later positive answer is enough.
        quiet: Says that no further request is to begin.
        rule: What canaries stand under; None for no canaries.

    """

    context: SweepContext
    kind: Kind
    partition: Partition
    lenient: bool
    quiet: Callable[[], bool]
    rule: Rule | None = None


class Absences:
    """What one sweep knows of the ids of one kind that the provider says it does not have.

    Attributes:
        refused: Why absences under this worker's credential are not believed at all; empty while they may be.
        inconsistent: What an id that was not found said afterwards; empty while no id did.
        untried: True if an absence stayed unproven for want of tokens or time, and not of an answer.

    """

    def __init__(self, scope: Scope, principals: Principals) -> None:
        """Begin with nothing known; ``principals``: whose answers count in this slot."""
        self.refused = ""
        self.inconsistent = ""
        self.untried = False
        self._context = scope.context
        self._kind = scope.kind
        self._partition = scope.partition
        self._principals = principals
        self._lenient = scope.lenient
        self._quiet = scope.quiet
        self._positives = Positives(scope.context, scope.kind, scope.partition, scope.rule)
        self._missing: dict[str, set[str]] = {}
        self._began: int | None = None
        self._turn = asyncio.Lock()

    def note(self, claim: Claim, verdict: Verdict) -> None:
        """Note an answer that shows the object of a claim: it may prove others' absences, or belie its own."""
        self._begin(claim)
        if claim.resource.id in self._missing.get(verdict.identity, ()):
            self.inconsistent = f"{claim.resource.id} was not found, and then answered as {verdict.outcome}"
        # What the sweep registered itself, or nobody did, shows nothing of the registry's place.
        if claim.by in _BY_CREATION and claim.due <= (self._began or 0):
            self._positives.note(verdict.identity, verdict.sent_at)

    def _begin(self, claim: Claim) -> None:
        self._began = claim.at if self._began is None else min(self._began, claim.at)

    async def resolve(self, waiting: Sequence[Absent]) -> list[Verdict]:
        """Return of each what may be recorded: ``ALREADY_GONE``, ``UNPROVEN``, or what it answered instead."""
        for one in waiting:
            self._begin(one.claim)
            self._missing.setdefault(one.verdict.identity, set()).add(one.claim.resource.id)
        # One after the other: what one group proves or belies holds for the next, and is not paid for twice.
        async with self._turn:
            said: dict[str, Verdict] = {}
            # By credential: what one of them sees proves nothing about where another one looks.
            for identity in dict.fromkeys(one.verdict.identity for one in waiting):
                group = [one for one in waiting if one.verdict.identity == identity]
                verdicts = await self._judged(identity, group)
                said |= {one.claim.resource.id: verdict for one, verdict in zip(group, verdicts, strict=True)}
            return [said[one.claim.resource.id] for one in waiting]

    async def _judged(self, identity: str, group: Sequence[Absent]) -> list[Verdict]:
        ledger, ids = self._context.ledger, [one.claim.resource.id for one in group]
        told = await histories(ledger.carrier, ledger.namespace, self._partition, ids)
        others = await self._principals.others(identity)
        verdicts: dict[str, Verdict] = {}
        open_: list[Absent] = []
        for one in group:
            history = told.get(one.claim.resource.id)
            # An operator's yes holds for the key it was said with: another one may look at another place.
            if history and history.believed == identity:
                verdicts[one.claim.resource.id] = replace(one.verdict, believed=True)
            else:
                open_.append(one)
        why = await self._unproven(identity, open_) if open_ else ""
        if why:
            verdicts |= {one.claim.resource.id: unproven(one.verdict, why) for one in open_}
        else:
            for one, verdict in zip(open_, await self._again(identity, open_), strict=True):
                history = told.get(one.claim.resource.id)
                # Keys of two projects that alternate would each bury the other's ids: gone is what all of them miss.
                missing = others - set(history.missed if history else ())
                doubted = verdict.outcome is Outcome.ALREADY_GONE and missing
                verdicts[one.claim.resource.id] = unproven(one.verdict, _OTHERS) if doubted else verdict
        return [verdicts[one.claim.resource.id] for one in group]

    async def _unproven(self, identity: str, group: Sequence[Absent]) -> str:
        """Return why the place is not proven for all of these, or an empty string."""
        answered = max(one.verdict.answered_at for one in group)
        if self.inconsistent:
            return self.inconsistent
        with Requests(_first(group)):
            return await self._sought(identity, group, answered)

    async def _sought(self, identity: str, group: Sequence[Absent], answered: float) -> str:
        try:
            spend = self._spender(group)
            if why := await self._principals.refusal(identity, spend):
                self.refused = why
                return why
            # Asked for after the last of these absences: an earlier answer may be from before a key or route changed.
            if self._positives.after(identity, answered):
                return ""
            missing = self._missing[identity]
            if await self._positives.ask(identity, self._began or 0, missing, spend):
                return ""
        except Limited as reason:
            self.untried = True
            return str(reason)
        return "no id of this registry can be seen with this credential"

    async def _again(self, identity: str, group: Sequence[Absent]) -> list[Verdict]:
        """Ask each once more, all before any is believed: one that is there after all speaks against the others."""
        if self._lenient:  # these are expected to go by themselves: a second request each would be for nothing
            return [one.verdict for one in group]
        verdicts = list(await asyncio.gather(*(self._asked_again(identity, one) for one in group)))
        if not self.inconsistent:
            return verdicts
        return [
            unproven(verdict, self.inconsistent) if verdict.outcome is Outcome.ALREADY_GONE else verdict
            for verdict in verdicts
        ]

    async def _asked_again(self, identity: str, one: Absent) -> Verdict:
        with Requests(one.claim.deadline):
            return await self._asked(identity, one)

    async def _asked(self, identity: str, one: Absent) -> Verdict:
        provider, id_ = self._context.provider, one.claim.resource.id
        try:
            spend = self._spender([one])
            await spend(1)
            # With the method of the first time: GET and DELETE may have other words for the same absence.
            if one.verdict.by_read:
                reply = await provider.read(self._kind, id_)
                if exists(self._kind, id_, reply):
                    self._belied(reply.identity, identity, id_, "was read")
                    return replace(unproven(one.verdict, f"{id_} was not found, and then read"), present=True)
                if unnamed(self._kind, reply):
                    await spend(1)
                    reply = await provider.absence(self._kind, id_)
                verdict = classify_read(self._kind, id_, reply, provider.recognisers)
            else:
                verdict = classify(self._kind, id_, await provider.delete(self._kind, id_), provider.recognisers)
        except Limited as reason:
            self.untried = True
            return unproven(one.verdict, str(reason))
        return self._second(identity, one, verdict)

    def _second(self, identity: str, one: Absent, verdict: Verdict) -> Verdict:
        """Return what two answers in a row come to."""
        carried = replace(verdict, items=one.verdict.items, left=one.verdict.left, extra=one.verdict.extra + 1)
        if verdict.outcome is Outcome.DELETED:  # a confirmed deletion is one, whatever it says of the answer before
            self._belied(verdict.identity, identity, one.claim.resource.id, "was deleted")
            return carried
        if verdict.outcome is not Outcome.ALREADY_GONE:
            return replace(carried, outcome=Outcome.UNPROVEN, unknown=False) if _silent(verdict) else carried
        if verdict.identity != identity:
            return unproven(one.verdict, "the credential changed between two answers")
        return carried

    def _belied(self, now: str, then: str, id_: str, how: str) -> None:
        if now == then:
            self.inconsistent = self.inconsistent or f"{id_} was not found, and then {how}"

    def _spender(self, group: Sequence[Absent]) -> "_Spend":
        return _Spend(self._context, _first(group).begin_by, self._quiet)


@dataclass(frozen=True, slots=True)
class _Spend:
    """Spends what the claim that ends first has left."""

    context: SweepContext
    begin_by: float
    quiet: Callable[[], bool]

    async def __call__(self, requests: int = 1) -> None:
        left = self.begin_by - time.monotonic()
        if left <= 0 or self.quiet() or self.context.stop.is_set():
            raise Limited("no further request is to be sent for this claim")
        await self.context.throttle.spend(requests, within=left)


def _first(group: Sequence[Absent]) -> Deadline:
    """Return the deadline of the claim that ends first."""
    return min((one.claim.deadline for one in group), key=lambda deadline: deadline.begin_by)


_OTHERS = "another credential that is in use has not been asked about it yet"


def _silent(verdict: Verdict) -> bool:
    """Return True for an answer that says nothing of the id: neither that it is there nor that it is not."""
    return verdict.outcome not in {Outcome.AUTH, Outcome.QUOTA, Outcome.RATE_LIMITED, Outcome.CONFLICT}


def unproven(verdict: Verdict, why: str) -> Verdict:
    """Return an absence as one that is not believed: the id is kept, and tried again."""
    return replace(verdict, outcome=Outcome.UNPROVEN, detail=f"{verdict.detail}; {why}" if why else verdict.detail)
