"""How requests to erase a subject stand: read in steps, so that a scrape is not felt however many there ever were."""

import math
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from lapse import moments
from lapse.ledger.erasure.request import ErasureRequest, State
from lapse.registry import keys

MOST_READ = 2000
"""Requests that one reading takes, of half a kilobyte each; the next one goes on where it stopped."""
PAGE = 500
ASKED = "asked"
"""Requests of applications that no worker has taken up yet, beside the states of those that one has."""
SOON = 7 * 86_400_000
"""Milliseconds before a request has to be done in which one that is open is a trouble, as the alert has it."""


@dataclass(frozen=True, slots=True)
class ErasureStanding:
    """How many requests of a namespace are in which state, and those that are open, the first due first."""

    counts: Mapping[str, int]
    open: tuple[ErasureRequest, ...]

    @property
    def received(self) -> int | None:
        """When the first of those who still wait asked, in registry milliseconds; None: nobody waits."""
        return min((one.received for one in self.open), default=None)

    @property
    def due(self) -> int | None:
        """By when the next one has to be done, in registry milliseconds; None: none is open."""
        return self.open[0].due if self.open else None

    @property
    def asked(self) -> int:
        """How many applications asked for that no worker has taken up yet."""
        return self.counts[ASKED]

    def urgent(self, now: int) -> bool:
        """Return True if one has to be done soon, or is late."""
        return self.due is not None and self.due - now < SOON

    def told(self, now: int) -> str:
        """Say how many are open and by when the next one has to be done; ``now``: registry milliseconds."""
        parts = [f"{len(self.open)} open, the next due {moments.both(self.open[0].due, now)}"] if self.open else []
        parts += [f"{self.asked} asked by applications and not taken up yet"] if self.asked else []
        return "; ".join(parts) or "none is open"


class ErasureReader:
    """What a process knows of the requests of one namespace; may be asked by several threads.

    Of more than ``MOST_READ``, those that a reading does not come to stand as an earlier one saw them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin("")

    def _begin(self, name: str) -> None:
        self._name = name
        self._cursor = 0
        # Of a request that is not open, its state is all that is remembered.
        self._before: dict[str, ErasureRequest | State] = {}
        self._round: dict[str, ErasureRequest | State] = {}

    def read(self, client: redis.Redis, namespace: str, most: float = MOST_READ) -> ErasureStanding:
        """Return how they stand. ``client`` decodes responses; ``most``: how many are read, infinite for all."""
        asked: Any = client.hlen(keys.asked_erasures(namespace))
        with self._lock:
            if self._name != keys.erasures(namespace):
                self._begin(keys.erasures(namespace))
            self._step(client, most)
            known = (self._before | self._round).values()
        waiting = [one for one in known if isinstance(one, ErasureRequest)]
        settled = Counter(one for one in known if isinstance(one, State))
        counts: dict[str, int] = {ASKED: int(asked), **{state: settled[state] for state in State}}
        counts[State.OPEN] = len(waiting)
        return ErasureStanding(counts, tuple(sorted(waiting, key=lambda one: (one.due, one.id))))

    def _step(self, client: redis.Redis, most: float) -> None:
        read = 0
        while read < most:
            reply: Any = client.hscan(self._name, self._cursor, count=PAGE)
            self._cursor, page = reply
            read += len(page)
            for id_, stored in page.items():
                request = ErasureRequest.read(id_, stored)
                self._round[id_] = request if request.state is State.OPEN else request.state
            if not self._cursor:
                self._before, self._round = self._round, {}
                return


def standing(client: redis.Redis, namespace: str) -> ErasureStanding:
    """Return how all requests stand now, however many there are: for who asks once."""
    return ErasureReader().read(client, namespace, math.inf)
