"""The rows of a table of ids: CSV with a header, or JSON objects, a line each. No I/O."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from lapse.errors import InvalidResource
from lapse.registry.codec import dump
from lapse.registry.facts import facts

COLUMNS = ("id", "kind", "policy", "provider", "created_at", "last_active_at", "subject", "labels")


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
    lines = iter(lines)
    for blank, line in enumerate(lines):
        if line.strip():
            every = chain([line], lines)
            yield from _objects(every, blank) if line.lstrip().startswith("{") else _table(every, blank)


def _objects(lines: Iterable[str], above: int) -> Iterator[Row]:
    for number, line in enumerate(lines, above + 1):
        if line.isspace():
            continue
        try:
            said = json.loads(line)
        except ValueError as error:
            yield Row(number, {}, f"no JSON: {error}")
            continue
        if isinstance(said, dict):
            yield Row(number, said, _unknown(said) or _nested(said))
        else:
            yield Row(number, {}, "no JSON object")


def _table(lines: Iterable[str], above: int) -> Iterator[Row]:
    """Return the rows below a header, which has blank lines above it; a quoted field may have line breaks."""
    table = csv.reader(lines, strict=True)
    header = [name.strip().lower() for name in next(table)]
    if why := _unknown(header) or ("" if "id" in header else "no column id"):
        raise InvalidResource(f"line 1: {why}: the columns are {', '.join(COLUMNS)}")
    while True:
        try:
            values = next(table, None)
        except csv.Error as error:
            yield Row(above + table.line_num, {}, f"no CSV: {error}")
            continue
        if values is None:
            return
        if len(values) <= 1 and not "".join(values).strip():
            continue
        said = {name: value for name, value in zip(header, values, strict=False) if value}
        why = "" if len(values) == len(header) else f"{len(values)} fields below {len(header)} names"
        yield Row(above + table.line_num, said, why)


def _unknown(names: Iterable[str]) -> str:
    unknown = [name for name in names if name not in COLUMNS]
    return f"there is no column {', '.join(map(ascii, unknown))}" if unknown else ""


def _nested(said: Mapping[str, Any]) -> str:
    nested = [name for name, value in said.items() if isinstance(value, dict | list) and name != "labels"]
    return f"{nested[0]}: give text or a number" if nested else ""


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


@lru_cache(100_000)
def times(created_at: str | float | None, last_active_at: str | float | None) -> tuple[int | None, int | None]:
    """Return creation and last activity in registry milliseconds, each None where a row says none.

    Raises:
        InvalidResource: no time, one that cannot be, or last activity before creation.

    """
    given = {"created_at": created_at, "last_active_at": last_active_at}
    said = facts({name: moment(value) for name, value in given.items() if value is not None})
    return said.get("created"), said.get("active")


def facts_of(given: Mapping[str, Any]) -> str:
    """Return subject and labels as the registry stores them, empty where a row says none.

    Raises:
        InvalidResource: they cannot be stored.

    """
    subject, said = given.get("subject"), given.get("labels")
    if subject is None and said is None:
        return ""
    return dump(facts({"subject": subject, "labels": labels(said)}))


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
