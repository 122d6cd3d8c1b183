"""The tables of docs/testing.md, which tests are generated from."""

from functools import cache
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"

Table = dict[tuple[str, str], str]
"""(row, column) -> the cell's word. A cell that is empty is no case."""


@cache
def table(heading: str) -> Table:
    """Return the first table under a heading."""
    lines = iter(DOCUMENT.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.lstrip("#").strip() == heading:
            break
    else:
        raise AssertionError(f"{DOCUMENT.name} has no heading {heading!r}")
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("#") or (rows and not line.startswith("|")):
            break
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip().strip("|").split("|")])
    columns = rows[0][1:]
    return {(row[0], column): word for row in rows[2:] for column, word in zip(columns, row[1:], strict=True)}


def rows(heading: str) -> list[str]:
    """Return the names of a table's rows, in their order."""
    return list(dict.fromkeys(row for row, _ in table(heading)))


def columns(heading: str) -> list[str]:
    """Return the names of a table's columns, in their order."""
    return list(dict.fromkeys(column for _, column in table(heading)))


def cells(heading: str) -> list[tuple[str, str]]:
    """Return the cells that are a case."""
    return [at for at, word in table(heading).items() if word]
