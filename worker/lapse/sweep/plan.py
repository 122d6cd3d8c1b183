"""A plan as a file: which ids are to be deleted, and everything that has to be unchanged when it is applied.

JSON Lines: what the plan is made for; of each policy the rules that its ids are due by, each id as an array, and what
may go along with it as another; a hash over all lines before. The file is for reading, and not for editing. What older
versions wrote, without what goes along or as one JSON document, is read too.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple

from lapse.errors import ConfigError, InvalidResource
from lapse.registry import keys

FORMAT, ALONE, DOCUMENT = 3, 2, 1
GZIP = b"\x1f\x8b"
REASONS = ("ttl", "max_age", "expires_at")
AGAIN = "make a new one with `lapse plan -o FILE`"


class Doomed(NamedTuple):
    """One id of a plan: ``due`` in registry milliseconds, ``by`` what makes it due, ``alone`` after a crash."""

    id: str
    due: int
    by: str
    alone: bool = False


class Companion(NamedTuple):
    """One id that may go along with another, its parent, though it is not due by itself."""

    id: str
    kind: str
    parent: str


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan is made for.

    Attributes:
        provider: As the policy file calls it.
        place: What tells this account from others: see ``Account.place``.
        namespace: The registry's.
        epoch: The registry's; empty before a worker has begun one.
        made_at: When, in registry milliseconds.
        made_by: Who, user@host.

    """

    provider: str
    place: str
    namespace: str
    epoch: str
    made_at: int
    made_by: str


@dataclass(frozen=True, slots=True)
class Heading:
    """What a plan's ids of one policy and kind rest on; ``digest``: the rules that made them due."""

    kind: str
    policy: str
    digest: str
    mode: str


@dataclass(slots=True)
class Part:
    """A plan's ids of one policy and kind, in the order in which they go: how many, and where the first one stands."""

    heading: Heading
    start: int
    size: int = 0


class PlanWriter:
    """Writes a plan; ``size``: how many ids it has so far, ``along``: how many go along with these."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, basis: Basis) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = self.along = 0
        self._write(_json({"lapse_plan": FORMAT, **asdict(basis)}))

    def part(self, heading: Heading, doomed: Iterable[Doomed]) -> None:
        """Write the ids of one policy and kind."""
        self._write(_json(asdict(heading)))
        for one in doomed:
            self._write(_row(one))
            self.size += 1

    def companions(self, companions: Iterable[Companion]) -> None:
        """Write what may go along with ids of the last policy and kind."""
        for one in companions:
            self._write(_json(one))
            self.along += 1

    def close(self) -> str:
        """Write the last line, and return the hash in it: 12 hex digits."""
        said = _short(self._digest)
        self._write(_json({"hash": said}))
        return said

    def _write(self, text: str) -> None:
        line = text.encode()
        self._digest.update(line)
        self._file.write(line)


class Plan:
    """A plan as it was read; its ids stand in a file of its own, which nobody changes while they are deleted.

    Attributes:
        basis: What it is made for.
        parts: Its ids of each policy and kind.
        hash: What it is known by.
        along: How many may go along with its ids.

    """

    def __init__(self, basis: Basis) -> None:
        self.basis = basis
        self.parts: list[Part] = []
        self.hash = ""
        self.along = 0
        self._rows = TemporaryFile()  # noqa: SIM115 - it is closed with the plan
        self._companions = TemporaryFile()  # noqa: SIM115 - it is closed with the plan
        self._end = 0

    @property
    def size(self) -> int:
        """How many ids it names."""
        return sum(part.size for part in self.parts)

    def begin(self, heading: Mapping[str, Any]) -> None:
        """Take a part that comes next."""
        self.parts.append(Part(Heading(**heading), self._end))

    def add(self, row: Sequence[Any]) -> None:
        """Take an id of the last part, or what may go along with one.

        Raises:
            InvalidResource: it is none.

        """
        if isinstance(row[1], str):
            self._add_companion(Companion(*row))
            return
        one = Doomed(*row)
        if not (keys.identifier(one.id) and isinstance(one.due, int) and one.by in REASONS):
            raise InvalidResource(f"{row} is no id of a plan")
        self._end += self._rows.write(_row(one).encode())
        self.parts[-1].size += 1

    def _add_companion(self, one: Companion) -> None:
        if not (keys.identifier(one.id) and keys.identifier(one.parent) and keys.NAME.fullmatch(one.kind)):
            raise InvalidResource(f"{one} is no id of a plan")
        self._companions.write(_json(one).encode())
        self.along += 1

    def companions(self) -> Iterator[Companion]:
        """Yield what may go along with the ids."""
        self._companions.seek(0)
        for line in self._companions:
            yield Companion(*json.loads(line))

    def ids(self, part: Part) -> Iterator[Doomed]:
        """Yield the ids of a part."""
        self._rows.seek(part.start)
        for line in islice(self._rows, part.size):
            yield Doomed(*json.loads(line))

    def close(self) -> None:
        """Forget the ids."""
        self._rows.close()
        self._companions.close()


def read(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        ConfigError: it cannot be read, is no plan, or is not as it was written.

    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            return _read(gzip.GzipFile(fileobj=raw) if packed else raw, path)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a plan ({error}): {AGAIN}") from None


def _read(file: BinaryIO | gzip.GzipFile, path: Path) -> Plan:
    first = file.readline()
    try:
        said = json.loads(first)
    except ValueError:  # the first line of a document
        said = json.loads(first + file.read())
    known = said.get("lapse_plan") if isinstance(said, dict) else None
    if known not in {FORMAT, ALONE, DOCUMENT}:
        raise ConfigError(f"{path} is no plan that this version of lapse knows: {AGAIN}")
    try:
        plan = _of_document(said) if known == DOCUMENT else _of_lines(said, first, file)
    except (KeyError, IndexError, TypeError, AttributeError, InvalidResource) as error:
        raise ConfigError(f"{path} is no plan ({error!r}): {AGAIN}") from None
    if plan is None:
        raise ConfigError(f"{path} was changed after it was written: a plan is applied as it was made, so {AGAIN}")
    return plan


def _of_lines(said: dict[str, Any], first: bytes, file: BinaryIO | gzip.GzipFile) -> Plan | None:
    """Return the plan that lines make; None if they are not those that were written."""
    digest, plan = hashlib.sha256(first), _begun(said)
    for line in file:
        value = json.loads(line)
        if isinstance(value, list):
            plan.add(value)
        elif "hash" in value:
            plan.hash = value["hash"]
            return plan if plan.hash == _short(digest) and not file.read(1) else None
        else:
            plan.begin(value)
        digest.update(line)
    return None


def _of_document(said: dict[str, Any]) -> Plan | None:
    """Return the plan that one JSON document is; None if it is not the one that was written."""
    hash_ = said.pop("hash", None)
    if hash_ != _short(hashlib.sha256(json.dumps(said, sort_keys=True).encode())):
        return None
    parts = said.pop("parts")
    plan = _begun(said)
    plan.hash = hash_
    for part in parts:
        ids = part.pop("ids")
        plan.begin(part)
        for one in ids:
            plan.add(Doomed(**one))
    return plan


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def _row(one: Doomed) -> str:
    """Return an id's line: what stands in it needs no escaping."""
    return f'["{one.id}",{one.due},"{one.by}"{",true" if one.alone else ""}]\n'


def _begun(said: Mapping[str, Any]) -> Plan:
    return Plan(Basis(**{name: value for name, value in said.items() if name != "lapse_plan"}))


def _short(digest: "hashlib._Hash") -> str:
    return digest.hexdigest()[:12]
