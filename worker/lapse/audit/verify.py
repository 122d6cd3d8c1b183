"""Whether audit files are what was written into them: every chain whole, every line unaltered. No Redis.

Files are read once, in any order; a second time only where a line is cut off, or where a chain went on after another
took its place. Memory: 32 bytes for each line, and the line itself where the one before it has not been seen yet.
"""

import fcntl
import gzip
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lapse.audit import strictjson
from lapse.audit.chain import BEGINNING, UNKEYED, Seal, Sealed, Tail, moment, read

MOST = 1000
"""So many findings are told, and so many lines a crash may repeat under the next chain: what one move takes at most."""
TORN = 100
"""So many lines that are cut off are looked for in whole."""
BEGINS = b'{"seq":"'
NOT_WHOLE = "is cut off or was altered, and its whole is nowhere"

_BLOCK = 256  # macs
_WIDTH = len(BEGINNING)


class Place(NamedTuple):
    """Where a line stands: which of the files, and its number from 1."""

    file: int
    line: int


NOWHERE = Place(sys.maxsize, 0)
"""Where a line should stand that is in no file."""


class Wrong(NamedTuple):
    """One thing that is wrong, and the first line that shows it."""

    place: Place
    what: str


class Macs:
    """The mac of each line of a chain that was seen."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def __getitem__(self, n: int) -> bytes | None:
        if n == 0:
            return BEGINNING
        block, at = self._blocks.get(n // _BLOCK), n % _BLOCK * _WIDTH
        mac = bytes(block[at : at + _WIDTH]) if block else BEGINNING
        return mac if mac != BEGINNING else None

    def __setitem__(self, n: int, mac: bytes) -> None:
        block = self._blocks.get(n // _BLOCK)
        if block is None:
            block = self._blocks[n // _BLOCK] = bytearray(_BLOCK * _WIDTH)
        at = n % _BLOCK * _WIDTH
        block[at : at + _WIDTH] = mac

    def before(self, n: int) -> int:
        """Return the last line before ``n`` that was seen, or 0."""
        number = (n - 1) // _BLOCK
        while number >= 0:
            for one in range(min(n, (number + 1) * _BLOCK) - 1, max(number * _BLOCK, 1) - 1, -1):
                if self[one] is not None:
                    return one
            if number - 1 not in self._blocks:
                number = max((one for one in self._blocks if one < number), default=-1)
            else:
                number -= 1
        return 0


@dataclass(slots=True)
class Chain:
    """One chain as its lines show it. Times are milliseconds of Redis TIME."""

    name: str
    found: Place
    macs: Macs = field(default_factory=Macs)
    waiting: list[tuple[Place, Sealed]] = field(default_factory=list)
    """Lines that came before the one they are tied to."""
    lines: int = 0
    repeated: int = 0
    first: int = 0
    last: int = 0
    mac: bytes = BEGINNING
    since: int = 0
    until: int = 0
    after: Tail | None = None
    at: int = 0
    """The line read last, and its mac: nearly always the one before."""
    latest: bytes = BEGINNING

    def add(self, line: Sealed) -> None:
        """Take a line in that was not seen before."""
        self.macs[line.n] = line.mac
        self.lines += 1
        at = moment(line.body) or 0
        if not self.first or line.n < self.first:
            self.first, self.since, self.after = line.n, at, Tail.parse(line.after)
        if line.n > self.last:
            self.last, self.mac, self.until = line.n, line.mac, at

    @property
    def key(self) -> str:
        """The fingerprint of its key."""
        return key_of(self.name)

    @property
    def tail(self) -> Tail:
        """Its last line."""
        return Tail(self.name, self.last, self.mac)


@dataclass(slots=True)
class ChainVerdict:
    """What verifying came to; all is well if nothing is ``wrong``.

    Attributes:
        chains: In the order they were met.
        wrong: The first ``MOST``, in the order of files and lines.
        unsealed: Audit lines that belong to no chain; each is wrong, too.
        cut: Lines that a crash cut off, and that stand elsewhere in whole.
        other: Lines that are no audit lines, such as a log's.
        first_other: Where the first of those stands.

    """

    chains: list[Chain]
    wrong: list[Wrong]
    unsealed: int
    cut: int
    other: int
    first_other: Place | None


class Verification:
    """Reads files once, then says what is wrong with them."""

    def __init__(self, seals: Iterable[Seal], expected: Sequence[Tail] = ()) -> None:
        self._seals = {seal.name: seal for seal in (*seals, Seal())}
        self._expected = tuple(expected)
        self._chains: dict[str, Chain] = {}
        self._wrong: list[Wrong] = []
        self._torn: list[tuple[Place, bytes]] = []
        self._counted: Counter[str] = Counter()
        self._other: Place | None = None

    def verify(self, files: Sequence[Path]) -> ChainVerdict:
        """Return what the files show.

        Raises:
            OSError: one cannot be read.

        """
        for number, path in enumerate(files):
            self._read(number, path)
        self._expect()
        for chain in self._chains.values():
            self._settle(chain)
        late = self._follow()
        if late or self._torn:
            self._read_again(files, late)
        self._judge_keys()
        unsealed, cut, other = (self._counted[what] for what in ("unsealed", "cut", "other"))
        wrong = sorted(self._wrong)[:MOST]
        return ChainVerdict(list(self._chains.values()), wrong, unsealed, cut, other, self._other)

    def _blame(self, place: Place, what: str) -> None:
        self._wrong.append(Wrong(place, what))
        if len(self._wrong) > 2 * MOST:
            self._wrong = sorted(self._wrong)[:MOST]

    def _read(self, number: int, path: Path) -> None:
        for count, line in enumerate(lines_of(path), 1):
            place, text = Place(number, count), line.rstrip(b"\n")
            found = read(text)
            if found:
                self._take(place, found)
                self._judge_text(place, text)
            elif line.startswith(BEGINS) and (b',"mac":"' in line or not line.endswith(b"}\n")):
                self._tear(place, text)
            elif _claims(text):
                self._counted["unsealed"] += 1
                self._blame(place, "belongs to no chain, and nothing vouches for it: it was added, or altered")
            elif text.strip():
                self._counted["other"] += 1
                self._other = self._other or place

    def _judge_text(self, place: Place, text: bytes) -> None:
        """Blame a line that is sealed as it was written, and in which two readers read two things all the same."""
        try:
            strictjson.loads(text)
        except ValueError as error:
            self._blame(place, f"is not read in one way by everybody: {error}")

    def _tear(self, place: Place, text: bytes) -> None:
        if len(self._torn) < TORN:
            self._torn.append((place, text))
        else:
            self._blame(place, NOT_WHOLE)

    def _take(self, place: Place, line: Sealed) -> None:
        chain = self._chains.get(line.chain)
        if chain is None:
            chain = self._chains[line.chain] = Chain(line.chain, place)
        n = line.n
        before = chain.latest if chain.at == n - 1 else chain.macs[n - 1]
        if before is None:
            chain.waiting.append((place, line))
        else:
            self._check(place, line, before)
        known = chain.macs[n] if n <= chain.last else None
        if known is None:
            chain.add(line)
        elif known == line.mac:
            chain.repeated += 1
        else:
            what = f"is line {n:,} of {line.chain} once more, and another: one of them was made up, or the registry was"
            self._blame(place, f"{what} put back to what it had been before")
        chain.at, chain.latest = n, line.mac

    def _check(self, place: Place, line: Sealed, before: bytes) -> None:
        seal = self._seals.get(key_of(line.chain))
        if seal and seal.mac(before, line.body) != line.mac:
            self._blame(place, f"was altered: line {line.n:,} of {line.chain} was another, or the one before it was")

    def _expect(self) -> None:
        """Hold the chains against what is known of them from elsewhere; the next line may be tied to such a one."""
        if not self._chains:
            self._blame(NOWHERE, "no file has a line of any chain: nothing was verified")
        for tail in self._expected:
            chain = self._chains.get(tail.chain)
            if chain is None:
                self._blame(NOWHERE, f"none of the files has a line of {tail.chain}: all of it is missing")
            elif tail.n > chain.last:
                self._cut_off(chain, tail.n)
            elif tail.n < chain.first:
                chain.macs[tail.n] = tail.mac
            elif chain.macs[tail.n] not in {None, tail.mac}:
                self._blame(NOWHERE, f"line {tail.n:,} of {tail.chain} is not the expected one: it was made anew")

    def _cut_off(self, chain: Chain, until: int) -> None:
        self._blame(NOWHERE, f"{_span(chain.last + 1, until)} of {chain.name} missing: its end was cut off")

    def _settle(self, chain: Chain) -> None:
        """Check the lines whose predecessor came later; where there is none, something is missing."""
        told: set[int] = set()
        for place, line in chain.waiting:
            before = chain.macs[line.n - 1]
            if before is not None:
                self._check(place, line, before)
            elif len(told) >= MOST:
                return  # these come behind so many others that none of them is told
            elif line.n not in told:
                told.add(line.n)
                self._miss(chain, place, line.n)

    def _miss(self, chain: Chain, place: Place, n: int) -> None:
        what = f"{_span(chain.macs.before(n) + 1, n - 1)} of {chain.name} missing before this line"
        if n == chain.first:
            what += "; if older files have them, give those too, or --expect what was printed for those"
        self._blame(place, what)

    def _follow(self) -> dict[str, Chain]:
        """Hold chains against what their successors say of their end; return the successors of those that went on."""
        late = {}
        for chain in self._chains.values():
            end = chain.after
            old = self._chains.get(end.chain) if end else None
            if end is None or old is None:
                continue
            if old.last < end.n:
                self._cut_off(old, end.n)
            elif old.macs[end.n] not in {None, end.mac}:
                self._blame(chain.found, f"says that it takes the place of {old.name}, which ended otherwise")
            elif old.last > end.n:
                late[old.name] = chain
        return late

    def _read_again(self, files: Sequence[Path], late: Mapping[str, Chain]) -> None:
        """Let off what a crash leaves behind: a part of a line that is there, a line that the next chain has too."""
        ends = {old: chain.after.n for old, chain in late.items() if chain.after}
        new = {chain.name for chain in late.values()}
        torn, extra, firsts = self._torn, list[tuple[Place, bytes]](), set[bytes]()
        for place, line, found in _sealed(files):
            if torn and any(line.startswith(text) for _place, text in torn):
                torn = [one for one in torn if not line.startswith(one[1])]
            if found.n > ends.get(found.chain, found.n) and len(extra) < MOST:
                extra.append((place, found.said))
            if found.chain in new and found.n <= MOST:
                firsts.add(found.said)
        self._counted["cut"] = len(self._torn) - len(torn)
        for place, _text in torn:
            self._blame(place, NOT_WHOLE)
        for place, said in extra:
            if said not in firsts:
                self._blame(place, "was added to a chain after another had taken its place")

    def _judge_keys(self) -> None:
        """Without its key nobody can say that a chain is whole; with a key, one without has to be tied to one with."""
        vouched = self._vouched()
        for chain in self._chains.values():
            if chain.key not in self._seals:
                self._blame(chain.found, f"is sealed with key {chain.key}: give its file with --key-file")
            elif chain.key == UNKEYED and len(self._seals) > 1 and chain.name not in vouched:
                what = f"is of {chain.name}, which has no key, and which no chain with a key goes on from"
                self._blame(chain.found, f"{what}: anybody could have made it")

    def _vouched(self) -> set[str]:
        """Return the chains that one with a key goes on from, at once or through others."""
        vouched: set[str] = set()
        for chain in self._chains.values():
            one: Chain | None = chain if chain.key != UNKEYED else None
            while one and one.after and one.after.chain not in vouched:
                vouched.add(one.after.chain)
                one = self._chains.get(one.after.chain)
        return vouched


def _claims(text: bytes) -> bool:
    """Return True if a reader of audit lines could take a line for one, also one that reads only a part of it."""
    if b'"seq"' in text:
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "seq" in value


def key_of(chain: str) -> str:
    """Return the fingerprint of a chain's key."""
    return chain.rpartition("/")[2]


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file as they are when nobody is in the middle of writing one."""
    if path.suffix == ".gz":
        with gzip.open(path) as lines:
            yield from lines
        return
    with path.open("rb") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        left = os.fstat(file.fileno()).st_size
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
        for line in file:
            if left <= 0:
                return
            yield line[:left]
            left -= len(line)


def _sealed(files: Sequence[Path]) -> Iterator[tuple[Place, bytes, Sealed]]:
    for number, path in enumerate(files):
        for count, line in enumerate(lines_of(path), 1):
            if found := read(line.rstrip(b"\n")):
                yield Place(number, count), line, found


def _span(first: int, last: int) -> str:
    """Return which lines of a chain, up to the word that tells what of them."""
    return f"line {first:,}" if first == last else f"lines {first:,} to {last:,}"
