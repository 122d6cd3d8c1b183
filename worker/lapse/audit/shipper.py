"""The mover: takes each slot's audit stream to the sink of ``[audit]`` and trims what the sink confirmed.

Delivery is at least once. A crash between a write and its trim repeats lines, so every line carries its
stream id as ``seq``: (provider, kind, seq) names one line for ever. Lines are sealed into a chain on their way out (see
``chain``). Where it stands is kept with the stream and moves on in the step that trims: a line that is written again is
the same to the last byte. On standard output a line also has what tells it from a log's: ``timestamp`` and ``source``,
sealed with the rest.
"""

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
import secrets
import select
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from lapse.audit import strictjson
from lapse.audit.chain import Seal, Tail, moment
from lapse.audit.subjects import HASHED, SubjectsShown
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.disk import sync_folder
from lapse.registry.scripts import Call, as_it_is, script

CHAINED = frozenset({"chain", "n", "after", "mac"})
"""What a chain adds to a line: no record has it."""
BESIDE_LOGS = frozenset({"timestamp", "source"})
"""What is added on standard output: no record has it there."""
LEASE = 30.0  # seconds; what a mover takes longer to write, another may write again
BATCH = 1000


class Sink(Protocol):
    """Where audit lines go."""

    def write(self, lines: bytes) -> None:
        """Return when the lines are as safe as this sink can make them.

        Raises:
            OSError: they are not, and none of them may be trimmed.

        """


_writing = threading.Lock()
_midway = mmap.mmap(-1, 1)
"""Shared by the processes of a worker's pool: not zero while one writes, and after one that ended in the middle."""


class StdoutSink:
    """Standard output, which any number of processes share: safe means handed to the operating system.

    A pipe takes no more than 4 KiB in one piece: each batch is written under a lock of what file descriptor 1 leads to.
    """

    def write(self, lines: bytes) -> None:
        """Write whole lines to file descriptor 1; what another process left of one stays on a line of its own."""
        with _writing, _alone(1):
            rest = memoryview(b"\n" + lines if _midway[0] else lines)
            _midway[0] = 1
            while rest:
                try:
                    rest = rest[os.write(1, rest) :]
                except BlockingIOError:  # another program has made it so that it never waits
                    select.select([], [1], [])
            _midway[0] = 0


@contextlib.contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    """Keep every other process from writing audit lines there: a record lock, as forked processes share all others."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except OSError:  # what it leads to takes no locks
        yield
        return
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


@dataclass(frozen=True, slots=True)
class FileSink:
    """A JSONL file, appended to under an exclusive lock: safe means on disk. It may be renamed any time."""

    path: Path

    def write(self, lines: bytes) -> None:
        """Append, flush and fsync; a write that fails half way leaves no half of it behind."""
        fresh = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
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
            sync_folder(self.path.parent)


def open_sink(path: Path | None) -> Sink:
    """Return the sink that ``[audit] sink`` names: a file, or standard output."""
    return FileSink(path) if path else StdoutSink()


UNSEALED = Seal()


class Mover:
    """Moves audit lines for one process; of any number of processes, one at a time moves a slot's."""

    def __init__(
        self, carrier: Carrier, namespace: str, sink: Sink, seal: Seal = UNSEALED, subjects: str = HASHED
    ) -> None:
        self._carrier = carrier
        self._namespace = namespace
        self._sink = sink
        self._beside_logs = isinstance(sink, StdoutSink)
        self._seal = seal
        self._subjects = subjects
        self._token = secrets.token_hex(8)

    async def pending(self, provider: str, kind: str) -> int:
        """Return how many lines of a slot wait to be moved."""
        slot = keys.slot(self._namespace, provider, kind)
        return sum(await self._carrier.run([("XLEN", slot + keys.AUDIT), ("XLEN", slot + keys.ACTS)]))

    async def move(self, provider: str, kind: str, *, at_most: int, halt: Callable[[], bool] = bool) -> int:
        """Move up to ``at_most`` of a slot's lines, oldest first; return how many. 0: another is at it.

        Raises:
            OSError: the sink failed; what it did not confirm stays in the stream.
            RegistryError: what was written and not trimmed will be written again.

        """
        slot, moved = keys.slot(self._namespace, provider, kind), 0
        while moved < at_most and not halt():
            wanted = min(BATCH, at_most - moved)
            count, last, lines, before = await self._call("audit/lua/audit_read", slot, round(LEASE * 1000), wanted)
            if count <= 0:
                return moved
            epoch, salt = await self._epoch()
            place, shown = f"{provider}/{kind}/{epoch}", SubjectsShown(self._subjects, salt)
            try:
                tail = await asyncio.to_thread(self._deliver, lines, Tail.parse(before.decode()), place, shown)
            except OSError:
                await self._call("audit/lua/audit_trim", slot, "", "", "")
                raise
            # Written first, trimmed after: whoever ends in between writes lines twice, with the same place and mac, and
            # loses none. Trimmed the other way round, a full disk would cost records.
            if (
                await self._call("audit/lua/audit_trim", slot, _following(last.decode()), before.decode(), str(tail))
                < 0
            ):
                break  # another moved the same lines meanwhile; they stand in the sink twice, and are the same
            moved += count
        await self._call("audit/lua/audit_trim", slot, "", "", "")
        return moved

    def _deliver(self, lines: bytes, tail: Tail | None, place: str, shown: SubjectsShown) -> Tail:
        whole = b"".join(self._one_way(line, shown) for line in lines.removesuffix(b"\n").split(b"\n"))
        sealed, tail = self._seal.lines(whole, tail, place)
        self._sink.write(sealed)
        return tail

    def _one_way(self, line: bytes, shown: SubjectsShown) -> bytes:
        """Return a line that every reader reads the same way; what was added to the stream and is none becomes text."""
        try:
            value = strictjson.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and not value.keys() & (CHAINED | (BESIDE_LOGS if self._beside_logs else set())):
            line = shown.line(line, value)
        else:
            seq, _, rest = line.partition(b",")
            text = json.dumps(rest[:-1].decode("utf-8", "backslashreplace"))
            line = b'%b,"garbled":%b}' % (seq, text.encode())
        return (_timed(line) if self._beside_logs else line) + b"\n"

    async def _epoch(self) -> tuple[str, bytes]:
        """Return the registry's epoch, and the salt of its pseudonyms."""
        ((epoch, salt),) = await self._carrier.run([("HMGET", keys.epoch(self._namespace), "id", "salt")])
        return epoch.decode() if epoch else "none", salt or b""

    async def _call(self, name: str, slot: str, *args: str | int) -> Any:
        call = Call(script(name), slot, (self._token, *args), as_it_is)
        return (await self._carrier.carry([call]))[0]


def _timed(line: bytes) -> bytes:
    """Return a line with when it was recorded, as a log says it, and whose it is."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=moment(line) or 0)
    return b'%b,"timestamp":"%b","source":"audit"}' % (line[:-1], f"{at:%Y-%m-%dT%H:%M:%S.%fZ}".encode())


def _following(entry: str) -> str:
    millis, number = entry.split("-")
    return f"{millis}-{int(number) + 1}"
