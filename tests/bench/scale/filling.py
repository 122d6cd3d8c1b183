"""A registry of any size: written as registering and touching writes it, in a hundredth of the time."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis

from lapse.ledger.known import STEP
from lapse.registry import keys
from lapse.registry.model import Partition

CHUNK = 5_000
YOUNG = 8 * 86_400_000  # ms; as late.lua has it
BYTES = 300
"""What a touched conversation takes in Redis, at most; `make bench-scale` prints what it took."""
SHARE = 0.6
"""How much of the free memory may be taken, with the copy that a rewrite of the append-only file may come to."""


class TooLarge(Exception):
    """The machine has not the memory for so many ids."""


def conversation(n: int) -> str:
    """Return the id of the n-th conversation: 53 characters that nothing can be packed by."""
    return f"conv_{hashlib.sha256(b'%d' % n).hexdigest()[:48]}"


def check(size: int, free: int) -> str:
    """Return what so many ids take of the free memory, in words.

    Raises:
        TooLarge: more than SHARE of it.

    """
    needed = 2 * BYTES * size
    said = f"{size:,} ids take up to {needed / 1e9:.1f} GB with a rewrite's copy; {free / 1e9:.1f} GB are free"
    if needed > SHARE * free:
        raise TooLarge(f"{said}, and {SHARE:.0%} of them may be taken")
    return said


def free_memory() -> int:
    """Return how many bytes can be had without swapping."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def fill(client: redis.Redis, at: Partition, ids: Sequence[tuple[str, int, int]], now: int) -> None:
    """Leave ids as registering them with both times, and a worker's round, do where rules count by last activity.

    Args:
        client: The registry's Redis.
        at: Where the ids stand.
        ids: Id, creation, and a later last activity, in milliseconds.
        now: Registry time in milliseconds.

    """
    old = {id_: packed(active, created) for id_, created, active in ids if created < now - YOUNG}
    young = {id_: (created, active) for id_, created, active in ids if id_ not in old}
    prefix = keys.partition("lapse", at.provider, at.kind, at.policy)
    with client.pipeline(transaction=False) as pipe:
        pipe.sadd(keys.slots("lapse"), f"{at.provider}/{at.kind}")
        pipe.sadd(keys.slot("lapse", at.provider, at.kind) + keys.POLICIES, at.policy)
        pipe.hset(prefix + keys.RULES, "creations", "packed")
        if young:
            pipe.zadd(prefix + keys.CREATED, {id_: created for id_, (created, _active) in young.items()})
        pipe.zadd(prefix + keys.ACTIVE, old | {id_: active for id_, (_created, active) in young.items()})
        pipe.execute()


def packed(active: int, created: int) -> float:
    """Return both moments as one score, as ``include/packed.lua`` has it before September 2039."""
    second = -(-active // 1000) * 1000
    return second + (2 * (-(-second // STEP) - -(-created // STEP)) + 1) / 4096


def conversations(start: int, end: int, now: int, days: int) -> Iterator[list[tuple[str, int, int]]]:
    """Yield chunks of conversations that began evenly within so many days, and were used an hour later."""
    step = days * 86_400_000 / end
    for first in range(start, end, CHUNK):
        yield [
            (conversation(n), at := now - round((end - n) * step) - 3_600_000, at + 3_600_000)
            for n in range(first, min(end, first + CHUNK))
        ]
