"""What each call of the registry sends and how its reply reads; ``client`` and ``aio`` only carry it. No I/O."""

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from lapse import advice, codec, keys
from lapse.codec import When
from lapse.errors import ConfigError, InvalidResource
from lapse.model import Answer, Record, Registered, Resource, from_millis
from lapse.scripts import Call, script

T = TypeVar("T")

BULK = 500


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One round trip: the calls, what their replies mean together, and what is lost if they fail."""

    calls: tuple[Call[Any], ...]
    finish: Callable[[list[Any]], T]
    fallback: T
    describe: Callable[[], list[dict[str, object]]]


@dataclass(frozen=True, slots=True)
class Bulk:
    """What ``register_many`` did: ids registered, how many of them were new, how many no worker manages."""

    registered: int = 0
    new: int = 0
    unmanaged: int = 0

    def __add__(self, other: "Bulk") -> "Bulk":
        return Bulk(self.registered + other.registered, self.new + other.new, self.unmanaged + other.unmanaged)


@dataclass(frozen=True, slots=True)
class Registration:
    """One checked registration: where it goes and what the script is told."""

    resource: Resource
    policy: str
    facts: dict[str, Any]
    uses: tuple[Resource, ...]


FAILED = Registered(due=None, governed_by="unavailable", new=False, managed=False)


@cache
def actor() -> str:
    """Return who acts from here, for holds and audit records: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Commands:
    """The commands of one namespace, with the provider that applies where a call names none."""

    def __init__(self, namespace: str, provider: str | None) -> None:
        self.namespace = keys.name(namespace, "namespace")
        self._provider = provider

    def provider(self, given: str | None) -> str:
        """Return the provider of a call: its own, the constructor's, or ``LAPSE_PROVIDER``.

        Raises:
            ConfigError: none of them.

        """
        chosen = given or self._provider or os.environ.get("LAPSE_PROVIDER")
        if not chosen:
            raise ConfigError("which provider? Give provider= to the call or to Registry(), or set LAPSE_PROVIDER")
        return keys.name(chosen, "provider")

    def resource(self, kind: str, id_: str, provider: str | None) -> Resource:
        """Return the resource a call names."""
        return Resource(self.provider(provider), keys.name(kind, "kind"), keys.identifier(id_))

    def call(self, name: str, resource: Resource, *args: str | float, parse: Callable[[Any], T]) -> Call[T]:
        """Return a call of a script on the slot of a resource."""
        return self.on_slot(name, resource.provider, resource.kind, resource.id, *args, parse=parse)

    def on_slot(self, name: str, provider: str, kind: str, *args: str | float, parse: Callable[[Any], T]) -> Call[T]:
        """Return a call of a script on one slot."""
        return Call(script(name), keys.slot(self.namespace, provider, kind), (provider, kind, *args), parse)

    def registration(self, kind: str, id: str, policy: str, **given: Any) -> Registration:  # noqa: A002, ANN401 - register()'s own parameters
        """Check one registration.

        Raises:
            ConfigError: no provider.
            InvalidResource: anything in it cannot be stored.

        """
        resource = self.resource(kind, id, given.pop("provider", None))
        uses = tuple(codec.edges(given.pop("uses", None) or (), resource.provider))
        if resource in uses:  # the use is refused, never the registration: the id would be lost
            advice.itself(resource.kind, resource.id)
            uses = tuple(use for use in uses if use != resource)
        facts = _facts(given)
        if uses:
            facts["uses"] = [codec.edge_text(use) for use in uses]
        return Registration(resource, keys.name(policy, "policy"), facts, uses)

    def register(self, registration: Registration) -> Operation[Registered]:
        """Return the round trip that registers one resource.

        Its edges go first, so that a target is never unprotected, and last, so that whoever removes those of an
        earlier life just now never has the last word (``release.py``).
        """
        refers = self._refer([registration])
        return Operation(
            (*refers, self._register([registration]), *refers),
            lambda replies: _registered(replies[len(refers)]),
            FAILED,
            lambda: [_replayable(registration)],
        )

    def register_many(self, registrations: Iterable[Registration]) -> Operation[Bulk]:
        """Return the round trip that registers up to BULK resources."""
        chosen = list(registrations)
        slots: dict[tuple[str, str], list[Registration]] = {}
        for one in chosen:
            slots.setdefault((one.resource.provider, one.resource.kind), []).append(one)
        refers = self._refer([one for one in chosen if one.uses])
        calls = [*refers, *(self._register(group) for group in slots.values()), *refers]

        def finish(replies: list[Any]) -> Bulk:
            return sum((_bulk(reply) for reply in replies[len(refers) :][: len(slots)]), Bulk())

        return Operation(tuple(calls), finish, Bulk(), lambda: [_replayable(one) for one in chosen])

    def touch(self, resource: Resource) -> Operation[Answer]:
        """Return the round trip that moves last activity to now."""
        return self._answer("touch", resource)

    def hold(self, resource: Resource, reason: str, by: str | None, until: When | None) -> Operation[Answer]:
        """Return the round trip that stores a hold."""
        if not reason or not reason.strip():
            raise InvalidResource(f"hold of {resource.id}: say why (reason=)")
        end = None if until is None else codec.moment(until, "until")
        stored = {"reason": reason, "actor": by or actor(), "since": codec.now_millis()}
        if end:
            stored["until"] = end
        return self._answer(
            "hold",
            resource,
            codec.dump(stored),
            end or "",
            reason=reason,
            actor=stored["actor"],
            until=end and end / 1000,
        )

    def unhold(self, resource: Resource, by: str | None) -> Operation[Answer]:
        """Return the round trip that removes a hold."""
        return self._answer("unhold", resource, codec.dump(by or actor()))

    def forget(self, resource: Resource, *, release: bool = False) -> Operation[Answer]:
        """Return the round trip that stops tracking an id, and with ``release`` stops protecting what it uses."""
        more = ("release",) if release else ()
        call = self.call("forget", resource, *more, parse=lambda reply: Answer(_text(reply[0])))
        return Operation((call,), _only, Answer.FAILED, _described("forget", resource, {"release": release or None}))

    def expire(self, resource: Resource, at: When | None) -> Operation[Answer]:
        """Return the round trip that gives an id an expiry of its own, now if no time is given."""
        moment = None if at is None else codec.moment(at, "at")
        return self._answer("expire", resource, "" if moment is None else moment, at=moment and moment / 1000)

    def get(self, resource: Resource) -> Operation[Record | None]:
        """Return the round trip that reads one record."""
        call = self.call("get", resource, parse=lambda reply: codec.record(resource, _text(reply)))
        return Operation((call,), _only, None, _described("get", resource, {}))

    def _answer(self, name: str, resource: Resource, *args: str | float, **said: object) -> Operation[Answer]:
        call = self.call(name, resource, *args, parse=lambda reply: Answer(_text(reply)))
        return Operation((call,), _only, Answer.FAILED, _described(name, resource, said))

    def _register(self, group: list[Registration]) -> Call[list[Any]]:
        resource = group[0].resource
        triples: list[str | float] = []
        for one in group:
            triples += (one.resource.id, one.policy, codec.dump(one.facts) if one.facts else "")
        return self.on_slot("register", resource.provider, resource.kind, *triples, parse=list)

    def _refer(self, registrations: list[Registration]) -> list[Call[Any]]:
        calls: list[Call[Any]] = []
        for one in registrations:
            targets: dict[tuple[str, str], list[str]] = {}
            for use in one.uses:
                targets.setdefault((use.provider, use.kind), []).append(use.id)
            source = codec.edge_text(one.resource)
            calls += [self.on_slot("refer", *slot, source, *ids, parse=int) for slot, ids in targets.items()]
        return calls


