"""What an application's calls say and hear; ``client`` and ``aio`` only carry the bytes. No I/O."""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import islice
from os import PathLike, environ
from typing import Any, NamedTuple, Self, TypeVar

import redis

from lapse.errors import ConfigError, LapseError, RegistryError, RegistryUnavailable, TooManyUses, UnknownKind
from lapse.registry import codec, keys, notices
from lapse.registry.commands import BULK, FAILED, Commands, Operation, known_kinds, names, stamped
from lapse.registry.connection import translated
from lapse.registry.facts import Registration
from lapse.registry.model import Answer, Bulk, Record, Registered
from lapse.registry.pools.credentials.endpoint import RedisEndpoint, with_credentials
from lapse.registry.pools.replicas import NONE, Replicas
from lapse.registry.scripts import Call, packed
from lapse.registry.spool import identity
from lapse.registry.spool.spool import of as spool_of

T = TypeVar("T")
LASTS = 60.0
"""Seconds for which it is remembered how many replicas have to have what is said."""


Conversation = Generator[list[bytes] | Future[int], Any, T]
"""Yields packed commands, is sent a reply each, an error reply in its place, and returns what they mean.

Whoever carries it throws ``RegistryUnavailable`` into it where there was no answer in time. A future that it yields is
waited for, for at most ``spool.WAIT``, and what it comes to is sent; 0 if it comes to nothing.
"""


class Settings(NamedTuple):
    """What a registry was made with: ``Registry(**settings._asdict())`` is another one like it."""

    url: str | RedisEndpoint | None
    namespace: str | None
    provider: str | None
    timeout: float
    connect_timeout: float
    on_error: str
    spool: str | PathLike[str] | None = None
    password_file: str | PathLike[str] | None = None
    credential_provider: redis.CredentialProvider | None = None

    @property
    def endpoint(self) -> str | RedisEndpoint | None:
        """Where the registry is, and what opens it."""
        return with_credentials(self.url, self.password_file, self.credential_provider)


def carried(calls: Iterable[Call[Any]], replicas: Replicas = NONE) -> Conversation[list[Any]]:
    """Run the calls in one round trip, two where the server does not know a script yet, and parse their replies.

    Args:
        calls: Of one slot where replicas are waited for.
        replicas: How many have to have what they wrote.

    Raises:
        RegistryUnavailable: no answer in time; ``Unreplicated``: they are done, and too few replicas have it.
        RegistryRefused: Redis refused one of them; those after it were carried out all the same.

    """
    chosen = list(calls)
    replies = yield [*(call.command() for call in chosen), *replicas.asking]
    replies, waited = replies[: len(chosen)], replies[len(chosen) :]
    if redis.exceptions.NoScriptError in map(type, replies):
        waited = yield from _loaded(chosen, replies, replicas)
    answers = [call.read(reply) for call, reply in zip(chosen, replies, strict=True)]
    replicas.demand(waited)
    return answers


def _loaded(calls: Sequence[Call[Any]], replies: list[Any], replicas: Replicas = NONE) -> Conversation[list[Any]]:
    """Put the replies of calls whose script the server did not know in their places; return what replicas have."""
    missing = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
    steps = [step for i in missing for step in (calls[i].load(), calls[i].command())]
    again = yield [*steps, *replicas.asking]
    for i, reply in zip(missing, again[1 : len(steps) : 2], strict=True):
        replies[i] = reply
    return list(again[len(steps) :])


def at_replicas(replicas: Replicas, key: str) -> Conversation[None]:
    """Wait until replicas have all that the server of a key wrote before.

    Raises:
        RegistryUnavailable: no answer in time; ``Unreplicated``: too few have it.

    """
    if replicas.number:
        replies = yield [packed("EXISTS", key), *replicas.asking]
        replicas.demand(replies[1:])


def asked(*commands: tuple[str, ...]) -> Conversation[list[Any]]:
    """Run plain commands in one round trip.

    Raises:
        RegistryUnavailable: no answer in time.
        RegistryRefused: Redis refused one of them.

    """
    replies: list[Any] = yield [packed(*command) for command in commands]
    for reply in replies:
        if isinstance(reply, redis.ResponseError):
            raise translated(reply)
    return replies


