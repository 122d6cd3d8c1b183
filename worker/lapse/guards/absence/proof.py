"""What one sweep can prove about the answers of one kind: that an absence is one, and that its endpoint is there."""

from collections.abc import Mapping

from lapse.guards.absence.absences import Absences, Absent, Scope
from lapse.guards.absence.principals import Principals
from lapse.ledger.claim import Claim
from lapse.ledger.halts import Halts
from lapse.ledger.reasons import HaltReason
from lapse.providers.outcomes import Outcome, Verdict, after_probe

TRIES = 3  # sweeps without a proof
STRANGERS = 3


class Proof:
    """What one sweep knows about whether its provider answers for the right place.

    Attributes:
        principals: Whose answers count in this slot.
        absences: The ids that were not found.

    """

    def __init__(self, scope: Scope) -> None:
        """Begin with nothing known."""
        self.principals = Principals(scope.context, scope.kind, scope.partition)
        self.absences = Absences(scope, self.principals)
        self._context = scope.context
        self._kind = scope.kind
        self._partition = scope.partition
        self._strangers: set[str] = set()

    async def judge(self, claim: Claim, verdict: Verdict) -> Verdict:
        """Return the verdict as it may be recorded, waiting for what proves an absence.

        Raises:
            Limited: no request tokens in time for a probe.

        """
        if verdict.outcome is Outcome.ALREADY_GONE:
            return (await self.absences.resolve([Absent(claim, verdict)]))[0]
        return await self.probed(claim, verdict)

    async def probed(self, claim: Claim, verdict: Verdict) -> Verdict:
        """Return the verdict on an answer that is no absence: an unknown 404 may be the endpoint's.

        Raises:
            Limited: no request tokens in time for a probe.

        """
        if verdict.identity and (verdict.present or verdict.outcome is Outcome.DELETED):
            self.absences.note(claim, verdict)
        if verdict.outcome is Outcome.UNRECOGNISED:
            return await self._probe(claim.resource.id, verdict)
        return verdict

    async def _probe(self, object_id: str, verdict: Verdict) -> Verdict:
        self._strangers.add(object_id)
        if self._kind.probe:
            await self._context.throttle.spend(1)
        return after_probe(self._kind, verdict, await self._context.provider.probe(self._kind))

    async def conclude(self, outcomes: Mapping[str, int], control: Halts) -> str:
        """Count a sweep that found no proof, and halt at the third in a row; a sweep with one begins anew.

        A sweep that had no time or tokens left to ask is none of them. Returns the reason of a halt that was set.
        """
        at, ledger, field = self._partition, self._context.ledger, f"unproven|{self._partition.policy}"
        if self.absences.inconsistent:
            await control.halt(at, HaltReason.INCONSISTENT_ABSENCE, self.absences.inconsistent, whole_kind=True)
            return HaltReason.INCONSISTENT_ABSENCE
        if outcomes.get(Outcome.DELETED) or outcomes.get(Outcome.ALREADY_GONE):
            if await ledger.mark(at.provider, at.kind, field):
                await ledger.mark(at.provider, at.kind, field, 0)
        elif outcomes.get(Outcome.UNPROVEN) and not (self.absences.untried or self.absences.refused):
            tries = (await ledger.mark(at.provider, at.kind, field) or 0) + 1
            await ledger.mark(at.provider, at.kind, field, tries)
            if tries >= TRIES and await control.halt(at, HaltReason.NO_WITNESS, _NO_WITNESS):
                return HaltReason.NO_WITNESS
        return ""

    @property
    def endpoint_doubtful(self) -> bool:
        """True once several ids of one sweep met an answer that nobody knows."""
        return len(self._strangers) >= STRANGERS


_NO_WITNESS = (
    "the provider says of these ids that they are not there, and no other id of this registry can be read: "
    "wrong key, project or base_url?"
)
