"""How the processes of a worker are told to end, and end in good order."""

import contextlib
import mmap
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Tells all processes of a worker to begin no more requests; or, with ``here``, this process alone.

    One byte of memory shared by fork: setting it is safe in a signal handler, and no process that is killed
    while it looks can leave a lock behind.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)
        self._here = False
        self._maker = os.getpid()

    def set(self) -> None:
        """Stop every process that was forked from the one that made this."""
        self._shared[0] = 1

    def is_set(self) -> bool:
        """Return True once this process is to stop."""
        return self._here or self._shared[0] != 0

    @contextlib.contextmanager
    def on_term(self) -> Iterator[None]:
        """Let a SIGTERM that reaches this pool process itself end the work inside, not the process.

        A supervisor that signals a whole process group would otherwise cut deletions off half way. Where Celery
        runs tasks in the worker's own process, its handler does what is needed.
        """
        if os.getpid() == self._maker or threading.current_thread() is not threading.main_thread():
            yield
            return

        def end_here(_number: int, _frame: FrameType | None) -> None:
            self._here = True

        before = signal.signal(signal.SIGTERM, end_here)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            self._here = False
