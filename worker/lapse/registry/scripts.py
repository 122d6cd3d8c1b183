"""Each Lua script as a value: loaded once, with its includes, run by its digest."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import redis

from lapse.errors import RegistryRefused
from lapse.registry.connection import translated

T = TypeVar("T")

PACKAGE = Path(__file__).parents[1]
_by_digest: dict[bytes, "Script"] = {}
_INCLUDE = re.compile(r"^-- @include ([\w/]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text as Redis gets it, and the digest it is run by; ``application``: an application runs it too."""

    name: str
    text: str
    sha: str
    application: bool = True


def text(reply: bytes | str) -> str:
    """Return a reply as text."""
    return reply.decode() if isinstance(reply, bytes) else reply


def as_it_is(reply: Any) -> Any:
    """Return a reply that nobody reads, or that needs no reading."""
    return reply


@cache
def script(path: str) -> Script:
    """Return a script with every included part before it, each once, in the order of need.

    Args:
        path: Where it lies, from the package's root and without its ending: ``registry/lua/register``.

    """
    parts: dict[str, str] = {}
    lua = "\n".join(_with_includes(path, parts).values())
    sha = hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()
    return _by_digest.setdefault(sha.encode(), Script(path.rpartition("/")[2], lua, sha, path.startswith("registry/")))


def of_digest(sha: bytes) -> Script | None:
    """Return the script of a digest that this process has run or is about to; None if there is none."""
    return _by_digest.get(sha)


def _with_includes(path: str, parts: dict[str, str]) -> dict[str, str]:
    lua = (PACKAGE / f"{path}.lua").read_text(encoding="utf-8")
    for included in _INCLUDE.findall(lua):
        if included not in parts:
            _with_includes(included, parts)
    parts[path] = lua
    return parts


@dataclass(slots=True)  # not frozen: one is made for each call, in a third of the time
class Call(Generic[T]):
    """One script run on one slot, and what its reply means."""

    script: Script
    key: str
    args: tuple[str | int | float, ...]
    parse: Callable[[Any], T]

    def command(self) -> bytes:
        """Return the command as it goes over the wire."""
        return packed("EVALSHA", self.script.sha, 1, self.key, *self.args)

    def read(self, reply: Any) -> T:
        """Return what a reply means.

        Raises:
            RegistryUnavailable, RegistryRefused, TooManyUses: it is an error; or it cannot be read.

        """
        if isinstance(reply, redis.RedisError):
            raise translated(reply)
        try:
            return self.parse(reply)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise RegistryRefused(f"the registry's reply to {self.script.name} cannot be read: {error}") from error

    def load(self) -> bytes:
        """Return the command that makes the server know the script."""
        return packed("SCRIPT", "LOAD", self.script.text)


def packed(*parts: str | float) -> bytes:
    """Return one command as RESP has it: an array of bulk strings (redis.io/docs/reference/protocol-spec).

    redis-py's own packing costs more than all else that a registration does in Python.
    """
    texts = list(map(str, parts))
    sized = [f"${len(text)}\r\n{text}\r\n" for text in texts]
    command = f"*{len(texts)}\r\n{''.join(sized)}"
    if command.isascii():
        return command.encode()
    return b"".join([b"*%d\r\n" % len(texts), *(b"$%d\r\n%b\r\n" % (len(raw), raw) for raw in map(str.encode, texts))])
