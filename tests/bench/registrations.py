"""What the application pays: latency, bulk rate, memory, import; and what a claim costs as the registry grows."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import redis
from figures import Figure, ratio

from lapse import Registry
from lapse.aio import Carrier
from lapse.embedded import EmbeddedRedis
from lapse.ledger import Ledger, Settled
from lapse.model import Partition
from lapse.outcomes import Outcome
from lapse.policy import Rule, SweepSection

LONG_AGO = 1_600_000_000


def measure(rounds: int) -> list[Figure]:
    """Return every figure that needs no worker."""
    with EmbeddedRedis() as server:
        return [
            *_latency(server, rounds),
            *_bulk(server, rounds),
            *_memory(server),
            *_claims(server, rounds),
            *_imports(rounds),
        ]


def _latency(server: EmbeddedRedis, rounds: int, count: int = 2000) -> list[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    with Registry(server.url, provider="bench", timeout=5) as registry, redis.Redis.from_url(server.url) as client:
        for i in range(rounds + 1):
            one = _median_us(lambda n, i=i: registry.register("thread", f"thread_{i}_{n:020d}", "chat"), count)
            other = _median_us(lambda n, i=i: client.zadd("raw", {f"thread_{i}_{n:020d}": n}), count)
            if i:
                ours.append(one)
                theirs.append(other)
        client.flushall()
    return [
        Figure("register, us", ours, None),
        Figure("raw ZADD through redis-py, us", theirs, None),
        ratio("register latency to a raw ZADD", ours, theirs, at_most=1.4),
    ]


def _median_us(call: Callable[[int], object], count: int) -> float:
    taken = []
    for n in range(count):
        began = time.perf_counter()
        call(n)
        taken.append(time.perf_counter() - began)
    return sorted(taken)[count // 2] * 1e6


def _bulk(server: EmbeddedRedis, rounds: int, count: int = 20_000) -> list[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    with Registry(server.url, provider="bench", timeout=5) as registry, redis.Redis.from_url(server.url) as client:
        for i in range(rounds + 1):
            ids = [f"thread_{i}_{n:020d}" for n in range(count)]
            began = time.perf_counter()
            registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
            one = count / (time.perf_counter() - began)
            began = time.perf_counter()
            for start in range(0, count, 500):
                with client.pipeline(transaction=False) as pipe:
                    for id_ in ids[start : start + 500]:
                        pipe.zadd("raw", {id_: 1})
                    pipe.execute()
            other = count / (time.perf_counter() - began)
            if i:
                ours.append(one)
                theirs.append(other)
        client.flushall()
    return [
        Figure("register_many, ids/s", ours, None),
        Figure("pipelined ZADD, ids/s", theirs, None),
        ratio("register_many to pipelined ZADD", ours, theirs, at_least=0.6),
    ]


def _memory(server: EmbeddedRedis, count: int = 200_000) -> list[Figure]:
    with Registry(server.url, provider="bench", timeout=5) as registry, redis.Redis.from_url(server.url) as client:

        def used() -> int:
            return int(client.info("memory")["used_memory"])  # type: ignore[index]

        client.flushall()
        registry.register("thread", "thread_first", "chat")
        before = used()
        registry.register_many({"kind": "thread", "id": f"thread_{n:024d}", "policy": "chat"} for n in range(count))
        ours = (used() - before) / count
        client.flushall()
        before = used()
        for start in range(0, count, 1000):
            scored = {f"thread_{n:024d}": 1.7e12 + n for n in range(start, start + 1000)}
            client.zadd("raw", scored)
        theirs = (used() - before) / count
        client.flushall()
    return [
        Figure("Redis bytes per plain registration, 31-character ids", [ours], None),
        ratio("registration to a plain sorted-set entry, bytes", [ours], [theirs], at_most=1.05),
    ]


RULE = Rule(
    partition=Partition("bench", "thread", "chat"), ttl=86400, anchor="created_at", max_age=None, orphan=None, keep=(),
    cascade={}, enforce=True, max_deletions=None, max_newly_due=None, touches_stated=False, expect_gone=False, cancel=False,
    every=60, formerly=(), digest="bench0000000",
)  # fmt: skip
SWEEP = SweepSection(budget=50, lease=120, batch=100, max_attempts=8, tombstones=86400, ramp=None)


def _claims(server: EmbeddedRedis, rounds: int) -> list[Figure]:
    small: list[float] = []
    large: list[float] = []
    with redis.Redis.from_url(server.url) as client:
        for size, found in ((10_000, small), (1_000_000, large)):
            client.flushall()
            at = time.time() * 1000
            for start in range(0, size, 10_000):
                # Most are alive; as many as are claimed are due.
                client.zadd("lapse:{bench:thread}:chat:fresh", {f"thread_{n:024d}": at for n in range(start, start + 10_000)})
            found += asyncio.run(_claiming(server, client, rounds))
        client.flushall()
    return [
        Figure("claim, us per id, 10 thousand tracked", small, None),
        Figure("claim, us per id, 1 million tracked", large, None),
        ratio("claim at 1 million to claim at 10 thousand", large, small, at_most=1.5),
    ]


async def _claiming(server: EmbeddedRedis, client: redis.Redis, rounds: int, batches: int = 20) -> list[float]:
    carrier = Carrier(server.url, 10)
    ledger = Ledger(carrier, "lapse", "bench", max_pending=10_000_000)
    await ledger.adopt(RULE, None)
    found = []
    for i in range(rounds + 1):
        due = {f"thread_due_{i}_{n:015d}": LONG_AGO * 1000 for n in range(100 * batches)}
        client.zadd("lapse:{bench:thread}:chat:fresh", due)
        began, claims = time.perf_counter(), []
        for _ in range(batches):
            claims += (await ledger.claim(RULE, SWEEP, 100)).claims
        if i:
            found.append((time.perf_counter() - began) / len(claims) * 1e6)
        settled = [Settled(one.resource.id, one.token, "chat", one.due, "done", Outcome.DELETED) for one in claims]
        for start in range(0, len(settled), 50):
            await ledger.settle(RULE.partition, "bench", settled[start : start + 50], {}, 8, listable=False)
    await carrier.aclose()
    return found


def _imports(rounds: int) -> list[Figure]:
    taken: dict[str, list[float]] = {"lapse": [], "redis": []}
    for i in range(2 * rounds + 1):
        for name, found in taken.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
            if i:
                found.append((time.perf_counter() - began) * 1000)
    return [
        Figure("import lapse, ms with the interpreter", taken["lapse"], None),
        ratio("import lapse to import redis", taken["lapse"], taken["redis"], at_most=1.15),
    ]


__all__ = ["measure"]
