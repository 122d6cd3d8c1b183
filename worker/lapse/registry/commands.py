"""What each call of the registry sends and how its reply reads; ``protocol`` says it. No I/O."""

import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from operator import itemgetter
from typing import Any, Generic, TypeVar

from lapse.errors import ConfigError, InvalidResource, NoEpoch, TooManyUses
from lapse.registry import codec, keys, notices
from lapse.registry.codec import When
from lapse.registry.facts import Registration, facts, replayable
from lapse.registry.kind_names import singular
from lapse.registry.model import Answer, Bulk, Record, Registered, Resource, from_millis
from lapse.registry.scripts import Call, as_it_is, packed, script, text

T = TypeVar("T")

BULK = 500
USES_A_CALL = 1000
USES_AN_ID = 20_000  # as in registry/lua/register.lua
MANY = 100
"""With more uses than these in one call, an id's own are counted before anything is written: one more round trip."""
TOLD_FOR = 3600.0
"""Seconds after which a slot is named anew in ``<ns>:slots``: the registry may have been emptied since."""


@dataclass(slots=True)  # not frozen: one is made for each call, in a third of the time
class Operation(Generic[T]):
    """One round trip: the calls, what their replies mean together, and what is lost if they fail.

    Attributes:
        calls: What is sent.
        finish: Makes one answer of the parsed replies.
        describe: What was asked for, as facts to log.
        stores: True if it may be the first to write into its slots.
        before: What is asked first, each True or False: whether its id may use as much as the calls say.
        unsaid: Said instead of the calls where an id may not: to the kinds that it would have named.
        spooled: What it answers where it waits in a spool; None where it cannot wait, for it asks.
        apart: Makes an operation for each id of it.
        lasting: True if replicas have to have it too: what stands in the way of a deletion.

    """

    calls: tuple[Call[Any], ...]
    finish: Callable[[list[Any]], T]
    describe: Callable[[], list[dict[str, object]]]
    stores: bool = False
    before: tuple[Call[bool], ...] = ()
    unsaid: Callable[[], tuple[Call[Any], ...]] = tuple
    spooled: T | None = None
    apart: "Callable[[Operation[Any]], list[Operation[Any]]]" = lambda itself: [itself]
    lasting: bool = False


