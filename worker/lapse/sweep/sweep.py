"""The story: claim what is due, guard, delete, settle; until nothing is due or the time is over."""

from dataclasses import replace

import structlog

from lapse.guards import enforcement
from lapse.guards.context import SweepContext, named
from lapse.guards.edits import newly_due
from lapse.guards.edits.adoption import rename
from lapse.guards.integrity.clocks import doubt
from lapse.guards.integrity.protection import damage
from lapse.guards.recovery import diverged, recover
from lapse.ledger.partition import Survey
from lapse.ledger.reasons import STANDING, HaltReason
from lapse.policy import Rule
from lapse.sweep.circles import Circles
from lapse.sweep.deletion.blocked import free
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.session import Report, Run

log = structlog.get_logger("lapse")


async def sweep(context: SweepContext, rule: Rule, *, budget: float | None = None) -> Report:
    """Delete what is due in one partition.

    Args:
        context: The registry, the provider and the budget to work with.
        rule: One version of the policy, used throughout.
        budget: Seconds, if less than the configured budget.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    run = Run(context, rule, budget)
    if await opened(run):
        async with run.executor() as executor:
            while batch := await run.next_claims(executor):
                executor.submit(batch.claims)
            if run.report.result == "completed":
                await Circles(run).run()
    return await run.closed()


async def opened(run: Run) -> bool:
    """Make the rule the partition's own, look at what is there, and let the guards decide whether to act."""
    context, rule = run.context, run.rule
    if not await sound(run, clocks=rule.enforce):
        return False
    if await context.ledger.adopt(rule, context.watch.epoch) == "divergence":
        await context.control.halt(rule.partition, HaltReason.CONFIG_DIVERGENCE, diverged(rule, context.ledger.host))
        return run.ends("divergence", "another worker has newer rules")
    if scope := await context.control.paused(rule.partition):
        return run.ends("paused", f"lapse pause on {scope}")
    await recover(context, rule)
    await free(Cascade(context, rule), rule)
    survey = await _surveyed(context, rule)
    run.report.due, run.report.registered = survey.due, survey.registered
    stand = enforcement.stand(rule, survey, context.provider.place)
    await _lift(context, rule, stand)
    if stand.halt:
        plan = await newly_due.plan(context.ledger, rule, stand, survey) if stand.plan else None
        if await context.control.halt(rule.partition, stand.halt, stand.detail, plan=plan, whole_kind=stand.whole_kind):
            log.error("guard.tripped", guard=stand.halt, detail=stand.detail, plan=plan, **named(rule.partition))
    await context.ledger.note(rule.partition, would=0 if stand.act else survey.due)
    if not stand.act:
        return run.ends(stand.result, stand.detail)
    if not await run.admitted():
        return False
    if await rename(context.ledger, rule, counted=True):
        survey = replace(await context.ledger.survey(rule), edit=survey.edit)
        run.report.due, run.report.registered = survey.due, survey.registered
    await context.ledger.settle_at(rule.partition, context.provider.place)
    await _set_baseline(context, rule, survey, restart_ramp=stand.restart_ramp)
    return True


async def sound(run: Run, *, clocks: bool = True) -> bool:
    """Return True if the registry is the one that is known, whole, and its clock right."""
    context, at = run.context, run.rule.partition
    if clocks and (why := await doubt(context, at)):
        return run.ends(*why)
    if trouble := await context.watch.look():
        return run.ends("halted", trouble.detail)
    detail = await damage(context, at)
    return not detail or run.ends("halted", detail)


async def _surveyed(context: SweepContext, rule: Rule) -> Survey:
    """Look at a partition. What an enforcing one adopts from old names is moved only once the guards let it."""
    if not rule.enforce:
        await rename(context.ledger, rule)
    survey = await context.ledger.survey(rule)
    if not rule.enforce or set(survey.halts) - STANDING:
        return survey
    return await newly_due.look(context.ledger, rule, survey)


async def _lift(context: SweepContext, rule: Rule, stand: enforcement.Stand) -> None:
    """End the standing halts whose cause has ended."""
    ended = set(stand.lift) - ({stand.halt} if stand.halt else set())
    for halt in await context.control.halts([(rule.partition.provider, rule.partition.kind)]) if ended else []:
        if halt.policy == rule.partition.policy and halt.reason in ended & STANDING:
            await context.control.lift(halt, "its cause has ended", "lapse")


async def _set_baseline(context: SweepContext, rule: Rule, survey: Survey, *, restart_ramp: bool) -> None:
    fields = newly_due.baseline(rule, survey) | {"acted": rule.digest}
    if restart_ramp:
        log.warning("ramp.restarted", newly_due=survey.edit.newly, **named(rule.partition))
        begun = {"ramp_step": 0, "ramp_from": survey.now, "ramp_used": 0, "ramp_cap": 10}
        fields |= begun | {"ramp_fence": survey.fence}
    await context.ledger.note(rule.partition, **fields)
