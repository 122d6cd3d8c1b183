"""The request to erase a subject, as it is stored, and what became of each id that it found. No I/O."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from lapse.registry import codec
from lapse.registry.model import Resource


class State(StrEnum):
    """How far a request has come."""

    OPEN = "open"
    """Something is left to do, or may still come: registrations that are late."""
    COMPLETE = "complete"
    """Every id is gone, and the time for late registrations has passed."""
    REFUSED = "refused"
    """An application asked, and the policy file does not let it."""


class Fate(StrEnum):
    """What became of one id of a request."""

    ERASED = "erased"
    """The provider confirmed its deletion."""
    ALREADY_GONE = "already_gone"
    """It was gone, and that was proven."""
    HELD = "held"
    IN_USE = "in_use"
    """Something that is not the subject's alone uses it, or it is another subject's too."""
    PENDING = "pending"
    """It is to be deleted, and was not yet."""
    UNPROVABLE = "unprovable"
    """Nobody can say whether it is gone."""


GONE = frozenset({Fate.ERASED, Fate.ALREADY_GONE})


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """What was asked for. Times are registry milliseconds.

    Attributes:
        id: Its UUID.
        subject: Whose data; "" once the record of it has ended, and only counts are left.
        at: When it was said to the registry: what is created by ``until`` belongs to it.
        until: Until when a registration may name a creation that belongs to it.
        received: When the person asked.
        due: By when it has to be done.
        reason: Why, in the words of who said it; may be empty.
        actor: Who said it.
        by_application: True if an application did.
        taken: When a worker took it up from an application; None: nobody had to.
        providers: The accounts that were confirmed.
        state: How far it has come.
        began: When every id of the registry could be found by its subject; None: not yet.
        completed: When it was complete; None: it is not.
        counts: How many ids have which fate, as a worker last saw it.
        doubts: Why it would not be complete even if every id were gone, as a worker last saw it.

    """

    id: str
    subject: str
    at: int
    until: int
    received: int
    due: int
    reason: str = ""
    actor: str = ""
    by_application: bool = False
    taken: int | None = None
    providers: tuple[str, ...] = ()
    state: State = State.OPEN
    began: int | None = None
    completed: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def stored(self) -> str:
        """Return its JSON, without what says nothing."""
        fields = ((name, getattr(self, name)) for name in self.__slots__ if name != "id")
        said = {name: value for name, value in fields if value not in (None, "", (), {}, False)}
        return codec.dump({name: list(value) if isinstance(value, tuple) else value for name, value in said.items()})

    @classmethod
    def read(cls, id_: str, stored: str | bytes) -> Self:
        """Return it from its JSON."""
        said: dict[str, Any] = json.loads(stored)
        known = {name: said[name] for name in cls.__slots__ if name in said}
        for name in ("providers", "doubts"):
            known[name] = tuple(known.get(name, ()))
        known["state"] = State(known.get("state", State.OPEN))
        return replace(cls(id_, "", 0, 0, 0, 0), **known)


@dataclass(frozen=True, slots=True)
class ErasedId:
    """One id of a request, and what became of it.

    Attributes:
        resource: The id.
        fate: What became of it.
        detail: The proof, the reason, what uses it, or why it waits.
        at: When the provider's answer came, in registry milliseconds; None: there is none.
        status: That answer's HTTP status.
        request_id: What the provider calls the request.
        policy: The policy under which it was registered.
        again: When it is tried next, in registry milliseconds; None: nothing says so.
        blocked: True if it waits for an operator.
        halted: True if that is for a halt or pause.

    """

    resource: Resource
    fate: Fate
    detail: str = ""
    at: int | None = None
    status: int | None = None
    request_id: str | None = None
    policy: str | None = None
    again: int | None = None
    blocked: bool = False
    halted: bool = False


@dataclass(frozen=True, slots=True)
class ErasureAccount:
    """A request with everything that it found.

    Attributes:
        request: What was asked for.
        ids: Every id, by provider, kind and id.
        unsubjected: How many ids are registered of which ``require=("subject",)`` noted that no subject was said.
        along: What may go along with these, and with which; asked for before a request begins only.

    """

    request: ErasureRequest
    ids: Sequence[ErasedId]
    unsubjected: int = 0
    along: Sequence[tuple[Resource, Resource]] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many ids have which fate."""
        return {fate: n for fate in Fate if (n := sum(one.fate == fate for one in self.ids))}

    @property
    def open(self) -> tuple[ErasedId, ...]:
        """The ids that are not gone."""
        return tuple(one for one in self.ids if one.fate not in GONE)
