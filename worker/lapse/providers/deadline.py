"""Until when the requests of one claim may be sent: known wherever a request is written, whoever asked for it."""

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Self

from lapse.providers.outcomes import Outcome, Verdict
from lapse.providers.response import line

SOONER = 0.95
"""The part of a lease after which nothing leaves: clocks of two hosts drift, and a kernel's timers come late."""


TELL_EVERY = 8
"""Children: as many as are deleted at the same time, so that a worker that ends loses no more than twice of them."""

Tell = Callable[[int], Awaitable[bool]]
"""Counts that so many children of the claimed resource were deleted; False where that is not known to be done."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Two times on this process' monotonic clock: no request begins after ``begin_by``, none lasts beyond ``end``."""

    begin_by: float
    end: float

    @classmethod
    def of(cls, lease: float) -> Self:
        """Return that of a lease of so many seconds. Call it before the lease is asked for: Redis counts from later."""
        # Half to begin in and the rest to end in: a request may take a little less than half a lease, so that one which
        # began in time is over before anybody else may claim the id.
        now = time.monotonic()
        return cls(now + lease / 2, now + lease * SOONER)


class Requests:
    """The requests of one claim while they are being sent: ``with Requests(claim.deadline)``.

    They are found by ``current`` in every task that is begun inside. A parameter would have to be handed through each
    function that ends in a request, and the one that forgot it would send a DELETE after the lease.

    Attributes:
        deadline: That of the claim.
        deleting: True once a byte of the claimed resource's own DELETE may have left.
        items: Children confirmed deleted so far: that stays true, however the attempt ends.
        told: How many of them are known to be counted in the registry.

    """

    __slots__ = ("_asked", "_tell", "_token", "deadline", "deleting", "items", "told")

    def __init__(self, deadline: Deadline, tell: Tell | None = None) -> None:
        self.deadline = deadline
        self.deleting = False
        self.items = self.told = self._asked = 0
        self._tell = tell
        self._token: Token[Requests | None] | None = None

    def begun(self) -> None:
        """Note that the resource's own DELETE is being written."""
        self.deleting = True

    async def confirmed(self) -> None:
        """Take note of one more deleted child; every few are counted in the registry at once."""
        self.items += 1
        if self._tell and self.items >= self._asked + TELL_EVERY:
            self._asked = total = self.items
            if await self._tell(total):
                self.told = max(self.told, total)

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token:
            _current.reset(self._token)


_current: ContextVar[Requests | None] = ContextVar("requests", default=None)


def current() -> Requests | None:
    """Return the requests that one sent from here belongs to; None where it is for no claim: a list, a probe."""
    return _current.get()


def cut_short(why: str, requests: Requests) -> Verdict:
    """Return the verdict on an attempt that ended before an answer came: none at all, if its DELETE had not begun."""
    outcome = Outcome.ERROR if requests.deleting else Outcome.LIMITED
    return Verdict(outcome, unknown=requests.deleting, detail=line(why), items=requests.items)