FAILED = Registered(due=None, governed_by="unavailable", new=False, managed=False)
SPOOLED = Registered(due=None, governed_by="spooled", new=False, managed=False)


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
        self._told: dict[str, float] = {}
        self.kinds: frozenset[str] = frozenset()
        """Kinds that workers published."""

    def provider(self, given: str | None) -> str:
        """Return the provider of a call: its own, the constructor's, or ``LAPSE_PROVIDER``.

        Raises:
            ConfigError: none of them.

        """
        chosen = given or self._provider or os.environ.get("LAPSE_PROVIDER")
        if not chosen:
            raise ConfigError("which provider? Give provider= to the call or to Registry(), or set LAPSE_PROVIDER")
        return keys.provider(chosen)

    def resource(self, kind: str, id_: str, provider: str | None) -> Resource:
        """Return the resource a call names."""
        return Resource(self.provider(provider), singular(kind, self.kinds), keys.identifier(id_))

    def news(self, operation: Operation[Any]) -> list[Call[Any]]:
        """Return the calls that name slots of which this process has not said yet that it writes there."""
        if not operation.stores:
            return []
        now = time.monotonic()
        return [call for call in operation.calls if self._told.get(call.key, -TOLD_FOR) <= now - TOLD_FOR]

    def telling(self, calls: Iterable[Call[Any]]) -> bytes:
        """Return the command that names the slots of calls in ``<ns>:slots``."""
        slots = {f"{call.args[0]}/{call.args[1]}" for call in calls}
        return packed("SADD", keys.slots(self.namespace), *sorted(slots))

    def told(self, calls: Iterable[Call[Any]]) -> None:
        """Remember that the slots of calls were named."""
        now = time.monotonic()
        self._told.update({call.key: now for call in calls})

    def call(self, name: str, resource: Resource, *args: str | float, parse: Callable[[Any], T]) -> Call[T]:
        """Return a call of a script on the slot of a resource."""
        return self.on_slot(name, resource.provider, resource.kind, resource.id, *args, parse=parse)

    def on_slot(self, name: str, provider: str, kind: str, *args: str | float, parse: Callable[[Any], T]) -> Call[T]:
        """Return a call of a script on one slot."""
        return Call(script(name), keys.slot(self.namespace, provider, kind), (provider, kind, *args), parse)

    def registration(self, kind: str, id: str, policy: str, **given: Any) -> Registration:
        """Check one registration.

        Raises:
            ConfigError: no provider.
            InvalidResource: anything in it cannot be stored.

        """
        resource = self.resource(kind, id, given.pop("provider", None))
        uses = self._uses(resource, given.pop("uses", None))
        said = facts(given)
        if uses:
            said["uses"] = [codec.edge_text(use) for use in uses]
        return Registration(resource, keys.name(policy, "policy"), said, uses)

    def register(self, registration: Registration) -> Operation[Registered]:
        """Return the round trip that registers one resource."""
        if registration.uses:
            return replace(self._storing([registration], lambda replies: _registered(replies[0])), spooled=SPOOLED)
        return Operation(  # most of them, and two microseconds less
            (self._register([registration]),),
            lambda replies: _registered(replies[0]),
            lambda: [replayable(registration)],
            stores=True,
            spooled=SPOOLED,
        )

    def checked(self, given: object) -> Registration:
        """Return one of ``register_many``'s registrations: a mapping of ``register``'s own parameters, or one checked.

        Raises:
            ConfigError: no provider.
            InvalidResource: anything in it cannot be stored.

        """
        if isinstance(given, Registration):
            return given
        if not isinstance(given, Mapping):
            raise InvalidResource(f"registration {ascii(given)[:80]}: give a mapping of register's parameters")
        missing = [name for name in ("kind", "id", "policy") if name not in given]
        if missing or not all(isinstance(name, str) for name in given):
            raise InvalidResource(f"registration {ascii(dict(given))[:80]}: it has no {', '.join(missing) or 'names'}")
        return self.registration(**given)

    def register_many(self, registrations: Iterable[Registration]) -> Operation[Bulk]:
        """Return the round trip that registers up to BULK resources."""
        chosen = list(registrations)
        return replace(
            self._storing(chosen, lambda replies: sum(map(_bulk, replies), Bulk())),
            spooled=Bulk(spooled=len(chosen)),
            apart=lambda _: list(map(self.register, chosen)),
        )

    def touch(self, resource: Resource) -> Operation[Answer]:
        """Return the round trip that moves last activity to now."""
        return self._answer("touch", resource)

    def hold(self, resource: Resource, reason: str, actor: str | None, until: When | None) -> Operation[Answer]:
        """Return the round trip that stores a hold."""
        if not codec.text(reason or " ", "reason").strip():
            raise InvalidResource(f"hold of {resource.id}: say why (reason=)")
        end = None if until is None else codec.ahead(until, f"hold of {resource.id}: until")
        stored = {"reason": reason, "actor": _actor(actor), "since": codec.now_millis()}
        if end:
            stored["until"] = end
        return replace(
            self._answer(
                "hold",
                resource,
                codec.dump(stored),
                end or "",
                reason=reason,
                actor=stored["actor"],
                until=end and end / 1000,
            ),
            stores=True,
        )

    def unhold(self, resource: Resource, actor: str | None) -> Operation[Answer]:
        """Return the round trip that removes a hold."""
        return self._answer("unhold", resource, codec.dump(_actor(actor)))

    def forget(self, resource: Resource, *, release: bool | None = None) -> Operation[Answer]:
        """Return the round trip that stops tracking an id, and with ``release`` stops protecting what it uses."""
        more = ("release",) if release else ()
        call = self.call("registry/lua/forget", resource, *more, parse=lambda reply: Answer(text(reply[0])))
        described = _described("forget", resource, {"release": release or None})
        return Operation((call,), _only, described, stores=True, spooled=Answer.SPOOLED, lasting=True)

    def expire(self, resource: Resource, at: When | None = None) -> Operation[Answer]:
        """Return the round trip that gives an id an expiry of its own, now if no time is given."""
        moment = None if at is None else codec.moment(at, "at")
        return self._answer("expire", resource, "" if moment is None else moment, at=moment and moment / 1000)

    def expire_of(self, subject: str, resource: Resource, at: When | None) -> Call[Answer]:
        """Return the call that does so if the id is a subject's: nobody else's, whatever an index says."""
        (call,) = self.expire(resource, at).calls
        return replace(call, args=(*call.args, "", subject))

    def unexpire(self, resource: Resource) -> Operation[Answer]:
        """Return the round trip that takes an id's own expiry away: it lives by its policy from now on."""
        return self._answer("unexpire", resource)

    def deleted(self, resource: Resource) -> Operation[Answer]:
        """Return the round trip that settles what the application deleted itself."""
        return replace(self._answer("deleted", resource), stores=True)

    def use(self, resource: Resource, uses: Iterable[tuple[str, ...]]) -> Operation[Answer]:
        """Return the round trip that adds to what a tracked id uses; edges go first and last, as in ``register``."""
        used = self._uses(resource, uses)
        one = Registration(resource, "", {}, used)
        refers, edges = self._refer([one]), codec.dump([codec.edge_text(use) for use in used])
        call = self.call("registry/lua/use", resource, edges, parse=lambda reply: Answer(text(reply)))
        described = _described("use", resource, {"uses": [[use.kind, use.id] for use in used]})
        return Operation(
            (*refers, call, *refers),
            itemgetter(len(refers)),
            described,
            stores=True,
            unsaid=lambda: self.unsaid([one]),
            spooled=Answer.SPOOLED,
        )

    def never_knew(self, resource: Resource) -> Operation[bool]:
        """Return the round trip that asks whether an id is new to the registry."""
        call = self.call("registry/lua/never_knew", resource, parse=bool)
        return Operation((call,), _only, _described("never_knew", resource, {}))

    def shortest_ttl(self, provider: str, kind: str) -> Operation[float | None]:
        """Return the round trip that asks for the shortest ttl of a slot's policies, in seconds."""
        call = self.on_slot("registry/lua/shortest_ttl", provider, kind, parse=lambda reply: reply / 1000 or None)
        return Operation((call,), _only, lambda: [{"call": "shortest_ttl", "provider": provider, "kind": kind}])

    def get(self, resource: Resource) -> Operation[Record | None]:
        """Return the round trip that reads one record."""
        call = self.call("registry/lua/get", resource, parse=lambda reply: codec.record(resource, text(reply)))
        return Operation((call,), _only, _described("get", resource, {}))

    def unsaid(self, registrations: Iterable[Registration]) -> tuple[Call[Any], ...]:
        """Return what says to the kinds used that not all uses are known: orphans of theirs are collected no more."""
        used: dict[tuple[str, str], Resource] = {}
        for one in registrations:
            used.update({(use.provider, use.kind): one.resource for use in one.uses})
        return tuple(
            self.on_slot("registry/lua/unsaid", *slot, codec.edge_text(source), parse=int)
            for slot, source in used.items()
        )

    def _storing(self, chosen: list[Registration], finish: Callable[[list[Any]], T]) -> Operation[T]:
        """Return the round trip that registers resources.

        Their edges go first, so that a target is never unprotected, and last, so that whoever removes those of an
        earlier life just now never has the last word (``ledger/edges.py``).
        """
        slots: dict[tuple[str, str], list[Registration]] = {}
        for one in chosen:
            slots.setdefault((one.resource.provider, one.resource.kind), []).append(one)
        calls = tuple(map(self._register, slots.values()))
        using = [one for one in chosen if one.uses]
        refers = self._refer(using)
        return Operation(
            (*refers, *calls, *refers) if refers else calls,
            lambda replies: finish(replies[len(refers) :][: len(calls)]),
            lambda: list(map(replayable, chosen)),
            stores=True,
            before=self._counted(using),
            unsaid=lambda: self.unsaid(chosen),
        )

    def _uses(self, resource: Resource, given: Any) -> tuple[Resource, ...]:
        if not given:
            return ()
        uses = tuple(codec.edges(given, resource.provider, lambda kind: singular(kind, self.kinds)))
        if resource in uses:  # the use is refused, never the registration: the id would be lost
            notices.itself(resource.kind, resource.id)
            uses = tuple(use for use in uses if use != resource)
        if len(uses) > USES_A_CALL:
            registration = Registration(resource, "", {}, uses)
            raise TooManyUses(
                f"{resource.id} uses {len(uses)} others: at most {USES_A_CALL} a call, so give them in several",
                self.unsaid([registration]),
            )
        return uses

    def _counted(self, registrations: Iterable[Registration]) -> tuple[Call[bool], ...]:
        return tuple(
            self.call("registry/lua/count_uses", one.resource, codec.dump(one.facts["uses"]), parse=bool)
            for one in registrations
            if len(one.uses) > MANY
        )

    def _answer(self, name: str, resource: Resource, *args: str | float, **said: object) -> Operation[Answer]:
        call = self.call(f"registry/lua/{name}", resource, *args, parse=lambda reply: Answer(text(reply)))
        lasting = name in {"hold", "unhold"}
        return Operation((call,), _only, _described(name, resource, said), spooled=Answer.SPOOLED, lasting=lasting)

    def _register(self, group: list[Registration]) -> Call[Any]:
        resource = group[0].resource
        triples: list[str | float] = []
        for one in group:
            triples += (one.resource.id, one.policy, codec.dump(one.facts) if one.facts else "")
        return self.on_slot("registry/lua/register", resource.provider, resource.kind, *triples, parse=as_it_is)

    def _refer(self, registrations: list[Registration]) -> list[Call[Any]]:
        calls: list[Call[Any]] = []
        for one in registrations:
            targets: dict[tuple[str, str], list[str]] = {}
            for use in one.uses:
                targets.setdefault((use.provider, use.kind), []).append(use.id)
            source = codec.edge_text(one.resource)
            calls += [
                self.on_slot("registry/lua/refer", *slot, source, *ids, parse=int) for slot, ids in targets.items()
            ]
        return calls


