"""The provider's traffic as a proxy saw it: one record an exchange, written down without a word of lapse's."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httptools

from oracle import reading
from oracle.history import Request

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Exchange:
    """One request and what came back.

    Attributes:
        at: When the whole request had been seen, seconds since 1970.
        method: The HTTP method.
        target: Path and query, as sent.
        answered: When the whole answer had been passed on; None if it never was.
        status: Of the whole answer; 0 if there was none.
        body: Of the answer, as far as it came.

    """

    at: float
    method: str
    target: str
    answered: float | None = None
    status: int = 0
    body: bytes = b""

    def as_request(self, provider: str) -> Request:
        """Return it as the oracle reads it."""
        record = {"provider": provider, "begun": self.at, "ended": self.answered, "method": self.method}
        return reading.request(
            {**record, "path": self.target, "status": self.status, "body": self.body.decode(errors="replace")}
        )

    @property
    def id(self) -> str:
        """The last part of the path: of a DELETE, the id."""
        return self.target.partition("?")[0].rpartition("/")[2]


class Cut(Exception):
    """Raised by who looks on: the connection ends before what was seen is passed on."""


class Traffic:
    """All exchanges through one proxy, in the order of their requests.

    ``on_request`` and ``on_answer`` are called with each one before it is passed on, and may raise ``Cut``.
    """

    def __init__(self) -> None:
        self.on_request: Callable[[Exchange], None] | None = None
        self.on_answer: Callable[[Exchange], None] | None = None
        self._lock = threading.Lock()
        self._exchanges: list[Exchange] = []

    def exchanges(self) -> list[Exchange]:
        """Return those so far."""
        with self._lock:
            return list(self._exchanges)

    def deletes(self) -> list[Exchange]:
        """Return the DELETE requests so far."""
        return [one for one in self.exchanges() if one.method == "DELETE"]

    def begin(self, exchange: Exchange) -> None:
        """Add one."""
        with self._lock:
            self._exchanges.append(exchange)

    def watcher(self) -> "Conversation":
        """Return what watches one connection."""
        return Conversation(self)


class Conversation:
    """The requests and answers of one connection; answers come in the order of their requests."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._waiting: deque[Exchange] = deque()
        self._asking = httptools.HttpRequestParser(_Asking(self))
        self._answering: httptools.HttpResponseParser | None = None
        self._seen: list[tuple[Callable[[Exchange], None] | None, Exchange]] = []

    def sent(self, data: bytes) -> None:
        """Take what the client sent."""
        self._asking.feed_data(data)
        self._tell()

    def answered(self, data: bytes) -> None:
        """Take what the server answered."""
        if self._answering is None:
            self._answering = httptools.HttpResponseParser(_Answering(self))
        self._answering.feed_data(data)
        self._tell()

    def ended(self) -> None:
        """Take note that the connection is over: what was not answered stays so."""
        self._waiting.clear()

    def _tell(self) -> None:
        # Not from inside the parser's callbacks: it would swallow what is raised.
        seen, self._seen = self._seen, []
        for look, exchange in seen:
            if look is not None:
                look(exchange)

    def asked(self, target: bytes) -> None:
        """Take a whole request."""
        exchange = Exchange(time.time(), self._asking.get_method().decode(), target.decode())
        self._waiting.append(exchange)
        self._traffic.begin(exchange)
        self._seen.append((self._traffic.on_request, exchange))

    def finished(self, body: bytes, *, whole: bool) -> None:
        """Take an answer's body so far."""
        if not self._waiting:
            return
        exchange = self._waiting[0]
        exchange.body = body
        if whole and self._answering is not None:
            exchange.status, exchange.answered = self._answering.get_status_code(), time.time()
            self._waiting.popleft()
            self._seen.append((self._traffic.on_answer, exchange))


class _Asking:
    """What httptools calls while it reads requests."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation, self._target = conversation, b""

    def on_message_begin(self) -> None:
        self._target = b""

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_message_complete(self) -> None:
        self._conversation.asked(self._target)


class _Answering:
    """What httptools calls while it reads answers."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation, self._body = conversation, b""

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, piece: bytes) -> None:
        self._body += piece
        self._conversation.finished(self._body, whole=False)

    def on_message_complete(self) -> None:
        self._conversation.finished(self._body, whole=True)
