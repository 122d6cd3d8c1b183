"""The environment's overrides of the policy file: ``LAPSE_POLICIES__CHAT__MODE=enforce``. No I/O.

Two underscores step into a table. Names are compared without case, and ``-`` and ``.`` in a name are written ``_``.
"""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from lapse.errors import ConfigError
from lapse.policy.models import NAMED, SECTIONS
from lapse.policy.positions import Path

PREFIX = "LAPSE_"
STEP = "__"


def overridden(tables: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[Path, str]]:
    """Return the tables with the environment's values in them, and which variable set which key.

    Raises:
        ConfigError: a variable that names no key; all of them at once.

    """
    changed, variables, problems = _copy(tables), dict[Path, str](), []
    for name in sorted(environ):
        if name.startswith(PREFIX) and STEP in name:
            path = _path(name, changed)
            if path is None:
                problems.append(f"{name}: {_near(name, changed)}")
            else:
                _put(changed, path, _value(environ[name]))
                variables[path] = name
    if problems:
        raise ConfigError("\n".join(problems))
    return changed, variables


def _copy(value: Any) -> Any:  # noqa: ANN401 - any TOML
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _path(name: str, tables: Mapping[str, Any]) -> Path | None:
    section, *rest = name.removeprefix(PREFIX).lower().split(STEP)
    if section in SECTIONS and rest and rest[0] in SECTIONS[section].model_fields:
        return (section, *rest)
    if section in NAMED and len(rest) > 1 and rest[1] in NAMED[section].model_fields:
        written = next((key for key in tables.get(section, {}) if _folded(key) == rest[0]), rest[0])
        return (section, written, *rest[1:])
    return None


def _folded(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _put(tables: dict[str, Any], path: Path, value: object) -> None:
    for step in path[:-1]:
        inner = tables.get(str(step))
        if not isinstance(inner, dict):
            inner = tables[str(step)] = {}
        tables = inner
    tables[str(path[-1])] = value


def _value(text: str) -> object:
    """Return a number, boolean, array or table as TOML reads it, and everything else as text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | list | dict | str) else text


def _near(name: str, tables: Mapping[str, Any]) -> str:
    known = [
        f"{PREFIX}{section}{STEP}{key}".upper() for section, model in SECTIONS.items() for key in model.model_fields
    ]
    for section, model in NAMED.items():
        for written in tables.get(section, {}):
            known += [f"{PREFIX}{section}{STEP}{_folded(written)}{STEP}{key}".upper() for key in model.model_fields]
    close = get_close_matches(name, known, n=1)
    return f"sets no key of the policy file: {f'did you mean {close[0]}?' if close else 'unset it'}"
