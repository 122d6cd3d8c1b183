"""What is measured on a registry of one size: each part's time, and the slowest Redis command in it."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import redis

from bench.scale.filling import conversation
from lapse import Registry
from lapse.guards.edits import adoption
from lapse.ledger.claim import Claim
from lapse.ledger.partition import Ledger
from lapse.ledger.settle import Act, OutcomeBatch, Settled
from lapse.metrics.collector import exposition
from lapse.policy.reload import ConfigFile
from lapse.providers.outcomes import Outcome
from lapse.registry import codec, keys
from lapse.registry.scripts import PACKAGE, script

SCRIPT = Path(sys.executable).with_name("lapse")
LONG_AGO = 1_600_000_000_000
ROUNDS, BATCHES, CLAIM, SETTLE, MANY, PAGE = 20, 20, 100, 50, 500, 100
SCRIPTS_BY_SHA = {
    one.sha: one.name
    for path in PACKAGE.rglob("*.lua")
    if path.parent.name != "include"
    for one in [script(str(path.relative_to(PACKAGE).with_suffix("")))]
}
SLOW = 1000  # microseconds from which Redis writes a command down

CONFIG = """
[registry]
url = "{url}"
allow_volatile = true
[limits]
max_deletions = "unlimited"
max_newly_due = "unlimited"
[sweep]
ramp = "off"
[providers.bench]
type = "openai"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "BENCH_KEY"
rate = "unlimited"
[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "last_active_at"
mode = "enforce"
"""


class Slowest(NamedTuple):
    """The slowest Redis command of a part: its milliseconds, and which; a script by its name."""

    ms: float
    command: str


@dataclass(slots=True)
class Timings:
    """What was measured of each part: its figure, and the slowest Redis command."""

    figures: dict[str, float] = field(default_factory=dict)
    slowest: dict[str, Slowest] = field(default_factory=dict)


class Parts:
    """The parts, on one registry of ``size`` ids."""

    def __init__(self, client: redis.Redis, ledger: Ledger, home: Path, size: int) -> None:
        self.client, self.ledger, self.home, self.size = client, ledger, home, size
        self.config = ConfigFile(home / "retention.toml", {}).current()
        self.rule = self.config.rules[0]
        self.timings = Timings()
        self._new = 0

    async def measure(self, registry: Registry) -> Timings:
        """Measure every part."""
        await self.ledger.adopt(self.rule)
        self._application(registry)
        for _ in range(2):  # the first one warms up
            await self._claim_and_settle()
        await self._each("survey, ms", lambda _n: self.ledger.survey(self.rule))
        await self._each("orphan look at 100 listed ids, ms", self._vet)
        await self._rename()
        self._operator()
        return self.timings

    def _application(self, registry: Registry) -> None:
        kind, policy = "conversation", "chat"
        self._calls("register, us", lambda _id: registry.register(kind, self._next(), policy))
        with self._watched("register_many, us an id"):
            began = time.perf_counter()
            for _ in range(BATCHES):
                ids = [self._next() for _ in range(MANY)]
                registry.register_many({"kind": kind, "id": id_, "policy": policy} for id_ in ids)
            self._took("register_many, us an id", began, BATCHES * MANY, 1e6)
        self._calls("touch, us", lambda id_: registry.touch(kind, id_))
        self._calls("hold, us", lambda id_: registry.hold(kind, id_, reason="bench"))
        self._calls("unhold, us", lambda id_: registry.unhold(kind, id_))

    def _calls(self, name: str, call: Callable[[str], object]) -> None:
        ids = [conversation(n * (self.size // 500)) for n in range(500)]
        with self._watched(name):
            self.timings.figures[name] = _median(lambda n: call(ids[n]), len(ids)) * 1e6

    def _next(self) -> str:
        self._new += 1
        return f"conv_new{self.size:015d}{self._new:030d}"

    async def _claim_and_settle(self) -> None:
        at, sweep = self.rule.partition, self.config.sweep
        ids = {f"conv_due{self.size:015d}{n:030d}": LONG_AGO + n for n in range(BATCHES * CLAIM)}
        self.client.zadd(self.ledger.prefix(at) + keys.FRESH, ids)
        claims = list[Claim]()
        with self._watched("claim, us an id"):
            began = time.perf_counter()
            for _ in range(BATCHES):
                claims += (await self.ledger.claim(self.rule, sweep, CLAIM)).claims
            self._took("claim, us an id", began, len(ids), 1e6)
        if len(claims) != len(ids):
            raise RuntimeError(f"{len(claims)} of {len(ids)} due ids were claimed")
        done = [Settled(one.resource.id, one.token, "chat", one.due, Act.DONE, Outcome.DELETED) for one in claims]
        with self._watched("settle, us an id"):
            began = time.perf_counter()
            for start in range(0, len(done), SETTLE):
                await self.ledger.settle(at, OutcomeBatch(done[start : start + SETTLE], {}, 8, listable=False))
            self._took("settle, us an id", began, len(done), 1e6)

    async def _vet(self, n: int) -> None:
        listed = {conversation((n * PAGE + i) % self.size): "ours" for i in range(PAGE)}
        call = self.ledger.on(self.rule.partition, "sweep/lua/vet", codec.dump(listed), parse=json.loads)
        await self.ledger.carrier.carry([call])

    async def _rename(self) -> None:
        """Move a few to a policy that was formerly called so, and put them back."""
        at = replace(self.rule.partition, policy="talk")
        await self.ledger.adopt(replace(self.rule, partition=at, formerly=("chat",), digest="renamed000000"))
        await self._each("rename of 100 ids by formerly, ms", lambda _n: adoption._move(self.ledger, at, "chat", PAGE))
        prefix = self.ledger.prefix(at)
        for index in (keys.CREATED, keys.ACTIVE, keys.FRESH):
            moved: Any = self.client.zrange(prefix + index, 0, -1, withscores=True)
            if moved:
                self.client.zadd(self.ledger.prefix(self.rule.partition) + index, dict(moved))
            self.client.delete(prefix + index)
        self.client.delete(prefix + keys.RULES, self.ledger.prefix(self.rule.partition) + keys.RULES)
        self.client.srem(keys.slot("lapse", at.provider, at.kind) + keys.POLICIES, "talk")
        await self.ledger.adopt(self.rule)

    def _operator(self) -> None:
        some = conversation(self.size // 2)
        commands = {
            "status": ("status",),
            "ls": ("ls", "conversations", "--limit", "100"),
            "explain": ("explain", "conversation", some),
        }
        for name, arguments in commands.items():
            with self._watched(f"lapse {name}, s"):
                self.timings.figures[f"lapse {name}, s"] = _median(partial(self._run, arguments), 5)
        file = ConfigFile(self.home / "retention.toml", {})
        with redis.Redis.from_url(self.url, decode_responses=True) as client, self._watched("scrape, ms"):
            self.timings.figures["scrape, ms"] = _median(lambda _n: exposition(client, file), ROUNDS) * 1000

    @property
    def url(self) -> str:
        """The registry's URL."""
        return str(self.config.registry.url)

    def _run(self, arguments: tuple[str, ...], _n: int) -> None:
        environ = {**os.environ, "LAPSE_CONFIG": str(self.home / "retention.toml"), "BENCH_KEY": "sk-bench"}
        subprocess.run([SCRIPT, *arguments], env=environ, capture_output=True, check=False)

    async def _each(self, name: str, call: Callable[[int], Awaitable[object]]) -> None:
        taken = []
        with self._watched(name):
            for n in range(ROUNDS):
                began = time.perf_counter()
                await call(n)
                taken.append(time.perf_counter() - began)
        self.timings.figures[name] = statistics.median(taken) * 1000

    def _took(self, name: str, began: float, of: int, unit: float) -> None:
        self.timings.figures[name] = (time.perf_counter() - began) / of * unit

    @contextmanager
    def _watched(self, name: str) -> Iterator[None]:
        """Remember the slowest Redis command meanwhile."""
        self.client.slowlog_reset()
        yield
        slow: Any = self.client.slowlog_get(1000)
        found = [Slowest(one["duration"] / 1000, _named(one["command"].decode())) for one in slow]
        found = [one for one in found if one.command != "SLOWLOG"]
        self.timings.slowest[name] = max(found, default=Slowest(0.0, ""))


def _named(command: str) -> str:
    verb, sha = command.split()[:2] if " " in command else (command, "")
    return SCRIPTS_BY_SHA.get(sha, verb) if verb == "EVALSHA" else verb


def _median(call: Callable[[int], object], rounds: int) -> float:
    taken = []
    for n in range(rounds):
        began = time.perf_counter()
        call(n)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
