"""What the application pays: latency, bulk rate, memory, import; and what a claim costs as the registry grows."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import redis

from bench import baselines
from bench.crowd import gather
from bench.figures import Figure, ratio
from lapse import Registry
from lapse.ledger.housekeeping import creations
from lapse.ledger.partition import Ledger
from lapse.ledger.settle import Act, OutcomeBatch, Settled
from lapse.policy import Rule, SweepSection
from lapse.providers.outcomes import Outcome
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.sandbox.redis_server import EmbeddedRedis
from support import rules

LONG_AGO = 1_600_000_000
SMALL, LARGE = 10_000, 1_000_000
CLAIM = 100
BATCHES = 20
RULE = replace(rules.RULE, partition=Partition("bench", "thread", "chat"), ttl=86400, digest="bench0000000")
SWEEP = SweepSection(budget=50, lease=120, batch=CLAIM, max_attempts=8, tombstones=86400, ramp=None)


def measure(rounds: int) -> list[Figure]:
    """Return every figure that needs no worker."""
    with EmbeddedRedis() as server:
        return [
            *_latency(server, rounds),
            *_bulk(server, rounds),
            *_memory(server),
            *asyncio.run(_claims(server, rounds)),
            *_imports(rounds),
        ]


@contextmanager
def _registry(server: EmbeddedRedis) -> Iterator[tuple[Registry, redis.Redis]]:
    """Give a registry with a past, whose policy a worker manages, and a plain client of the same server."""
    with Registry(server.url, provider="bench", timeout=5) as registry, redis.Redis.from_url(server.url) as client:
        client.flushall()
        asyncio.run(_adopt(server))
        gather(registry, client, keys.slot("lapse", "bench", "thread"))
        yield registry, client
        client.flushall()


async def _adopt(server: EmbeddedRedis) -> None:
    carrier = Carrier(server.url, 10)
    await Ledger(carrier, "lapse", "bench", max_pending=1).adopt(RULE)
    await carrier.aclose()


def _latency(server: EmbeddedRedis, rounds: int, count: int = 2000) -> list[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    with _registry(server) as (registry, client):
        for i in range(rounds + 1):  # the first round warms up
            ids = [f"thread_{i:04d}{n:020d}" for n in range(count)]
            one = median_us(lambda id_: registry.register("thread", id_, "chat"), ids)
            other = median_us(lambda id_: baselines.add(client, id_), ids)
            ours += [one] if i else []
            theirs += [other] if i else []
    return [
        Figure("register, us", ours, None),
        Figure("raw ZADD through redis-py, us", theirs, None),
        ratio("register latency to a raw ZADD", ours, theirs, "<=", 1.4),
    ]


def median_us(call: Callable[[str], object], ids: Sequence[str]) -> float:
    """Return the median time of a call with each of these ids, in microseconds."""
    taken = []
    for id_ in ids:
        began = time.perf_counter()
        call(id_)
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2] * 1e6


def _bulk(server: EmbeddedRedis, rounds: int, count: int = 20_000) -> list[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    with _registry(server) as (registry, client):
        for i in range(rounds + 1):
            ids = [f"thread_{i:04d}{n:020d}" for n in range(count)]
            began = time.perf_counter()
            registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
            one = count / (time.perf_counter() - began)
            other = baselines.add_many(client, ids)
            ours += [one] if i else []
            theirs += [other] if i else []
    return [
        Figure("register_many, ids/s", ours, None),
        Figure("pipelined ZADD, ids/s", theirs, None),
        ratio("register_many to pipelined ZADD", ours, theirs, ">=", 0.6),
    ]


def _memory(server: EmbeddedRedis, count: int = 200_000) -> list[Figure]:
    ids = [f"thread_{n:024d}" for n in range(count)]
    with _registry(server) as (registry, client):

        def used() -> int:
            return int(client.info("memory")["used_memory"])

        # One of each first, so that what a set costs once is not counted. No flush between: servers free later.
        registry.register("thread", "thread_first", "chat")
        baselines.add(client, "thread_first")
        start = used()
        registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
        middle = used()
        baselines.add_many(client, ids)
        ours, theirs = (middle - start) / count, (used() - middle) / count
    touched = _touched(server, ids)
    return [
        Figure("Redis bytes per plain registration, 31-character ids", [ours], None),
        Figure("Redis bytes per plain sorted-set entry, the same ids", [theirs], None),
        ratio("registration to a plain sorted-set entry, bytes", [ours], [theirs], "<=", 1.05),
        Figure("Redis bytes per touched registration that is older than a week, the same ids", [touched], None),
        ratio("such a registration to a plain one, bytes", [touched], [ours], "<=", 1.10),
    ]


def _touched(server: EmbeddedRedis, ids: list[str]) -> float:
    """Return the bytes of an id that was touched and is older than a week, under rules that count by last activity."""
    with _registry(server) as (registry, client):
        at, there = time.time(), int(client.info("memory")["used_memory"])
        registry.register_many(
            {"kind": "thread", "id": id_, "policy": "chat", "created_at": at - 864_000, "last_active_at": at - 60}
            for id_ in ids
        )
        asyncio.run(_packed(server))
        return (int(client.info("memory")["used_memory"]) - there) / len(ids)


async def _packed(server: EmbeddedRedis) -> None:
    carrier = Carrier(server.url, 10)
    ledger = Ledger(carrier, "lapse", "bench", max_pending=10_000_000)
    await ledger.adopt(replace(RULE, anchor="last_active_at", digest="bench0000001"))
    while await creations.step(ledger, ("bench", "thread")):
        pass
    await carrier.aclose()


async def _claims(server: EmbeddedRedis, rounds: int) -> list[Figure]:
    taken: dict[str, list[float]] = {"small": [], "large": []}
    carrier = Carrier(server.url, 10)
    ledger = Ledger(carrier, "lapse", "bench", max_pending=10_000_000)
    with redis.Redis.from_url(server.url) as client:
        rules = [replace(RULE, partition=Partition(name, "thread", "chat")) for name in taken]
        for rule, size in zip(rules, (SMALL, LARGE), strict=True):
            await ledger.adopt(rule)
            _track(client, rule, [f"thread_{n:024d}" for n in range(size)], time.time())
        for i in range(rounds + 1):
            for rule in rules:
                _track(client, rule, [f"thread_{i:04d}{n:020d}" for n in range(CLAIM * BATCHES)], LONG_AGO)
                one = await _claim_all(ledger, rule)
                taken[rule.partition.provider] += [one] if i else []
        client.flushall()
    await carrier.aclose()
    return [
        Figure("claim, us per id, 10 thousand tracked", taken["small"], None),
        Figure("claim, us per id, 1 million tracked", taken["large"], None),
        ratio("claim at 1 million to claim at 10 thousand", taken["large"], taken["small"], "<=", 1.5),
    ]


def _track(client: redis.Redis, rule: Rule, ids: Sequence[str], at: float) -> None:
    """Put ids where registering leaves them; a million registrations would take the time of all other figures."""
    partition = rule.partition
    index = keys.partition("lapse", partition.provider, partition.kind, partition.policy) + keys.FRESH
    for start in range(0, len(ids), 10_000):
        client.zadd(index, dict.fromkeys(ids[start : start + 10_000], round(at * 1000)))


async def _claim_all(ledger: Ledger, rule: Rule) -> float:
    """Claim what is due, settle it, and return the microseconds that claiming one id took."""
    began = time.perf_counter()
    batches = [await ledger.claim(rule, SWEEP, CLAIM) for _ in range(BATCHES)]
    taken = time.perf_counter() - began
    claims = [claim for batch in batches for claim in batch.claims]
    if len(claims) != CLAIM * BATCHES:
        raise RuntimeError(f"{len(claims)} ids were claimed, {CLAIM * BATCHES} are due")
    done = [Settled(one.resource.id, one.token, "chat", one.due, Act.DONE, Outcome.DELETED) for one in claims]
    for start in range(0, len(done), 50):
        await ledger.settle(rule.partition, OutcomeBatch(done[start : start + 50], {}, 8, listable=False))
    return taken / len(claims) * 1e6


def _imports(rounds: int) -> list[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    for i in range(2 * rounds + 1):
        one, other = _run_ms("import lapse"), _run_ms(baselines.IMPORT)
        ours += [one] if i else []
        theirs += [other] if i else []
    return [
        Figure("import lapse, ms with the interpreter", ours, None),
        Figure("import redis, ms with the interpreter", theirs, None),
        ratio("import lapse to import redis", ours, theirs, "<=", 1.15),
    ]


def _run_ms(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (time.perf_counter() - began) * 1000


__all__ = ["measure"]
