"""The third story: the ids of a plan that an operator has seen, by the same claim, guards, delete and settle."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby, islice, takewhile
from operator import attrgetter

from lapse.guards.context import SweepContext
from lapse.ledger.claim import PlannedIds
from lapse.policy import Rule
from lapse.registry.model import Resource
from lapse.sweep.batches import claim_planned
from lapse.sweep.executor import Executor
from lapse.sweep.opening import Warrant, opened
from lapse.sweep.plan import Doomed
from lapse.sweep.report import Report
from lapse.sweep.session import Session

BUDGET = 86400.0  # seconds; somebody sits before it, or has given it the time
AHEAD = 1000
"""Ids of a plan that are read at a time."""

Leave = Callable[[Mapping[str, str]], object]
"""Is told ids of a plan that were left out, and why."""


class Nobody:
    """Lets no child go along."""

    def may_go(self, _child: Resource, _parent: Resource, *, uses: bool) -> bool:  # noqa: ARG002 - it has no say
        """Return False."""
        return False


async def apply(context: SweepContext, rule: Rule, doomed: Iterable[Doomed], plan: str, leave: Leave) -> Report:
    """Delete what a plan names in one partition, in its order.

    A plan only shrinks: what was held, touched, moved, settled or claimed since it was made is left out. Its policy
    may observe, since somebody has said yes to each of these ids, and no ramp holds it up for the same reason; its pace
    holds, and so does every halt. Of children go along those that the context's ``companions`` let, else none.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    settings, companions = replace(context.settings, budget=BUDGET, ramp=None), context.companions or Nobody()
    session = Session(replace(context, settings=settings, companions=companions), rule, None)
    if await opened(session, Warrant.PLAN):
        async with session.executor(delete=session.delete, settle=session.settle) as executor:
            for wanted, alone in takewhile(lambda _: session.goes_on(), _batches(doomed)):
                await _submit_all(session, executor, PlannedIds(plan, wanted, alone), leave)
            await executor.drain(session.budget.left())
    return await session.closed()


async def _submit_all(session: Session, executor: Executor, planned: PlannedIds, leave: Leave) -> None:
    """Submit what is as it was when the plan was made, and tell what is not."""
    if planned.alone:
        await executor.drain(session.budget.left())
    wanted = dict(planned.due)
    while wanted and (batch := await claim_planned(session, executor, wanted, planned)):
        leave(batch.left)
        executor.submit(batch.claims)


def _batches(doomed: Iterable[Doomed]) -> Iterator[tuple[dict[str, int], bool]]:
    """Yield id -> due of some that can go together, and of each that a worker ended on, with nothing beside it."""
    # As it was written, those that go alone are the last.
    for alone, ids in groupby(doomed, attrgetter("alone")):
        while wanted := {one.id: one.due for one in islice(ids, 1 if alone else AHEAD)}:
            yield wanted, alone
