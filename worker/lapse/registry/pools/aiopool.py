"""Connections for asyncio: each event loop has its own, at most so many, made one at a time on a task of its own."""

import asyncio
import os
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import redis
import redis.asyncio

from lapse.registry.connection import (
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

_PRIVATE = ("_reader", "_writer")


class LoopPools:
    """The connections of one registry, event loop by event loop: none of them can be used on another.

    Args:
        url: The registry's Redis.
        timeout: Seconds a call may take, waiting for a connection included.
        connect_timeout: Seconds one attempt to connect may take. Only the first call of a loop waits for as long.
        most: How many connections a loop has at most.
        resend: Send again what may have been carried out: it has the effect and the answer of once.

    Raises:
        ConfigError: the URL cannot be used.

    """

    def __init__(
        self,
        url: str | RedisEndpoint | None,
        timeout: float,
        connect_timeout: float,
        most: int,
        *,
        resend: bool,
    ) -> None:
        self._class, self._options = options(redis.asyncio.connection, url, timeout, connect_timeout, _PRIVATE)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._resend = resend
        self.most = most
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPool] = WeakKeyDictionary()
        self._lock = threading.Lock()

    async def exchange(self, commands: list[bytes], until: float | None = None) -> list[Any]:
        """Send packed commands and return a reply each; an error reply is returned in its place.

        Args:
            commands: Packed.
            until: When the call has to end, by ``time.monotonic``; None: ``timeout`` seconds from now.

        Raises:
            redis.RedisError, OSError: no connection, or no reply in time.

        """
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None or pool.pid != os.getpid():
            pool = await self._open(loop)
        return await pool.exchange(commands, self.most, until)

    async def aclose(self) -> None:
        """Close the connections, those of other loops as soon as these get to it. The next call opens new ones."""
        here = asyncio.get_running_loop()
        with self._lock:
            pools = [(loop, pool) for loop, pool in self._pools.items() if pool.pid == os.getpid()]
            self._pools.clear()
        for loop, pool in pools:
            if loop is here:
                await pool.aclose()
            else:
                with suppress(RuntimeError):  # it was closed meanwhile
                    loop.call_soon_threadsafe(pool.close)

    async def _open(self, loop: asyncio.AbstractEventLoop) -> "_LoopPool":
        pool = _LoopPool(
            lambda: silent(self._class(**self._options)), self._timeout, self._connect_timeout, resend=self._resend
        )
        with self._lock:
            ended = [(loop, old) for loop, old in self._pools.items() if loop.is_closed()]
            for one, _ in ended:
                del self._pools[one]
            self._pools[loop] = pool
        for _, old in ended:
            old.abandon()
        await pool.open(lambda: self._gone(loop, pool))
        return pool

    def _gone(self, loop: asyncio.AbstractEventLoop, pool: "_LoopPool") -> None:
        # The connections know their loop: kept, they would keep it.
        with self._lock:
            if self._pools.get(loop) is pool:
                del self._pools[loop]


