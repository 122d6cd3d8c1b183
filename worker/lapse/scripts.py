"""Each Lua script as a value: loaded once, with its includes, run by its digest."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

FOLDER = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text as Redis gets it, and the digest it is run by."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return ``lua/<name>.lua`` with every included part before it, each once, in the order of need."""
    parts: dict[str, str] = {}
    text = "\n".join(_with_includes(FOLDER / f"{name}.lua", parts).values())
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _with_includes(path: Path, parts: dict[str, str]) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    for included in _INCLUDE.findall(text):
        if included not in parts:
            _with_includes(FOLDER / f"{included}.inc.lua", parts)
    parts[path.name.split(".")[0]] = text
    return parts


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One script run on one slot, and what its reply means."""

    script: Script
    key: str
    args: tuple[str | int | float, ...]
    parse: Callable[[Any], T]

    def command(self) -> tuple[str | int | float, ...]:
        """Return the command as Redis takes it."""
        return ("EVALSHA", self.script.sha, 1, self.key, *self.args)

    def load(self) -> tuple[str, str, str]:
        """Return the command that makes the server know the script."""
        return ("SCRIPT", "LOAD", self.script.text)
