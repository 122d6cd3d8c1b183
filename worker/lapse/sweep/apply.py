"""The third story: the ids of a plan that an operator has seen, by the same claim, guards, delete and settle."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lapse.guards.context import SweepContext
from lapse.policy import Rule
from lapse.sweep.batches import claim_planned
from lapse.sweep.executor import Executor
from lapse.sweep.opening import Warrant, opened
from lapse.sweep.plan import Doomed
from lapse.sweep.report import Report
from lapse.sweep.session import Session

BUDGET = 86400.0  # seconds; somebody sits before it, or has given it the time


async def apply(
    context: SweepContext, rule: Rule, doomed: Sequence[Doomed], plan: str
) -> tuple[Report, dict[str, str]]:
    """Delete what a plan names in one partition, in its order; return what was left out too, and why.

    A plan only shrinks: what was held, touched, moved, settled or claimed since it was made is left out. Its policy
    may observe, since somebody has said yes to each of these ids, and no ramp holds it up for the same reason; its pace
    holds, and so does every halt.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    session = Session(replace(context, settings=replace(context.settings, budget=BUDGET, ramp=None)), rule, None)
    left: dict[str, str] = {}
    if await opened(session, Warrant.PLAN):
        async with session.executor(delete=session.delete, settle=session.settle) as executor:
            for wanted, alone in _batches(doomed):
                left |= await _submit_all(session, executor, wanted, plan, alone=alone)
    return await session.closed(), left


async def _submit_all(
    session: Session, executor: Executor, wanted: dict[str, int], plan: str, *, alone: bool
) -> dict[str, str]:
    """Submit what is as it was when the plan was made; return what is not, and why."""
    left: dict[str, str] = {}
    while wanted and (claims := await claim_planned(session, executor, wanted, plan, alone=alone)):
        left |= claims.left
        executor.submit(claims.claims)
    await executor.drain(session.budget.left())
    return left


def _batches(doomed: Sequence[Doomed]) -> Iterator[tuple[dict[str, int], bool]]:
    """Yield id -> due of all that can go together, then of each that a worker ended on, with nothing beside it."""
    yield {one.id: one.due for one in doomed if not one.alone}, False
    for one in doomed:
        if one.alone:
            yield {one.id: one.due}, True
