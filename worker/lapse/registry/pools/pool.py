"""Connections for threads: at most so many, made one at a time on a thread of its own, never handed on half read."""

import os
import threading
import time
from typing import Any
from weakref import WeakSet

import redis

from lapse.registry.connection import (
    MOST,
    ended,
    failure,
    hurried,
    late,
    options,
    refused,
    silent,
    unconnected,
    watched,
)
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.credentials.renewing import over
from lapse.registry.pools.resp import Reader

_PRIVATE = ("_sock", "_parser.parse_error")
_pools: WeakSet["Pool"] = WeakSet()


class Pool:
    """The connections of one registry in this process.

    Args:
        url: The registry's Redis.
        timeout: Seconds a call may take, waiting for a connection included.
        connect_timeout: Seconds one attempt to connect may take. Only the first call waits for as long.
        most: How many connections at most.

    Raises:
        ConfigError: the URL cannot be used.

    """

    def __init__(
        self, url: str | RedisEndpoint | None, timeout: float, connect_timeout: float, most: int = MOST
    ) -> None:
        self._class, self._options = options(redis.connection, url, timeout, connect_timeout, _PRIVATE)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._most = most
        self._idle: list[_Line] = []
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        # Also after a fork, where another thread of the parent may have held the lock.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._live: WeakSet[_Line] = WeakSet()
        self._life = object()
        self._unmet = True
        self._short = 0.0  # so many seconds were too few for the first reply on a new connection
        self._connecting = False
        self._failed: redis.RedisError | OSError | None = None

    def exchange(self, commands: list[bytes], until: float | None = None) -> list[Any]:
        """Send packed commands and return a reply each; an error reply is returned in its place.

        Args:
            commands: Packed.
            until: When the call that this is a part of has to end, by ``time.monotonic``.

        Whatever else ends the wait for a reply, an exception from a signal's handler too, closes the connection: the
        next call would read that reply.

        Raises:
            redis.RedisError, OSError: no connection, or no reply in time.

        """
        line, deadline = self._take(until)
        try:
            replies = self._use(line, commands, deadline)
        except redis.ConnectionError as error:
            if not refused([error]):
                raise
            replies = [error]
        if refused(replies):
            self._leave(line)
            line, _ = self._wait(deadline - self._timeout)
            replies = self._use(line, commands, deadline)
            if refused(replies):
                self._leave(line)
        return replies

    def _leave(self, line: "_Line") -> None:
        """Close all that leads where this one does, as by now to a replica: what is in use, when its call ends.

        Otherwise this call's second try could be made on a connection that another call has just given back.
        """
        with self._changed:
            if line.life is self._life:
                self._life = object()
        self.doubt()

    def doubt(self) -> None:
        """Close what waits: one connection failed, and each of the others would fail a call of its own."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._live.difference_update(idle)
        for line in idle:
            line.close()

    def close(self) -> None:
        """Close all connections, those in use when their call ends. The next call opens new ones."""
        with self._changed:
            self._life, self._unmet = object(), True
        self.doubt()

    def abandon(self) -> None:
        """Begin anew in a child: what was inherited is the parent's."""
        idle, self._idle = self._idle, []
        self._begin()
        for line in idle:
            line.close()

    def _use(self, line: "_Line", commands: list[bytes], deadline: float) -> list[Any]:
        left = deadline - time.monotonic()
        try:
            replies = line.exchange(commands, deadline)
        except BaseException as error:
            line.close()
            if line.new and isinstance(error, redis.TimeoutError):
                self._short = max(self._short, left)
            if isinstance(error, redis.RedisError | OSError):
                self.doubt()
            self._give_up(line)
            if line.new:
                raise ended(error, self._class) from None
            raise
        if line.new:
            line.new, self._short = False, 0.0
        self._give(line)
        return replies

    def _take(self, until: float | None = None) -> tuple["_Line", float]:
        """Return a connection, and when its call has to end."""
        if until is not None:
            self._unmet = False
        began = time.monotonic() if until is None else until - self._timeout
        while True:
            with self._lock:
                line = self._idle.pop() if self._idle else None
            if line is None:
                line, first = self._wait(began)
                return line, (time.monotonic() if first else began) + self._timeout
            if line.usable():
                return line, began + self._timeout
            line.close()
            self._give_up(line)

    def _wait(self, began: float) -> tuple["_Line", bool]:
        """Return a connection that is new or given back, and whether this was the first call."""
        with self._changed:
            first, self._unmet = self._unmet, False
            allowed = max(self._connect_timeout, self._timeout) if first else self._timeout
            asked = False
            while not self._idle:
                asked = self._ask(asked=asked)
                left = began + allowed - time.monotonic()
                if left <= 0:
                    raise unconnected(allowed, self._failed, self._most - len(self._live))
                self._sleep(left)
            if self._idle[-1].new and not first and began + allowed - time.monotonic() <= self._short:
                raise hurried(allowed)
            return self._idle.pop(), first

    def _sleep(self, seconds: float) -> None:
        """Sleep until something changed, at most so long."""
        self._waiting += 1
        try:
            self._changed.wait(seconds)
        except BaseException:  # from a signal's handler: what it was woken for is another's
            self._changed.notify()
            raise
        finally:
            self._waiting -= 1

    def _ask(self, *, asked: bool) -> bool:
        """Begin to connect for a call, once, unless that goes on already; return True if it waits for an attempt.

        Raises:
            redis.RedisError, OSError: it failed, and there is no other connection to wait for.

        """
        if asked and not self._connecting and self._failed:
            if not self._live:
                raise self._failed.with_traceback(None)
            return True
        if self._connecting:
            return True
        if len(self._live) >= self._most:
            return asked
        self._connecting, self._failed = True, None
        thread = threading.Thread(target=self._connect, args=(self._life,), name="lapse-connect", daemon=True)
        try:
            thread.start()
        except BaseException as error:  # no more threads, or the interpreter is about to end
            self._connecting = False
            if isinstance(error, RuntimeError):
                raise redis.ConnectionError(f"no thread to connect on: {error}") from None
            raise
        return True

    def _connect(self, life: object) -> None:
        line: _Line | None = None
        failed: redis.RedisError | OSError | None = None
        try:
            line = _Line(silent(self._class(**self._options)), life, self._timeout)
        except Exception as error:  # noqa: BLE001 - a credential provider may raise anything: the calls that wait raise it
            failed = ended(failure(error, self._connect_timeout), self._class)
        with self._changed:
            if life is not self._life:  # closed meanwhile
                self._connecting = False
                self._changed.notify_all()
            else:
                self._connecting, self._failed = False, failed
                if line:
                    self._live.add(line)
                    self._idle.append(line)
                    line = None
                self._changed.notify_all()
        if line:
            line.close()

    def _give(self, line: "_Line") -> None:
        with self._lock:
            if line.life is self._life:
                self._idle.append(line)
                if self._waiting:
                    self._changed.notify()
                return
        line.close()
        self._give_up(line)

    def _give_up(self, line: "_Line") -> None:
        with self._changed:
            self._live.discard(line)
            self._changed.notify()  # there is room for another


