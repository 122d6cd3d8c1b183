"""Counts of the requests that were sent, in the fields of a slot's counters. No I/O."""

from bisect import bisect_left
from collections import Counter

from lapse.answers import Reply

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds of the request durations in seconds; the last bucket, ``inf``, has none."""

_LABELS = (*(f"{bound:g}" for bound in BUCKETS), "inf")


class Tally:
    """Requests since the last ``drain``: how many, with what result, how long.

    ``op`` is ``delete``, ``read``, ``list``, ``items``, ``probe`` or ``witness``. A result is the status, or
    the one word for the failure that took its place.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._buckets: Counter[tuple[str, str, int]] = Counter()
        self._milliseconds: dict[tuple[str, str], float] = {}

    def add(self, kind: str, op: str, reply: Reply) -> None:
        """Count one request about this kind."""
        self._requests[kind, op, reply.failure or str(reply.status)] += 1
        self._buckets[kind, op, bisect_left(BUCKETS, reply.seconds)] += 1
        key = (kind, op)
        self._milliseconds[key] = self._milliseconds.get(key, 0.0) + reply.seconds * 1000

    def drain(self) -> dict[str, dict[str, int]]:
        """Return kind -> counter field -> increment, and start again from zero.

        The fields are ``requests||op|result``, ``request_seconds||op|le`` (not cumulative), ``request_ms||op``.
        """
        drained: dict[str, dict[str, int]] = {}
        for (kind, op, result), count in self._requests.items():
            drained.setdefault(kind, {})[f"requests||{op}|{result}"] = count
        for (kind, op, bucket), count in self._buckets.items():
            drained[kind][f"request_seconds||{op}|{_LABELS[bucket]}"] = count
        for (kind, op), total in self._milliseconds.items():
            # What is less than a millisecond waits for the next drain, or frequent ones would lose it all.
            whole = int(total)
            self._milliseconds[kind, op] = total - whole
            if whole:
                drained.setdefault(kind, {})[f"request_ms||{op}"] = whole
        self._requests.clear()
        self._buckets.clear()
        return drained
