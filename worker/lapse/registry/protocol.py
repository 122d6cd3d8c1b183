"""What an application's calls say and hear, whoever carries them: ``client`` and ``aio`` only exchange bytes.

Every call is a coroutine over one exchange of commands for replies. ``aio`` awaits it; ``client``, whose exchange waits
for a socket and for no event loop, runs it to its end.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from os import environ
from typing import Any, TypeVar

import redis

from lapse.errors import ConfigError, LapseError, TooManyUses, UnknownKind
from lapse.registry import keys, notices
from lapse.registry.commands import BULK, FAILED, Bulk, Commands, Operation, known_kinds, names, stamped
from lapse.registry.connection import translated
from lapse.registry.facts import Registration
from lapse.registry.model import Answer, Record, Registered
from lapse.registry.scripts import Call, packed

T = TypeVar("T")


class Exchange:
    """Commands for replies, and calls for what their replies mean.

    Args:
        exchange: Takes packed commands to the registry, and returns a reply each; an error reply in its place.

    """

    def __init__(self, exchange: Callable[[list[bytes]], Awaitable[list[Any]]]) -> None:
        self._exchange = exchange

    async def carry(self, calls: Iterable[Call[Any]], *more: bytes) -> list[Any]:
        """Run the calls in one round trip, two where the server does not know a script yet, and parse their replies.

        Those to ``more``, packed commands that go along, follow as they came.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        chosen = list(calls)
        replies = await self.send([call.command() for call in chosen] + list(more))
        if missing := [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]:
            again = [step for i in missing for step in (chosen[i].load(), chosen[i].command())]
            for i, reply in zip(missing, (await self.send(again))[1::2], strict=True):
                replies[i] = reply
        replies[: len(chosen)] = [call.read(reply) for call, reply in zip(chosen, replies, strict=False)]
        return replies

    async def send(self, commands: list[bytes]) -> list[Any]:
        """Send packed commands and return a reply each; an error reply is returned in its place.

        Raises:
            RegistryUnavailable: no answer in time.

        """
        try:
            return await self._exchange(commands)
        except (redis.RedisError, OSError) as error:
            raise translated(error) from None

    async def ask(self, *command: str) -> Any:
        """Return the reply to one plain command.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused it.

        """
        (reply,) = await self.send([packed(*command)])
        if isinstance(reply, redis.ResponseError):
            raise translated(reply)
        return reply


