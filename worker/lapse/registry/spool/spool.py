"""What a registry with ``on_error="spool"`` keeps while Redis is away, and the thread that asks for Redis meanwhile."""

import atexit
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import redis

from lapse.errors import RegistryUnavailable, SpoolUnusable
from lapse.registry import codec
from lapse.registry.commands import Operation
from lapse.registry.connection import CONNECT_TIMEOUT, database, translated
from lapse.registry.pools import opening
from lapse.registry.pools.cluster import ClusterPool
from lapse.registry.pools.credentials.endpoint import RedisEndpoint, endpoint_of
from lapse.registry.pools.pool import Pool
from lapse.registry.spool import identity, place, statements
from lapse.registry.spool.identity import Identity
from lapse.registry.spool.statements import Origin, Subject
from lapse.registry.spool.writer import SpoolWriter

if TYPE_CHECKING:
    from lapse.registry.spool.flush import Flushed
    from lapse.registry.spool.store import SpoolStore

log = logging.getLogger("lapse")

ASKED_AGAIN = 1.0
"""Seconds after which a Redis that is away is asked again."""
LOOKED_AGAIN = 60.0
"""Seconds after which the clock and the epoch are asked for anew, and what others left in the spool is looked for."""
REPLY = 5.0
"""Seconds that the reply to a batch may take: no request waits for it."""
WAIT = 1.0
"""Seconds that a call waits for the disk, at most."""

_spools: "WeakValueDictionary[tuple[Path, str, str], Spool]" = WeakValueDictionary()
_made = threading.Lock()
_inherited: list[object] = []
"""What a child inherits and must not close: the files are the parent's too."""


def of(path: str | os.PathLike[str] | None, namespace: str, url: str | RedisEndpoint | None) -> "Spool":
    """Return the spool of a registry; all registries of a process with the same one share it."""
    where = Path(path).absolute() if path is not None else place.default(namespace)
    endpoint = endpoint_of(url)
    name = (where, namespace, endpoint.url)
    with _made:
        spool = _spools.get(name)
        if spool is None:
            spool = _spools[name] = Spool(where, namespace, endpoint)
        return spool


