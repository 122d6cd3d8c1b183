"""What ``--json`` prints, held to its schema: docs/reference/json.schema.json has one for each command."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "json.schema.json").read_text())
COMMANDS: dict[str, Any] = SCHEMA["properties"]
LINES = "x-lines"


def check(arguments: Sequence[str], out: str) -> None:
    """Hold what a command printed to its schema; without ``--json``, or where nothing was printed, there is none.

    Raises:
        AssertionError: it is not what the schema says.

    """
    if "--json" not in arguments or not out:
        return
    command = next(name for name in (" ".join(arguments[:2]), arguments[0]) if name in COMMANDS)
    for document in _documents(command, out):
        wrong = [f"{error.json_path}: {error.message}" for error in validator(command).iter_errors(document)]
        assert not wrong, f"lapse {' '.join(arguments)} prints what its schema does not know: {wrong}"


@cache
def validator(command: str) -> Draft202012Validator:
    """Return what checks one document of a command."""
    return Draft202012Validator({**COMMANDS[command], "$defs": SCHEMA["$defs"]}, format_checker=FormatChecker())


def _documents(command: str, out: str) -> Iterator[Any]:
    if COMMANDS[command].get(LINES):
        try:
            yield json.loads(out)
        except ValueError:
            yield from map(json.loads, out.splitlines())
    else:
        yield json.loads(out)
