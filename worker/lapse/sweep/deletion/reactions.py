"""What one answer means beyond its own id: the provider's breaker, quarantine news, a halt of the whole kind."""

import structlog

from lapse.guards.absence.proof import Proof
from lapse.guards.context import SweepContext, named
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.model import Partition

log = structlog.get_logger("lapse")

_HALTING = {Outcome.ENDPOINT_MISSING: "endpoint_missing", Outcome.UNSUPPORTED: "sunset"}


async def move_breaker(context: SweepContext, provider: str, verdict: Verdict) -> None:
    """Let one answer move the provider's breaker, and log a change of it."""
    if change := await context.throttle.react(verdict):
        about = {"outcome": str(verdict.outcome), "detail": verdict.detail, "provider": provider}
        if change == "opened":
            log.warning("breaker.opened", **about)
        else:
            log.warning("breaker.mended", **about)


async def react(
    context: SweepContext, partition: Partition, proof: Proof, object_id: str, verdict: Verdict
) -> str | None:
    """Let one verdict move breaker and halts; return the reason of a halt that it set."""
    if verdict.reacted:
        return None
    await move_breaker(context, partition.provider, verdict)
    halt = _HALTING.get(verdict.outcome)
    if verdict.outcome is Outcome.UNRECOGNISED:
        log.error(
            "resource.quarantined", id=object_id, reason="unrecognised", detail=verdict.detail, **named(partition)
        )
        halt = "unrecognised" if proof.endpoint_doubtful else None
    return halt if halt and await context.trip(partition, halt, verdict.detail, wide=True) else None
