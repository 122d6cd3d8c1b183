"""Which ids were touched a moment ago, so that each is touched once in a while and not by every request. No I/O."""

from threading import Lock

LONGEST = 60.0
"""Seconds between two touches of an id, at most."""

UNKNOWN = 1.0
"""The same while no policy's time to live is known: it may be short."""

MOST = 100_000
"""Ids that are remembered for each kind; beyond that, all are forgotten, and touched again when they are used."""


def every(ttl: float | None) -> float:
    """Return how often an id is to be touched, in seconds: ten times in the shortest time to live that it may have."""
    return UNKNOWN if ttl is None else min(LONGEST, ttl / 10)


class Touches:
    """What was touched since the last turn; thread-safe.

    A turn forgets everything at once: an id costs its text and a place in a set, and is touched up to twice as often as
    it has to be.
    """

    def __init__(self) -> None:
        self._done: dict[str, set[str]] = {}
        self._began: dict[str, float] = {}
        self._lock = Lock()

    def due(self, kind: str, what: str, now: float, every: float) -> bool:
        """Return True if something is to be said of this kind that was not said since the last turn."""
        with self._lock:
            done = self._done.setdefault(kind, set())
            if now - self._began.setdefault(kind, now) >= every or len(done) >= MOST:
                done.clear()
                self._began[kind] = now
            return what not in done

    def done(self, kind: str, what: str) -> None:
        """Remember what the registry took."""
        with self._lock:
            self._done.setdefault(kind, set()).add(what)