class Spool:
    """The spool of one registry in this process.

    Args:
        path: Where its file lies. Other registries and processes may use the same.
        namespace: The registry's.
        endpoint: The registry's.

    """

    def __init__(self, path: Path, namespace: str, endpoint: RedisEndpoint) -> None:
        self.path = path
        self._namespace = namespace
        self._endpoint = endpoint
        self._origin = Origin(namespace, database(endpoint.url))
        self._ahead: int | None = None
        self._said = ""
        self._begin()

    def _begin(self) -> None:
        # Also after a fork: threads, locks and the files' connections are the parent's.
        self.away = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._writer = SpoolWriter(self.path)
        self._writing: Counter[Subject] = Counter()
        self._behind: dict[Subject, int] = {}
        self._said_at: dict[Subject, int] = {}
        self._looked = -LOOKED_AGAIN

    def abandon(self) -> None:
        """Begin anew in a child."""
        atexit.unregister(self._writer.drain)
        _inherited.append(self._writer)
        self._begin()

    @property
    def pending(self) -> int:
        """How many calls to this registry wait, of this process and of others that share the file.

        Raises:
            SpoolUnusable: the file cannot be read.

        """
        with self._lock:
            waiting = self._writing.total()
        if place.exists(self.path):
            with self._store() as store:
                found = [one for one in store.contents() if one.origin[:2] == self._origin[:2]]
                waiting += sum(one.waiting for one in found)
        return waiting

    @property
    def unavailable(self) -> RegistryUnavailable:
        """Why a call is not even tried."""
        return RegistryUnavailable("the registry did not answer a moment ago; it is asked again in the background")

    def flush(self) -> "Flushed | None":
        """Send what waits, now and on this thread; return None if another process does that.

        Raises:
            RegistryUnavailable: Redis does not answer; what it did not take waits still.
            SpoolUnusable: the file cannot be read or written.

        """
        pool = opening.threads(self._endpoint, REPLY, CONNECT_TIMEOUT, most=1)
        try:
            return self._attempt(lambda commands: _exchanged(pool, commands))
        finally:
            pool.close()

    def takes(self, operation: Operation[Any]) -> bool:
        """Return True if an operation has to wait: Redis is away, or something said before it of the same id waits."""
        if self.away:
            return True
        if not (self._behind or self._writing):
            return False
        with self._lock:
            asked = map(statements.names, operation.describe())
            return any(name in self._behind or self._writing[name] for name in asked)

    def append(self, operation: Operation[Any]) -> Future[int]:
        """Return what becomes true when an operation is on the disk, behind what waits; 0 where it cannot be."""
        about = [statements.names(one) for one in operation.describe()]
        with self._lock:
            self._writing.update(about)
            # Of one id each is later than the one before it: within a millisecond the order would be lost.
            at = max([codec.now_millis(), *(self._said_at.get(name, 0) + 1 for name in about)])
            self._said_at.update(dict.fromkeys(about, at))
        kept = statements.of(operation, self._origin, self._ahead, at)
        taken = self._writer.append(kept)
        taken.add_done_callback(lambda done: self._written(about, done.result()))
        return taken

    def _written(self, about: list[Subject], number: int) -> None:
        with self._lock:
            self._writing -= Counter(about)
            if number:
                self._behind.update(dict.fromkeys(about, number))
            self._forget_times(about)
        if number:
            self._ensure_working()

    def lost(self, error: RegistryUnavailable) -> None:
        """Note that a call got no answer: Redis is away until it answers the background thread."""
        with self._lock:
            first, self.away = not self.away, True
        if first:
            log.warning("lapse spool: %s; what is said meanwhile is kept in %s", error, self.path)
        self._ensure_working()

    @property
    def looks(self) -> bool:
        """True once in a while: the next exchange is to ask what ``met`` is told."""
        now = time.monotonic()
        if now - self._looked < LOOKED_AGAIN:
            return False
        self._looked = now
        return True

    def met(self, known: Identity) -> None:
        """Take note of what the registry says of itself."""
        self._ahead = known.ahead
        self._origin = self._origin._replace(epoch=known.epoch)

    def look(self) -> None:
        """Have sent what others left, such as a process that ended; what this user may not see is others'."""
        with suppress(SpoolUnusable):
            if place.exists(self.path):
                self._ensure_working()

    def _ensure_working(self) -> None:
        with self._lock, suppress(RuntimeError):  # the interpreter ends: whoever comes next sends it
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="lapse-flush", daemon=True)
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        """Ask for Redis until it is there and nothing of this process waits any more."""
        pool = opening.threads(self._endpoint, REPLY, CONNECT_TIMEOUT, most=1)
        while True:
            pause = ASKED_AGAIN / 10
            try:
                self._attempt(lambda commands: _exchanged(pool, commands))
            except Exception as error:  # noqa: BLE001 - the thread goes on: nobody else asks
                pause = ASKED_AGAIN
                if not self.away and str(error) != self._said:
                    self._said = str(error)
                    log.warning("lapse spool: %s", error)
            if self._done():
                break
            time.sleep(pause)
        pool.close()

    def _done(self) -> bool:
        """Return True, and the thread has to end, if there is nothing to send and nothing to ask any more."""
        with self._lock:
            if self.away or self._behind or self._writing:
                return False
            self._thread = None
            return True

    def _attempt(self, exchange: Callable[[list[bytes]], list[Any]]) -> "Flushed | None":
        self.met(identity.read(exchange(identity.asking(self._namespace))))
        self.away = False
        from lapse.registry.spool.flush import Flushed, Flusher  # noqa: PLC0415 - nobody pays for sqlite3 before

        if not place.exists(self.path):
            self._passed(None)
            return Flushed()
        with self._store() as store:
            flushed = Flusher(store, exchange, self._origin).flush()
            self._passed(store.head(self._origin))
        return flushed

    def _forget_times(self, about: list[Subject]) -> None:
        """Forget when ids were last spoken of, of which nothing waits."""
        for name in about:
            if name not in self._behind and not self._writing[name]:
                self._said_at.pop(name, None)

    def _passed(self, head: int | None) -> None:
        """Forget which ids have something waiting, up to a number: they may be spoken of directly again."""
        with self._lock:
            for name, number in list(self._behind.items()):
                if head is None or number < head:
                    del self._behind[name]
            self._forget_times(list(self._said_at))

    def _store(self) -> "SpoolStore":
        from lapse.registry.spool.store import SpoolStore  # noqa: PLC0415 - as above

        return SpoolStore(self.path, wait=REPLY)


def _exchanged(pool: Pool | ClusterPool, commands: list[bytes]) -> list[Any]:
    try:
        return pool.exchange(commands)
    except (redis.RedisError, OSError) as error:
        raise translated(error) from None


def _in_child() -> None:
    global _made  # noqa: PLW0603 - another thread of the parent may have held it
    _made = threading.Lock()
    for spool in list(_spools.values()):
        spool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
