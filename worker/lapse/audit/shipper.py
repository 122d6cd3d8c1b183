"""The mover: takes each slot's audit stream to the sink of ``[audit]`` and trims what the sink confirmed.

Delivery is at least once. A crash between a write and its trim repeats lines, so every line carries its
stream id as ``seq``: (provider, kind, seq) names one line for ever. Lines are sealed into a chain on their way out (see
``chain``). Where it stands is kept with the stream and moves on in the step that trims: a line that is written again is
the same to the last byte. A registry that a crash has put back by a second has lost lines that the file has: what comes
instead of them begins a chain of its own, behind the last of those. On standard output a line also has what tells it
from a log's: ``timestamp`` and ``source``, sealed with the rest.
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
from lapse.audit.chain import Seal, Tail, macs_in, moment, parts_at
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
READ_BACK = 1 << 20
"""Bytes of a file's end in which lines are looked for that the registry has lost: as much as two batches."""


class Sink(Protocol):
    """Where audit lines go."""

    def write(self, lines: bytes) -> None:
        """Return when the lines are as safe as this sink can make them.

        Raises:
            OSError: they are not, and none of them may be trimmed.

        """

    def written(self, chain: str) -> dict[int, bytes]:
        """Return the macs of a chain's lines that were written last, by their numbers, as far as they can be read.

        Raises:
            OSError: they cannot be read now.

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

    def written(self, chain: str) -> dict[int, bytes]:  # noqa: ARG002 - what is written here is others' to read
        """Return none."""
        return {}


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

    def written(self, chain: str) -> dict[int, bytes]:
        """Return those that stand in the last ``READ_BACK`` bytes; of what is no file, such as a pipe, none."""
        if not self.path.is_file():
            return {}
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - READ_BACK))
            return macs_in(file.read(), chain)


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
                await self._give_back(slot)
                raise
            # Written first, trimmed after: whoever ends in between writes lines twice, with the same place and mac, and
            # loses none. Trimmed the other way round, a full disk would cost records.
            where = (_following(last.decode()), before.decode(), str(tail))
            if await self._call("audit/lua/audit_trim", slot, *where, count) < 0:
                break  # another moved the same lines meanwhile; they stand in the sink twice, and are the same
            moved += count
        await self._give_back(slot)
        return moved

    async def _give_back(self, slot: str) -> None:
        await self._call("audit/lua/audit_trim", slot, "", "", "", 0)

    def _deliver(self, lines: bytes, tail: Tail | None, place: str, shown: SubjectsShown) -> Tail:
        whole = b"".join(self._one_way(line, shown) for line in lines.removesuffix(b"\n").split(b"\n"))
        sealed, end = self._seal.lines(whole, tail, place)
        written = self._sink.written(end.chain)
        at = parts_at(sealed, written)
        if at is not None:
            same, others = _first(sealed, at)[0], _first(whole, at)[1]
            last = Tail(end.chain, max(written), written[max(written)])
            sealed, end = self._seal.lines(others, last, place, anew=True)
            sealed = same + sealed
        self._sink.write(sealed)
        return end

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


def _first(lines: bytes, count: int) -> tuple[bytes, bytes]:
    """Return so many lines, and those behind them."""
    each = lines.split(b"\n")
    return b"".join(line + b"\n" for line in each[:count]), b"\n".join(each[count:])


def _timed(line: bytes) -> bytes:
    """Return a line with when it was recorded, as a log says it, and whose it is."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=moment(line) or 0)
    return b'%b,"timestamp":"%b","source":"audit"}' % (line[:-1], f"{at:%Y-%m-%dT%H:%M:%S.%fZ}".encode())


def _following(entry: str) -> str:
    millis, number = entry.split("-")
    return f"{millis}-{int(number) + 1}"
