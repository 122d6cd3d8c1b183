"""Until when the requests of one claim may be sent: known wherever a request is written, whoever asked for it."""

import time
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Self

SOONER = 0.95
"""The part of a lease after which nothing leaves: clocks of two hosts drift, and a kernel's timers come late."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Two times on this process' monotonic clock: no request begins after ``begin_by``, none lasts beyond ``end``."""

    begin_by: float
    end: float

    @classmethod
    def of(cls, lease: float) -> Self:
        """Return that of a lease of so many seconds. Call it before the lease is asked for: Redis counts from later."""
        now = time.monotonic()
        return cls(now + lease / 2, now + lease * SOONER)


class Requests:
    """The requests of one claim while they are being sent: ``with Requests(claim.deadline)``.

    They are found by ``current`` in every task that is begun inside. A parameter would have to be handed through each
    function that ends in a request, and the one that forgot it would send a DELETE after the lease.

    Attributes:
        deadline: That of the claim.
        deleting: True once a byte of the claimed resource's own DELETE may have left.

    """

    __slots__ = ("_token", "deadline", "deleting")

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.deleting = False
        self._token: Token[Requests | None] | None = None

    def begun(self) -> None:
        """Note that the resource's own DELETE is being written."""
        self.deleting = True

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
