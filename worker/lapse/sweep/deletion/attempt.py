"""One attempt to delete one claimed id: what is asked of the provider, and what the answer makes of the claim."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from lapse.errors import RegistryError
from lapse.guards.absence.absences import Absent, Scope, unproven
from lapse.guards.absence.proof import Proof
from lapse.guards.context import named
from lapse.ledger.claim import Claim
from lapse.ledger.reasons import HaltReason
from lapse.ledger.settle import Settled, settlement
from lapse.policy import Rule
from lapse.policy.preconditions import Judge, Preconditions, active, preconditions_of
from lapse.providers.deadline import Requests, cut_short
from lapse.providers.outcomes import Limited, Outcome, Verdict, limited
from lapse.sweep.budget import SweepBudget
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.family import family_of
from lapse.sweep.deletion.precheck import Target
from lapse.sweep.deletion.reactions import react
from lapse.sweep.deletion.recorder import progress

log = structlog.get_logger("lapse")

ACTIVITY_LASTS = 10.0  # seconds that a list's last activities are gone by

_GOOD = {Outcome.DELETED, Outcome.ALREADY_GONE, Outcome.CONFLICT, Outcome.KEPT, Outcome.ACTIVE}


@dataclass(slots=True)
class RequestBudget:
    """The requests that one claim takes before its own DELETE: a ``Spend`` that counts."""

    spend: Callable[[int], Awaitable[None]]
    spent: int = 0

    async def __call__(self, requests: int = 1) -> None:
        """Return when the requests may be sent; raises ``Limited`` if not in time."""
        await self.spend(requests)
        self.spent += requests


class Attempts:
    """The attempts of one sweep.

    Attributes:
        familiar: True once an answer was a good one: the provider knows this worker and its ids.
        halted: The reason of a halt that an answer led to; empty if none did.
        recheck: Says why an orphan, read just before its deletion, is none any more.

    """

    def __init__(self, scope: Scope, rule: Rule, proof: Proof, cascade: Cascade, budget: SweepBudget) -> None:
        """Make them for one rule.

        Args:
            scope: What the sweep asks about.
            rule: One version of the policy.
            proof: What the sweep knows of whether absences can be believed.
            cascade: What belongs to an id, and goes first.
            budget: The sweep's time, and tokens for requests of its own.

        """
        self.familiar = False
        self.halted = ""
        self.recheck: Judge | None = None
        self._context = scope.context
        self._rule = rule
        self._kind = scope.kind
        self._proof = proof
        self._cascade = cascade
        self._budget = budget
        self._quiet = scope.quiet
        self._listing = asyncio.Lock()
        self._activity: dict[str, float | None] = {}
        self._activity_until = 0.0

    async def attempt(self, claim: Claim) -> Settled | Absent:
        """Delete one claimed resource and decide what becomes of it, or say that it was not found; never raises."""
        with Requests(claim.deadline, partial(self._told, claim)) as requests:
            try:
                # Looked at here too: a claim waits in the queue, and the breaker may have opened meanwhile.
                if self._over(claim) or self._context.throttle.shut:
                    return self.unused(claim)
                verdict = await self._deleted(claim)
                if verdict.outcome is Outcome.ALREADY_GONE:
                    return Absent(claim, verdict)
                if verdict.outcome is Outcome.DELETED:
                    return await self._confirmed(claim, verdict, requests.told)
                verdict = await self._proof.probed(claim, verdict)
                await self._react(claim.resource.id, verdict)
            except Limited as reason:
                verdict = limited(reason, requests.items)
            except asyncio.CancelledError:
                verdict = cut_short("the worker ended before an answer came", requests)
            except RegistryError as error:
                verdict = cut_short(f"the registry was lost: {error}", requests)
            except Exception as error:
                log.exception("deletion.failed", id=claim.resource.id, **named(self._rule.partition))
                verdict = Verdict(Outcome.ERROR, unknown=True, detail=type(error).__name__, items=requests.items)
        return settlement(claim, verdict, outage=self._context.throttle.shut, told=requests.told)

    async def _told(self, claim: Claim, items: int) -> bool:
        with contextlib.suppress(RegistryError):
            return await progress(self._context.ledger, claim, items)
        return False

    async def _confirmed(self, claim: Claim, verdict: Verdict, told: int) -> Settled:
        """Return a confirmed deletion as one: nothing that happens after the answer replaces it."""
        # Made before anything else is asked: what fails from here on concerns other ids, and this one is gone.
        settled = settlement(claim, verdict, told=told)
        try:
            await self._proof.probed(claim, verdict)
            await self._react(claim.resource.id, verdict)
        except (Limited, RegistryError) as error:
            log.warning("verdict.unheeded", id=claim.resource.id, error=str(error), **named(self._rule.partition))
        return settled

    async def resolve(self, absent: Sequence[Absent]) -> list[Settled]:
        """Decide what becomes of claims whose ids were not found; never raises."""
        try:
            verdicts = await self._proof.absences.resolve(absent)
        except RegistryError as error:
            verdicts = [unproven(one.verdict, f"the registry was lost: {error}") for one in absent]
        except Exception as error:
            log.exception(
                "absence.failed", ids=[one.claim.resource.id for one in absent], **named(self._rule.partition)
            )
            verdicts = [unproven(one.verdict, type(error).__name__) for one in absent]
        for one, verdict in zip(absent, verdicts, strict=True):
            with contextlib.suppress(RegistryError):  # what an answer means beyond its id waits for the next one
                await self._react(one.claim.resource.id, verdict)
        if self._proof.absences.inconsistent:
            self.halted = self.halted or HaltReason.INCONSISTENT_ABSENCE
        return [settlement(one.claim, verdict) for one, verdict in zip(absent, verdicts, strict=True)]

    def _over(self, claim: Claim) -> bool:
        """Return True if no further request for a claim is to begin."""
        late = time.monotonic() >= claim.deadline.begin_by
        return late or self._quiet() or self._context.stop.is_set()

    def unused(self, claim: Claim) -> Settled:
        """Return the claim as one for which no request was sent."""
        return settlement(claim, Verdict(Outcome.LIMITED, detail="not begun"))

    async def _deleted(self, claim: Claim) -> Verdict:
        spend = self._spender(claim)
        family = family_of(self._cascade, claim, spend)
        preconditions = preconditions_of(self._rule, self._kind, claim.by, claim.at)
        if claim.by == "orphan":
            preconditions = replace(preconditions, judge=self.recheck)
        verdict = await self._seen_active(claim.resource.id, preconditions) or await delete(
            Target(self._context.provider, self._kind, claim.resource.id, spend),
            preconditions=preconditions,
            family=family,
            invented=self._context.invented,
        )
        left = dict(family.left) if family else {}
        return replace(verdict, left=left, extra=spend.spent) if left or spend.spent else verdict

    async def _seen_active(self, object_id: str, preconditions: Preconditions) -> Verdict | None:
        """Ask the list for the last activity of what a read would keep alive."""
        if self._kind.witness or preconditions.idle_since is None:
            return None
        async with self._listing:
            if time.monotonic() > self._activity_until:
                listing = await self._context.provider.listing(self._kind, self._budget.spend)
                if not listing.complete:
                    return listing.verdict or Verdict(Outcome.LIMITED, detail=listing.reason or "")
                self._activity = {item.id: item.last_active_at for item in listing.items}
                self._activity_until = time.monotonic() + ACTIVITY_LASTS
        return active(preconditions.idle_since, self._activity.get(object_id))

    def _spender(self, claim: Claim) -> RequestBudget:
        async def spend(requests: int) -> None:
            if self._over(claim):
                raise Limited("no further request is to be sent for this claim")
            left = min(claim.deadline.begin_by - time.monotonic(), self._budget.left())  # a sweep's end is no attempt
            await self._context.throttle.spend(requests, within=left)

        return RequestBudget(spend)

    async def _react(self, object_id: str, verdict: Verdict) -> None:
        halt = await react(self._context, self._rule.partition, self._proof, object_id, verdict)
        if verdict.outcome in _GOOD:
            self.familiar = True
        self.halted = self.halted or halt or ""
