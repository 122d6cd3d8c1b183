"""One sweep of one partition while it lasts: what it works with, in which phase it is, and how it ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from enum import IntEnum

import structlog

from lapse.errors import ConfigError, RegistryError
from lapse.guards.absence.absences import Absent, Scope
from lapse.guards.absence.proof import Proof
from lapse.guards.context import SweepContext, named
from lapse.ledger import failures
from lapse.ledger.claim import Claim
from lapse.ledger.reasons import HaltReason
from lapse.ledger.settle import Act, Settled, unbelieved
from lapse.policy import Rule
from lapse.policy.preconditions import Judge
from lapse.providers.invented import Invented
from lapse.providers.outcomes import Limited, Outcome
from lapse.sweep.budget import SweepBudget
from lapse.sweep.deletion.attempt import Attempts
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.recorder import HALTED, Recorder
from lapse.sweep.executor import Delete, Executor, Settle
from lapse.sweep.report import Report

log = structlog.get_logger("lapse")

LOOK_EVERY = 1.0  # seconds; pauses and halts are seen, and the registry is watched, as often
UNPROVEN_ENOUGH = 20
TRIED_ALONE = 20  # ids tried one by one before many at once, if no answer is good


class Phase(IntEnum):
    """How far a sweep has come; it never goes back."""

    PROBING = 0
    """One id at a time: no answer was good yet."""
    CLAIMING = 1
    """As many as there is room for."""
    ENDING = 2
    """Nothing more is claimed; what is claimed is deleted."""
    QUIET = 3
    """No further request begins."""


class Session:
    """One sweep of one partition while it lasts."""

    def __init__(
        self,
        context: SweepContext,
        rule: Rule,
        budget: float | None,
        *,
        recheck: Judge | None = None,
        on_settled: Callable[[Sequence[Settled]], None] | None = None,
    ) -> None:
        """Begin one.

        Args:
            context: What it works with.
            rule: One version of the policy.
            budget: Seconds, if less than the configured budget.
            recheck: Says why an orphan, read just before its deletion, is none any more.
            on_settled: Told of every outcome that was recorded.

        """
        self.context = context = replace(context, invented=Invented(context.provider))
        self.rule = rule
        self.report = Report(rule.partition)
        self.budget = SweepBudget(context, budget)
        self.phase = Phase.PROBING
        self.kind = context.provider.kinds[rule.partition.kind]
        self._tried = 0
        self._on_settled = on_settled
        lenient = rule.expect_gone or self.kind.native_expiry
        scope = Scope(context, self.kind, rule.partition, lenient=lenient, quiet=self.quiet, rule=rule)
        self._proof = Proof(scope)
        self._cascade = Cascade(context, rule)
        self._recorder = Recorder(context, rule.partition, wall=None if lenient else rule.max_already_gone)
        self._attempts = Attempts(scope, rule, self._proof, self._cascade, self.budget)
        self._attempts.recheck = recheck

    def quiet(self) -> bool:
        """Return True once no further request is to begin."""
        return self.phase is Phase.QUIET

    def ends(self, result: str, detail: str = "", *, more: bool = False) -> bool:
        """End the sweep with a result; False, so that a caller can return it."""
        if self.phase < Phase.ENDING:  # the first reason is the cause; what comes after it follows from it
            self.report.result, self.report.detail, self.report.more = result, detail, more
            self.phase = Phase.ENDING
        return False

    def probing(self) -> bool:
        """Return True while one id is to be tried at a time, and count it."""
        if self.phase is Phase.PROBING and (self._attempts.familiar or self._tried >= TRIED_ALONE):
            self.phase = Phase.CLAIMING
        self._tried += 1
        return self.phase is Phase.PROBING

    def goes_on(self) -> bool:
        """Return True if more is to be claimed."""
        if self._attempts.halted:
            self.ends("halted", self._attempts.halted)
        if self.phase >= Phase.ENDING:
            return False
        if self.context.stop.is_set():
            return self.ends("stopped", more=True)
        if self.budget.left() <= 0:
            return self.ends("budget_exhausted", more=True)
        if self._proof.endpoint_doubtful or self.report.outcomes[Outcome.UNPROVEN] >= UNPROVEN_ENOUGH:
            return self.ends("halted" if self._proof.endpoint_doubtful else "unproven")
        if refused := self._proof.absences.refused:
            return self.ends(HaltReason.PRINCIPAL_UNPROVEN, refused)
        return True

    @contextlib.asynccontextmanager
    async def executor(self, delete: Delete, settle: Settle) -> AsyncIterator[Executor]:
        """Enter with what deletes claims and settles outcomes; pauses, halts and the registry are watched."""
        await self.look()
        over = asyncio.Event()
        looking = asyncio.create_task(self._keep_looking(over))
        try:
            async with Executor(
                self.context.provider.concurrency, delete, settle, self._attempts.unused, self._attempts.resolve
            ) as executor:
                yield executor
        finally:
            over.set()
            await looking

    async def _keep_looking(self, over: asyncio.Event) -> None:
        # Told, not cancelled: asyncio.wait_for below redis-py may take a cancellation for a reply that just came.
        while not self.quiet() and not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), LOOK_EVERY)
                return
            with contextlib.suppress(RegistryError):  # one that lasts ends the sweep at its next claim
                await self.look()

    async def look(self) -> None:
        """End the sweep, and begin no further request, if there is a pause or halt, or the registry is not right."""
        trouble = await self.context.watch.look()
        control, rule = self.context.control, self.rule
        stopped = ("halted", trouble.detail) if trouble else await control.stopped(rule.partition, rule.formerly)
        if stopped:
            self.ends(*stopped)
            self.phase = Phase.QUIET

    async def admitted(self) -> bool:
        """Return True if the answers that this worker's credential gets may be believed; else the sweep ends.

        Without a credential there are no answers: the breaker sees to that.
        """
        try:
            why = await self._proof.principals.refusal(await self.context.provider.identity(), self.budget.spend)
        except ConfigError:
            return True
        except Limited as reason:
            return self.ends("limited", str(reason), more=True)
        return not why or self.ends(HaltReason.PRINCIPAL_UNPROVEN, why)

    async def delete(self, claim: Claim) -> Settled | Absent:
        """Delete one claimed id, and what goes with it; see ``Attempts.attempt``."""
        return await self._attempts.attempt(claim)

    async def settle(self, settled: list[Settled]) -> None:
        """Record what became of claims, and end the sweep if the registry does not believe it."""
        recorded = await self._recorder.record(settled)
        if recorded.unbelieved:
            settled = [unbelieved(one) if one.id in recorded.unbelieved else one for one in settled]
            log.error("guard.tripped", guard=HaltReason.GONE_WALL, **named(self.rule.partition))
            self.ends("halted", HaltReason.GONE_WALL)
        if recorded.unrecordable:
            self.ends("halted", HALTED)
        self.report.outcomes.update(str(one.outcome) for one in settled if one.act != Act.RELEASE)
        if self._on_settled:
            self._on_settled(settled)
        if recorded.refused:
            log.warning("settlement.refused", ids=list(recorded.refused), **named(self.rule.partition))

    async def closed(self) -> Report:
        """Count the sweep and return its report."""
        report, partition, ledger = self.report, self.rule.partition, self.context.ledger
        if self._attempts.halted:
            self.ends("halted", self._attempts.halted)
        report.seconds = self.budget.spent()
        if halt := await self._proof.conclude(report.outcomes, self.context.control):
            log.error("guard.tripped", guard=halt, **named(partition))
        now = await self.context.control.now()
        if report.result in {"completed", "budget_exhausted", "limited"} and self.rule.enforce:
            await ledger.note(partition, success=now)
        await failures.note(ledger, partition, report.result, report.detail, now)
        counters = {f"sweeps|{partition.policy}|{report.result}": 1}
        await ledger.count(partition, counters | self._recorder.counters())
        await self._cascade.closed()
        log.info("sweep.finished", **report.as_log())
        return report
