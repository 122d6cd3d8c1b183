"""What subjects cost: the index's bytes, and a registration where much was settled, forgotten and held."""

from collections.abc import Iterator
from itertools import count

import redis

from bench import baselines
from bench.crowd import AMONG, gather
from bench.figures import Figure, ratio
from bench.registrations import median_us
from lapse import Registry
from lapse.registry import keys
from lapse.sandbox.redis_server import EmbeddedRedis

SLOT = keys.slot("lapse", "bench", "thread")


def measure(rounds: int) -> list[Figure]:
    """Return every figure."""
    with (
        EmbeddedRedis() as server,
        Registry(server.url, provider="bench", timeout=5) as registry,
        redis.Redis.from_url(server.url) as client,
    ):
        index = _index(registry, client)
        gather(registry, client, SLOT)
        return [index, *_latency(registry, client, rounds)]


def _index(registry: Registry, client: redis.Redis, ids: int = 50_000) -> Figure:
    """Return the bytes of the index for an id: ten ids of a subject, as a provider names them."""
    registry.register_many(
        {"kind": "thread", "id": f"thread_{n:024d}", "policy": "chat", "subject": f"user:{n // 10:08d}"}
        for n in range(ids)
    )
    size = client.execute_command("MEMORY", "USAGE", SLOT + keys.SUBJECTS, "SAMPLES", 0)
    client.flushall()
    return Figure("subject index, bytes an id", [size / ids], None)


def _latency(registry: Registry, client: redis.Redis, rounds: int, calls: int = 2000) -> Iterator[Figure]:
    numbers = count()
    ours: list[float] = []
    named: list[float] = []
    theirs: list[float] = []
    for i in range(rounds + 1):  # the first round warms up
        ids = [f"thread_{next(numbers):024d}" for _ in range(3 * calls)]
        plain = median_us(lambda id_: registry.register("thread", id_, "chat"), ids[:calls])
        owned = median_us(
            lambda id_: registry.register("thread", id_, "chat", subject="user:42"), ids[calls : 2 * calls]
        )
        raw = median_us(lambda id_: baselines.add(client, id_), ids[2 * calls :])
        if i:
            ours, named, theirs = [*ours, plain], [*named, owned], [*theirs, raw]
    yield ratio(f"register to a raw ZADD, {AMONG}", ours, theirs, "<=", 1.4)
    yield Figure(
        f"register with a subject to one without, {AMONG}", [a / b for a, b in zip(named, ours, strict=True)], None
    )