def _facts(given: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    readers: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
        "created_at": ("created", codec.past),
        "last_active_at": ("active", codec.past),
        "expires_at": ("at", codec.moment),
        "expires_in": ("within", codec.span),
        "subject": ("subject", _short_text),
        "labels": ("labels", _labels),
    }
    for name, value in given.items():
        if name not in readers:
            raise InvalidResource(f"register takes no {name!r}: it takes provider, uses, {', '.join(readers)}")
        if value is not None:
            field, read = readers[name]
            facts[field] = read(value, name)
    if "at" in facts and "within" in facts:
        raise InvalidResource("expires_in and expires_at: give one of them")
    if facts.get("active", facts.get("created", 0)) < facts.get("created", 0):
        raise InvalidResource("last_active_at lies before created_at")
    return facts


def _short_text(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 512:  # noqa: PLR2004 - the providers' own limit for a metadata value
        raise InvalidResource(f"{what} {str(value)[:80]!r}: give text of 1 to 512 characters")
    return value


def _labels(value: object, what: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > 16:  # noqa: PLR2004 - as many as a provider's metadata
        raise InvalidResource(f"{what}: give at most 16 pairs of text")
    return {_short_text(key, f"{what} key"): _short_text(text, f"{what} value") for key, text in value.items()}


def _replayable(registration: Registration) -> dict[str, object]:
    facts, resource = registration.facts, registration.resource
    seconds = {"created_at": "created", "last_active_at": "active", "expires_at": "at", "expires_in": "within"}
    shown: dict[str, object] = {
        "provider": resource.provider, "kind": resource.kind, "id": resource.id, "policy": registration.policy,
    }  # fmt: skip
    shown |= {name: facts[field] / 1000 for name, field in seconds.items() if field in facts}
    shown |= {name: facts[name] for name in ("subject", "labels") if name in facts}
    if registration.uses:
        shown["uses"] = [[use.provider, use.kind, use.id] for use in registration.uses]
    return shown


def _described(name: str, resource: Resource, said: Mapping[str, object]) -> Callable[[], list[dict[str, object]]]:
    named = {"call": name, "provider": resource.provider, "kind": resource.kind, "id": resource.id}
    return lambda: [named | {what: value for what, value in said.items() if value is not None}]


def _only(replies: list[Any]) -> Any:  # noqa: ANN401 - the one call's own type
    return replies[0]


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply


def _registered(reply: list[Any]) -> Registered:
    due, by, new, managed = reply
    return Registered(from_millis(due) if due >= 0 else None, _text(by), new == 1, managed == 1)


def _bulk(reply: list[Any]) -> Bulk:
    if len(reply) == 4:  # noqa: PLR2004 - the answer to a single registration
        return Bulk(1, reply[2], 1 - reply[3])
    registered, new, managed = reply
    return Bulk(registered, new, registered - managed)


def names(reply: object) -> list[str]:
    """Return the "provider/kind/policy" names that workers published."""
    return [] if reply is None else list(json.loads(_text(reply)))  # type: ignore[arg-type]
