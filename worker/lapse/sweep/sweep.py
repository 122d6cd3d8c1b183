"""The story: claim what is due, guard, delete, settle; until nothing is due or the time is over."""

from lapse.guards.context import SweepContext
from lapse.policy import Rule
from lapse.sweep.batches import claim_due
from lapse.sweep.circles import Circles
from lapse.sweep.opening import opened
from lapse.sweep.report import Report
from lapse.sweep.session import Session


async def sweep(context: SweepContext, rule: Rule, *, budget: float | None = None) -> Report:
    """Delete what is due in one partition.

    Args:
        context: The registry, the provider and the budget to work with.
        rule: One version of the policy, used throughout.
        budget: Seconds, if less than the configured budget.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    session = Session(context, rule, budget)
    if await opened(session):
        async with session.executor(delete=session.delete, settle=session.settle) as executor:
            while batch := await claim_due(session, executor):
                executor.submit(batch.claims)
            if session.report.result == "completed":
                await Circles(session).run()
    return await session.closed()
