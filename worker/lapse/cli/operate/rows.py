"""The rows of a table of ids: CSV with a header, or JSON objects, a line each. No I/O."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from lapse.errors import InvalidResource

COLUMNS = ("id", "kind", "policy", "provider", "created_at", "last_active_at", "subject", "labels")
TIMES = ("created_at", "last_active_at")


class Row(NamedTuple):
    """One row: its line, what it says, and why it says nothing that can be registered, or ""."""

    line: int
    given: Mapping[str, Any]
    why: str = ""


def rows(lines: Iterable[str]) -> Iterator[Row]:
    """Return every row of a file that is not blank.

    Raises:
        InvalidResource: a header that has no ``id``, or a column that there is not.

    """
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = next(numbered, None)
    if first is None:
        return
    every = chain([first], numbered)
    yield from _objects(every) if first[1].lstrip().startswith("{") else _table(every)


def _objects(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    for number, line in lines:
        try:
            said = json.loads(line)
        except ValueError as error:
            yield Row(number, {}, f"no JSON: {error}")
            continue
        if isinstance(said, dict):
            yield Row(number, said, _unknown(said))
        else:
            yield Row(number, {}, "no JSON object")


def _table(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    """Return the rows below a header; a quoted field may have line breaks."""
    at = 0

    def text() -> Iterator[str]:
        nonlocal at
        for number, line in lines:
            at = number
            yield line

    table = csv.reader(text(), strict=True)
    header = [name.strip().lower() for name in next(table)]
    if why := _unknown(header) or ("" if "id" in header else "no column id"):
        raise InvalidResource(f"line 1: {why}: the columns are {', '.join(COLUMNS)}")
    while True:
        try:
            values = next(table, None)
        except csv.Error as error:
            yield Row(at, {}, f"no CSV: {error}")
            continue
        if values is None:
            return
        said = {name: value for name, value in zip(header, values, strict=False) if value}
        yield Row(at, said, "" if len(values) == len(header) else f"{len(values)} fields below {len(header)} names")


def _unknown(names: Iterable[str]) -> str:
    unknown = [name for name in names if name not in COLUMNS]
    return f"there is no column {', '.join(map(ascii, unknown))}" if unknown else ""


@lru_cache(100_000)
def moment(value: str | float) -> float:
    """Return a time as seconds since 1970: seconds, ISO 8601 with a time zone, or a date, which begins in UTC.

    Raises:
        InvalidResource: none of them.

    """
    if isinstance(value, int | float):
        return float(value)
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        if len(text) == len("2026-03-01"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC).timestamp()
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidResource(f"{ascii(text)[:40]} is no time: seconds, 2026-03-01, or 2026-03-01T12:00:00Z") from None
    if at.tzinfo is None:
        raise InvalidResource(f"{text} has no time zone: write {text}Z or {text}+01:00")
    return at.timestamp()


def labels(value: object) -> object:
    """Return labels that a table writes as ``key=value`` with ``;`` between them, or as a JSON object."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise InvalidResource(f"labels: no JSON: {error}") from None
    pairs = [part.partition("=") for part in value.split(";") if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise InvalidResource(f"labels {ascii(value)[:40]}: write key=value;key=value, or a JSON object")
    return {key.strip(): text.strip() for key, _, text in pairs}