class _Line:
    """One connection that is open."""

    def __init__(self, connection: Any, life: object, timeout: float) -> None:
        self.life = life
        self.new = True
        self._connection = connection
        self._timeout = timeout
        connection.connect()
        self._socket = connection._sock
        self._socket.settimeout(timeout)
        self._reader = Reader(self._socket, timeout, connection._parser.parse_error)
        self._readable = watched(self._socket)

    def usable(self) -> bool:
        """Return False if its time is over, the server closed it, or said something that nobody asked for."""
        if over(self._connection):
            return False
        if not self._readable():
            return True
        try:  # with TLS a ticket may have come, which is no reply
            said = self._connection.can_read(timeout=0)
            self._socket.settimeout(self._timeout)
        except (redis.RedisError, OSError):
            return False
        return not said

    def exchange(self, commands: list[bytes], deadline: float) -> list[Any]:
        """Send packed commands and return a reply each, an error reply as an exception.

        Raises:
            redis.TimeoutError: they were not sent, or none came, until the deadline.
            redis.ConnectionError: the connection is gone.

        """
        try:
            self._socket.sendall(commands[0] if len(commands) == 1 else b"".join(commands))
        except TimeoutError:
            raise late(self._timeout) from None
        except OSError as error:
            raise redis.ConnectionError(f"connection lost: {error}") from None
        return self._reader.replies(len(commands), deadline)

    def close(self) -> None:
        """Close it."""
        self._connection.disconnect()


def _in_child() -> None:
    for pool in _pools:
        pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
