"""The file of a spool: an SQLite database with a write-ahead log.

The only module that imports sqlite3 in an application.

Many processes write into it and one flushes it. Every change is on the disk before it is acknowledged
(``synchronous=FULL``): it is written only while Redis is away.
"""

import os
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from lapse.errors import SpoolBusy, SpoolUnusable
from lapse.registry.spool.place import prepare
from lapse.registry.spool.statements import Origin, SpooledCall

VERSION = 1
MOST_BYTES = 256 * 2**20
LOCK_WAIT = 0.05
"""Seconds that a request's write waits for another process."""
LEASE = 60_000
"""Milliseconds after which a flusher that says nothing is taken to be gone."""
_OPENING = 5.0

_KEPT = """namespace TEXT NOT NULL, base INTEGER NOT NULL, epoch TEXT NOT NULL, at INTEGER NOT NULL, ahead INTEGER,
  calls TEXT NOT NULL, described TEXT NOT NULL"""
_SCHEMA = f"""
CREATE TABLE record (seq INTEGER PRIMARY KEY AUTOINCREMENT, {_KEPT}, repeats TEXT UNIQUE);
CREATE INDEX waiting ON record (namespace, base, seq);
CREATE TABLE refused (seq INTEGER PRIMARY KEY, {_KEPT}, why TEXT NOT NULL);
CREATE TABLE lease (one INTEGER PRIMARY KEY CHECK (one = 1), holder TEXT NOT NULL, host TEXT NOT NULL,
  pid INTEGER NOT NULL, until INTEGER NOT NULL)
"""
_APPEND = """INSERT OR REPLACE INTO record (namespace, base, epoch, at, ahead, calls, described, repeats)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_FIRST = """SELECT seq, namespace, base, epoch, at, ahead, calls, described FROM record
  WHERE namespace = ? AND base = ? AND epoch IN ('', ?) AND seq > ? ORDER BY seq LIMIT ?"""
_HEAD = """SELECT COALESCE((SELECT MIN(seq) FROM record WHERE namespace = ? AND base = ? AND epoch IN ('', ?)),
  (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'record'), 1)"""
_REFUSE = """INSERT OR REPLACE INTO refused
  SELECT seq, namespace, base, epoch, at, ahead, calls, described, ? FROM record WHERE seq = ?"""
_REFUSED = """SELECT why, namespace, base, epoch, at, ahead, calls, described FROM refused ORDER BY seq"""
_CONTENTS = """SELECT namespace, base, epoch, COUNT(*), MIN(at) FROM record GROUP BY 1, 2, 3 ORDER BY 5"""
_LEASE = """INSERT OR REPLACE INTO lease (one, holder, host, pid, until) VALUES (1, ?, ?, ?, ?)"""


class Waiting(NamedTuple):
    """One record and its number."""

    seq: int
    statement: SpooledCall


class Contents(NamedTuple):
    """What of one registry waits: how many, and since when in milliseconds."""

    origin: Origin
    waiting: int
    oldest: int


class SpoolStore:
    """One connection to a spool's file; of one thread, but for its end.

    Args:
        path: Where it lies.
        wait: Seconds to wait for another process.

    Raises:
        SpoolUnusable: it cannot be written, is of another version, or is none.

    """

    def __init__(self, path: Path, wait: float = LOCK_WAIT) -> None:
        prepare(path)
        self.path = path
        self._db = self._opened(wait)
        self._file = path.stat().st_ino

    def _opened(self, wait: float) -> sqlite3.Connection:
        with _translated(self.path):
            db = sqlite3.connect(self.path, timeout=_OPENING, isolation_level=None, check_same_thread=False)
            try:
                _begin(db, self.path)
                db.execute(f"PRAGMA busy_timeout={round(wait * 1000)}")
            except BaseException:
                db.close()
                raise
        return db

    @property
    def lost(self) -> bool:
        """True if somebody removed the file: what is written goes nowhere."""
        with suppress(OSError):
            return self.path.stat().st_ino != self._file
        return True

    def append(self, statements: Iterable[SpooledCall]) -> int:
        """Write statements behind all others, together; return the number of the last one.

        Raises:
            SpoolBusy: another process was writing all the time.
            SpoolUnusable: the disk or the spool is full, or cannot be written.

        """
        with _translated(self.path), _transaction(self._db):
            for one in statements:
                row = (*one.origin, one.at, one.ahead, one.calls, one.described, one.repeats)
                number = self._db.execute(_APPEND, row).lastrowid
            return number or 0

    def batch(self, origin: Origin, most: int, after: int = 0) -> list[Waiting]:
        """Return the first statements for a registry after a number, in order; those of another epoch are left."""
        return [Waiting(seq, _statement(row)) for seq, *row in self._read(_FIRST, *origin, after, most)]

    def head(self, origin: Origin) -> int:
        """Return a number below which nothing waits for a registry any more."""
        ((head,),) = self._read(_HEAD, *origin)
        return int(head)

    def done(self, numbers: Iterable[int], refused: Iterable[tuple[int, str]] = ()) -> None:
        """Take statements out that were sent, and put those aside that Redis refused, each with its reason."""
        with _translated(self.path), _transaction(self._db):
            self._db.executemany(_REFUSE, [(why, seq) for seq, why in refused])
            self._db.executemany("DELETE FROM record WHERE seq = ?", [(seq,) for seq in numbers])

    def contents(self) -> list[Contents]:
        """Return what waits, registry by registry."""
        return [Contents(Origin(*row[:3]), *row[3:]) for row in self._read(_CONTENTS)]

    def refused(self) -> list[tuple[SpooledCall, str]]:
        """Return what Redis refused, and why."""
        return [(_statement(row), why) for why, *row in self._read(_REFUSED)]

    def lease(self, holder: str, now: int) -> bool:
        """Become or stay the one that flushes; a flusher whose process ended, or that is silent, is taken over.

        Args:
            holder: Who asks.
            now: Milliseconds of this host's clock.

        """
        with _translated(self.path), _transaction(self._db):
            row = self._db.execute("SELECT holder, host, pid, until FROM lease").fetchone()
            if row and row[0] != holder and now < row[3] and not _ended(row[1], row[2]):
                return False
            self._db.execute(_LEASE, (holder, host(), os.getpid(), now + LEASE))
            return True

    def release(self, holder: str) -> None:
        """Be no longer the one that flushes."""
        with _translated(self.path), _transaction(self._db):
            self._db.execute("DELETE FROM lease WHERE holder=?", (holder,))

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with _translated(self.path):
            return self._db.execute(query, values).fetchall()


def host() -> str:
    """Return where process ids are told apart: the host, and its namespace of them."""
    with suppress(OSError):
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _ended(where: str, pid: int) -> bool:
    if where != host():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _statement(row: Sequence[Any]) -> SpooledCall:
    namespace, database, epoch, *rest = row
    return SpooledCall(Origin(namespace, database, epoch), *rest)


def _known(db: sqlite3.Connection, path: Path) -> bool:
    """Return True for a spool, False for a file in which nothing is yet; nothing is changed."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return True
    if version or db.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise SpoolUnusable(
            f"the spool {path} is of version {version}, and this lapse reads {VERSION}: nothing in it was changed; "
            "flush it with the lapse that wrote it, or move it away"
        )
    return False


def _begin(db: sqlite3.Connection, path: Path) -> None:
    _known(db, path)
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    page = db.execute("PRAGMA page_size").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={MOST_BYTES // page}")
    with _transaction(db):
        if not _known(db, path):
            _make(db)


def _make(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version={VERSION}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            raise SpoolBusy(f"the spool {path} was locked by another process") from None
        raise SpoolUnusable(f"the spool {path} cannot be used: {error}") from None
