"""The request log: what was asked and answered, in memory and as JSON lines in a file. Never a key."""

import asyncio
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple, TextIO

from lapse.errors import ConfigError
from lapse.sandbox.state import Json
from lapse.sandbox.wire import encode

FLUSH_EVERY = 0.05
MOST_REMEMBERED = 1_000_000


class LoggedRequest(NamedTuple):
    """One request, one line of the log.

    Attributes:
        time: When it came, seconds since 1970.
        method: The HTTP method.
        path: The path with its query, as sent.
        status: The HTTP status answered; 0 when no whole answer was sent.
        kind: Kind of the object it is about; empty for an unknown route.
        executed: Whether it changed what the server keeps.
        answer: What the answer said: ``deleted``, ``created``, ``updated``, ``read``, ``listed``,
            ``unknown`` (an id), ``refused``, ``no_route``, or the fault that took its place.
        fault: Name of the fault rule that decided, else its effect; empty without one.

    """

    time: float
    method: str
    path: str
    status: int
    kind: str
    executed: bool
    answer: str
    fault: str = ""


class RequestLog:
    """All requests to the dialect, in order of their answers. Methods are called from the server's loop only.

    Args:
        path: The file to append to; None keeps the log in memory only.

    """

    def __init__(self, path: Path | None = None) -> None:
        self.records: deque[LoggedRequest] = deque(maxlen=MOST_REMEMBERED)
        self.counts: Counter[tuple[str, str, int, str]] = Counter()
        self._pending: list[LoggedRequest] = []
        self._path = path
        self._file: TextIO | None = None

    def open(self) -> None:
        """Open the file to append to, if there is one.

        Raises:
            ConfigError: it cannot be written.

        """
        if self._path is None:
            return
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot write the request log: {error.strerror}") from error

    def append(self, record: LoggedRequest) -> None:
        """Add a record; the file has it 50 ms later at most."""
        self.records.append(record)
        self.counts[record.method, record.kind, record.status, record.answer] += 1
        if self._file is None:
            return
        if not self._pending:
            asyncio.get_running_loop().call_later(FLUSH_EVERY, self.flush)
        self._pending.append(record)

    def flush(self) -> None:
        """Write what is pending to the file."""
        if self._file is not None and self._pending:
            self._file.write("".join([encode(record._asdict()) + "\n" for record in self._pending]))
            self._file.flush()
            self._pending.clear()

    def close(self) -> None:
        """Write what is pending and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def summary(self) -> list[Json]:
        """Return the number of requests by method, kind, status and answer, since the last reset."""
        names = ("method", "kind", "status", "answer")
        return [dict(zip(names, key, strict=True)) | {"count": count} for key, count in sorted(self.counts.items())]

    def reset(self) -> None:
        """Forget what is in memory; the file keeps its lines."""
        self.records.clear()
        self.counts.clear()
