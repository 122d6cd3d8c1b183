"""What the application pays: latency, bulk rate, memory, import; and what a claim costs as the registry grows."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import redis

from bench.figures import Figure, ratio
from lapse import Registry
from lapse.aio import Carrier
from lapse.embedded import EmbeddedRedis
from lapse.ledger import Claim, Ledger, Settled
from lapse.model import Partition
from lapse.outcomes import Outcome
from lapse.policy import Rule, SweepSection

LONG_AGO = 1_600_000_000
FRESH = "lapse:{bench:thread}:chat:fresh"


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
        for i in range(rounds + 1):  # the first round warms up
            ids = [f"thread_{i}_{n:020d}" for n in range(count)]
            one = _median_us(lambda id_: registry.register("thread", id_, "chat"), ids)
            other = _median_us(lambda id_: client.zadd("raw", {id_: 1}), ids)
            ours += [one] if i else []
            theirs += [other] if i else []
        client.flushall()
    return [
        Figure("register, us", ours, None),
        Figure("raw ZADD through redis-py, us", theirs, None),
        ratio("register latency to a raw ZADD", ours, theirs, "<=", 1.4),
    ]


def _median_us(call: Callable[[str], object], ids: list[str]) -> float:
    taken = []
    for id_ in ids:
        began = time.perf_counter()
        call(id_)
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2] * 1e6


def _bulk(server: EmbeddedRedis, rounds: int, count: int = 20_000) -> list[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    with Registry(server.url, provider="bench", timeout=5) as registry, redis.Redis.from_url(server.url) as client:
        for i in range(rounds + 1):
            ids = [f"thread_{i}_{n:020d}" for n in range(count)]
            began = time.perf_counter()
            registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
            between = time.perf_counter()
            _zadd_pipelined(client, ids)
            ended = time.perf_counter()
            ours += [count / (between - began)] if i else []
            theirs += [count / (ended - between)] if i else []
        client.flushall()
    return [
        Figure("register_many, ids/s", ours, None),
        Figure("pipelined ZADD, ids/s", theirs, None),
        ratio("register_many to pipelined ZADD", ours, theirs, ">=", 0.6),
    ]


def _zadd_pipelined(client: redis.Redis, ids: list[str]) -> None:
    for start in range(0, len(ids), 500):
        with client.pipeline(transaction=False) as pipe:
            for id_ in ids[start : start + 500]:
                pipe.zadd("raw", {id_: 1})
            pipe.execute()


def _memory(server: EmbeddedRedis, count: int = 200_000) -> list[Figure]:
    ids = [f"thread_{n:024d}" for n in range(count)]
    with Registry(server.url, provider="bench", timeout=5) as registry, redis.Redis.from_url(server.url) as client:
        registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
        ours = _bytes(client) / count
        client.flushall()
        for start in range(0, count, 1000):
            client.zadd("raw", dict.fromkeys(ids[start : start + 1000], 1700000000000.0 + start))
        theirs = _bytes(client) / count
        client.flushall()
    return [
        Figure("Redis bytes per plain registration, 31-character ids", [ours], None),
        ratio("registration to a plain sorted-set entry, bytes", [ours], [theirs], "<=", 1.05),
    ]


def _bytes(client: redis.Redis) -> int:
    """Return the bytes of every key, exactly and not by sample."""
    found: Any = client.keys()
    sizes: Any = [client.memory_usage(key, samples=0) for key in found]
    return sum(sizes)


RULE = Rule(
    partition=Partition("bench", "thread", "chat"), ttl=86400, anchor="created_at", max_age=None, orphan=None, keep=(),
    cascade={}, enforce=True, max_deletions=None, max_newly_due=None, touches_stated=False, expect_gone=False,
    cancel=False, every=60, formerly=(), digest="bench0000000",
)  # fmt: skip
SWEEP = SweepSection(budget=50, lease=120, batch=100, max_attempts=8, tombstones=86400, ramp=None)


def _claims(server: EmbeddedRedis, rounds: int) -> list[Figure]:
    measured: dict[int, list[float]] = {}
    with redis.Redis.from_url(server.url) as client:
        for size in (10_000, 1_000_000):
            client.flushall()
            _tracked(client, size)
            measured[size] = asyncio.run(_claiming(server, client, rounds))
        client.flushall()
    small, large = measured.values()
    return [
        Figure("claim, us per id, 10 thousand tracked", small, None),
        Figure("claim, us per id, 1 million tracked", large, None),
        ratio("claim at 1 million to claim at 10 thousand", large, small, "<=", 1.5),
    ]


def _tracked(client: redis.Redis, size: int) -> None:
    """Track ids that are not due."""
    at = time.time() * 1000
    for start in range(0, size, 10_000):
        client.zadd(FRESH, {f"thread_{n:024d}": at for n in range(start, start + 10_000)})


async def _claiming(server: EmbeddedRedis, client: redis.Redis, rounds: int, batches: int = 20) -> list[float]:
    carrier = Carrier(server.url, 10)
    ledger = Ledger(carrier, "lapse", "bench", max_pending=10_000_000)
    await ledger.adopt(RULE, None)
    found = []
    for i in range(rounds + 1):
        due = {f"thread_due_{i}_{n:015d}": LONG_AGO * 1000 for n in range(100 * batches)}
        client.zadd(FRESH, due)
        claims: list[Claim] = []
        began = time.perf_counter()
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
        ratio("import lapse to import redis", taken["lapse"], taken["redis"], "<=", 1.15),
    ]


__all__ = ["measure"]