def _actor(by: str | None) -> str:
    return codec.text(by, "actor") if by else actor()


def _described(name: str, resource: Resource, said: Mapping[str, object]) -> Callable[[], list[dict[str, object]]]:
    named = {"call": name, "provider": resource.provider, "kind": resource.kind, "id": resource.id}
    return lambda: [named | {what: value for what, value in said.items() if value is not None}]


def _only(replies: list[Any]) -> Any:
    return replies[0]


def _registered(reply: bytes | str) -> Registered:
    due, by, new, managed, *kept = text(reply).split()
    return Registered(from_millis(int(due)) if due != "-1" else None, by, new == "1", managed == "1", kept == ["1"])


def _bulk(reply: list[int] | bytes | str) -> Bulk:
    if not isinstance(reply, list):  # the answer to a single registration
        one = _registered(reply)
        return Bulk(1, int(one.new), int(not one.managed), subject_kept=int(one.subject_kept))
    registered, new, managed, kept = reply
    return Bulk(registered, new, registered - managed, subject_kept=kept)


def known_kinds(kinds: object, policies: object) -> frozenset[str]:
    """Return the kinds that workers published: those that they know, and those of their policies."""
    return frozenset([*names(kinds), *(name.split("/")[1] for name in names(policies))])


def stamped(namespace: str, policy: str, epoch: bytes | None, nonce: str) -> dict[str, str]:
    """Return the metadata that marks one object as a registry's.

    Raises:
        InvalidResource: no name of a policy.
        NoEpoch: no worker has opened this registry yet.

    """
    name = keys.name(policy, "policy")
    if epoch is None:
        raise NoEpoch("this registry has no epoch yet: start a lapse worker once, then stamp")
    return {"lapse": f"{namespace}/{text(epoch)}/{name}/{nonce}"}


def names(reply: object) -> list[str]:
    """Return the "provider/kind/policy" names that workers published."""
    return [] if reply is None else list(json.loads(text(reply)))  # type: ignore[arg-type]
