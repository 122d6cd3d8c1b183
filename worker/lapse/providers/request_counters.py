"""Counts of the requests that were sent, in the fields of a slot's counters. No I/O."""

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from lapse.providers.response import Reply

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds of the request durations in seconds; the last bucket, ``inf``, has none."""

_LABELS = (*(f"{bound:g}" for bound in BUCKETS), "inf")


@dataclass(slots=True)
class _Counts:
    """The requests about one kind."""

    results: Counter[tuple[str, str]] = field(default_factory=Counter)
    buckets: Counter[tuple[str, int]] = field(default_factory=Counter)
    milliseconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


class RequestCounters:
    """Requests since they were last drained: how many, with what result, how long.

    ``op`` is ``delete``, ``read``, ``list``, ``items``, ``probe``, ``witness`` or ``cancel``. A result is the status,
    or the one word for the failure that took its place.
    """

    def __init__(self) -> None:
        self._kinds: defaultdict[str, _Counts] = defaultdict(_Counts)

    def add(self, kind: str, op: str, reply: Reply) -> None:
        """Count one request about this kind."""
        counts = self._kinds[kind]
        counts.results[op, reply.failure or str(reply.status)] += 1
        counts.buckets[op, bisect_left(BUCKETS, reply.seconds)] += 1
        counts.milliseconds[op] += reply.seconds * 1000

    def drain(self, kind: str | None = None) -> dict[str, dict[str, int]]:
        """Return kind -> counter field -> increment, and start again from zero.

        The fields are ``requests||op|result``, ``request_seconds||op|le`` (not cumulative) and
        ``request_ms||op``.

        Args:
            kind: Drain this kind alone and let the others wait; None drains all.

        """
        names = list(self._kinds) if kind is None else [kind] if kind in self._kinds else []
        drained = {name: _fields(self._kinds[name]) for name in names}
        return {name: fields for name, fields in drained.items() if fields}


def _fields(counts: _Counts) -> dict[str, int]:
    fields = {f"requests||{op}|{result}": count for (op, result), count in counts.results.items()}
    for (op, bucket), count in counts.buckets.items():
        fields[f"request_seconds||{op}|{_LABELS[bucket]}"] = count
    for op, total in counts.milliseconds.items():
        # What is less than a millisecond waits for the next drain, or frequent ones would lose it all.
        whole = int(total)
        counts.milliseconds[op] = total - whole
        if whole:
            fields[f"request_ms||{op}"] = whole
    counts.results.clear()
    counts.buckets.clear()
    return fields
