"""Guards must be liveable: thirty days of an ordinary deployment, with its accidents, and none of them trips.

The scripts, the guards' decisions, the proof and the provider's answers are real; the registry's clock is set. The
largest policy has as many ids as LAPSE_TEST_SCALE says.
"""

import os
import random
from asyncio import Event
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import redis

from lapse.guards import enforcement
from lapse.guards.absence.absences import Scope
from lapse.guards.absence.proof import Proof
from lapse.guards.context import SweepContext
from lapse.guards.edits import newly_due
from lapse.guards.integrity.monitor import Watch
from lapse.ledger.claim import Claim
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.ledger.settle import OutcomeBatch, Settled, settlement
from lapse.policy import Pace, Rule, Share, SweepSection
from lapse.providers.account import Account
from lapse.providers.outcomes import classify
from lapse.providers.provider import Provider
from lapse.providers.throttle import Throttle
from lapse.registry.model import Partition
from lapse.sandbox import Sandbox
from model.clocked import Clocked
from support import rules
from support.sandbox_fixture import sandbox, sandbox_server

if TYPE_CHECKING:
    from lapse.registry.aio import Carrier

__all__ = ["sandbox", "sandbox_server"]

SCALE = int(os.environ.get("LAPSE_TEST_SCALE", "1500"))
HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_700_000_000_000
TICK = 2 * HOUR
SETTINGS = SweepSection(budget=20, lease=600, batch=100, max_attempts=3, tombstones=30 * 86400.0, ramp=900)
OUTAGE = range(10 * DAY, 12 * DAY)
FLASH = range(5 * DAY, 5 * DAY + 2 * TICK)
ROLLING = range(15 * DAY, 15 * DAY + 2 * TICK)

RULE = replace(
    rules.RULE,
    partition=Partition("openai", "thread", "hour"),
    ttl=3600.0,
    max_deletions=Pace(5000, 3600.0),
    max_newly_due=Share(20, 100),
    digest="hour00000001",
)


def named(name: str, days: float, anchor: str = "created_at", max_age: float | None = None) -> Rule:
    partition = replace(RULE.partition, policy=name)
    return replace(RULE, partition=partition, ttl=days * 86400, anchor=anchor, max_age=max_age, digest=f"{name:0<12}")


RULES = {
    "hour": RULE,
    "day": named("day", 1),
    "week": named("week", 7, "last_active_at", 90 * 86400.0),
    "month": named("month", 30),
    "quarter": named("quarter", 90, "last_active_at"),
    "year": named("year", 365),
}
LONGER = replace(RULES["week"], ttl=14 * 86400.0, digest="week00000002")
# ids at the beginning, as old as the policy lets them be; ids registered in a tick
POPULATION = {
    "hour": (0, 4),
    "day": (20, 3),
    "week": (100, 1),
    "month": (200, 1),
    "quarter": (SCALE, 1),
    "year": (10, 0),
}


