"""From the file's text and the environment to one frozen Config, or to all that is wrong with it at once."""

import re
import stat
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lapse.errors import ConfigError
from lapse.policy import positions
from lapse.policy.checks import check
from lapse.policy.compile import compiled
from lapse.policy.environment import overridden
from lapse.policy.positions import Positions
from lapse.policy.problems import Problem, dotted, explain, report
from lapse.policy.rules import Config
from lapse.policy.schema import ELSEWHERE, SECTIONS, PolicyFile, keys_at

LARGEST = 1_000_000
"""Bytes. Whatever is larger is some other file."""
_TWICE = re.compile(r"twice|overwrite|[Dd]uplicate|immutable|redefine")
_VALUE = re.compile(r"Invalid value|Expected newline")
_BARE_WORD = re.compile(r"=\s*[A-Za-z0-9][^\"'\[{=#]*$")


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the policy file with the environment's overrides.

    Raises:
        ConfigError: it cannot be read, or is wrong: every problem on a line of its own, with file, line and key.

    """
    return parse(read(path), called(path), environ, path)


def read(path: Path) -> str:
    """Return the text of a policy file.

    Raises:
        ConfigError: it is not there, not readable, not a file, too large or not UTF-8.

    """
    try:
        status = path.stat()
        # Opening a pipe would wait for its writer for ever.
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{called(path)}: is not a file")
        if status.st_size > LARGEST:
            raise ConfigError(f"{called(path)}: is larger than {LARGEST} bytes: it is some other file")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{called(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{called(path)}:{line}: is not UTF-8 text") from None


def called(path: Path) -> str:
    """Return what messages call a file: its path below the current directory, or all of it."""
    full = path.absolute()
    return str(full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full)


def parse(
    text: str, name: str, environ: Mapping[str, str], path: Path | None = None, *, today: date | None = None
) -> Config:
    """Return the config of a policy file's text.

    Args:
        text: TOML.
        name: What errors call it.
        environ: Where overrides are taken from.
        path: Where it was read.
        today: The day it is for; None: today.

    Raises:
        ConfigError: it is wrong: every problem on a line of its own, with file, line and key.

    """
    made = overridden(_tables(text, name), environ)
    file, broken, problems = _validated(made.tables)
    problems += [*check(file, broken, today or datetime.now(UTC).date(), environ), *made.problems]
    if problems:
        raise ConfigError(report(problems, name, Positions(text), made.variables))
    return compiled(file, path, tuple(sorted(set(made.variables.values()))))


def _tables(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_not_toml(str(error), text, name)) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}:1: is nested too deeply, or holds a number that is too long") from None


def _not_toml(said: str, text: str, name: str) -> str:
    """Return what a mistake in the TOML itself is, with the key it is in; values are not repeated."""
    found = re.search(r" \(at (?:line (\d+)|end of document)", said)
    lines = text.split("\n")
    until = int(found[1]) if found and found[1] else len(lines)
    before = Positions("\n".join(lines[:until]))
    what = said.split(" (at ", maxsplit=1)[0]
    if before.repeated and _TWICE.search(said):
        first = before.line(before.repeated)
        told = f"is written a second time (first on line {first}): rename one of them, or merge the two"
        return f"{name}:{until}: {dotted(before.repeated)}: {told}"
    line = until if found and found[1] else before.line(before.last)
    bare = _VALUE.search(what) and _BARE_WORD.search(lines[line - 1].rstrip())
    hint = '; text needs quotes, as in ttl = "30d"' if bare else ""
    key = "the file" if what == "Invalid statement" or not before.last else dotted(before.last)
    return f"{name}:{line}: {key}: is not TOML: {what}{hint}"


def _validated(tables: dict[str, Any]) -> tuple[PolicyFile, set[positions.Path], list[Problem]]:
    """Return the tables without what is wrong by itself, where that was, and what is wrong with it."""
    try:
        return PolicyFile.model_validate(tables), set(), []
    except ValidationError as error:
        problems = explain(error, keys_at, ELSEWHERE)
    broken = {problem.path[: 2 if problem.path[0] in SECTIONS else 3] for problem in problems}
    for path in sorted(broken, key=len, reverse=True):
        table: Any = tables
        for step in path[:-1]:
            table = table[step]
        table.pop(path[-1], None)
    return PolicyFile.model_validate(tables), broken, problems