class _LoopPool:
    """The connections of one event loop. Nothing here is called from another one."""

    def __init__(self, make: Callable[[], Any], timeout: float, connect_timeout: float, *, resend: bool) -> None:
        self._make = make
        self._resend = resend
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._idle: list[Any] = []
        self._live: WeakSet[Any] = WeakSet()
        self._new: WeakSet[Any] = WeakSet()  # nothing was answered on them yet
        self._short = 0.0  # so many seconds were too few for the first reply on one
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._attempt: asyncio.Task[None] | None = None
        self._failed: Exception | None = None
        self._unmet = True
        self._life = object()
        self._lifetime: AsyncGenerator[None, None] | None = None
        self.pid = os.getpid()

    async def open(self, gone: Callable[[], None]) -> None:
        """Have the connections closed when the loop ends: asyncio.run() closes every generator that was left open."""

        async def lifetime() -> AsyncGenerator[None, None]:
            try:
                yield
            finally:
                gone()
                self.close()
                for _ in range(2):  # a transport is closed by the loop, one step later; with TLS two
                    await asyncio.sleep(0)

        self._lifetime = lifetime()
        await anext(self._lifetime)

    async def aclose(self) -> None:
        """Close all connections, those in use when their call ends."""
        lifetime, self._lifetime = self._lifetime, None
        if lifetime:
            await lifetime.aclose()

    def close(self) -> None:
        """Close all connections, those in use when their call ends."""
        self._life = object()
        if self._attempt:
            self._attempt.cancel()
        self._doubt()

    def abandon(self) -> None:
        """Let go of connections whose loop is closed: nothing can close them in good order any more."""
        for connection in self._idle:
            writer, connection._writer, connection._reader = connection._writer, None, None
            sock = writer and writer.get_extra_info("socket")
            with suppress(OSError):
                if sock:
                    sock.shutdown(socket.SHUT_RDWR)

    async def exchange(self, commands: list[bytes], most: int, until: float | None = None) -> list[Any]:
        """Send packed commands and return a reply each; ``until``: when the call that this is a part of has to end."""
        first, self._unmet = self._unmet and until is None, False
        began = time.monotonic() if until is None else until - self._timeout
        connection = self._take()
        if connection is None:
            allowed = max(self._connect_timeout, self._timeout) if first else began + self._timeout - time.monotonic()
            connection = await self._wait(allowed, most)
            began = time.monotonic() if first else began
            if not first and connection in self._new and began + self._timeout - time.monotonic() <= self._short:
                self._idle.append(connection)
                self._wake()  # who waits may have more time
                raise hurried(self._timeout)
        left = began + self._timeout - time.monotonic()
        try:
            async with asyncio.timeout(left):
                replies = await self._try(connection, commands)
                if replies is None:
                    replies = await self._use(self._pop() or await self._wait(self._timeout, most), commands)
        except (TimeoutError, redis.TimeoutError) as error:
            if connection in self._new:
                self._short = max(self._short, left)
            self._doubt()
            raise late(self._timeout) if isinstance(error, TimeoutError) else error from None
        if refused(replies):
            self._doubt()
        return replies

    async def _try(self, connection: Any, commands: list[bytes]) -> list[Any] | None:
        """Return the replies, or None where they are asked for once more, on a new connection."""
        life = self._life
        try:
            replies = await self._use(connection, commands)
        except redis.ConnectionError as error:
            self._doubt()
            if self._resend or refused([error]):
                self._leave(life)
                return None
            raise
        if refused(replies):
            self._leave(life)
            return None
        return replies

    def _leave(self, life: object) -> None:
        """Close all that leads where a connection of this life does: what is in use, when its call ends."""
        if life is self._life:
            self._life = object()
        self._doubt()

    async def _use(self, connection: Any, commands: list[bytes]) -> list[Any]:
        life = self._life
        try:
            await connection.send_packed_command(commands, check_health=False)
            replies = [await _reply(connection) for _ in commands]
        except BaseException as error:  # cancelled or failed: what is still to come would be taken for another's reply
            self._end(connection)
            if connection in self._new:
                raise ended(error, type(connection)) from None
            raise
        if connection in self._new:
            self._new.discard(connection)
            self._short = 0.0
        if life is self._life:
            self._idle.append(connection)
            self._wake()
        else:
            self._end(connection)
        return replies

    def _take(self) -> Any:
        """Return an idle connection that the server has not closed, or None; the loop may not have read of it yet."""
        while connection := self._pop():
            if not watched(connection._writer.get_extra_info("socket"))():
                return connection
            self._end(connection)
        return None

    def _pop(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            if not (over(connection) or connection._reader.at_eof() or connection._writer.is_closing()):
                return connection
            self._end(connection)
        return None

    async def _wait(self, allowed: float, most: int) -> Any:
        """Return a connection that is new or given back."""
        until, asked = time.monotonic() + allowed, False
        while True:
            if self._attempt is None:
                if asked and self._failed and not self._live:
                    raise self._failed.with_traceback(None)
                if not (asked and self._failed) and len(self._live) < most:
                    self._failed = None
                    self._attempt = asyncio.create_task(self._connect(self._life))
            asked = asked or self._attempt is not None
            left = until - time.monotonic()
            if left <= 0:
                raise unconnected(allowed, self._failed, most - len(self._live))
            await self._sleep(left)
            if connection := self._pop():
                return connection

    async def _sleep(self, seconds: float) -> None:
        """Sleep until something changed, at most so long."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._waiting.append(woken)
        alarm = loop.call_later(seconds, _set, woken)
        try:
            await woken
        except BaseException:
            if woken.done() and not woken.cancelled():  # what it was woken for is another's
                self._wake()
            raise
        finally:
            alarm.cancel()

    def _wake(self) -> None:
        while self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    async def _connect(self, life: object) -> None:
        connection: Any = None
        done = False
        failed: Exception | None = redis.ConnectionError("connecting was cancelled")
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = self._make()
                await connection.connect()
            connection.socket_timeout = None  # every exchange has its own
            failed, done = None, life is self._life
        except Exception as error:  # noqa: BLE001 - a credential provider may raise anything: the calls that wait raise it
            failed = ended(failure(error, self._connect_timeout), type(connection))
        finally:
            self._attempt, self._failed = None, failed
            if done:
                self._live.add(connection)
                self._new.add(connection)
                self._idle.append(connection)
            elif connection is not None:
                _shut(connection)
            for _ in range(len(self._waiting)):
                self._wake()

    def _doubt(self) -> None:
        """Close what waits: one connection failed, and each of the others would fail a call of its own."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self._end(connection)

    def _end(self, connection: Any) -> None:
        self._live.discard(connection)
        _shut(connection)
        self._wake()  # there is room for another


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error


def _shut(connection: Any) -> None:
    # Not close(): that waits until a peer that is gone has taken what was written.
    writer, connection._writer, connection._reader = connection._writer, None, None
    if writer:
        writer.transport.abort()


def _set(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
