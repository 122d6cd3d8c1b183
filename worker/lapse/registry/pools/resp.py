"""Replies as RESP2 has them (redis.io/docs/latest/develop/reference/protocol-spec), read from a socket.

redis-py connects, with all that takes. Its own reading of a reply costs more than all else that a registration does in
Python, and can be told no deadline.
"""

import socket
import time
from collections.abc import Callable
from typing import Any

import redis

from lapse.registry.connection import late

_AT_ONCE = 65536
_ENOUGH = 0.8  # of a timeout: with less left, the socket is told


class Reader:
    """Reads replies until a deadline.

    Args:
        sock: Connected; it waits for ``timeout`` seconds by itself.
        timeout: Seconds of a whole call.
        error_of: Returns redis-py's exception for the text of an error reply.

    """

    def __init__(self, sock: socket.socket, timeout: float, error_of: Callable[[str], Exception]) -> None:
        self._socket = sock
        self._timeout = timeout
        self._error_of = error_of
        self._data = b""
        self._at = 0
        self._deadline = 0.0
        self._told = False

    def replies(self, count: int, deadline: float) -> list[Any]:
        """Return so many replies; an error reply as an exception, in its place.

        Raises:
            redis.ConnectionError: it was closed, or said to be of no use; or there is one reply too many.
            redis.TimeoutError: they did not come until the deadline, by ``time.monotonic``.

        """
        self._deadline = deadline
        try:
            found = [self._value() for _ in range(count)]
            if self._told:
                self._socket.settimeout(self._timeout)
                self._told = False
        except TimeoutError:
            raise late(self._timeout) from None
        except OSError as error:
            raise redis.ConnectionError(f"connection lost: {error}") from None
        if self._at < len(self._data):
            raise redis.ConnectionError("the server said more than it was asked")
        self._data, self._at = b"", 0
        return found

    def _value(self) -> Any:
        line = self._line()
        mark, rest = line[:1], line[1:]
        if mark == b"$":
            return self._bytes(int(rest))
        if mark == b":":
            return int(rest)
        if mark == b"*":
            return [self._value() for _ in range(int(rest))] if rest != b"-1" else None
        if mark == b"-":
            return self._error(rest)
        if mark == b"+":
            return rest
        raise redis.ConnectionError(f"no reply of a Redis: {line[:20]!r}")

    def _error(self, text: bytes) -> Exception:
        error = self._error_of(text.decode("utf-8", "replace"))
        if isinstance(error, redis.ConnectionError):  # it is loading, or knows nobody by this password
            raise error
        return error

    def _line(self) -> bytes:
        end = self._data.find(b"\r\n", self._at)
        while end < 0:
            self._more()
            end = self._data.find(b"\r\n", self._at)
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def _bytes(self, size: int) -> bytes | None:
        if size < 0:
            return None
        while len(self._data) - self._at < size + 2:
            self._more()
        start = self._at
        self._at = start + size + 2
        return self._data[start : start + size]

    def _more(self) -> None:
        left = self._deadline - time.monotonic()
        if self._told or left < self._timeout * _ENOUGH:
            self._socket.settimeout(max(left, 0.001))
            self._told = True
        came = self._socket.recv(_AT_ONCE)
        if not came:
            raise redis.ConnectionError("the server closed the connection")
        self._data = self._data[self._at :] + came
        self._at = 0


__all__ = ["Reader"]
