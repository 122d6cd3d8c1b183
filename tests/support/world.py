"""A sweep's parts over a real Redis and the provider stand-in on a real socket."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lapse.guards.context import SweepContext
from lapse.guards.integrity.monitor import Watch
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.policy import Rule, SweepSection
from lapse.providers.account import Account
from lapse.providers.provider import Provider
from lapse.providers.throttle import Throttle
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Record
from lapse.registry.pools.plain import client_of
from lapse.sandbox import Sandbox
from lapse.sweep.orphans import collect_orphans
from lapse.sweep.report import Report
from lapse.sweep.sweep import sweep
from oracle import reading
from oracle.guards import HUSH
from oracle.history import Account as Budget
from oracle.history import History, Outage, Policy, Quiet, Resource, Violation
from oracle.verdict import violations
from support import counted, evidence, rules
from support.recording import RecordingRegistry

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-test-0123456789abcdef"
DAY = 86400.0


class Switch:
    """A stop that a test sets."""

    def __init__(self) -> None:
        self.on = False

    def is_set(self) -> bool:
        return self.on


class World:
    """One application, one worker and one provider.

    ``rule``, the rules in ``others`` and ``settings`` are what the policy file would say.
    """

    def __init__(self, url: str, sandbox: Sandbox, carrier: Carrier) -> None:
        self.url = url
        self.sandbox = sandbox
        self.carrier = carrier
        self.registry = RecordingRegistry(url, provider="openai", timeout=5)
        self.raw: Any = client_of(url, decode_responses=True)  # typed, every reply could be bytes
        self.stop = Switch()
        self.account = Account(
            name="openai", type="openai", base_url=sandbox.url, api_key_env="KEY", api_key_file=None, auth=None,
            rate=None, concurrency=16, not_found=(), api_version=None, organization=None, project=None,
            allow_plaintext=False,
        )  # fmt: skip
        self.settings = SweepSection(budget=20, lease=10, batch=100, max_attempts=3, tombstones=30 * DAY, ramp=None)
        self.rule = rules.RULE
        self.watch = Watch(carrier, "lapse")
        self.others: tuple[Rule, ...] = ()
        self.open: list[Provider] = []
        self.began = time.time()
        self.policies: list[Policy] = []
        self.stamped: set[Resource] = set()
        self.budget: float | None = None
        self.quiet: list[Quiet] = []
        self.outages: list[Outage] = []
        self.moved: Path | None = None
        """Where audit records were moved to, if they were."""
        self.deaths: list[float] = []
        """When processes that worked here were killed, seconds since 1970."""
        self.unpromised: set[str] = set()
        """Promises that this test breaks by its own hand."""
        self.decides(self.rule)

    def context(self, **changes: Any) -> SweepContext:
        environ, host = {"KEY": changes.pop("key", KEY)}, changes.pop("host", "host-1")
        watch = changes.pop("watch", self.watch)
        watch.partitions = [self.rule.partition]
        account = replace(self.account, **changes)
        provider = Provider(account, environ, timeout=self.settings.lease * 0.45)
        self.open.append(provider)
        ledger = Ledger(self.carrier, "lapse", "worker-1", max_pending=1_000_000, host=host)
        control = Halts(self.carrier, "lapse")
        throttle, rules = Throttle(self.carrier, "lapse", account), (self.rule, *self.others)
        return SweepContext(ledger, control, provider, throttle, self.settings, self.stop, watch, rules)

    async def sweep(self, *, context: SweepContext | None = None, **rule: Any) -> Report:
        self.rule = replace(self.rule, **rule)
        self.decides(self.rule)
        return await sweep(context or self.context(), self.rule)

    async def orphans(self, **rule: Any) -> Report:
        self.rule = replace(self.rule, **rule)
        self.decides(self.rule)
        return await collect_orphans(self.context(), self.rule)

    def decides(self, rule: Rule) -> None:
        """Note that this version of a policy is in force from now on, and the one before is no more."""
        new = evidence.policy(rule, time.time())
        where = (new.provider, new.kind, new.name)
        for i, one in enumerate(self.policies):
            if (one.provider, one.kind, one.name) == where and one.until > new.since:
                if replace(one, since=new.since) == new:
                    return
                self.policies[i] = replace(one, until=new.since)
        self.policies.append(new)

    def hush(self, why: str, kind: str = "thread") -> None:
        """Note that from now on nothing of a kind may be deleted."""
        self.quiet.append(Quiet("openai", kind, time.time() - HUSH, math.inf, why))

    def judge(self) -> list[Violation]:
        """Return what the oracle finds wrong with all that happened here."""
        lines = self.moved.read_text().splitlines() if self.moved and self.moved.exists() else []
        audit = (*reading.audit(lines), *evidence.pending_audit(self.url))
        history = History(
            tuple(self.registry.calls),
            evidence.traffic(self.sandbox.requests(), "openai"),
            audit,
            tuple(self.policies),
            (Budget("openai", self.budget, max(1, math.ceil(self.budget))),) if self.budget else (),
            metrics=self._scraped() if self.policies else None,
            ended=time.time(),
            began=self.began,
            alive=evidence.living(self.sandbox, evidence.named(audit)),
            stamped=frozenset(self.stamped),
            secrets=(KEY,),
            crashes=len(self.deaths),
            in_flight=self.account.concurrency,
            breaks=tuple(self.deaths),
            quiet=tuple(self.quiet),
            outages=tuple(self.outages),
            ramp=self.settings.ramp,
        )
        found = violations(history, without=self.unpromised)
        counted.judged(history, found)
        return found

    async def end(self) -> None:
        """Close every connection.

        Raises:
            AssertionError: the oracle finds something wrong with what happened here.

        """
        found = self.judge()
        for provider in self.open:
            await provider.aclose()
        self.registry.close()
        self.raw.close()
        await self.carrier.aclose()
        assert found == [], "\n".join(map(str, found))

    def _scraped(self) -> str | None:
        file = evidence.written(evidence.policy_file(self.policies, self.sandbox.url), KEY)
        return evidence.shown(self.url, file) if file else None

    def seed(self, n: int, *, kind: str = "thread", policy: str = "chat", days: float = 30, **facts: Any) -> list[str]:
        """Create objects at the provider and register them as that many days old."""
        ids = self.sandbox.seed(kind, n)
        at = time.time() - days * DAY
        self.registry.register_many(
            {"kind": kind, "id": id_, "policy": policy, "created_at": at, "last_active_at": at, **facts} for id_ in ids
        )
        return ids

    def long_ago(self) -> None:
        """Let the registry have begun before everything at the provider was created."""
        self.raw.hsetnx("lapse:epoch", "id", "fedcba987654")
        self.raw.hset("lapse:epoch", "created", 1)

    def slot(self, kind: str = "thread") -> str:
        return f"lapse:{{openai:{kind}}}:"

    def counters(self, kind: str = "thread") -> dict[str, int]:
        return {name: int(n) for name, n in self.raw.hgetall(f"{self.slot(kind)}counters").items()}

    def audit(self, kind: str = "thread") -> list[dict[str, Any]]:
        streams = [self.raw.xrange(f"{self.slot(kind)}{name}") for name in (keys.AUDIT, keys.ACTS)]
        return sorted((json.loads(entry["e"]) for rows in streams for _id, entry in rows), key=lambda one: one["at"])

    def halts(self, kind: str = "thread") -> dict[str, Any]:
        return {name: json.loads(text) for name, text in self.raw.hgetall(f"{self.slot(kind)}halts").items()}

    def deletes(self) -> list[str]:
        """Return the ids of the DELETE requests that the provider saw, in order."""
        return [one["path"].rsplit("/", 1)[1] for one in self.sandbox.requests() if one["method"] == "DELETE"]

    def record(self, id_: str, kind: str = "thread") -> Record:
        record = self.registry.get(kind, id_)
        assert record is not None, f"{id_} is not tracked"
        return record

    async def until(self, condition: Callable[[], object], within: float = 20) -> None:
        """Wait on a condition while the loop goes on."""
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.01)

    def state(self, id_: str, kind: str = "thread") -> str | None:
        record = self.registry.get(kind, id_)
        return record.state if record else None


@pytest.fixture
async def world(redis_url: str, sandbox: Sandbox) -> AsyncIterator[World]:
    carrier = Carrier(redis_url, 5)
    made = World(redis_url, sandbox, carrier)
    yield made
    await made.end()
