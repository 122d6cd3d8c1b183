"""What a look for orphans costs: memory beside an idle worker, Redis' time, and requests beside the list itself."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from bench.baselines import KEY
from bench.figures import Figure
from lapse import Registry
from lapse.guards.context import SweepContext
from lapse.guards.integrity.monitor import Watch
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.policy import Orphan, SweepSection
from lapse.providers.account import Account
from lapse.providers.pagination import Bounds, Listed
from lapse.providers.provider import Provider
from lapse.providers.throttle import Throttle
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.sandbox.redis_server import EmbeddedRedis
from lapse.sweep.orphans import collect_orphans
from support import rules
from support.sandbox_process import SandboxProcess

MANY, THREADS, FEW = 100_000, 1_000_000, 10_000
LONG_AGO = 1_600_000_000
SLOW = 10_000  # microseconds
PAGE = 100
IDLE = Partition("bench", "assistant", "idle")
RULE = replace(
    rules.RULE,
    partition=IDLE,
    ttl=None,
    anchor=None,
    orphan=Orphan(0.001, 3, None, uses_stated=False),
    touches_stated=True,
    every=3600,
)


def measure(rounds: int) -> list[Figure]:
    """Return the figures: one run over the many, ``rounds`` over the few, half of them of the list alone."""
    many = _measured(MANY, THREADS, ["decide"])[0]
    taken = _measured(FEW, FEW, ["list", "decide"] * rounds)
    ratios = [decided["seconds"] / bare["seconds"] for bare, decided in zip(taken[::2], taken[1::2], strict=True)]
    return [
        Figure("orphans: RSS over idle, 100,000 listed, 1 million threads, MiB", [many["grown"]], ("<=", 40)),
        Figure("orphans: Redis calls over 10 ms in that run", [many["slow"]], ("<=", 0)),
        Figure("orphans: seconds of that run", [many["seconds"]], None),
        Figure(
            "orphans: requests to list calls, 10,000 listed and none an orphan", [taken[1]["requests"]], ("<=", 1.05)
        ),
        Figure("orphans: time to that of the list calls", ratios, None),
    ]


def _measured(assistants: int, threads: int, runs: Sequence[str]) -> list[dict[str, float]]:
    """Run each in a process of its own, on so many assistants that so many threads use."""
    found = []
    with (
        EmbeddedRedis("--slowlog-log-slower-than", str(SLOW), "--slowlog-max-len", "10000") as server,
        SandboxProcess(latency="20ms") as provider,
        redis.Redis.from_url(server.url) as raw,
    ):
        ids = provider.seed("assistant", assistants, created_at=LONG_AGO)
        _register(server.url, ids, threads)
        for run in runs:
            raw.slowlog_reset()
            before = len(provider.requests())
            command = [sys.executable, "-m", "bench.orphans", run, server.url, provider.url]
            done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, check=True, timeout=600)
            seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            if seen["listed"] != assistants:
                raise RuntimeError(f"{seen['listed']} of {assistants} assistants were listed")
            requests = len(provider.requests()) - before - 1  # the page that warms up
            found.append({**seen, "slow": float(raw.slowlog_len()), "requests": requests * PAGE / assistants})
        if raw.hlen("lapse:{bench:assistant}:idle:sightings"):
            raise RuntimeError("something that a thread uses was taken for an orphan")
    return found


def _register(url: str, ids: Sequence[str], threads: int) -> None:
    times = {"created_at": LONG_AGO, "last_active_at": LONG_AGO}
    with Registry(url, provider="bench", timeout=10) as registry:
        registry.register_many({"kind": "assistant", "id": id_, "policy": "idle", **times} for id_ in ids)
        registry.register_many(
            {"kind": "thread", "id": f"thread_{n:024d}", "policy": "chat", "uses": [("assistant", ids[n % len(ids)])]}
            for n in range(threads)
        )


async def _once(run: str, url: str, base_url: str) -> dict[str, float]:
    """Do one run as a worker does, and return what it took, seconds and MiB beyond what stood there before it."""
    account = Account(
        name="bench", type="openai", base_url=base_url, api_key_env="BENCH_KEY", api_key_file=None, auth=None,
        rate=None, concurrency=16, not_found=(), api_version=None, organization=None, project=None,
        allow_plaintext=False,
    )  # fmt: skip
    settings = SweepSection(budget=600, lease=120, batch=100, max_attempts=3, tombstones=86400, ramp=None)
    carrier, counted = Carrier(url, 10), 0
    async with Provider(account, {"BENCH_KEY": KEY}) as provider:
        watch = Watch(carrier, "lapse", [IDLE])
        ledger, throttle = Ledger(carrier, "lapse", "bench", max_pending=1_000_000), Throttle(carrier, "lapse", account)
        context = SweepContext(ledger, Halts(carrier, "lapse"), provider, throttle, settings, _Never(), watch, (RULE,))
        await watch.look()
        await provider.listing(provider.kinds["assistant"], throttle.spend, bounds=Bounds(pages=1))
        idle, began = _resident("VmRSS"), time.perf_counter()
        if run == "list":

            async def count(page: Sequence[Listed]) -> None:
                nonlocal counted
                counted += len(page)

            await provider.listing(provider.kinds["assistant"], throttle.spend, take=count)
        else:
            report = await collect_orphans(context, RULE)
            if report.result != "completed":
                raise RuntimeError(f"the run ended with {report.result}: {report.detail}")
            (listed,) = await carrier.run([("HGET", "lapse:{bench:assistant}:idle:rules", "listed")])
            counted = int(listed)
        seconds, grown = time.perf_counter() - began, _resident("VmHWM") - idle
    await carrier.aclose()
    return {"listed": counted, "seconds": seconds, "grown": grown}


class _Never:
    def is_set(self) -> bool:
        return False


def _resident(field: str) -> float:
    """Return this process' resident memory in MiB: now (VmRSS), or at its most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


__all__ = ["measure"]

if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_once(*sys.argv[1:]))) + "\n")
