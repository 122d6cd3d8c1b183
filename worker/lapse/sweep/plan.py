"""A plan as a file: which ids are to be deleted, and everything that has to be unchanged when it is applied.

The file is for reading, and not for editing: its hash covers all of it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lapse.errors import ConfigError, InvalidResource
from lapse.registry import keys

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Doomed:
    """One id of a plan: ``due`` in registry milliseconds, ``by`` what makes it due, ``alone`` after a crash."""

    id: str
    due: int
    by: str
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A plan's ids of one policy and kind, in the order in which they go; ``digest``: the rules that made them due."""

    kind: str
    policy: str
    digest: str
    mode: str
    ids: tuple[Doomed, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be deleted at one provider.

    Attributes:
        provider: As the policy file calls it.
        place: What tells this account from others: see ``Account.place``.
        namespace: The registry's.
        epoch: The registry's; empty before a worker has begun one.
        made_at: When, in registry milliseconds.
        made_by: Who, user@host.
        parts: The ids.

    """

    provider: str
    place: str
    namespace: str
    epoch: str
    made_at: int
    made_by: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """How many ids it names."""
        return sum(len(part.ids) for part in self.parts)

    @property
    def hash(self) -> str:
        """12 hex digits over all of it."""
        return _hash({"lapse_plan": FORMAT, **asdict(self)})

    def text(self) -> str:
        """Return it as a file has it."""
        return json.dumps({"lapse_plan": FORMAT, "hash": self.hash, **asdict(self)}, indent=1) + "\n"


def read(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        ConfigError: it cannot be read, is no plan, or is not as it was written.

    """
    again = "make a new one with `lapse plan -o FILE`"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a plan ({error}): {again}") from None
    if not isinstance(stored, dict) or stored.get("lapse_plan") != FORMAT:
        raise ConfigError(f"{path} is no plan that this version of lapse knows: {again}")
    said = stored.pop("hash", None)
    if said != _hash(stored):
        raise ConfigError(f"{path} was changed after it was written: a plan is applied as it was made, so {again}")
    try:
        return _plan(stored)
    except (KeyError, TypeError, InvalidResource) as error:
        raise ConfigError(f"{path} is no plan ({error!r}): {again}") from None


def _plan(stored: Mapping[str, Any]) -> Plan:
    parts = tuple(
        Part(**{**part, "ids": tuple(Doomed(**{**one, "id": keys.identifier(one["id"])}) for one in part["ids"])})
        for part in stored["parts"]
    )
    return Plan(**{name: value for name, value in stored.items() if name not in {"lapse_plan", "parts"}}, parts=parts)


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
