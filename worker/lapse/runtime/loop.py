"""One process' event loop, in a thread of its own, and how Celery's thread hands work to it."""

import asyncio
import gc
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from lapse.errors import LapseError
from lapse.guards.context import named
from lapse.registry.model import Partition
from lapse.runtime.host import Host
from lapse.runtime.jobs import Work

T = TypeVar("T")

log = structlog.get_logger("lapse")

_made: dict[int, "Runtime"] = {}


def of(host: Host) -> "Runtime":
    """Return this process' runtime, made on first use: threads and connections do not survive a fork."""
    if os.getpid() not in _made:
        _made.clear()  # what was inherited belongs to the parent
        _made[os.getpid()] = Runtime(host)
    return _made[os.getpid()]


def close() -> None:
    """Close this process' runtime, if there is one."""
    if made := _made.pop(os.getpid(), None):
        made.close()


class Runtime:
    """The event loop of one process, in a thread of its own, and what runs on it.

    A thread, because Celery's time limits interrupt the main one: a sweep that is cut short is cancelled on the
    loop in good order, and the loop lives on.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lapse-loop", daemon=True)
        self._thread.start()
        self._work = Work(host)
        # What is here by now stays, and what one deletion makes ends with it: there is little to collect, and a look
        # through everything at each few hundred ids takes a tenth of the time.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)

    def sweep(self, partition: Partition, sent: int | None) -> int | None:
        """Sweep one partition for one slice, as its rule says.

        Args:
            partition: What the message names.
            sent: When the message was sent, in registry milliseconds; None if nobody could say.

        Returns:
            Registry time if work is left: send the message again, with this as ``sent``.

        """
        with self._host.stop.on_term():
            return self._run(self._work.sweep(partition, sent), **named(partition))

    def freed(self) -> dict[Partition, int]:
        """Return the partitions that the last sweeps made something due in, and when; each is told once."""
        freed, self._work.freed = self._work.freed, {}
        return freed

    def erase(self) -> bool:
        """Delete for open requests to erase subjects, for one slice; True if time ran out: send the message again."""
        with self._host.stop.on_term():
            return bool(self._run(self._work.erase()))

    def housekeep(self, sent: int | None) -> bool:
        """Record that a tick of beat's arrived, publish what this worker knows, move audit records, clean up.

        Args:
            sent: When beat sent the message, in registry milliseconds; None if nobody could say.

        Returns:
            True if ids may be left to delete for a request to erase a subject: send that message.

        """
        self._work.erasing = False
        with self._host.stop.on_term():
            self._run(self._work.housekeep(sent))
        return self._work.erasing

    def close(self) -> None:
        """Say that this process ends, close every connection, and end the thread."""
        self._run(self._work.farewell())
        self._run(self._work.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T], **about: str) -> T | None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except LapseError as error:
            log.error("task.failed", error=str(error), **about)
            return None
        except BaseException:
            future.cancel()  # a time limit: the loop ends the work in good order
            raise
