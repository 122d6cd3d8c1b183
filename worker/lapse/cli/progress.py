"""How far a long command has come: a bar on a terminal, a line every ten seconds elsewhere, on stderr both."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor
from typing import Protocol

from rich.progress import BarColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.progress import Task as BarTask
from rich.text import Text

from lapse import durations
from lapse.cli import output

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""
RECENT = 60.0
"""Seconds that a rate is of, at most; as long without a move is told instead of it."""
NARROWEST, WIDEST, BESIDE = 8, 40, 66
"""Columns of a bar, and of what stands beside it."""


class Advance(Protocol):
    """Says how far a command has come."""

    def __call__(self, done: int, count: int | None = None) -> None:
        """Take down that so much of the total is done; ``count``: how many things that is, if the total is no count."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far it was, and when."""

    at: float
    count: int


class Progress:
    """Counts, rate and the time that is left, in words.

    Args:
        total: What there is to do; 0: that is not known.
        things: What is counted, in plural.
        clock: Seconds that only grow.

    """

    def __init__(self, total: int, things: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, 0
        self._things, self._clock = things, clock
        self._counted = True
        self._last = Mark(clock(), 0)
        self._marks = deque([self._last])
        self._lock = threading.Lock()

    def __call__(self, done: int, count: int | None = None) -> None:
        """See ``Advance``."""
        with self._lock:
            self.done, self._counted = done, count is None
            reached = done if count is None else count
            if reached == self._last.count:
                return
            self._last = Mark(self._clock(), reached)
            if self._last.at - self._marks[-1].at >= 1:
                self._marks.append(self._last)

    def told(self) -> str:
        """Say it: ``1,200 of 5,000 ids, 24 %, 60/s, 1m 4s left``. Rates are rounded down, times up."""
        with self._lock:
            now = self._clock()
            while len(self._marks) > 1 and self._marks[1].at <= now - RECENT:
                self._marks.popleft()
            began, last = self._marks[0], self._last
            of = f" of {self.total:,}" if self.total and self._counted else ""
            said = [f"{last.count:,}{of} {self._things}"]
            if self.total:
                said.append(f"{min(100, 100 * self.done // self.total)} %")
            if (still := now - last.at) >= RECENT:
                return ", ".join([*said, f"nothing for {durations.show(floor(still))}"])
            if last.count > began.count and now > began.at:
                rate = (last.count - began.count) / (now - began.at)
                said += [_rate(rate), *self._left(rate)]
            return ", ".join(said)

    def _left(self, rate: float) -> list[str]:
        """Return how long the rest takes at this rate, if that can be said."""
        if not self.total or not self.done:
            return []
        things = self.total if self._counted else self._last.count * self.total / self.done
        seconds = max(0, ceil((things - self._last.count) / rate))
        return [f"{durations.show(seconds)} left"] if seconds else []


def _rate(a_second: float) -> str:
    if a_second >= 1:
        return f"{floor(a_second * 10) / 10:,}/s".replace(".0/s", "/s")
    minutely = floor(a_second * 60)
    return f"{minutely}/min" if minutely else "less than 1/min"


@contextmanager
def progress(what: str, total: int, things: str = "ids", *, quiet: bool = False) -> Iterator[Advance]:
    """Show on stderr how far something has come.

    Args:
        what: What goes on, as in ``applying``.
        total: How much there is to do; 0: that is not known.
        things: What is counted, in plural.
        quiet: Show nothing, as under ``--json``.

    """
    shown = Progress(total, things)
    if quiet:
        yield shown
    elif output.bars():
        with _bar(what, shown):
            yield shown
    else:
        with _lines(what, shown):
            yield shown


class _Told(ProgressColumn):
    """A bar's words; it also moves the bar, so that both are of one moment."""

    def __init__(self, shown: Progress) -> None:
        super().__init__()
        self._shown = shown

    def render(self, task: BarTask) -> Text:
        task.completed = self._shown.done
        return Text(self._shown.told())


@contextmanager
def _bar(what: str, shown: Progress) -> Iterator[None]:
    console = output.messages()
    width = max(NARROWEST, min(WIDEST, console.width - BESIDE))
    parts = (TextColumn("{task.description}"), BarColumn(width), _Told(shown))
    # What is printed on stdout meanwhile is data, and belongs above the bar only where both are one terminal.
    with Bar(*parts, console=console, transient=True, redirect_stdout=output.on_terminal()) as bar:
        bar.add_task(what, total=shown.total or None)
        yield


@contextmanager
def _lines(what: str, shown: Progress) -> Iterator[None]:
    over = threading.Event()

    def tell() -> None:
        while not over.wait(EVERY):
            try:
                output.note(f"{what}: {shown.told()}")
            except output.ReaderGone:
                return

    telling = threading.Thread(target=tell, name="lapse-progress", daemon=True)
    telling.start()
    try:
        yield
    finally:
        over.set()
        telling.join()
