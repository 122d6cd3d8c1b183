"""The file of an export, JSON lines: a header, chunks of keys, and a last line that says what there was. No I/O.

docs/stored-format.md describes it. Redis knows bytes: those that are no UTF-8 stand as the characters U+DC80 to U+DCFF,
as Python's ``surrogateescape`` has them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lapse.cli.exit_codes import Code, Refused
from lapse.registry import keys

FORMAT = "lapse export"
VERSION = 1
BEGINS = f'{{"format":"{FORMAT}",'.encode()
"""What the first line begins with, whatever the version."""

_NAME = keys.NAME.pattern
_KEY = re.compile(
    rf"\{{{_NAME}:{_NAME}\}}:(?:(?P<policy>{_NAME}:)?(?P<index>[a-z_]+)|(?:{'|'.join(keys.OUTCOMES)}):(?P<request>{keys.REQUEST.pattern}))"
    rf"|(?:\{{{_NAME}\}}:)?(?P<wide>[a-z_]+)"
)


@dataclass(frozen=True, slots=True)
class Header:
    """What an export is of.

    Attributes:
        id: Its own name.
        namespace: The registry's.
        epoch: The registry's; None if no worker ever opened it.
        slots: Every (provider, kind) of it.
        made: When it was begun, in registry milliseconds.
        moved: Where the registry was moved to; None: this is a copy, and the registry goes on.

    """

    id: str
    namespace: str
    epoch: str | None
    slots: tuple[tuple[str, str], ...]
    made: int
    moved: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of a key.

    Attributes:
        key: Its name without the namespace.
        type: What Redis calls its type.
        members: What it holds, as ``members`` of the file: (member, score), (field, value), member, (id, fields), or
            the one value of a string.
        ttl: Milliseconds that the key has left; None: it does not end.
        last: The last id that a stream ever gave out: the stream ends with this chunk.

    """

    key: str
    type: str
    members: tuple[Any, ...]
    ttl: int | None = None
    last: str | None = None

    @property
    def slot(self) -> str:
        """What the keys of its slot begin with; empty for those of the namespace."""
        return self.key[: self.key.rindex("}:") + 2] if self.key.startswith("{") else ""

    @property
    def index(self) -> str:
        """The last part of its name."""
        return self.key.rpartition(":")[2]

    @property
    def ids(self) -> tuple[str, ...]:
        """The members of a sorted set."""
        return tuple(member for member, _score in self.members)


@dataclass(frozen=True, slots=True)
class Counts:
    """What the last line says: how many lines stand before it, keys, members, and the SHA-256 of those lines."""

    lines: int
    keys: int
    members: int
    sha256: str


@dataclass(slots=True)
class Sum:
    """Counts lines as they pass."""

    lines: int = 0
    members: int = 0
    keys: set[str] = field(default_factory=set)
    _digest: Any = field(default_factory=hashlib.sha256)

    def take(self, line: bytes, chunk: Chunk | None = None) -> None:
        """Count one line."""
        self.lines += 1
        self._digest.update(line)
        if chunk:
            self.members += len(chunk.members)
            self.keys.add(chunk.key)

    def counts(self) -> Counts:
        """Return what the last line has to say."""
        return Counts(self.lines, len(self.keys), self.members, self._digest.hexdigest())


def written(header: Header, chunks: Iterable[Chunk]) -> Iterator[tuple[bytes, Counts]]:
    """Yield the lines of a file, each with the counts up to it."""
    total = Sum()
    first = _line({"format": FORMAT, "version": VERSION, **asdict(header)})
    total.take(first)
    yield first, total.counts()
    for chunk in chunks:
        stated = {name: value for name, value in asdict(chunk).items() if value is not None}
        line = _line(stated)
        total.take(line, chunk)
        yield line, total.counts()
    yield _line({"end": asdict(total.counts())}), total.counts()


def header_of(line: bytes) -> Header:
    """Return what the first line says.

    Raises:
        Refused: it is no header of this version.

    """
    said = _read(line, 1)
    if (said.pop("format", None), version := said.pop("version", None)) != (FORMAT, VERSION):
        raise Refused(
            Code.USAGE, f"this export is of version {version}, and this lapse reads {VERSION}: take the other"
        )
    try:
        return Header(**{**said, "slots": tuple((str(provider), str(kind)) for provider, kind in said["slots"])})
    except (KeyError, TypeError, ValueError):
        raise Refused(Code.USAGE, "line 1 is no header of an export") from None


def chunk_of(line: bytes, number: int) -> Chunk:
    """Return what a line between the first and the last says.

    Raises:
        Refused: it is no part of a key that an export may have.

    """
    said = _read(line, number)
    try:
        chunk = Chunk(**{**said, "members": tuple(said["members"])})
    except (KeyError, TypeError):
        raise Refused(Code.USAGE, f"line {number} is no part of an export") from None
    if not _may_be(chunk.key):
        raise Refused(Code.USAGE, f"line {number}: no export has a key {chunk.key!r}")
    return chunk


def checked(lines: Iterable[bytes]) -> tuple[Header, Counts]:
    """Return what a whole file says of itself; every line of it is looked at.

    Raises:
        Refused: it is cut, was changed, or is of another version.

    """
    total, waiting, header = Sum(), b"", None
    for line in lines:
        if waiting and header is None:
            header = header_of(waiting)
            total.take(waiting)
        elif waiting:
            total.take(waiting, chunk_of(waiting, total.lines + 1))
        waiting = line
    end = _read(waiting, total.lines + 1).get("end") if waiting.endswith(b"\n") else None
    if header is None or not isinstance(end, Mapping):
        raise Refused(Code.USAGE, "the last line is missing: the file is cut, or its export did not end")
    counts = total.counts()
    if end != asdict(counts):
        raise Refused(
            Code.USAGE, "what the last line says of the file is not so: it was changed, or damaged on its way"
        )
    return header, counts


def _may_be(key: str) -> bool:
    found = _KEY.fullmatch(key)
    if not found:
        return False
    if found["wide"]:
        return found["wide"] in keys.CARRIED - {*keys.PARTITION_KEYS, *keys.SLOT_KEYS} and (
            key.startswith("{") == (found["wide"] == "flow")
        )
    if found["request"]:
        return True
    return found["index"] in keys.CARRIED & set(keys.PARTITION_KEYS if found["policy"] else keys.SLOT_KEYS)


def _read(line: bytes, number: int) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Refused(Code.USAGE, f"line {number} is no JSON object: the file is cut, or no export")
    return said


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"
