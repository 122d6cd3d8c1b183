"""Which keys each command names, as MONITOR tells it, and whether they share one hash slot.

A proxy in front of shards, and a cluster, refuse a command, a script or a transaction over keys of two slots. Commands
inside scripts count with the call of the script, and commands of a transaction with its MULTI.
"""

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

import redis
from redis.crc import key_slot

from lapse.sandbox.redis_server import EmbeddedRedis
from support.monitored import plain

WITHIN = 10.0
BY_COUNT = frozenset({"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall"})
"""Commands whose second argument says how many keys follow."""
BY_HAND = frozenset({"migrate", "rename"})
"""What lapse says nowhere: a slot that moves, and accidents that tests play."""
OF_TESTS = b"test:"
"""What a key begins with that tests keep for themselves, as the clock that they move."""


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """Where a command has its keys: the first, the last (below 0: from the end) and the step."""

    first: int
    last: int
    step: int
    moves: bool

    def of(self, parts: Sequence[bytes]) -> list[bytes]:
        """Return the keys of a command."""
        if self.first == 0:
            return []
        last = self.last if self.last >= 0 else len(parts) + self.last
        return list(parts[self.first : last + 1 : self.step])


class UnknownKeysError(Exception):
    """Nobody here knows which of its arguments are keys."""


class KeyTable:
    """The places of every command of one server, by its own word."""

    def __init__(self, url: str) -> None:
        with redis.Redis.from_url(url, decode_responses=True) as client:
            rows = client.connection_pool.get_connection()
            rows.send_command("COMMAND")
            self._places = dict(_places(rows.read_response()))
            client.connection_pool.release(rows)

    def keys(self, parts: Sequence[bytes]) -> list[bytes]:
        """Return the keys of a command.

        Raises:
            UnknownKeysError: of one that places them in its own way.

        """
        name = parts[0].decode().lower()
        if name in BY_COUNT:
            return list(parts[3 : 3 + int(parts[2])])
        found = self._places.get(f"{name}|{parts[1].decode(errors='replace').lower()}" if len(parts) > 1 else name)
        found = found or self._places.get(name)
        if found is None or name in BY_HAND:
            return []
        if found.moves and not found.first:
            raise UnknownKeysError(name)
        return found.of(parts)


def _places(rows: Iterable[Sequence[object]]) -> Iterator[tuple[str, KeyPlaces]]:
    for row in rows:
        name, _arity, flags, first, last, step = row[:6]
        assert isinstance(flags, list | set | tuple)
        yield str(name), KeyPlaces(int(str(first)), int(str(last)), int(str(step)), "movablekeys" in flags)
        if len(row) > 9 and isinstance(row[9], list):
            yield from _places(row[9])


@dataclass
class _Group:
    """What counts as one: a call with what its script did, or a transaction."""

    said: list[str] = field(default_factory=list)
    slots: set[int] = field(default_factory=set)


class SlotWatch:
    """Watches one server until it is closed, or ends.

    Attributes:
        found: What named keys of two slots, and how many commands were looked at.
        looked: How many commands were looked at.

    """

    def __init__(self, url: str, found: list[str]) -> None:
        self.found, self.looked = found, 0
        self._table = KeyTable(url)
        at = urlsplit(url)
        self._address = (at.hostname or "", at.port or 0)
        self._sock = socket.create_connection(self._address)
        self._lines = self._sock.makefile("rb")
        self._sock.sendall(b"MONITOR\r\n")
        answer = self._lines.readline()
        self._open: dict[bytes, _Group] = {}
        self._last = _Group()
        self._settled: dict[bytes, threading.Event] = {}
        self._numbers = count()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if answer != b"+OK\r\n":
            self.close()
            raise ConnectionError(answer.decode())

    def settle(self) -> bool:
        """Wait until all that was asked so far was looked at; False if this server does not let that be known."""
        token = b"slots-%d" % next(self._numbers)
        seen = self._settled[token] = threading.Event()
        try:
            with socket.create_connection(self._address, timeout=WITHIN) as sock:
                sock.sendall(b"ECHO %s\r\n" % token)
                return sock.recv(1) == b"$" and seen.wait(WITHIN)
        except OSError:
            return False

    @property
    def alive(self) -> bool:
        """True while the server says what it is asked."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Watch no more."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(WITHIN)
        self._lines.close()
        self._sock.close()

    def _read(self) -> None:
        try:
            for line in self._lines:
                if told := plain(line):
                    self._see(*told)
        except (OSError, ValueError):
            return
        finally:
            for seen in self._settled.values():
                seen.set()

    def _see(self, client: bytes, parts: list[bytes]) -> None:
        name = parts[0].upper()
        if name == b"ECHO" and parts[-1] in self._settled:
            self._settled[parts[-1]].set()
            return
        self.looked += 1
        if client == b"lua":
            self._add(self._last, parts)
        elif name == b"MULTI":
            self._open[client] = self._last = _Group()
        elif name in {b"EXEC", b"DISCARD"}:
            self._open.pop(client, None)
        else:
            self._last = self._open.get(client) or _Group()
            self._add(self._last, parts)

    def _add(self, group: _Group, parts: list[bytes]) -> None:
        shown = " ".join(part.decode(errors="replace") for part in parts)[:300]
        try:
            named = {key_slot(key) for key in self._table.keys(parts) if not key.startswith(OF_TESTS)}
        except UnknownKeysError:
            self.found.append(f"which keys? {shown}")
            return
        group.said.append(shown)
        before = len(group.slots)
        group.slots |= named
        if before <= 1 < len(group.slots):
            self.found.append("; ".join(group.said[-5:]))


@contextmanager
def watched(url: str) -> Iterator[SlotWatch]:
    """Watch a server until the block ends: nothing that it was asked may name keys of two slots."""
    watch = SlotWatch(url, [])
    try:
        yield watch
        assert watch.settle()
        assert [] == watch.found
    finally:
        watch.close()


class Everywhere:
    """Watches every embedded server that this process starts, and that lets it.

    Attributes:
        unwatched: How many did not let it.

    """

    def __init__(self) -> None:
        self._found: list[str] = []
        self._watches: dict[str, SlotWatch] = {}
        self.unwatched = 0
        start = EmbeddedRedis.start

        def started(server: EmbeddedRedis, within: float = 10.0) -> EmbeddedRedis:
            made = start(server, within)
            self._watch(made.url)
            return made

        EmbeddedRedis.start = started  # type: ignore[method-assign, assignment]

    def _watch(self, url: str) -> None:
        if before := self._watches.pop(url, None):
            before.close()
        try:
            self._watches[url] = SlotWatch(url, self._found)
        except (redis.RedisError, OSError):
            self.unwatched += 1

    def found(self) -> list[str]:
        """Return what named keys of two slots since this was asked last."""
        for url in [url for url, watch in self._watches.items() if not (watch.settle() and watch.alive)]:
            self._watch(url)  # who ends all connections of a server has ended this one too
        found, self._found[:] = list(self._found), []
        return found


EVERYWHERE = Everywhere() if os.environ.get("LAPSE_TEST_SLOTS") else None
"""What watches every server of this run; unset: nothing does."""
