"""May this sweep act? The guards that every sweep passes before its first claim, in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto

import structlog

from lapse.guards import enforcement
from lapse.guards.context import SweepContext, named
from lapse.guards.edits import newly_due
from lapse.guards.edits.adoption import rename
from lapse.guards.integrity.clocks import doubt
from lapse.guards.integrity.protection import damage
from lapse.guards.recovery import diverged, recover
from lapse.ledger.claim import RAMP_FIRST
from lapse.ledger.partition import Survey
from lapse.ledger.reasons import STANDING, HaltReason
from lapse.policy import Keep, Rule
from lapse.registry.model import Partition
from lapse.sweep.deletion.blocked import free
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.session import Session

log = structlog.get_logger("lapse")


class Warrant(Enum):
    """What says that ids are to be deleted."""

    RULE = auto()
    """The policy file: it decides, and every guard may object."""
    PLAN = auto()
    """An operator, of each id of a plan: its size and the policy's mode are no objection."""
    PURGE = auto()
    """An operator, of a whole kind: no policy is asked."""
    ERASURE = auto()
    """A request to erase a subject: no policy is asked either."""


UNRULED = frozenset({Warrant.PURGE, Warrant.ERASURE})


def unruled(partition: Partition, rules: Sequence[Rule], keep: tuple[Keep, ...], cascade: Mapping[str, str]) -> Rule:
    """Return what stands for a rule where no policy is asked; of the kind's policies, only what they cancel counts."""
    return Rule(
        partition=partition,
        ttl=None,
        anchor=None,
        max_age=None,
        orphan=None,
        keep=keep,
        cascade=cascade,
        enforce=False,
        max_deletions=None,
        max_newly_due=None,
        touches_stated=True,
        expect_gone=False,
        cancel=any(rule.cancel for rule in rules),
        every=60,
        formerly=(),
        digest=partition.policy,
    )


async def opened(session: Session, by: Warrant = Warrant.RULE) -> bool:
    """Return True if the sweep may act: registry, rules, pauses, halts and credential are as they have to be."""
    may_act = await _looked(session, by)
    session.budget.opened()
    return may_act


async def _looked(session: Session, by: Warrant) -> bool:
    context, rule = session.context, session.rule
    await context.control.inherit_pauses(rule.partition, rule.formerly)
    if not await _sound(session, clocks=by is not Warrant.RULE or rule.enforce):
        return False
    if by not in UNRULED and not await _adopted(session):
        return False
    if scope := await context.control.paused(rule.partition, rule.formerly):
        return session.ends("paused", f"lapse pause on {scope}")
    if by in UNRULED:
        return await session.admitted()
    await recover(context, rule)
    return await (_planned(session) if by is Warrant.PLAN else _ruled(session))


async def _sound(session: Session, *, clocks: bool) -> bool:
    """Return True if the registry is the one that is known, whole, and its clock right."""
    context, at = session.context, session.rule.partition
    if clocks and (why := await doubt(context, at)):
        return session.ends(*why)
    if trouble := await context.watch.look():
        return session.ends("halted", trouble.detail)
    detail = await damage(context, session.rule)
    return not detail or session.ends("halted", detail)


async def _adopted(session: Session) -> bool:
    """Make the rule the partition's own, unless newer ones are."""
    context, rule = session.context, session.rule
    if await context.ledger.adopt(rule, context.watch.epoch) != "divergence":
        return True
    await context.control.halt(rule.partition, HaltReason.CONFIG_DIVERGENCE, diverged(rule, context.ledger.host))
    return session.ends("divergence", "another worker has newer rules")


async def _planned(session: Session) -> bool:
    """Let everything but the size of the plan be a reason not to act: that one has been looked at."""
    context, rule = session.context, session.rule
    await rename(context.ledger, rule)
    survey = await context.ledger.survey(rule)
    stand = enforcement.stand(replace(rule, enforce=True), survey, context.provider.place)
    if not stand.act:
        return session.ends(stand.result, stand.detail or ", ".join(survey.halts))
    return await session.admitted()


async def _ruled(session: Session) -> bool:
    """Look at what is there, and let the guards decide whether the rule may act on it."""
    context, rule, report = session.context, session.rule, session.report
    await free(Cascade(context, rule), rule)
    survey = await _surveyed(context, rule)
    report.due, report.registered = survey.due, survey.registered
    stand = enforcement.stand(rule, survey, context.provider.place)
    await _lift(context, rule, stand)
    await _halt(context, rule, stand, survey)
    await context.ledger.note(rule.partition, would=0 if stand.act else survey.due)
    if not stand.act:
        return session.ends(stand.result, stand.detail)
    if not await session.admitted():
        return False
    if await rename(context.ledger, rule, counted=True):
        survey = replace(await context.ledger.survey(rule), edit=survey.edit)
        report.due, report.registered = survey.due, survey.registered
    await context.ledger.settle_at(rule.partition, context.provider.place)
    await _set_baseline(context, rule, survey, restart_ramp=stand.restart_ramp)
    return True


async def _halt(context: SweepContext, rule: Rule, stand: enforcement.Stand, survey: Survey) -> None:
    if not stand.halt:
        return
    at = rule.partition
    plan = await newly_due.plan(context.ledger, rule, stand, survey) if stand.plan else None
    if await context.control.halt(at, stand.halt, stand.detail, plan=plan, whole_kind=stand.whole_kind):
        log.error("guard.tripped", guard=stand.halt, detail=stand.detail, plan=plan, **named(at))


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
        begun = {"ramp_step": 0, "ramp_from": survey.now, "ramp_used": 0, "ramp_cap": RAMP_FIRST}
        fields |= begun | {"ramp_fence": survey.fence}
    await context.ledger.note(rule.partition, **fields)
