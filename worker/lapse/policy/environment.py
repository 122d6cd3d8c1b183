"""The environment's overrides of the policy file: ``LAPSE_POLICIES__CHAT__MODE=enforce``. No I/O.

Two underscores step into a table. Keys and names are compared without case, and ``-`` and ``.`` in a name are written
``_``. A value is read as TOML reads it, and else taken as text. Providers and policies are named by the file alone: a
variable changes what it has or adds a key, so a mistyped name is an error and never a new policy.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from lapse.policy.positions import Path
from lapse.policy.problems import Problem
from lapse.policy.schema import NAMED, SECTIONS, keys_of

PREFIX = "LAPSE_"
STEP = "__"


@dataclass(slots=True)
class Overrides:
    """The tables with the environment's values in them, which variable set which key, and which could not."""

    tables: dict[str, Any]
    variables: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def overridden(tables: dict[str, Any], environ: Mapping[str, str]) -> Overrides:
    """Put the environment's overrides into the file's tables."""
    made = Overrides(tables)
    known = dict(_known(tables))
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        problem = _override(made, known, name, environ[name].strip()) if STEP in name else _slip(known, name)
        if problem:
            made.problems.append(Problem((), problem, name))
    return made


def _override(made: Overrides, known: Mapping[str, Path], name: str, text: str) -> str | None:
    """Set one key, or return why that cannot be."""
    # A variable may go deeper than the keys of a table: LAPSE_LIMITS__MAX_DELETIONS__AMOUNT.
    steps = name.upper().split(STEP)
    depth = next((depth for depth in range(len(steps), 0, -1) if STEP.join(steps[:depth]) in known), 0)
    if not depth or not all(steps):
        close = get_close_matches(name.upper(), known, n=1)
        return f"sets no key of the policy file: {f'did you mean {close[0]}?' if close else 'unset it'}"
    path = (*known[STEP.join(steps[:depth])], *(step.lower() for step in steps[depth:]))
    if path[1] == _AMBIGUOUS:
        return "fits more than one name in the policy file: change the file instead"
    if path in made.variables:
        return f"sets the same key as {made.variables[path]}: unset one of them"
    if not text:
        return "is blank: give it a value, or unset it"
    table: Any = made.tables
    for depth, step in enumerate(path[:-1], start=1):
        if not isinstance(table.get(step), dict):
            table[step] = {}
            made.variables[path[:depth]] = name
        table = table[step]
    table[path[-1]] = _value(path, text)
    made.variables[path] = name
    return None


def _slip(known: Mapping[str, Path], name: str) -> str | None:
    """Return what is wrong with a name that would be a key with two underscores in the place of one."""
    meant = next((full for full in known if full.replace(STEP, "_") == name.upper()), None)
    return f"sets nothing: did you mean {meant}, with two underscores?" if meant else None


_AMBIGUOUS = ""


def _known(tables: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield every key that a variable may set behind the variable's name in capitals."""
    for section, model in SECTIONS.items():
        for key in keys_of(model):
            yield f"{PREFIX}{section}{STEP}{key}".upper(), (section, key)
    for section, model in NAMED.items():
        folded: dict[str, str] = {}
        names = tables.get(section)
        for name in names if isinstance(names, Mapping) else ():
            short = name.upper().replace("-", "_").replace(".", "_")
            folded[short] = _AMBIGUOUS if short in folded else name
        for short, name in folded.items():
            for key in keys_of(model):
                yield f"{PREFIX}{section}{STEP}{short}{STEP}{key}".upper(), (section, name, key)


def _value(path: Path, text: str) -> object:
    """Return a number, boolean, array, table or quoted text as TOML reads it, and everything else as text."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = document.pop("value")
    if document or not isinstance(value, bool | int | float | list | dict | str):
        return text
    return value if isinstance(value, str) or not _takes_text(path) else text


def _takes_text(path: Path) -> bool:
    """Return True for a key whose value is text, so that ``ORGANIZATION=12345`` needs no quotes."""
    section, key = path[0], path[2 if path[0] in NAMED else 1]
    annotation = get_type_hints((SECTIONS | NAMED)[str(section)])[str(key)]
    return str in (annotation, *get_args(annotation))
