"""The mover: takes each slot's audit stream to the sink of ``[audit]`` and trims what the sink confirmed.

Delivery is at least once. A crash between a write and its trim repeats lines, so every line carries its
stream id as ``seq``: (provider, kind, seq) names one line for ever.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import LockError

from lapse import keys
from lapse.errors import ConfigError
from lapse.scripts import script

MOVER = "mover"  # the lock of a slot's mover: a key that expires
LEASE = 30  # seconds; a mover that takes longer for one batch may be repeated by another
BATCH = 1000


class Sink(Protocol):
    """Where audit lines go."""

    def write(self, lines: bytes) -> None:
        """Return when the lines are as safe as this sink can make them.

        Raises:
            OSError: they are not, and none of them may be trimmed.

        """


class Stdout:
    """Standard output: safe means handed to the operating system."""

    def write(self, lines: bytes) -> None:
        """Write whole lines to file descriptor 1."""
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(1, rest) :]


@dataclass(frozen=True, slots=True)
class File:
    """A JSONL file, appended to under an exclusive lock: safe means on disk. It may be renamed any time."""

    path: Path

    def write(self, lines: bytes) -> None:
        """Append, flush and fsync; a write that fails half way leaves no half of it behind."""
        fresh = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "r+b", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            try:
                torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
                rest = memoryview(b"\n" + lines if torn else lines)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        if fresh:
            _sync_directory(self.path.parent)


def open_sink(spec: str) -> Sink:
    """Return the sink that ``[audit] sink`` names: ``stdout`` or ``file:PATH``.

    Raises:
        ConfigError: it names neither.

    """
    if spec == "stdout":
        return Stdout()
    scheme, _, path = spec.partition(":")
    if scheme == "file" and path:
        return File(Path(path))
    raise ConfigError(f'[audit] sink {spec!r}: write "stdout" or "file:PATH"')


class Mover:
    """Moves audit lines for one process; any number of processes may run one at a time."""

    def __init__(self, client: Redis, namespace: str, sink: Sink) -> None:
        self._client = client
        self._namespace = namespace
        self._sink = sink
        self._read = client.register_script(script("audit_read").text)

    async def pending(self, provider: str, kind: str) -> int:
        """Return how many lines of a slot wait to be moved."""
        return int(await self._client.xlen(keys.slot(self._namespace, provider, kind) + keys.AUDIT))

    async def move(self, provider: str, kind: str, *, at_most: int, halt: Callable[[], bool] = bool) -> int:
        """Move up to ``at_most`` of a slot's lines, oldest first; return how many. 0: another is at it.

        Raises:
            OSError: the sink failed; what it did not confirm stays in the stream.

        """
        slot = keys.slot(self._namespace, provider, kind)
        lock = self._client.lock(slot + MOVER, timeout=LEASE, thread_local=False)
        if not await lock.acquire(blocking=False):
            return 0
        moved = 0
        try:
            while moved < at_most and not halt():
                count, last, lines = await self._read(keys=[slot], args=[min(BATCH, at_most - moved)])
                if not count:
                    break
                await asyncio.to_thread(
                    self._sink.write, lines if isinstance(lines, bytes) else lines.encode()
                )
                await self._client.xtrim(slot + keys.AUDIT, minid=_following(last), approximate=False)
                moved += count
                await lock.reacquire()
        except LockError:
            return moved  # the sink was slower than the lease; another mover goes on from what was trimmed
        finally:
            with contextlib.suppress(LockError):
                await lock.release()
        return moved


def _following(entry: bytes | str) -> str:
    millis, number = (entry.decode() if isinstance(entry, bytes) else entry).split("-")
    return f"{millis}-{int(number) + 1}"


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
