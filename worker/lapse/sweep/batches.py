"""Claiming for one sweep, batch by batch, until it is over: due ids, orphans, a plan's, a purge's, an erasure's."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from lapse.guards import enforcement
from lapse.guards.integrity.protection import damage
from lapse.ledger.claim import Batch, PlannedIds, Status
from lapse.policy import Rule, SweepSection
from lapse.sweep.executor import Executor
from lapse.sweep.session import Phase, Session

LONGEST_NAP = 0.5

Claiming = Callable[[Rule, SweepSection, dict[str, int]], Awaitable[Batch]]


async def claim_due(session: Session, executor: Executor) -> Batch | None:
    """Return the next batch of due ids, or None when the sweep is over: none, no time or tokens, stopped, halted."""
    while session.goes_on():
        tokens = await _tokens(session, min(await _room(session, executor), session.context.settings.batch))
        if tokens:
            batch = await _claim(session, tokens)
            if batch.claims:
                return batch
            if batch.status != Status.OK:
                await _refused(session, batch.status)
            elif not batch.parked and not await _drain(session, executor):
                return await _suspect(session, executor, batch.now)
    if session.report.result == "limited":
        await _drain(session, executor)  # a limit ends the claiming; what was claimed within it is deleted
    return None


async def claim_orphans(
    session: Session, executor: Executor, wanted: dict[str, int], *, alone: bool = False
) -> Batch | None:
    """Take as many of these orphans as there are tokens; return what was granted, or None when it is over."""

    async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Batch:
        expected = session.context.watch.expected()
        return await session.context.ledger.claim_orphans(rule, settings, chosen, alone=alone, expected=expected)

    return await _claim_named(session, executor, wanted, claim)


async def claim_planned(
    session: Session, executor: Executor, wanted: dict[str, int], planned: PlannedIds
) -> Batch | None:
    """Take as many of what is left of a plan as there are tokens; return what was granted, or None when it is over."""

    async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Batch:
        expected = session.context.watch.expected()
        batch = await session.context.ledger.claim_planned(rule, settings, replace(planned, due=chosen), expected)
        told = {one.resource.id for one in batch.claims} | set(batch.left)
        wanted.update({id_: due for id_, due in chosen.items() if id_ not in told})  # beyond the pace
        return batch

    return await _claim_named(session, executor, wanted, claim)


async def claim_purged(session: Session, executor: Executor, wanted: dict[str, int], actor: str) -> Batch | None:
    """Take as much of a purge as there are tokens; return what was granted, or None when it is over."""

    async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Batch:
        expected = session.context.watch.expected()
        return await session.context.ledger.claim_purged(
            rule.partition, settings, list(chosen), actor, expected=expected
        )

    return await _claim_named(session, executor, wanted, claim)


async def claim_erased(
    session: Session, executor: Executor, wanted: dict[str, int], errand: Mapping[str, Any]
) -> Batch | None:
    """Take as much of an erasure as there are tokens; return what was granted, or None when it is over."""

    async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Batch:
        context, at = session.context, rule.partition
        pauses, whole = await context.control.pauses(), f"{at.provider}/{at.kind}/"
        paused = {scope.removeprefix(whole) for scope in pauses if scope.startswith(whole)}
        for one in context.rules:
            names = {one.partition.policy, *one.formerly}
            paused |= names if one.partition == replace(at, policy=one.partition.policy) and names & paused else set()
        ids = [{"id": id_, "going": errand["going"].get(id_, ())} for id_ in chosen]
        asked = {**errand, "paused": sorted(paused), "ids": ids}
        return await context.ledger.claim_erased(at, settings, asked, expected=context.watch.expected())

    return await _claim_named(session, executor, wanted, claim)


async def _claim_named(session: Session, executor: Executor, wanted: dict[str, int], claim: Claiming) -> Batch | None:
    while session.goes_on():
        if tokens := await _tokens(session, min(await _room(session, executor), len(wanted))):
            chosen = {id_: wanted.pop(id_) for id_ in list(islice(wanted, tokens))}
            batch = await claim(session.rule, session.context.settings, chosen)
            await session.context.throttle.give_back(tokens - len(batch.claims))
            if batch.status != Status.OK:
                wanted.update(chosen)
                await _refused(session, batch.status)
                return None
            return batch
    return None


async def _claim(session: Session, tokens: int, *, alone: bool = False) -> Batch:
    context = session.context
    batch = await context.ledger.claim(
        session.rule, context.settings, tokens, alone=alone, expected=context.watch.expected()
    )
    await session.context.throttle.give_back(tokens - len(batch.claims))
    return batch


async def _suspect(session: Session, executor: Executor, now: int) -> Batch | None:
    """Nothing else is due: try one id that a worker crashed on, with nothing else in flight."""
    again = Batch(Status.OK, now, parked=1)
    if not session.report.registered:
        return None  # the survey found nothing at all, and so nothing that a worker crashed on
    if not executor.idle or not await _tokens(session, 1):
        return again
    batch = await _claim(session, 1, alone=True)
    if not batch.claims:
        return None
    executor.submit(batch.claims)
    await _drain(session, executor)
    return again


async def _refused(session: Session, status: Status) -> None:
    """End the sweep because a claim was refused; a registry that is not the expected one halts everything."""
    if status in {Status.LOST, Status.CLOCK}:
        await session.look()
    if status == Status.DAMAGED:
        await damage(session.context, session.rule)
    session.ends(*enforcement.refused(status))


async def _drain(session: Session, executor: Executor) -> bool:
    """Wait until nothing is in flight; a process that is to end waits no longer than leaving the executor does.

    True if anything was recorded meanwhile: what that used may be free, and due, now.
    """
    recorded = False
    left, stop = session.budget.left, session.context.stop
    while not executor.idle and executor.recording and left() > 0 and not stop.is_set():
        recorded |= await executor.drain(min(LONGEST_NAP, left()))
    return recorded


async def _room(session: Session, executor: Executor) -> int:
    """Wait for room. Until one answer was good, one request at a time: a wrong key or URL meets one id."""
    if session.probing():
        await _drain(session, executor)
        return 1 if executor.idle and session.phase < Phase.ENDING else 0
    await executor.vacancy(min(LONGEST_NAP, session.budget.left()))
    return executor.room()


async def _tokens(session: Session, wanted: int) -> int:
    if wanted <= 0:
        return 0
    grant = await session.context.throttle.take(wanted)
    if not grant.granted:
        if grant.why == "breaker":
            session.ends("breaker", "the provider's breaker is open", more=True)
        elif grant.wait > session.budget.left():
            session.ends("limited", grant.why, more=True)
        else:
            await session.context.throttle.pause(min(grant.wait, LONGEST_NAP))
    return grant.granted
