"""A TCP proxy that breaks what passes through it: delays, resets, black holes, outages; and writes HTTP down."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from weakref import WeakSet

T = TypeVar("T")

CHUNK = 65536
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Watcher(Protocol):
    """Sees the bytes of one connection."""

    def sent(self, data: bytes) -> None:
        """Take what the client sent."""
        ...

    def answered(self, data: bytes) -> None:
        """Take what the server answered, and the client was given."""
        ...

    def ended(self) -> None:
        """Take note that the connection is over."""
        ...


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self.writers = (client, server)
        self.ways: list[asyncio.Task[None]] = []
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.follows = False

    async def carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, see: Callable[[bytes], None]
    ) -> None:
        """Carry bytes one way until either side ends."""
        while data := await source.read(CHUNK):
            if self._proxy.latency:
                await asyncio.sleep(self._proxy.latency)
            await self.thawed.wait()
            see(data)
            if sink is self.writers[1]:
                self.follows = self.follows or b"PSYNC" in data
            elif self.follows and self._proxy.lag:
                asyncio.get_running_loop().call_later(self._proxy.lag, sink.write, data)
                continue
            sink.write(data)
            await sink.drain()

    def end(self, *, reset: bool) -> None:
        """End both sides: with RST, or quietly. What a frozen link had in hand is lost."""
        for way in self.ways:
            way.cancel()
        for writer in self.writers:
            if reset:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            writer.transport.abort()


class Proxy:
    """Passes connections of a free loopback port on to a server. Every method may be called from any thread.

    Args:
        port: The server's port.
        watch: Makes the watcher of one connection.
        tls: What the proxy shows of itself; it then takes TLS and passes the plain bytes on.

    """

    def __init__(
        self, port: int, *, watch: Callable[[], Watcher] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.latency = 0.0
        """Seconds by which each piece is delayed, either way."""
        self.lag = 0.0
        """Seconds by which a replica hears later what its primary writes; what is under way then is lost with it."""
        self.refused: list[float] = []
        """When connections came while the server was down, seconds since 1970."""
        self.broken = 0
        """How many connections were reset, frozen or cut so far."""
        self.breaks: list[float] = []
        """When that was, seconds since 1970."""
        self._target = port
        self._watch = watch
        self._tls = tls
        self._open = True
        self._links: set[Link] = set()
        self._clients: WeakSet[asyncio.StreamWriter] = WeakSet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(self._listen())
        self.port = int(self._server.sockets[0].getsockname()[1])

    def reset(self) -> int:
        """End every connection with RST; return how many there were."""
        return self._run(self._end(reset=True))

    def freeze(self) -> int:
        """Let every connection of now hang half open, without a word, for ever; new ones work. Return how many."""
        return self._run(self._freeze())

    def cut(self) -> None:
        """Be a server that is down: end every connection, and each new one at once."""
        self._open = False
        self._run(self._end(reset=True))

    def lead_to(self, port: int) -> None:
        """Pass new connections on to another server; those there are stay where they are."""
        self._target = port

    def mend(self) -> None:
        """Work again."""
        self._open, self.latency = True, 0.0

    def close(self) -> None:
        """End everything."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls, backlog=1000)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # only ``close`` cancels
                await self._pass_on(reader, writer)
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            self.refused.append(time.time())
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return
        link, watcher = Link(self, writer, to_server), self._watch() if self._watch else Blind()
        self._links.add(link)
        link.ways = ways = [
            asyncio.create_task(link.carry(reader, to_server, watcher.sent)),
            asyncio.create_task(link.carry(from_server, writer, watcher.answered)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._links.discard(link)
            watcher.ended()
            to_server.close()

    async def _end(self, *, reset: bool) -> int:
        links = list(self._links)
        self.breaks.append(time.time())
        for link in links:
            link.end(reset=reset)
        self.broken += len(links)
        return len(links)

    async def _freeze(self) -> int:
        self.breaks.append(time.time())
        for link in self._links:
            link.thawed.clear()
        self.broken += len(self._links)
        return len(self._links)

    async def _shut(self) -> None:
        self._server.close()
        await self._end(reset=False)
        for writer in self._clients:  # what TLS closes waits for its client
            writer.transport.abort()
        # Of TLS connections that are being made too, whose tasks are asyncio's own.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for _ in range(3):  # a transport is closed by the loop, one step later; with TLS two
            await asyncio.sleep(0)


class Blind:
    """Looks at nothing."""

    def sent(self, data: bytes) -> None:
        """Take what the client sent."""

    def answered(self, data: bytes) -> None:
        """Take what the server answered."""

    def ended(self) -> None:
        """Take note of the end."""
