"""One sweep of one partition while it lasts: its time, its tokens, its claims, its outcomes."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from lapse.errors import ConfigError, RegistryError
from lapse.guards import enforcement
from lapse.guards.absence.proof import Proof
from lapse.guards.context import SweepContext, named
from lapse.guards.integrity.protection import damage
from lapse.ledger import failures
from lapse.ledger.claim import Batch
from lapse.ledger.reasons import HaltReason
from lapse.ledger.settle import Settled
from lapse.policy import Rule, SweepSection
from lapse.policy.preconditions import Judge
from lapse.providers.invented import Invented
from lapse.providers.outcomes import Limited, Outcome
from lapse.registry.model import Partition
from lapse.sweep.deletion.attempt import Attempts
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.recorder import HALTED, Recorder
from lapse.sweep.executor import Executor

log = structlog.get_logger("lapse")

LOOK_EVERY = 1.0  # seconds; pauses and halts are seen, and the registry is watched, as often
LONGEST_NAP = 0.5
UNPROVEN_ENOUGH = 20
STRANGE_ENOUGH = 20  # ids tried one by one before many at once, if no answer is good


@dataclass(slots=True)
class Report:
    """What one sweep did.

    ``result``: completed, budget_exhausted, limited, observed, halted, paused, stopped, refused (other rules are in
    force), divergence (newer rules are), principal_unproven (this worker's credential sees another place), unproven or
    breaker. ``more``: ids were due when it ended.
    """

    partition: Partition
    result: str = "completed"
    detail: str = ""
    more: bool = False
    due: int = 0
    registered: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    def as_log(self) -> dict[str, Any]:
        """Return the fields of the sweep's one log line."""
        return {
            "provider": self.partition.provider,
            "kind": self.partition.kind,
            "policy": self.partition.policy,
            "result": self.result,
            "due": self.due,
            "registered": self.registered,
            "more": self.more,
            "seconds": round(self.seconds, 3),
            **({"detail": self.detail} if self.detail else {}),
            **{name: n for name, n in sorted(self.outcomes.items()) if n},
        }


class Run:
    """One sweep of one partition while it lasts."""

    on_settled: Callable[[Sequence[Settled]], None] | None = None
    """Told of every outcome that was recorded."""

    def __init__(self, context: SweepContext, rule: Rule, budget: float | None) -> None:
        self.context = context = replace(context, invented=Invented(context.provider))
        self.rule = rule
        self.report = Report(rule.partition)
        self.kind = context.provider.kinds[rule.partition.kind]
        lenient = rule.expect_gone or self.kind.native_expiry
        self._proof = Proof(context, self.kind, rule.partition, lenient=lenient, quiet=lambda: self._quiet, rule=rule)
        self._began = time.monotonic()
        self._deadline = self._began + min(budget or context.settings.budget, context.settings.budget)
        self._now = 0
        self._strange = 0
        self._over = False
        self._quiet = False
        self._cascade = Cascade(context, rule)
        self._recorder = Recorder(context, rule.partition, wall=None if lenient else rule.max_already_gone)
        self._attempts = Attempts(
            context, rule, self._proof, self._cascade, spend=self.spend, quiet=lambda: self._quiet, left=self.left
        )

    def recheck(self, judge: Judge) -> None:
        """Let every orphan be read just before its deletion, and live on if ``judge`` says why."""
        self._attempts.recheck = judge

    @contextlib.asynccontextmanager
    async def executor(self) -> AsyncIterator[Executor]:
        """Enter with the hands that delete and the batches that record; pauses, halts and the registry are watched."""
        await self._look()
        over = asyncio.Event()
        looking, attempts = asyncio.create_task(self._keep_looking(over)), self._attempts
        try:
            async with Executor(
                self.context.provider.concurrency, attempts.attempt, self._settle, attempts.unused, attempts.resolve
            ) as executor:
                yield executor
        finally:
            over.set()
            await looking

    async def _keep_looking(self, over: asyncio.Event) -> None:
        # Told, not cancelled: asyncio.wait_for below redis-py may take a cancellation for a reply that just came.
        while not self._quiet and not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), LOOK_EVERY)
                return
            with contextlib.suppress(RegistryError):  # one that lasts ends the sweep at its next claim
                await self._look()

    async def _look(self) -> None:
        """End the sweep, and begin no further request, if there is a pause or halt, or the registry is not right."""
        trouble = await self.context.watch.look()
        stopped = ("halted", trouble.detail) if trouble else await self.context.control.stopped(self.rule.partition)
        if stopped:
            self._quiet = True
            self.ends(*stopped)

    def ends(self, result: str, detail: str = "", *, more: bool = False) -> bool:
        """End the sweep with a result; False, so that a caller can return it."""
        if not self._over:
            self.report.result, self.report.detail, self.report.more, self._over = result, detail, more, True
        return False

    async def next_claims(self, executor: Executor) -> Batch | None:
        """Return the next batch, or None when the sweep is over: nothing due, no time or tokens, stopped, halted."""
        while await self._goes_on():
            tokens = await self._tokens(min(await self._room(executor), self.context.settings.batch))
            if tokens:
                claims = await self._claim(tokens)
                if claims.claims:
                    return claims
                if claims.status != "ok":
                    await self._refused(claims.status)
                elif not claims.parked and not await self._drain(executor):
                    return await self._suspect(executor)
        if self.report.result == "limited":
            await self._drain(executor)  # a limit ends the claiming; what was claimed within it is deleted
        return None

    async def claim_orphans(self, wanted: dict[str, int], executor: Executor, *, alone: bool = False) -> Batch | None:
        """Take as many of these orphans as there are tokens; return the claims granted, or None when it is over."""

        async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Batch:
            expected = self.context.watch.expected()
            return await self.context.ledger.claim_orphans(rule, settings, chosen, alone=alone, expected=expected)

        return await self._claim_named(wanted, executor, claim)

    async def claim_planned(
        self, wanted: dict[str, int], executor: Executor, plan: str, *, alone: bool
    ) -> Batch | None:
        """Take as many of a plan's ids as there are tokens; return what was granted, or None when it is over."""

        async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Batch:
            expected = self.context.watch.expected()
            claims = await self.context.ledger.claim_planned(
                rule, settings, chosen, plan, alone=alone, expected=expected
            )
            told = {one.resource.id for one in claims.claims} | set(claims.left)
            wanted.update({id_: due for id_, due in chosen.items() if id_ not in told})  # beyond the pace
            return claims

        return await self._claim_named(wanted, executor, claim)

    async def claim_purged(self, wanted: dict[str, int], executor: Executor, actor: str) -> Batch | None:
        """Take as much of a purge as there are tokens; return what was granted, or None when it is over."""

        async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Batch:
            expected = self.context.watch.expected()
            return await self.context.ledger.claim_purged(
                rule.partition, settings, list(chosen), actor, expected=expected
            )

        return await self._claim_named(wanted, executor, claim)

    async def _claim_named(
        self,
        wanted: dict[str, int],
        executor: Executor,
        claim: Callable[[Rule, SweepSection, dict[str, int]], Awaitable[Batch]],
    ) -> Batch | None:
        while await self._goes_on():
            if tokens := await self._tokens(min(await self._room(executor), len(wanted))):
                chosen = {id_: wanted.pop(id_) for id_ in list(wanted)[:tokens]}
                claims = await claim(self.rule, self.context.settings, chosen)
                self._now = claims.now
                await self.context.throttle.give_back(tokens - len(claims.claims))
                if claims.status != "ok":
                    wanted.update(chosen)
                    await self._refused(claims.status)
                    return None
                return claims
        return None

    async def admitted(self) -> bool:
        """Return True if the answers that this worker's credential gets may be believed; else the sweep ends.

        Without a credential there are no answers: the breaker sees to that.
        """
        try:
            why = await self._proof.principals.refusal(await self.context.provider.identity(), self.spend)
        except ConfigError:
            return True
        except Limited as reason:
            return self.ends("limited", str(reason), more=True)
        return not why or self.ends(HaltReason.PRINCIPAL_UNPROVEN, why)

    async def spend(self, requests: int = 1) -> None:
        """Wait for request tokens while the sweep lasts.

        Raises:
            Limited: they would come too late, or the process is to end.

        """
        if self.context.stop.is_set():
            raise Limited("the worker ends")
        await self.context.throttle.spend(requests, within=self.left())

    async def closed(self) -> Report:
        """Count the sweep and return its report."""
        report, partition = self.report, self.rule.partition
        if self._attempts.halted:
            self.ends("halted", self._attempts.halted)
        report.seconds = time.monotonic() - self._began
        if halt := await self._proof.conclude(report.outcomes, self.context.control):
            log.error("guard.tripped", guard=halt, **named(partition))
        if report.result in {"completed", "budget_exhausted", "limited"} and self.rule.enforce:
            await self.context.ledger.note(partition, success=await self.context.control.now())
        await failures.note(
            self.context.ledger, partition, report.result, report.detail, await self.context.control.now()
        )
        counters = {f"sweeps|{partition.policy}|{report.result}": 1}
        await self.context.ledger.count(partition, counters | self._recorder.counters())
        await self._cascade.closed()
        log.info("sweep.finished", **report.as_log())
        return report

    async def _goes_on(self) -> bool:
        if self._attempts.halted:
            self.ends("halted", self._attempts.halted)
        if self._over:
            return False
        if self.context.stop.is_set():
            return self.ends("stopped", more=True)
        if self.left() <= 0:
            return self.ends("budget_exhausted", more=True)
        if self._proof.endpoint_doubtful or self.report.outcomes[Outcome.UNPROVEN] >= UNPROVEN_ENOUGH:
            return self.ends("halted" if self._proof.endpoint_doubtful else "unproven")
        if refused := self._proof.absences.refused:
            return self.ends(HaltReason.PRINCIPAL_UNPROVEN, refused)
        return True

    async def _refused(self, status: str) -> None:
        """End the sweep because a claim was refused; a registry that is not the expected one halts everything."""
        if status in {"lost", "clock"}:
            await self._look()
        if status == "damaged":
            await damage(self.context, self.rule.partition)
        self.ends(*enforcement.refused(status))

    def left(self) -> float:
        """Return the seconds that are left of the budget."""
        return self._deadline - time.monotonic()

    async def _drain(self, executor: Executor) -> bool:
        """Wait until nothing is in flight; a process that is to end waits no longer than leaving the crew does.

        True if anything was recorded meanwhile: what that used may be free, and due, now.
        """
        recorded = False
        while not executor.idle and executor.recording and self.left() > 0 and not self.context.stop.is_set():
            recorded |= await executor.drain(min(LONGEST_NAP, self.left()))
        return recorded

    async def _room(self, executor: Executor) -> int:
        """Wait for free hands. Until one answer was good, one request at a time: a wrong key or URL meets one id."""
        if not self._attempts.familiar and self._strange < STRANGE_ENOUGH:
            self._strange += 1
            await self._drain(executor)
            return 1 if executor.idle and not self._over else 0
        await executor.vacancy(min(LONGEST_NAP, self.left()))
        return executor.room()

    async def _tokens(self, wanted: int) -> int:
        if wanted <= 0:
            return 0
        grant = await self.context.throttle.take(wanted)
        if not grant.granted:
            if grant.why == "breaker":
                self.ends("breaker", "the provider's breaker is open", more=True)
            elif grant.wait > self.left():
                self.ends("limited", grant.why, more=True)
            else:
                await self.context.throttle.pause(min(grant.wait, LONGEST_NAP))
        return grant.granted

    async def _claim(self, tokens: int, *, alone: bool = False) -> Batch:
        claims = await self.context.ledger.claim(
            self.rule, self.context.settings, tokens, alone=alone, expected=self.context.watch.expected()
        )
        self._now = claims.now
        await self.context.throttle.give_back(tokens - len(claims.claims))
        return claims

    async def _suspect(self, executor: Executor) -> Batch | None:
        """Nothing else is due: try one id that a worker crashed on, with nothing else in flight."""
        again = Batch("ok", self._now, parked=1)
        if not executor.idle or not await self._tokens(1):
            return again
        claims = await self._claim(1, alone=True)
        if not claims.claims:
            return None
        executor.submit(claims.claims)
        await self._drain(executor)
        return again

    async def _settle(self, settled: list[Settled]) -> None:
        recorded = await self._recorder.record(settled)
        if recorded.unbelieved:
            settled = [enforcement.unbelieved(one) if one.id in recorded.unbelieved else one for one in settled]
            log.error("guard.tripped", guard=HaltReason.GONE_WALL, **named(self.rule.partition))
            self.ends("halted", HaltReason.GONE_WALL)
        if recorded.unrecordable:
            self.ends("halted", HALTED)
        self.report.outcomes.update(str(one.outcome) for one in settled if one.act != "release")
        if self.on_settled:
            self.on_settled(settled)
        if recorded.refused:
            log.warning("settlement.refused", ids=list(recorded.refused), **named(self.rule.partition))
