"""How an id would take less memory: one packed score, packed ids, and shards that Redis keeps as lists.

``cd tests && ../.venv/bin/python -m bench.scale.packing 500000``: bytes an id, and what Redis takes for a touch and for
finding what is due. A prototype: nothing of lapse stores ids so.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from bench.scale.filling import conversation
from lapse.sandbox.redis_server import EmbeddedRedis

SINCE = 1_420_070_400  # seconds: the first of January 2015
STEP = 600  # seconds in which the age at the last activity is counted
NOW = 1_795_000_000  # seconds
DAYS = 20
SHARD = 100
"""Ids in a shard, on average: above 128 entries Redis keeps a sorted set as a tree."""
DUE = 100
"""How many due ids are asked for at once."""

Place = Callable[[int], tuple[str, str | bytes]]


def packed_score(active: int, created: int) -> int:
    """Return both moments, in seconds, as one number below 2^53: never a creation that is earlier than the true one."""
    return (active - SINCE) * 2**22 + (active - created) // STEP


def packed_id(id_: str) -> bytes:
    """Return a conversation's id as 25 bytes: which prefix, and its 48 hexadecimal digits."""
    return b"\x01" + bytes.fromhex(id_.removeprefix("conv_"))


@dataclass(frozen=True)
class Layout:
    """One way to store ids.

    Attributes:
        name: What the table calls it.
        place: In which sorted set an id stands, and as what.
        created: True if its creation is an entry of its own.
        shards: How many sorted sets there are.

    """

    name: str
    place: Place
    created: bool = False
    shards: int = 1


def layouts(size: int) -> Iterator[Layout]:
    """Yield them, today's first."""
    shards = max(1, size // SHARD)
    yield Layout("two entries", lambda n: ("due", conversation(n)), created=True)
    yield Layout("one packed score", lambda n: ("due", conversation(n)))
    yield Layout("and packed ids", lambda n: ("due", packed_id(conversation(n))))

    def sharded(n: int) -> tuple[str, bytes]:
        member = packed_id(conversation(n))
        return f"due:{int.from_bytes(member[1:5]) * shards >> 32}", member

    yield Layout("and shards as lists", sharded, shards=shards)


def measured(client: Any, layout: Layout, size: int) -> list[float]:
    """Return bytes an id, and microseconds of Redis for a touch, and for each of DUE due ids that are found."""
    client.execute_command("FLUSHALL", "SYNC")
    before = client.info("memory")["used_memory"]
    for first in range(0, size, 5000):
        with client.pipeline(transaction=False) as pipe:
            for n in range(first, min(first + 5000, size)):
                _write(pipe, layout, n, active=NOW - (size - n) * DAYS * 86_400 // size)
            pipe.execute()
    taken = (client.info("memory")["used_memory"] - before) / size
    client.config_resetstat()
    with client.pipeline(transaction=False) as pipe:
        for n in range(0, size, max(1, size // 5000)):
            _write(pipe, layout, n, active=NOW + n)
        pipe.execute()
    touch = _spent(client) / len(range(0, size, max(1, size // 5000)))
    client.config_resetstat()
    cut = packed_score(NOW - (DAYS - 1) * 86_400, NOW)
    for key in ["due"] if layout.shards == 1 else [f"due:{shard}" for shard in range(layout.shards)]:
        client.zrange(key, "-inf", cut, byscore=True, offset=0, num=DUE)
    return [taken, touch, _spent(client) / DUE]


def _write(pipe: Any, layout: Layout, n: int, active: int) -> None:
    key, member = layout.place(n)
    created = active - 3600
    if layout.created:
        pipe.zadd("created", {member: created})
    pipe.zadd(key, {member: active if layout.created else packed_score(active, created)})


def _spent(client: Any) -> float:
    stats = client.info("commandstats")
    return float(sum(stats[f"cmdstat_{name}"]["usec"] for name in ("zadd", "zrange") if f"cmdstat_{name}" in stats))


def main() -> None:
    """Measure each layout and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", type=int, help="how many ids")
    size = parser.parse_args().size
    sys.stdout.write(
        "| stored as | bytes an id | touch, us of Redis | 100 due ids, us of Redis each |\n|---|---|---|---|\n"
    )
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        for layout in layouts(size):
            taken, touch, due = measured(client, layout, size)
            sys.stdout.write(f"| {layout.name} | {taken:.1f} | {touch:.2f} | {due:.2f} |\n")


if __name__ == "__main__":
    main()
