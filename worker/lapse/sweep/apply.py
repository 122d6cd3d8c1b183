"""The third story: the ids of a plan that an operator has seen, by the same claim, guards, delete and settle."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lapse.guards import enforcement
from lapse.guards.context import SweepContext
from lapse.guards.edits.adoption import rename
from lapse.policy import Rule
from lapse.sweep.executor import Executor
from lapse.sweep.plan import Doomed
from lapse.sweep.session import Report, Run
from lapse.sweep.sweep import sound

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
    run = Run(replace(context, settings=replace(context.settings, budget=BUDGET, ramp=None)), rule, None)
    left: dict[str, str] = {}
    if await _opened(run):
        async with run.executor() as executor:
            for wanted, alone in _batches(doomed):
                await _hand_all(run, executor, wanted, plan, left, alone=alone)
    return await run.closed(), left


async def _hand_all(
    run: Run, executor: Executor, wanted: dict[str, int], plan: str, left: dict[str, str], *, alone: bool
) -> None:
    while wanted and (claims := await run.claim_planned(wanted, executor, plan, alone=alone)):
        left |= claims.left
        executor.submit(claims.claims)
    await executor.drain(run.left())


async def _opened(run: Run) -> bool:
    """Let everything but the size of the plan be a reason not to act: that one has been looked at."""
    context, rule = run.context, run.rule
    if not await sound(run):
        return False
    if await context.ledger.adopt(rule, context.watch.epoch) == "divergence":
        return run.ends("divergence", "another worker has newer rules")
    if scope := await context.control.paused(rule.partition):
        return run.ends("paused", f"lapse pause on {scope}")
    await rename(context.ledger, rule)
    survey = await context.ledger.survey(rule)
    stand = enforcement.stand(replace(rule, enforce=True), survey, context.provider.place)
    return stand.act or run.ends(stand.result, stand.detail or ", ".join(survey.halts))


def _batches(doomed: Sequence[Doomed]) -> Iterator[tuple[dict[str, int], bool]]:
    """Yield id -> due of all that can go together, then of each that a worker ended on, with nothing beside it."""
    yield {one.id: one.due for one in doomed if not one.alone}, False
    for one in doomed:
        if one.alone:
            yield {one.id: one.due}, True
