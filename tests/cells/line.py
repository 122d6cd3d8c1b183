"""A line to Redis on which one call of one script goes wrong, once, in one of the ways that Redis has."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import redis

from lapse.registry.scripts import packed
from support.lua import named

REFUSALS = {
    "BUSY": "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "LOADING": "-LOADING Redis is loading the dataset in memory",
    "NOREPLICAS": "-NOREPLICAS Not enough good replicas to write.",
    "OOM": "-OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF": "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOPERM": "-NOPERM User lapse has no permissions to run the 'evalsha' command",
    "READONLY": "-READONLY You can't write against a read only replica.",
    "MOVED": "-MOVED 3999 127.0.0.1:6381",
    "CLUSTERDOWN": "-CLUSTERDOWN Hash slot not served",
}
"""What Redis answers to a call that it does not carry out."""

MIDDLE, BEFORE, AFTER, LATER = "ends in the middle", "lost before", "lost after", "carried out later"
CLASSES = ("ok", *REFUSALS, MIDDLE, BEFORE, AFTER, LATER)

_READING = [
    "GET",
    "HGET",
    "HMGET",
    "HGETALL",
    "HEXISTS",
    "HLEN",
    "HKEYS",
    "HSCAN",
    "ZSCORE",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREVRANGE",
    "ZREVRANGEBYSCORE",
    "ZCARD",
    "ZCOUNT",
    "ZRANK",
    "ZLEXCOUNT",
    "SMEMBERS",
    "SISMEMBER",
    "SCARD",
    "SSCAN",
    "XRANGE",
    "XREVRANGE",
    "XLEN",
    "TIME",
    "EXISTS",
    "TYPE",
    "TTL",
    "PTTL",
]
_COUNTING = """
local lapse_reads, lapse_writes = {{{reads}}}, 0
local function lapse_call(name, ...)
  if not lapse_reads[string.upper(name)] then
    lapse_writes = lapse_writes + 1
    if lapse_writes > {writes} then return error('ended in the middle') end
  end
  return redis.call(name, ...)
end
"""


def broken(text: str, writes: int) -> str:
    """Return a script that ends at the write after so many, if there is one."""
    reads = ", ".join(f"{name} = true" for name in _READING)
    return _COUNTING.format(reads=reads, writes=writes) + text.replace("redis.call(", "lapse_call(")


class Line:
    """Passes what comes to a free loopback port on to Redis, one command at a time.

    Attributes:
        hits: How often something went wrong.
        late: How many calls wait to be carried out when their client has given up.

    """

    def __init__(self, url: str) -> None:
        self.hits = 0
        self.late = 0
        self._url = url
        self._target = int(url.rpartition(":")[2].partition("/")[0])
        self._name, self._class, self._writes, self._left, self._sha = "", "ok", 1, 0, b""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="line", daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.url = url.replace(f":{self._target}", f":{self.port}")

    def break_(self, name: str, class_: str, *, writes: int = 1, times: int = 1) -> None:
        """Let the next calls of a script go wrong."""
        with redis.Redis.from_url(self._url) as client:
            client.script_load(named(name).text)  # an unknown script would be asked for twice
        self._name, self._class, self._writes = name, class_, writes
        self._sha, self.hits, self._left = named(name).sha.encode(), 0, times

    def close(self) -> None:
        """End everything."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _shut(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._carry(reader, writer, from_redis, to_redis)
        finally:
            self._tasks.discard(task)
            writer.close()
            to_redis.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_redis: asyncio.StreamReader,
        to_redis: asyncio.StreamWriter,
    ) -> None:
        while command := await value(reader):
            if not await self._exchange(command, reader, writer, from_redis, to_redis):
                return

    async def _exchange(
        self,
        command: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_redis: asyncio.StreamReader,
        to_redis: asyncio.StreamWriter,
    ) -> bool:
        class_ = self._drawn(command)
        if class_ in REFUSALS:
            writer.write(REFUSALS[class_].encode() + b"\r\n")
            return True
        if class_ == BEFORE:
            return False
        if class_ == LATER:  # the client gives up first
            self.late += 1
            with contextlib.suppress(ConnectionError):
                while await reader.read(65536):
                    pass
        to_redis.write(self._changed(command) if class_ == MIDDLE else command)
        reply = await value(from_redis)
        if class_ in {AFTER, LATER}:
            self.late -= class_ == LATER
            return False
        writer.write(reply)
        await writer.drain()
        return True

    def _drawn(self, command: bytes) -> str:
        if not self._left or b"EVALSHA" not in command[:40] or self._sha not in command[:120]:
            return "ok"
        self._left -= 1
        self.hits += 1
        return self._class

    def _changed(self, command: bytes) -> bytes:
        """Return the call of a script that ends in the middle, with the same keys and arguments."""
        text = broken(named(self._name).text, self._writes)
        _array, _evalsha_size, _evalsha, _sha_size, _sha, rest = command.split(b"\r\n", 5)
        called = packed("EVAL", text)
        return _array + b"\r\n" + called.partition(b"\r\n")[2] + rest


async def value(reader: asyncio.StreamReader) -> bytes:
    """Return one whole value in RESP (redis.io/docs/latest/develop/reference/protocol-spec); empty at the end."""
    line = await reader.readline()
    if not line:
        return b""
    sort, size = line[:1], line[1:-2]
    if sort in b"$=" and int(size) >= 0:
        return line + await reader.readexactly(int(size) + 2)
    if sort in b"*~>%" and int(size) > 0:
        return line + b"".join([await value(reader) for _ in range(int(size) * (2 if sort == b"%" else 1))])
    return line
