"""What commands print: data on stdout, everything else on stderr; tables, colour and bars only on a terminal."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from textwrap import wrap
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from lapse.log import redact

BOUNDLESS = 100_000
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would do instead of showing it; line breaks and tabs are our own."""
_BREAKS = re.compile("[\\t\\n\\u2028\\u2029]")
GOOD, WARN, BAD, DIM, STRONG = "green", "yellow", "red", "dim", "bold"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. Those with the highest ``rank`` are left out first on a narrow terminal; 0 stays."""

    title: str
    rank: int = 0
    right: bool = False


class Tell(Protocol):
    """Prints one line: ``say`` or ``note``."""

    def __call__(self, text: str = "", style: str = "", *, indent: int = 0) -> None:
        """Print it."""


@cache
def _stdout() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


@cache
def _stderr() -> Console:
    return Console(highlight=False, markup=False, emoji=False, stderr=True)


def on_terminal() -> bool:
    """Return True if stdout is a terminal: what is printed is for a person."""
    return _stdout().is_terminal


def messages() -> Console:
    """Return the console that messages go to, for what draws on it."""
    return _stderr()


def bars() -> bool:
    """Return True if stderr is a terminal that can draw a bar."""
    return _stderr().is_terminal and not _stderr().is_dumb_terminal


def can_ask() -> bool:
    """Return True if a person can be asked something."""
    return sys.stdin.isatty() and _stderr().is_terminal


def say(text: str = "", style: str = "", *, indent: int = 0) -> None:
    """Print one line of data; on a terminal in colour and wrapped at its width.

    A text that begins with a space is to be copied, and never wrapped.
    """
    _print(_stdout(), sys.stdout, text, style, indent)


def note(text: str = "", style: str = "", *, indent: int = 0) -> None:
    """Print one message to stderr."""
    _print(_stderr(), sys.stderr, redact(text), style, indent)


def document(value: object) -> None:
    """Print one JSON document: indented on a terminal, one line elsewhere."""
    if on_terminal():
        shown = visible(json.dumps(value, ensure_ascii=False, indent=2))
        _stdout().print(Text(shown), soft_wrap=True)
    else:
        _write(json.dumps(value, ensure_ascii=False))


def records(values: Iterable[Mapping[str, Any]]) -> None:
    """Print JSON objects, one a line."""
    for value in values:
        _write(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], *, empty: str, wide: bool = False) -> None:
    """Print rows: a table on a terminal, lines with tabs and without a header elsewhere.

    A terminal that is too narrow is told which columns were left out.

    Args:
        columns: What stands in the rows.
        rows: One text for each column.
        empty: What to say to a person if there are none.
        wide: Print every column, and lines as long as they take, on a narrow terminal too.

    """
    if not on_terminal():
        for row in rows:
            _write("\t".join(" ".join(str(cell).split()) for cell in row))
        return
    chosen = list(rows)
    if not chosen:
        note(empty, DIM)
        return
    shown = list(range(len(columns))) if wide else _fitting(columns, chosen)
    made, console = _table(columns, chosen, shown), _stdout()
    if wide:  # rendered here: print would fold it to the terminal's width
        console.print(Segments(console.render(made, console.options.update(width=_width(made)))), crop=False)
    else:
        console.print(made)
    if left := [column.title for index, column in enumerate(columns) if index not in shown]:
        say(f"Left out at this width: {', '.join(left)}. --wide shows all.", DIM)


@contextmanager
def redrawn() -> Iterator[None]:
    """Show what is printed inside in place of all that a terminal shows, at once; elsewhere hand it to its reader."""
    if on_terminal():
        console = _stdout()
        with console.capture() as captured:
            yield
        console.clear()
        console.file.write(captured.get())
    else:
        yield
    flush()


class ReaderGone(Exception):
    """Whoever read what is printed has gone, as ``head`` does: there is no more to do, and nothing is wrong."""


def visible(text: str) -> str:
    """Return a text with its control characters written out, as JSON and Python write them."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Return a text that others wrote with its line breaks and tabs written out too: it forges no line of ours."""
    return _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write(text: str, stream: TextIO | None = None) -> None:
    stream = stream or sys.stdout
    try:
        stream.write(visible(text) + "\n")
    except BrokenPipeError:
        raise ReaderGone from None


def reader_gone() -> None:
    """Let what is left for a reader that has gone go nowhere: Python would complain when it flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush() -> None:
    """Hand everything printed to its reader."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def _print(console: Console, stream: TextIO, text: str, style: str, indent: int) -> None:
    if not console.is_terminal:
        _write(" " * indent + text, stream)
        return
    margin, text = " " * indent, visible(text)
    wrapped = wrap(
        text,
        console.width,
        initial_indent=margin,
        subsequent_indent=margin + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    if text.startswith(" "):
        wrapped = [margin + text]
    for line in wrapped or [""]:
        # An id or a path that is longer than a line stays whole, so that it can be copied.
        console.print(Text(line, style=style), soft_wrap=True)


def _width(made: Table) -> int:
    """Return how wide a table is where nothing is folded."""
    return Measurement.get(_stdout(), _stdout().options.update(width=BOUNDLESS), made).maximum


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> list[int]:
    """Return the columns that the terminal has room for."""
    shown = list(range(len(columns)))
    while True:
        droppable = [index for index in shown if columns[index].rank]
        if not droppable or _width(_table(columns, rows, shown)) <= _stdout().width:
            return shown
        shown.remove(max(droppable, key=lambda index: (columns[index].rank, index)))


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], shown: Sequence[int]) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM)
    for index in shown:
        column = columns[index]
        made.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        cells = (row[index] for index in shown)
        made.add_row(*(visible(cell) if isinstance(cell, str) else cell for cell in cells))
    return made
