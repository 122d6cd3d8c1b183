"""What a registration says beyond its names: checked, as it is stored, and as it can be replayed. No I/O."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lapse.errors import InvalidResource
from lapse.registry import codec
from lapse.registry.model import Resource


@dataclass(slots=True)
class Registration:
    """One checked registration: where it goes and what the script is told."""

    resource: Resource
    policy: str
    facts: dict[str, Any]
    uses: tuple[Resource, ...]


def facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a registration says beyond its names, as the script stores it.

    Raises:
        InvalidResource: there is no such fact, or it cannot be stored.

    """
    read: dict[str, Any] = {}
    if given == _NOTHING:  # most of them
        return read
    for name, value in given.items():
        if name not in _READERS:
            raise InvalidResource(f"register takes no {name!r}: it takes provider, uses, {', '.join(_READERS)}")
        if value is not None:
            field, reader = _READERS[name]
            read[field] = reader(value, name)
    if "at" in read and "within" in read:
        raise InvalidResource("expires_in and expires_at: give one of them")
    if read.get("active", read.get("created", 0)) < read.get("created", 0):
        raise InvalidResource("last_active_at lies before created_at")
    return read


def _short_text(value: object, what: str) -> str:
    return codec.text(value, what, 512)  # the providers' own limit for a metadata value


MOST = 16
"""Labels, and subjects, of one id: as many as the pairs of a provider's metadata."""


def subjects(value: object, what: str = "subject") -> list[str]:
    """Return whose data something is: one name, or up to 16.

    Raises:
        InvalidResource: none, more, or one that is blank or cannot be stored.

    """
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple | set | frozenset) or not 0 < len(given) <= MOST:
        raise InvalidResource(f"{what} {ascii(value)[:80]}: give a name, or 1 to {MOST} of them in a list")
    names = {_short_text(name, what) for name in given}
    if blank := [name for name in names if not name.strip()]:
        raise InvalidResource(f"{what} {blank[0]!a} is blank: give a name")
    return sorted(names)


def _subject(value: object, what: str) -> str | list[str]:
    names = subjects(value, what)
    return names if len(names) > 1 else names[0]


def _labels(value: object, what: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > MOST:
        raise InvalidResource(f"{what}: give at most {MOST} pairs of text")
    return {_short_text(key, f"{what} key"): _short_text(text, f"{what} value") for key, text in value.items()}


_READERS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "created_at": ("created", codec.past),
    "last_active_at": ("active", codec.past),
    "expires_at": ("at", codec.moment),
    "expires_in": ("within", codec.span),
    "subject": ("subject", _subject),
    "labels": ("labels", _labels),
}
"""Parameter of register -> the field that stores it, and what reads it."""
_NOTHING = dict.fromkeys(_READERS)


def replayable(registration: Registration) -> dict[str, object]:
    """Return a registration as ``register`` takes it, in types that JSON knows."""
    facts, resource = registration.facts, registration.resource
    seconds = {"created_at": "created", "last_active_at": "active", "expires_at": "at", "expires_in": "within"}
    shown: dict[str, object] = {
        "provider": resource.provider,
        "kind": resource.kind,
        "id": resource.id,
        "policy": registration.policy,
    }
    shown |= {name: facts[field] / 1000 for name, field in seconds.items() if field in facts}
    shown |= {name: facts[name] for name in ("subject", "labels") if name in facts}
    if registration.uses:
        shown["uses"] = [[use.provider, use.kind, use.id] for use in registration.uses]
    return shown


def request_id(value: object) -> str:
    """Return a request's id in its one form.

    Raises:
        InvalidResource: it is no UUID.

    """
    try:
        parsed = uuid.UUID(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.int == 0:
        raise InvalidResource(f"request id {str(value)[:80]!r}: give a UUID, such as {uuid.uuid4()}")
    return str(parsed)
