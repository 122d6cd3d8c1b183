"""One sweep of one partition while it lasts: its time, its tokens, its claims, its outcomes."""

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from lapse import guard
from lapse.cascade import Cascade
from lapse.crew import Crew
from lapse.deletion import delete
from lapse.errors import RegistryError, RegistryUnavailable
from lapse.heeding import heed
from lapse.ledger import Claim, Claims, Settled
from lapse.means import Means, named
from lapse.model import Partition
from lapse.outcomes import Limited, Outcome, Verdict
from lapse.policy import Rule, SweepSection
from lapse.proof import Proof
from lapse.terms import Judge, Terms, active

log = structlog.get_logger("lapse")

LOOK_EVERY = 1.0  # seconds; pauses and halts are seen, and the registry is watched, as often
ACTIVITY_LASTS = 10.0  # seconds that a list's last activities are gone by
LONGEST_NAP = 0.5
UNPROVEN_ENOUGH = 20
STRANGE_ENOUGH = 20  # ids tried one by one before many at once, if no answer is good


@dataclass(slots=True)
class Report:
    """What one sweep did.

    ``result``: completed, budget_exhausted, limited, observed, halted, paused, stopped, refused (other rules are in
    force), divergence (newer rules are), unproven or breaker. ``more``: ids were due when it ended.
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


@dataclass(slots=True)
class Purse:
    """The requests that one claim takes before its own DELETE: a ``Spend`` that counts."""

    spend: Callable[[int], Awaitable[None]]
    spent: int = 0

    async def __call__(self, requests: int = 1) -> None:
        """Return when the requests may be sent; raises ``Limited`` if not in time."""
        await self.spend(requests)
        self.spent += requests


class Run:
    """One sweep of one partition while it lasts."""

    on_settled: Callable[[Sequence[Settled]], None] | None = None
    """Told of every outcome that was recorded."""

    recheck: Judge | None = None
    """Says why an orphan, read just before its deletion, is none any more."""

    def __init__(self, means: Means, rule: Rule, budget: float | None) -> None:
        self.means = means
        self.rule = rule
        self.report = Report(rule.partition)
        self.kind = means.provider.kinds[rule.partition.kind]
        self._proof = Proof(means.ledger, means.provider, means.flow, self.kind, rule.partition)
        self._began = time.monotonic()
        self._deadline = self._began + min(budget or means.settings.budget, means.settings.budget)
        self._now = 0
        self._strange = 0
        self._over = False
        self._cascade = Cascade(means, rule)
        self._listing = asyncio.Lock()
        self._activity: dict[str, float | None] = {}
        self._activity_until = 0.0
        self._quiet = False

    @contextlib.asynccontextmanager
    async def crew(self) -> AsyncIterator[Crew]:
        """Enter with the hands that delete and the batches that record; pauses, halts and the registry are watched."""
        await self._look()
        over = asyncio.Event()
        looking = asyncio.create_task(self._keep_looking(over))
        try:
            async with Crew(self.means.provider.concurrency, self._attempt, self._settle, self._unused) as crew:
                yield crew
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
        trouble = await self.means.watch.look()
        stopped = ("halted", trouble.detail) if trouble else await self.means.control.stopped(self.rule.partition)
        if stopped:
            self._quiet = True
            self.ends(*stopped)

    def ends(self, result: str, detail: str = "", *, more: bool = False) -> bool:
        """End the sweep with a result; False, so that a caller can return it."""
        if not self._over:
            self.report.result, self.report.detail, self.report.more, self._over = result, detail, more, True
        return False

    async def next_claims(self, crew: Crew) -> Claims | None:
        """Return the next batch, or None when the sweep is over: nothing due, no time or tokens, stopped, halted."""
        while await self._goes_on():
            tokens = await self._tokens(min(await self._room(crew), self.means.settings.batch))
            if tokens:
                claims = await self._claim(tokens)
                if claims.claims:
                    return claims
                if claims.status != "ok":
                    await self._refused(claims.status)
                elif not claims.parked and not await crew.drain(self.left()):
                    return await self._suspect(crew)
        if self.report.result == "limited":
            await crew.drain(self.left())  # a limit ends the claiming; what was claimed within it is deleted
        return None

    async def claim_orphans(self, wanted: dict[str, int], crew: Crew, *, alone: bool = False) -> Claims | None:
        """Take as many of these orphans as there are tokens; return the claims granted, or None when it is over."""

        async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Claims:
            expected = self.means.watch.expected()
            return await self.means.ledger.claim_orphans(rule, settings, chosen, alone=alone, expected=expected)

        return await self._claim_named(wanted, crew, claim)

    async def claim_planned(self, wanted: dict[str, int], crew: Crew, plan: str, *, alone: bool) -> Claims | None:
        """Take as many of a plan's ids as there are tokens; return what was granted, or None when it is over."""

        async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Claims:
            expected = self.means.watch.expected()
            claims = await self.means.ledger.claim_planned(rule, settings, chosen, plan, alone=alone, expected=expected)
            told = {one.resource.id for one in claims.claims} | set(claims.left)
            wanted.update({id_: due for id_, due in chosen.items() if id_ not in told})  # beyond the pace
            return claims

        return await self._claim_named(wanted, crew, claim)

    async def claim_purged(self, wanted: dict[str, int], crew: Crew, actor: str) -> Claims | None:
        """Take as much of a purge as there are tokens; return what was granted, or None when it is over."""

        async def claim(rule: Rule, settings: SweepSection, chosen: dict[str, int]) -> Claims:
            expected = self.means.watch.expected()
            return await self.means.ledger.claim_purged(
                rule.partition, settings, list(chosen), actor, expected=expected
            )

        return await self._claim_named(wanted, crew, claim)

    async def _claim_named(
        self,
        wanted: dict[str, int],
        crew: Crew,
        claim: Callable[[Rule, SweepSection, dict[str, int]], Awaitable[Claims]],
    ) -> Claims | None:
        while await self._goes_on():
            if tokens := await self._tokens(min(await self._room(crew), len(wanted))):
                chosen = {id_: wanted.pop(id_) for id_ in list(wanted)[:tokens]}
                claims = await claim(self.rule, self.means.settings, chosen)
                self._now = claims.now
                await self.means.flow.give_back(tokens - len(claims.claims))
                if claims.status != "ok":
                    wanted.update(chosen)
                    await self._refused(claims.status)
                    return None
                return claims
        return None

    async def spend(self, requests: int = 1) -> None:
        """Wait for request tokens while the sweep lasts.

        Raises:
            Limited: they would come too late, or the process is to end.

        """
        if self.means.stop.is_set():
            raise Limited("the worker ends")
        await self.means.flow.spend(requests, within=self.left())

    async def closed(self) -> Report:
        """Count the sweep and return its report."""
        report, partition = self.report, self.rule.partition
        report.seconds = time.monotonic() - self._began
        await self._proof.conclude(report.outcomes, self.means.control)
        if report.result in {"completed", "budget_exhausted", "limited"} and self.rule.enforce:
            await self.means.ledger.note(partition, success=await self.means.control.now())
        await self.means.ledger.count(partition, {f"sweeps|{partition.policy}|{report.result}": 1} | self._drained())
        await self._cascade.closed()
        log.info("sweep.finished", **report.as_log())
        return report

    async def _goes_on(self) -> bool:
        if self._over:
            return False
        if self.means.stop.is_set():
            return self.ends("stopped", more=True)
        if self.left() <= 0:
            return self.ends("budget_exhausted", more=True)
        if self._proof.endpoint_doubtful or self.report.outcomes[Outcome.UNPROVEN] >= UNPROVEN_ENOUGH:
            return self.ends("halted" if self._proof.endpoint_doubtful else "unproven")
        return True

    async def _refused(self, status: str) -> None:
        """End the sweep because a claim was refused; a registry that is not the expected one halts everything."""
        if status in {"lost", "clock"}:
            await self._look()
        self.ends(*_refusals(status))

    def left(self) -> float:
        """Return the seconds that are left of the budget."""
        return self._deadline - time.monotonic()

    async def _room(self, crew: Crew) -> int:
        """Wait for free hands. Until one answer was good, one request at a time: a wrong key or URL meets one id."""
        if self._strange >= 0 and self._strange < STRANGE_ENOUGH:
            self._strange += 1
            await crew.drain(self.left())
            return 1 if crew.idle and not self._over else 0
        await crew.vacancy(min(LONGEST_NAP, self.left()))
        return crew.room()

    async def _tokens(self, wanted: int) -> int:
        if wanted <= 0:
            return 0
        grant = await self.means.flow.take(wanted)
        if not grant.granted:
            if grant.why == "breaker":
                self.ends("breaker", "the provider's breaker is open", more=True)
            elif grant.wait > self.left():
                self.ends("limited", grant.why, more=True)
            else:
                await self.means.flow.pause(min(grant.wait, LONGEST_NAP))
        return grant.granted

    async def _claim(self, tokens: int, *, alone: bool = False) -> Claims:
        claims = await self.means.ledger.claim(
            self.rule, self.means.settings, tokens, alone=alone, expected=self.means.watch.expected()
        )
        self._now = claims.now
        await self.means.flow.give_back(tokens - len(claims.claims))
        return claims

    async def _suspect(self, crew: Crew) -> Claims | None:
        """Nothing else is due: try one id that a worker crashed on, with nothing else in flight."""
        again = Claims("ok", self._now, parked=1)
        if not crew.idle or not await self._tokens(1):
            return again
        claims = await self._claim(1, alone=True)
        if not claims.claims:
            return None
        crew.hand(claims.claims)
        await crew.drain(self.left())
        return again

    async def _attempt(self, claim: Claim) -> Settled:
        """Delete one claimed resource and decide what becomes of it; never raises."""
        object_id = claim.resource.id
        try:
            if time.monotonic() > claim.begin_by or self._quiet or self.means.stop.is_set() or self.means.flow.shut:
                return self._unused(claim)
            spend = self._spender(claim)
            family = self._cascade.family(claim, spend)
            terms = guard.terms(self.rule, self.kind, claim.by, self._now)
            if claim.by == "orphan":
                terms = replace(terms, judge=self.recheck)
            verdict = await self._seen_active(object_id, terms) or await delete(
                self.means.provider, self.kind, object_id, terms=terms, spend=spend, family=family
            )
            verdict = replace(verdict, left=dict(family.left) if family else {}, extra=spend.spent)
            verdict = await self._proof.judge(object_id, verdict, self._now)
            await self._heed(object_id, verdict)
        except Limited as reason:
            verdict = Verdict(Outcome.LIMITED, detail=str(reason))
        except asyncio.CancelledError:
            verdict = Verdict(Outcome.ERROR, unknown=True, detail="the worker ended before an answer came")
        except RegistryUnavailable as error:
            verdict = Verdict(Outcome.ERROR, unknown=True, detail=f"the registry was lost: {error}")
        except Exception as error:
            log.exception("deletion.failed", id=object_id, **named(self.rule.partition))
            verdict = Verdict(Outcome.ERROR, unknown=True, detail=type(error).__name__)
        return guard.settlement(claim, verdict, outage=self.means.flow.shut)

    async def _seen_active(self, object_id: str, terms: Terms) -> Verdict | None:
        """Ask the list for the last activity of what a read would keep alive."""
        if self.kind.witness or terms.idle_since is None:
            return None
        async with self._listing:
            if time.monotonic() > self._activity_until:
                listing = await self.means.provider.listing(self.kind, self.spend)
                if not listing.complete:
                    return listing.verdict or Verdict(Outcome.LIMITED, detail=listing.reason or "")
                self._activity = {item.id: item.last_active_at for item in listing.items}
                self._activity_until = time.monotonic() + ACTIVITY_LASTS
        return active(terms.idle_since, self._activity.get(object_id))

    def _spender(self, claim: Claim) -> "Purse":
        async def spend(requests: int) -> None:
            left = min(claim.begin_by - time.monotonic(), self.left())  # a sweep's end is no attempt of what it ends
            if left <= 0 or self._quiet or self.means.stop.is_set():
                raise Limited("no further request is to be sent for this claim")
            await self.means.flow.spend(requests, within=left)

        return Purse(spend)

    async def _heed(self, object_id: str, verdict: Verdict) -> None:
        halt = await heed(self.means, self.rule.partition, self._proof, object_id, verdict)
        if verdict.outcome in _GOOD:
            self._strange = -1
        if halt:
            self.ends("halted", halt)

    async def _settle(self, settled: list[Settled]) -> None:
        """Record outcomes, trying again while the leases last: an answer that is not recorded is lost."""
        patience = time.monotonic() + self.means.settings.lease / 2
        counters, batch = self._drained(), secrets.token_hex(8)
        while True:
            try:
                refused = await self.means.ledger.settle(
                    self.rule.partition, self.means.provider.identity, settled, counters,
                    self.means.settings.max_attempts, listable=self.kind.listable, batch=batch,
                )  # fmt: skip
                break
            except RegistryUnavailable:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(LONGEST_NAP)
        self.report.outcomes.update(str(one.outcome) for one in settled if one.act != "release")
        if self.on_settled:
            self.on_settled(settled)
        if refused:
            log.warning("settlement.refused", ids=refused, **named(self.rule.partition))

    def _unused(self, claim: Claim) -> Settled:
        return guard.settlement(claim, Verdict(Outcome.LIMITED, detail="not begun"))

    def _drained(self) -> dict[str, int]:
        counters = self.means.provider.drain_tally(self.rule.partition.kind).get(self.rule.partition.kind, {})
        if self.means.flow.waited_ms:
            counters["rate_wait_ms||"], self.means.flow.waited_ms = self.means.flow.waited_ms, 0
        return counters


_GOOD = {Outcome.DELETED, Outcome.ALREADY_GONE, Outcome.CONFLICT, Outcome.KEPT, Outcome.ACTIVE}


def _refusals(status: str) -> tuple[str, str]:
    return {
        "limited": ("limited", "max_deletions or ramp"),
        "halted": ("halted", ""),
        "superseded": ("refused", "other rules are in force"),
        "lost": ("refused", "the registry is not the one that this was decided under"),
        "clock": ("refused", "the claim came too late"),
        "audit": ("limited", "the audit stream is full: its sink does not take records"),
    }[status]