class Protocol:
    """The calls of one registry.

    Args:
        namespace: The first part of every key; else ``LAPSE_REGISTRY__NAMESPACE``, as workers read it, else ``lapse``.
        provider: The provider of calls that name none; else ``LAPSE_PROVIDER``.
        on_error: ``"raise"``, ``"log"`` or ``"spool"``.

    Raises:
        ConfigError: another ``on_error``, or a spool with one of the others.
        InvalidResource: no name of a namespace, or of a provider.

    """

    def __init__(self, settings: Settings) -> None:
        namespace, on_error = settings.namespace, settings.on_error
        if on_error not in {"raise", "log", "spool"}:
            raise ConfigError(f'on_error={on_error!r}: use "raise", "log" or "spool"')
        if settings.spool is not None and on_error != "spool":
            raise ConfigError('spool= is for on_error="spool"')
        if namespace is None:
            namespace = environ.get("LAPSE_REGISTRY__NAMESPACE") or "lapse"
        self.commands = Commands(namespace, settings.provider)
        self._raises = on_error != "log"
        self.spool = spool_of(settings.spool, namespace, settings.endpoint) if on_error == "spool" else None
        self._replicas, self._replicas_until = NONE, 0.0
        self._patience = settings.timeout / 2

    @property
    def away(self) -> bool:
        """True while a question would be answered by nobody."""
        return self.spool is not None and self.spool.away

    def logging(self) -> Self:
        """Return the same calls, with ``on_error="log"`` for what does not go into a spool."""
        calls = copy(self)
        calls._raises = False  # noqa: SLF001 - its own
        return calls

    def register(self, given: Mapping[str, Any]) -> Conversation[Registered]:
        """Track a resource under a policy; ``given`` are the parameters of ``Registry.register``."""
        return self._guarded(
            lambda: self.commands.register(self.commands.registration(**given)),
            FAILED,
            lambda: {"call": "register", **{name: given[name] for name in ("provider", "kind", "id", "policy")}},
        )

    def register_many(self, registrations: Iterable[Mapping[str, Any] | Registration]) -> Conversation[Bulk]:
        """Register many resources, BULK in a round trip."""
        done, waiting = Bulk(), iter(registrations)
        while chunk := list(islice(waiting, BULK)):
            checked: list[Registration] = []
            for given in chunk:
                checked += yield from self._checked(given)
            done += yield from self._guarded(partial(self.commands.register_many, checked), Bulk(), dict)
        return done

    def answer(
        self, make: Callable[..., Operation[Answer]], kind: str, id: str, provider: str | None, **said: object
    ) -> Conversation[Answer]:
        """Say what ``make``, one of ``Commands``, makes of a resource."""
        return self._guarded(
            lambda: make(self.commands, self.commands.resource(kind, id, provider), **said),
            Answer.FAILED,
            lambda: {"call": make.__name__, "provider": provider, "kind": kind, "id": id, **said},
        )

    def get(self, kind: str, id: str, provider: str | None) -> Conversation[Record | None]:
        """Return all that the registry knows of an id."""
        return self._guarded(
            lambda: self.commands.get(self.commands.resource(kind, id, provider)),
            None,
            lambda: {"call": "get", "provider": provider, "kind": kind, "id": id},
        )

    def never_knew(self, kind: str, id: str, provider: str) -> Conversation[bool]:
        """Return True if the registry never knew an id: not tracked, not forgotten, not settled."""
        return self._guarded(
            lambda: self.commands.never_knew(self.commands.resource(kind, id, provider)),
            failed=False,
            given=lambda: {"call": "never_knew", "provider": provider, "kind": kind, "id": id},
        )

    def shortest_ttl(self, kind: str, provider: str) -> Conversation[float | None]:
        """Return the shortest time to live, in seconds, of a kind's policies; None if none is known."""
        return self._guarded(
            lambda: self.commands.shortest_ttl(provider, kind),
            None,
            lambda: {"call": "shortest_ttl", "provider": provider, "kind": kind},
        )

    def observes(self, kind: str, policy: str, provider: str) -> Conversation[bool]:
        """Return True if workers delete nothing by a policy: it says so, or has never said otherwise."""
        rules = keys.partition(self.commands.namespace, provider, kind, policy) + keys.RULES
        try:
            return bool((yield from self._asked("HGET", rules, "mode")) == b"observe")
        except LapseError as error:
            self._lost(error, [{"call": "observes", "provider": provider, "kind": kind, "policy": policy}])
            return False

    def stamp(self, policy: str) -> Conversation[dict[str, str]]:
        """Return metadata that marks a provider's object as this registry's."""
        namespace = self.commands.namespace
        try:
            epoch = yield from self._asked("HGET", keys.epoch(namespace), "id")
            return stamped(namespace, policy, epoch, codec.nonce())
        except LapseError as error:
            self._lost(error, [{"call": "stamp", "policy": policy}])
            return {}

    def stamp_ahead(self, policy: str, provider: str, kind: str) -> Conversation[dict[str, str]]:
        """Return a stamp for an object about to be created, known to the registry from then on; {} if that fails."""
        namespace, nonce = self.commands.namespace, codec.nonce()
        known = packed("HSET", keys.stamped(namespace), nonce, f"{provider}|{kind}|")
        try:
            replies = yield from self._asking_back([packed("HGET", keys.epoch(namespace), "id"), known])
            if refused := [reply for reply in replies if isinstance(reply, redis.ResponseError)]:
                raise translated(refused[0])
            return stamped(namespace, policy, replies[0], nonce)
        except LapseError as error:
            self._lost(error, [{"call": "stamp", "policy": policy}])
            return {}

    def stamp_belongs(self, nonce: str, kind: str, id: str, provider: str) -> Conversation[None]:
        """Say which object a stamp went to: whatever else carries it is a copy."""
        owner = codec.edge_text(self.commands.resource(kind, id, provider))
        try:
            yield from self._asked("HSET", keys.stamped(self.commands.namespace), nonce, owner)
        except LapseError as error:
            self._lost(error, [{"call": "stamp_belongs", "provider": provider, "kind": kind, "id": id}])

    def _lost(self, error: LapseError, calls: Iterable[Mapping[str, object]]) -> None:
        """Decide what becomes of calls that could not be said: they are raised, or logged. Nothing else decides it.

        Args:
            error: Why; a ``ConfigError`` is raised always.
            calls: What was asked for; a registration as ``lapse register --from`` takes it.

        """
        if self._raises or isinstance(error, ConfigError):
            raise error
        notices.lost(error, calls)

    def _guarded(
        self, make: Callable[[], Operation[T]], failed: T, given: Callable[[], Mapping[str, object]]
    ) -> Conversation[T]:
        operation: Operation[T] | None = None
        try:
            try:
                operation = make()
            except UnknownKind:
                operation = yield from self._anew(make)
            answer = yield from self._said(operation, failed)
            if isinstance(answer, Registered) and answer.subject_kept:
                notices.subject_kept(operation.describe()[0])
            if isinstance(answer, Registered) and answer and not answer.managed:
                yield from self._advise(operation.describe()[0])
        except LapseError as error:
            if isinstance(error, TooManyUses):
                yield from self._say_unsaid(error.unsaid or (operation.unsaid() if operation else ()))
            self._lost(error, operation.describe() if operation else [given()])
            return failed
        return answer

    def _said(self, operation: Operation[T], failed: T) -> Conversation[T]:
        """Say an operation; where the registry has a spool, what cannot be said now goes there."""
        if self.spool is None or operation.spooled is None:
            return (yield from self._exchanged(operation))
        why: RegistryError = self.spool.unavailable
        if not self.spool.takes(operation):
            try:
                return (yield from self._exchanged(operation))
            except RegistryError as error:
                why = error
            except GeneratorExit:  # cancelled, or interrupted: it was carried out, or was not
                self.spool.append(operation)
                raise
        if (yield self.spool.append(operation)):
            return operation.spooled
        notices.lost(why, operation.describe())
        return failed

    def _exchanged(self, operation: Operation[T]) -> Conversation[T]:
        if operation.before:
            yield from self._counted(operation)
        commands, news = [call.command() for call in operation.calls], self.commands.news(operation)
        replicas = (yield from self._demanded()) if operation.lasting else NONE
        commands += replicas.asking
        if news:
            commands.append(self.commands.telling(news))
        replies = yield from self._asking_back(commands)
        if news and not isinstance(replies.pop(), redis.ResponseError):
            self.commands.told(news)
        asked = len(operation.calls)
        replies, waited = replies[:asked], replies[asked:]
        if redis.exceptions.NoScriptError in map(type, replies):
            waited = yield from _loaded(operation.calls, replies, replicas)
        answer = operation.finish([call.read(reply) for call, reply in zip(operation.calls, replies, strict=True)])
        lasts: T = replicas.judged(waited, answer)
        return lasts

    def lasting(self, said: Conversation[T], key_of: Callable[[str], str]) -> Conversation[T]:
        """Say it, and wait until as many replicas as the workers' file says have what the server of a key wrote for it.

        Raises:
            RegistryUnavailable: no answer in time; ``Unreplicated``: it stands, and too few replicas have it.

        """
        answer = yield from said
        yield from at_replicas((yield from self._demanded()), key_of(self.commands.namespace))
        return answer

    def _demanded(self) -> Conversation[Replicas]:
        """Return how many replicas have to have what is said, as workers published it, a minute ago at most."""
        if time.monotonic() > self._replicas_until:
            number = int((yield from self._asked("HGET", keys.published(self.commands.namespace), "replicas")) or 0)
            self._replicas, self._replicas_until = Replicas(number, self._patience), time.monotonic() + LASTS
        return self._replicas

    def _asking_back(self, commands: list[bytes]) -> Conversation[list[Any]]:
        """Say commands; with a spool, not to a Redis that is away, and once in a while ask who answers."""
        if self.spool is None:
            unasked: list[Any] = yield commands
            return unasked
        if self.spool.away:
            raise self.spool.unavailable
        asking = identity.asking(self.commands.namespace) if self.spool.looks else []
        try:
            replies: list[Any] = yield [*commands, *asking]
        except RegistryUnavailable as error:
            self.spool.lost(error)
            raise
        if asking:
            with suppress(LapseError):
                self.spool.met(identity.read(replies[len(commands) :]))
            self.spool.look()
        return replies[: len(commands)]

    def _asked(self, *command: str) -> Conversation[Any]:
        (reply,) = yield from self._asking_back([packed(*command)])
        if isinstance(reply, redis.ResponseError):
            raise translated(reply)
        return reply

    def _anew(self, make: Callable[[], T]) -> Conversation[T]:
        """Return what is made once it is known which kinds a worker, newer than this client, knows."""
        published = keys.published(self.commands.namespace)
        self.commands.kinds = known_kinds(*(yield from self._asked("HMGET", published, "kinds", "policies")))
        return make()

    def _checked(self, given: object) -> Conversation[list[Registration]]:
        """Return a registration, or none where it is one that cannot be stored, and only logged."""
        try:
            try:
                return [self.commands.checked(given)]
            except UnknownKind:
                return [(yield from self._anew(partial(self.commands.checked, given)))]
        except LapseError as error:
            if isinstance(error, TooManyUses):
                yield from self._say_unsaid(error.unsaid)
            self._lost(error, [{"call": "register_many", **(given if isinstance(given, Mapping) else {})}])
            return []

    def _counted(self, operation: Operation[Any]) -> Conversation[None]:
        if not all((yield from carried(operation.before))):
            raise TooManyUses("it would use more than 20000 others")

    def _say_unsaid(self, calls: tuple[Call[Any], ...]) -> Conversation[None]:
        try:
            yield from carried(calls)
        except LapseError as error:
            notices.lost(error, [{"call": "unsaid uses", "of": call.key} for call in calls])

    def _advise(self, registered: Mapping[str, object]) -> Conversation[None]:
        if notices.first(registered):
            with suppress(LapseError):  # it is registered all the same
                published = yield from self._asked("HGET", keys.published(self.commands.namespace), "policies")
                notices.unmanaged(registered, names(published))