class Protocol:
    """The calls of one registry.

    Args:
        exchange: Carries them.
        namespace: The first part of every key; else ``LAPSE_REGISTRY__NAMESPACE``, as workers read it, else ``lapse``.
        provider: The provider of calls that name none; else ``LAPSE_PROVIDER``.
        on_error: ``"raise"`` or ``"log"``.

    Raises:
        ConfigError: another ``on_error``.
        InvalidResource: no name of a namespace, or of a provider.

    """

    def __init__(self, exchange: Exchange, namespace: str | None, provider: str | None, on_error: str) -> None:
        if on_error not in {"raise", "log"}:
            raise ConfigError(f'on_error={on_error!r}: use "raise" or "log"')
        if namespace is None:
            namespace = environ.get("LAPSE_REGISTRY__NAMESPACE") or "lapse"
        self._exchange = exchange
        self._commands = Commands(namespace, provider)
        self._raises = on_error == "raise"

    async def register(self, given: Mapping[str, Any]) -> Registered:
        """Track a resource under a policy; ``given`` are the parameters of ``Registry.register``."""
        return await self._guarded(
            lambda: self._commands.register(self._commands.registration(**given)),
            FAILED,
            lambda: {"call": "register", **{name: given[name] for name in ("provider", "kind", "id", "policy")}},
        )

    async def register_many(self, registrations: Iterable[Mapping[str, Any]]) -> Bulk:
        """Register many resources, BULK in a round trip."""
        done, waiting = Bulk(), iter(registrations)
        while chunk := list(islice(waiting, BULK)):
            checked = [one for given in chunk if (one := await self._checked(given))]
            done += await self._guarded(partial(self._commands.register_many, checked), Bulk(), dict)
        return done

    async def answer(
        self, make: Callable[..., Operation[Answer]], kind: str, id: str, provider: str | None, **said: object
    ) -> Answer:
        """Say what ``make``, one of ``Commands``, makes of a resource."""
        return await self._guarded(
            lambda: make(self._commands, self._commands.resource(kind, id, provider), **said),
            Answer.FAILED,
            lambda: {"call": make.__name__, "provider": provider, "kind": kind, "id": id, **said},
        )

    async def get(self, kind: str, id: str, provider: str | None) -> Record | None:
        """Return all that the registry knows of an id."""
        return await self._guarded(
            lambda: self._commands.get(self._commands.resource(kind, id, provider)),
            None,
            lambda: {"call": "get", "provider": provider, "kind": kind, "id": id},
        )

    async def stamp(self, policy: str) -> dict[str, str]:
        """Return metadata that marks a provider's object as this registry's."""
        namespace = self._commands.namespace
        try:
            return stamped(namespace, policy, await self._exchange.ask("HGET", keys.epoch(namespace), "id"))
        except LapseError as error:
            self._lost(error, [{"call": "stamp", "policy": policy}])
            return {}

    def _lost(self, error: LapseError, calls: Iterable[Mapping[str, object]]) -> None:
        """Decide what becomes of calls that could not be said: they are raised, or logged. Nothing else decides it.

        Args:
            error: Why; a ``ConfigError`` is raised always.
            calls: What was asked for; a registration as ``lapse register --from`` takes it.

        """
        if self._raises or isinstance(error, ConfigError):
            raise error
        notices.lost(error, calls)

    async def _guarded(
        self, make: Callable[[], Operation[T]], failed: T, given: Callable[[], Mapping[str, object]]
    ) -> T:
        operation: Operation[T] | None = None
        try:
            try:
                operation = make()
            except UnknownKind:
                operation = await self._anew(make)
            answer = operation.finish(await self._replies(operation))
            if isinstance(answer, Registered) and not answer.managed:
                await self._advise(operation.describe()[0])
        except LapseError as error:
            if isinstance(error, TooManyUses):
                await self._say_unsaid(error.unsaid or (operation.unsaid() if operation else ()))
            self._lost(error, operation.describe() if operation else [given()])
            return failed
        return answer

    async def _anew(self, make: Callable[[], T]) -> T:
        """Return what is made once it is known which kinds a worker, newer than this client, knows."""
        published = keys.published(self._commands.namespace)
        self._commands.kinds = known_kinds(*await self._exchange.ask("HMGET", published, "kinds", "policies"))
        return make()

    async def _checked(self, given: object) -> Registration | None:
        """Return a registration, or None where it is one that cannot be stored, and only logged."""
        try:
            try:
                return self._commands.checked(given)
            except UnknownKind:
                return await self._anew(partial(self._commands.checked, given))
        except LapseError as error:
            if isinstance(error, TooManyUses):
                await self._say_unsaid(error.unsaid)
            self._lost(error, [{"call": "register_many", **(given if isinstance(given, Mapping) else {})}])
            return None

    async def _replies(self, operation: Operation[Any]) -> list[Any]:
        if operation.before and not all(await self._exchange.carry(operation.before)):
            raise TooManyUses("it would use more than 20000 others")
        if news := self._commands.news(operation):
            *replies, told = await self._exchange.carry(operation.calls, self._commands.telling(news))
            if not isinstance(told, redis.ResponseError):
                self._commands.told(news)
            return replies
        return await self._exchange.carry(operation.calls)

    async def _say_unsaid(self, calls: tuple[Call[Any], ...]) -> None:
        try:
            await self._exchange.carry(calls)
        except LapseError as error:
            notices.lost(error, [{"call": "unsaid uses", "of": call.key} for call in calls])

    async def _advise(self, registered: Mapping[str, object]) -> None:
        if notices.first(registered):
            with suppress(LapseError):  # it is registered all the same
                published = await self._exchange.ask("HGET", keys.published(self._commands.namespace), "policies")
                notices.unmanaged(registered, names(published))
