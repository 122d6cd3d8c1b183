"""What the stand-in keeps, in memory: projects, and in each of them objects by kind. No I/O."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

_ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_ALNUM = bytes(ord(_ALNUM[byte % len(_ALNUM)]) for byte in range(256))

DEFAULT_PROJECT = "default"
KINDS = (
    "thread",
    "message",
    "run",
    "assistant",
    "conversation",
    "conversation_item",
    "file",
    "vector_store",
    "vector_store_file",
    "response",
    "container",
    "chat_completion",
)
INSIDE = {"message": "thread", "vector_store_file": "vector_store", "conversation_item": "conversation"}
"""Kinds that lie in another's objects."""


def alnum_ids(prefix: str, count: int, length: int = 24) -> list[str]:
    """Return fresh ids of a prefix and random letters and digits, as threads and assistants have them."""
    drawn = os.urandom(count * length).translate(_TO_ALNUM).decode()
    return [prefix + drawn[at : at + length] for at in range(0, count * length, length)]


def hex_ids(prefix: str, count: int, length: int = 48) -> list[str]:
    """Return fresh ids of a prefix and random hexadecimal digits, as conversations and items have them."""
    drawn = os.urandom(count * length // 2).hex()
    return [prefix + drawn[at : at + length] for at in range(0, count * length, length)]


@dataclass(slots=True)
class Stored:
    """One object: its body as the API shows it, and the bodies of what lies in it in order of creation."""

    body: Json
    children: dict[str, Json] = field(default_factory=dict)


class Project:
    """The objects that one project's keys can see, in order of creation."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Stored]] = {kind: {} for kind in KINDS if kind not in INSIDE}
        self.leftover: dict[str, Json] = {}
        """Items of deleted conversations: the provider does not delete them with their conversation."""

        self.lingering: dict[str, dict[str, tuple[int, Stored]]] = {}
        """Kind -> deleted objects that its list goes on showing, and until when."""

    def listed(self, kind: str) -> dict[str, Stored]:
        """Return what a list of a kind shows: what exists, and what was deleted a moment ago."""
        at = now()
        late = {id_: stored for id_, (until, stored) in self.lingering.get(kind, {}).items() if until > at}
        return late | self.kept[kind] if late else self.kept[kind]

    def alive(self, kind: str) -> Iterable[str]:
        """Return the ids that exist of a kind.

        Raises:
            KeyError: the stand-in keeps no such kind.

        """
        if kind not in INSIDE:
            return self.kept[kind]
        inside = [child for stored in self.kept[INSIDE[kind]].values() for child in stored.children]
        return [*inside, *self.leftover] if kind == "conversation_item" else inside


class World:
    """All projects, and which key opens which.

    Args:
        keys: API key to project name. Empty: any key is accepted, and all of them open one project.
        holds: What a new project is.

    """

    def __init__(self, keys: Mapping[str, str] | None = None, holds: type[Project] = Project) -> None:
        self._holds = holds
        self._keys = {f"Bearer {key}": name for key, name in (keys or {}).items()}
        self.projects: dict[str, Project] = {}
        self.reset()

    @property
    def locked(self) -> bool:
        """True if only some keys are accepted."""
        return bool(self._keys)

    @property
    def default(self) -> Project:
        """The project of whoever comes without a key of its own."""
        return self.projects[DEFAULT_PROJECT]

    def reset(self) -> None:
        """Forget every object but those that the provider makes itself."""
        self.projects.clear()
        for name in (DEFAULT_PROJECT, *self._keys.values()):
            self.projects.setdefault(name, self._holds())

    def opened_by(self, authorization: str) -> Project | None:
        """Return the project that an ``Authorization`` header opens, None for a key that is not accepted."""
        if not self._keys:
            return self.projects[DEFAULT_PROJECT] if authorization.startswith("Bearer ") else None
        name = self._keys.get(authorization)
        return None if name is None else self.projects[name]

    def alive(self, kind: str, project: str | None = None) -> list[str]:
        """Return the ids that exist of a kind, in one project or in all.

        Raises:
            KeyError: the stand-in keeps no such kind or project.

        """
        chosen = self.projects.values() if project is None else [self.projects[project]]
        return [id_ for each in chosen for id_ in each.alive(kind)]


def now() -> int:
    """Return the time an object created now carries: whole seconds since 1970."""
    return int(time.time())
