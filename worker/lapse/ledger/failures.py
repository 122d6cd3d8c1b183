"""Sweeps of a policy that end badly again and again: since when, and with what. A sweep that ends well ends the row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from lapse.ledger.partition import Ledger
from lapse.ledger.reasons import HaltReason
from lapse.moments import both
from lapse.registry import keys
from lapse.registry.model import Partition

WELL = frozenset({"completed", "budget_exhausted", "limited", "observed"})
BADLY = frozenset({"refused", "divergence", HaltReason.PRINCIPAL_UNPROVEN, "unproven", "undecided", "breaker", "error"})
"""Results that delete nothing though nobody said so; what an operator or a guard stopped is neither well nor bad."""

OFTEN = 3
"""So many in a row are told: one alone mends itself."""

LONGEST = 300  # characters of what is kept of a cause
_FIELDS = ("failing_since", "failing_times", "failing_result", "failing_detail")


@dataclass(frozen=True, slots=True)
class Failing:
    """A row of sweeps that ended badly: since when, in registry milliseconds, how many, and how the last one ended."""

    partition: Partition
    since: int
    times: int
    result: str
    detail: str

    def told(self, now: int) -> str:
        """Say it in one sentence; ``now``: registry time in milliseconds."""
        what = f"{self.result}: {self.detail}" if self.detail else self.result
        return f"{self.partition}: {self.times:,} sweeps in a row ended badly since {both(self.since, now)}: {what}"


async def note(ledger: Ledger, partition: Partition, result: str, detail: str, now: int) -> None:
    """Write down how a sweep ended.

    Args:
        ledger: The registry.
        partition: What was swept.
        result: As in ``Report``, or ``error`` for one that was cut short.
        detail: Why, in words.
        now: Registry time in milliseconds.

    Raises:
        RegistryUnavailable: it could not be written down.

    """
    key = ledger.prefix(partition) + keys.RULES
    if result in WELL:
        await ledger.carrier.write(("HDEL", key, *_FIELDS))
    elif result in BADLY:
        last = ("failing_result", result, "failing_detail", detail[:LONGEST])
        first, once_more = ("HSETNX", key, "failing_since", now), ("HINCRBY", key, "failing_times", 1)
        await ledger.carrier.write(first, once_more, ("HSET", key, *last))


def look(client: redis.Redis, namespace: str, partitions: Iterable[Partition]) -> list[Failing]:
    """Return the rows of at least three; the client has to decode responses."""
    chosen = list(partitions)
    with client.pipeline(transaction=False) as pipe:
        for at in chosen:
            pipe.hmget(keys.partition(namespace, at.provider, at.kind, at.policy) + keys.RULES, _FIELDS)
        replies: list[Any] = pipe.execute()
    found = [_row(at, dict(zip(_FIELDS, stored, strict=True))) for at, stored in zip(chosen, replies, strict=True)]
    return [row for row in found if row and row.times >= OFTEN]


def _row(partition: Partition, stored: Mapping[str, str | None]) -> Failing | None:
    if not stored["failing_since"]:
        return None
    since, times = int(stored["failing_since"]), int(stored["failing_times"] or 0)
    return Failing(partition, since, times, stored["failing_result"] or "error", stored["failing_detail"] or "")