class Month:
    """One deployment: an application, its users, one worker or two, and thirty days."""

    def __init__(self, clocked: Clocked, provider: Provider, sandbox: Sandbox, account: Account) -> None:
        self.clocked, self.provider, self.sandbox = clocked, provider, sandbox
        self.kind = provider.kinds["thread"]
        self.throttle = Throttle(cast("Carrier", clocked), "lapse", account)
        self.now = START
        self.dice = random.Random(7)
        self.ids: dict[str, list[str]] = {name: [] for name in RULES}
        self.rules = dict(RULES)
        self.stands: Counter[tuple[str, str | None]] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.divergences = 0

    def register(self, policy: str, n: int, oldest: int = 0) -> None:
        ids = self.sandbox.seed("thread", n)
        self.ids[policy] += ids
        commands = self.clocked.commands
        for at in range(0, n, 500):
            said = [commands.registration("thread", id_, policy, **self.times(oldest)) for id_ in ids[at : at + 500]]
            self.clocked.answer(commands.register_many(said))

    def times(self, oldest: int) -> dict[str, float]:
        at = (self.now - self.dice.randrange(oldest + 1)) / 1000
        return {"created_at": at, "last_active_at": at} if oldest else {}

    async def users(self) -> None:
        """Let users come back, and delete a few of theirs by themselves: all that the day brought, on three days."""
        commands = self.clocked.commands
        for policy in ("week", "quarter"):
            for id_ in self.dice.sample(self.ids[policy], 2):
                self.clocked.answer(commands.touch(commands.resource("thread", id_, None)))
        day = (self.now - START) // DAY
        leaving = [self.dice.choice(ids) for ids in self.ids.values() if ids and self.dice.random() < 0.2]
        for id_ in (*leaving, *(self.ids["day"][-12:] if 20 <= day < 23 else ())):
            await self.provider.delete(self.kind, id_)

    async def sweep(self, rule: Rule, ledger: Ledger) -> None:
        """Do what a sweep does: adopt, survey, let the guards decide, claim, delete, settle."""
        if await ledger.adopt(rule) == "divergence":
            self.divergences += 1
            return
        survey = await newly_due.look(ledger, rule, await ledger.survey(rule))
        stand = enforcement.stand(rule, survey, self.provider.place)
        self.stands[stand.result, stand.halt] += 1
        if not stand.act:
            return
        await ledger.settle_at(rule.partition, self.provider.place)
        await ledger.note(rule.partition, **newly_due.baseline(rule, survey))
        proof = Proof(Scope(self.context(ledger), self.kind, rule.partition, lenient=False, quiet=bool))
        while (batch := await ledger.claim(rule, SETTINGS, 100)).claims:
            settled = [await self.attempt(claim, proof) for claim in batch.claims]
            await ledger.settle(rule.partition, OutcomeBatch(settled, {}, 3, listable=False))

    def context(self, ledger: Ledger) -> SweepContext:
        carrier = cast("Carrier", self.clocked)
        return SweepContext(
            ledger, Halts(carrier, "lapse"), self.provider, self.throttle, SETTINGS, Event(), Watch(carrier, "lapse")
        )

    async def attempt(self, claim: Claim, proof: Proof) -> Settled:
        reply = await self.provider.delete(self.kind, claim.resource.id)
        verdict = await proof.judge(claim, classify(self.kind, claim.resource.id, reply))
        self.outcomes[str(verdict.outcome)] += 1
        return settlement(claim, verdict)

    async def live(self) -> None:
        """Live thirty days."""
        old, new = (
            Ledger(cast("Carrier", self.clocked), "lapse", f"w{i}", max_pending=10**9, host=f"h{i}") for i in (1, 2)
        )
        for passed in range(0, 30 * DAY, TICK):
            self.now = START + passed
            self.clocked.set(self.now)
            for policy, (first, each) in POPULATION.items():
                ttl = round((self.rules[policy].ttl or 0) * 1000)
                self.register(
                    policy,
                    each * (100 if passed in FLASH and policy == "hour" else 1) if passed else first,
                    0 if passed else ttl,
                )
            await self.users()
            if passed in OUTAGE:
                continue
            if passed == ROLLING.start:
                self.rules["week"] = LONGER
            for policy, rule in self.rules.items():
                await self.sweep(rule, new)
                if passed in ROLLING and policy == "week":
                    await self.sweep(RULES["week"], old)  # a worker that has not seen the file yet


@pytest.fixture
async def month(redis_url: str, sandbox: Sandbox) -> AsyncIterator[Month]:
    account = Account(
        name="openai",
        type="openai",
        base_url=sandbox.url,
        api_key_env="KEY",
        api_key_file=None,
        auth=None,
        rate=None,
        concurrency=16,
        not_found=(),
        api_version=None,
        organization=None,
        project=None,
        allow_plaintext=False,
    )
    provider = Provider(account, {"KEY": "sk-test-0123456789abcdef"})
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield Month(Clocked(client), provider, sandbox, account)
    await provider.aclose()


@pytest.mark.timeout(7200)
async def test_thirty_ordinary_days_trip_no_guard(month: Month) -> None:
    await month.live()

    assert {("completed", None)} == set(month.stands)
    assert 30 * 12 * 6 - 24 * 6 == month.stands.total()
    assert {"deleted", "already_gone"} == set(month.outcomes)
    assert month.outcomes["already_gone"] > 50
    assert month.outcomes["deleted"] > 1000
    assert month.divergences <= 2
    for rule in month.rules.values():
        survey = await month.clocked.ledger.survey(rule)
        assert (0, ()) == (survey.due, survey.halts), rule.partition
