"""The chain of audit lines: what each is sealed with, and how a sealed line is read. No Redis, no files but the key's.

A sealed line ends in ``,"chain":"CHAIN","n":N,"mac":"MAC"}``. MAC is HMAC-SHA256 (RFC 2104) with the key of ``[audit]
key_file``, or SHA-256 where there is none, over the 32 bytes of the MAC before it (zeros for n = 1) and every byte of
the line itself that stands before ``,"mac":``. CHAIN is ``PROVIDER/KIND/EPOCH/SEQ/KEY``: the registry's epoch, the
stream id of the chain's first line, and the key's fingerprint. A chain that takes the place of another says in its
first line, as ``after``, how that one ended.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from lapse.audit import keyfile
from lapse.errors import ConfigError

SHORTEST_KEY = 32  # bytes
UNKEYED = "sha256"
BEGINNING = bytes(32)

_TAIL = re.compile(r"([\w.-]+/[\w.-]+/\w+/\d+-\d+/\w+):(\d{1,15}):([0-9a-f]{64})", re.ASCII)
_SEALED = re.compile(
    rb',"chain":"([\w./-]+)","n":([1-9]\d{0,14})(?:,"after":"([\w./:-]+)")?,"mac":"([0-9a-f]{64})"}', re.ASCII
)
_SEQ = re.compile(rb'{"seq":"(\d+)-\d+"', re.ASCII)


class Tail(NamedTuple):
    """A chain's last line: what its next one is tied to, and what shows that nothing was cut off."""

    chain: str
    n: int
    mac: bytes

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the tail that ``str`` wrote, or None if this is none."""
        found = _TAIL.fullmatch(text)
        return cls(found[1], int(found[2]), bytes.fromhex(found[3])) if found else None

    def __str__(self) -> str:
        return f"{self.chain}:{self.n}:{self.mac.hex()}"


class Sealed(NamedTuple):
    """A sealed line, taken apart; nothing is checked."""

    chain: str
    n: int
    after: str
    """How the chain ended whose place this one takes; in a first line, or empty."""
    mac: bytes
    body: bytes
    """The bytes that the mac covers."""

    @property
    def said(self) -> bytes:
        """The line without what the chain added to it."""
        return self.body[: self.body.rfind(b',"chain":"')]


@dataclass(frozen=True, slots=True, repr=False)
class Seal:
    """What lines are sealed with: a key, or nothing but SHA-256."""

    key: bytes = b""

    @property
    def name(self) -> str:
        """The key's fingerprint, as a chain's name has it."""
        return hashlib.sha256(b"lapse audit key\n" + self.key).hexdigest()[:16] if self.key else UNKEYED

    def mac(self, before: bytes, body: bytes) -> bytes:
        """Return the mac of a line's body that follows the line with the mac ``before``."""
        if self.key:
            return hmac.digest(self.key, before + body, "sha256")
        return hashlib.sha256(before + body).digest()

    def lines(self, lines: bytes, tail: Tail | None, place: str, *, anew: bool = False) -> tuple[bytes, Tail]:
        """Return lines sealed, and the tail that they leave: the same for the same lines and tail, whoever asks.

        Args:
            lines: Whole JSON objects with a ``seq`` in front, at least one, each with its newline.
            tail: Where the slot's chain stands; None if it has none.
            place: ``PROVIDER/KIND/EPOCH``. If that or the key is another than the tail's, a new chain begins.
            anew: A new chain begins in any case.

        """
        texts = lines.removesuffix(b"\n").split(b"\n")
        sealed, after = [], ""
        if anew or tail is None or not tail.chain.startswith(f"{place}/") or not tail.chain.endswith(f"/{self.name}"):
            after = f',"after":"{tail}"' if tail else ""
            first = texts[0].split(b'"', 4)[3].decode()
            tail = Tail(f"{place}/{first}/{self.name}", 0, BEGINNING)
        chain, n, mac = tail
        named = f',"chain":"{chain}","n":'.encode()
        for text in texts:
            n += 1
            body = b"%b%b%d%b" % (text[:-1], named, n, after.encode())
            mac, after = self.mac(mac, body), ""
            sealed.append(b'%b,"mac":"%b"}\n' % (body, mac.hex().encode()))
        return b"".join(sealed), Tail(chain, n, mac)


def read(line: bytes) -> Sealed | None:
    """Return a sealed line taken apart, or None for any other. What an application wrote into it decides nothing."""
    at = line.rfind(b',"chain":"')
    found = _SEALED.fullmatch(line, at) if at > 0 else None
    if not found:
        return None
    chain, n, after, mac = found.groups(b"")
    body = line[: found.start(4) - len(b',"mac":"')]
    return Sealed(chain.decode(), int(n), after.decode(), bytes.fromhex(mac.decode()), body)


def macs_in(text: bytes, chain: str) -> dict[int, bytes]:
    """Return the macs of a chain's lines by their numbers; what an application wrote into them is none of those."""
    sealed = rb',"chain":"%b","n":(\d{1,15})(?:,"after":"[\w./:-]+")?,"mac":"([0-9a-f]{64})"}\n'
    found = re.finditer(sealed % re.escape(chain.encode()), text)
    return {int(one[1]): bytes.fromhex(one[2].decode()) for one in found}


def parts_at(sealed: bytes, written: Mapping[int, bytes]) -> int | None:
    """Return from which of some sealed lines on, counted from 0, others were written by these numbers; None: none were.

    Where ``written`` begins behind a line and goes on beyond it, so much was written that it is another, too.
    """
    last = max(written, default=0)
    for at, line in enumerate(sealed.removesuffix(b"\n").split(b"\n")):
        found = read(line)
        if found and found.n > last:
            break  # numbers rise: nobody has written behind here
        if found and written.get(found.n) != found.mac:
            return at
    return None


def moment(line: bytes) -> int | None:
    """Return when a line was recorded, in milliseconds of Redis TIME, or None if it is no audit line."""
    found = _SEQ.match(line)
    return int(found[1]) if found else None


def open_seal(key_file: str | None) -> Seal:
    """Return the seal of ``[audit] key_file``; None: there is no key.

    Raises:
        ConfigError: the key cannot be read, is short, or everybody on this host can read it.

    """
    return Seal(_key(Path(key_file))) if key_file is not None else Seal()


def _key(path: Path) -> bytes:
    key = keyfile.read("[audit]", path, f"openssl rand -out {path} {SHORTEST_KEY}")
    if len(key) < SHORTEST_KEY:
        size = f"has {len(key)} bytes: a key has {SHORTEST_KEY} to {keyfile.LARGEST}"
        raise ConfigError(f"[audit] key_file {path} {size}, as `openssl rand -out {path} {SHORTEST_KEY}` makes one")
    return key
