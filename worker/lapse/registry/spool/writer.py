"""The one thread of a process that writes into a spool: what came meanwhile is written together."""

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lapse.errors import SpoolBusy, SpoolUnusable
from lapse.registry.spool.statements import SpooledCall

if TYPE_CHECKING:
    from lapse.registry.spool.store import SpoolStore

log = logging.getLogger("lapse")

TRIED_FOR = 5.0
"""Seconds for which what found the spool locked is tried again, though its caller has logged it."""
AT_END = 1.0
"""Seconds that the end of a process waits for what is still to be written."""
TOGETHER = 500


class _Entry(NamedTuple):
    statements: list[SpooledCall]
    taken: Future[int]
    began: float


class SpoolWriter:
    """Writes statements in the order in which they were given, on a thread of its own.

    Args:
        path: Where the spool lies.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._store: SpoolStore | None = None
        self._warned = False

    def append(self, statements: Iterable[SpooledCall]) -> Future[int]:
        """Return what becomes the number of the last one when all are on the disk, or 0 where they cannot be."""
        entry = _Entry(list(statements), Future(), time.monotonic())
        try:
            with self._changed:
                self._ensure_running()
                self._queue.append(entry)
                self._changed.notify_all()
        except RuntimeError as error:  # no thread is to be had: the interpreter ends
            self._warn(error)
            entry.taken.set_result(0)
        return entry.taken

    def _ensure_running(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="lapse-spool", daemon=True)
            thread.start()
            self._thread = thread
            atexit.register(self.drain)

    def drain(self) -> None:
        """Wait until all is written, but not for long: the process ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue, AT_END)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                batch = [self._queue[i] for i in range(min(len(self._queue), TOGETHER))]
            self._write(batch)

    def _write(self, batch: list[_Entry]) -> None:
        """Write what stands first in the queue; it leaves the queue when nothing more can be done for it."""
        number, left = 0, len(batch)
        try:
            last = self._opened().append(one for entry in batch for one in entry.statements)
            number = last
        except SpoolBusy:
            left = sum(time.monotonic() - entry.began > TRIED_FOR for entry in batch)
        except SpoolUnusable as error:
            self._close()
            self._warn(error)
        except Exception as error:  # noqa: BLE001 - the thread goes on: others' statements come
            self._close()
            self._warn(error)
        with self._changed:
            for _ in range(left):
                self._queue.popleft()
            self._changed.notify_all()
        for entry in batch:
            if not entry.taken.done():
                entry.taken.set_result(number)

    def _opened(self) -> "SpoolStore":
        from lapse.registry.spool.store import SpoolStore  # noqa: PLC0415 - nobody pays for sqlite3 while Redis is there

        if self._store is not None and self._store.lost:
            self._close()
        if self._store is None:
            self._store = SpoolStore(self._path)
        return self._store

    def _close(self) -> None:
        store, self._store = self._store, None
        if store:
            store.close()

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("lapse spool: %s; what cannot be said is logged instead", error)
