"""A server that says what a test tells it to, byte for byte, and remembers what it was asked."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to send, after ``delay`` seconds; then the connection stays open, or ends as ``then`` says."""

    data: bytes = b""
    then: str = "keep"
    delay: float = 0.0


HANG = Answer(then="hang")
CLOSE = Answer(then="close")
RESET = Answer(then="reset")


def answer(
    status: int, body: str | bytes = b"", headers: dict[str, str] | None = None, *, delay: float = 0.0
) -> Answer:
    """Return a complete HTTP/1.1 answer."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(data)}")
    return Answer(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + data, delay=delay)


@dataclass(slots=True)
class Server:
    """A loopback server in the test's event loop. ``respond`` decides; ``say`` scripts a sequence."""

    respond: Callable[[Asked], Answer] = lambda _: answer(500, "not scripted")
    asked: list[Asked] = field(default_factory=list)
    arrival: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    most_in_flight: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The base URL to configure."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def targets(self) -> list[str]:
        """Method and target of every request so far."""
        return [f"{asked.method} {asked.target}" for asked in self.asked]

    def say(self, *answers: Answer) -> None:
        """Give these answers in turn, and the last one from then on."""
        rest = list(answers)
        self.respond = lambda _: rest.pop(0) if len(rest) > 1 else rest[0]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        number = len(self._writers)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer, number):
                pass
        writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, target, headers, number, body)
        self.asked.append(asked)
        self.arrival.set()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            given = self.respond(asked)
            if given.delay:
                await asyncio.sleep(given.delay)
        finally:
            self.in_flight -= 1
        if given.then == "reset":
            # Closing with unread input and linger 0 sends RST.
            writer.get_extra_info("socket").setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")
            return False
        writer.write(given.data)
        await writer.drain()
        if given.then == "hang":
            await reader.read()
        return given.then == "keep"
