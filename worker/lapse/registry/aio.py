"""AsyncRegistry: the same commands as ``client.Registry``, carried by asyncio."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import redis

from lapse.errors import ConfigError, LapseError, TooManyUses, UnknownKind
from lapse.registry import keys, notices
from lapse.registry.aiopool import LoopPools
from lapse.registry.client import check_mode, namespace_of, url_of
from lapse.registry.codec import Span, When
from lapse.registry.commands import BULK, FAILED, Bulk, Commands, Operation, known_kinds, names, stamped
from lapse.registry.connection import CONNECT_TIMEOUT, MOST, translated
from lapse.registry.facts import Registration
from lapse.registry.model import Answer, Record, Registered
from lapse.registry.scripts import Call, packed, script

T = TypeVar("T")


class Carrier:
    """Runs commands on asyncio connections of the loop that it is used on, every exchange within ``timeout`` seconds.

    Args:
        url: The registry's Redis.
        timeout: Seconds an exchange may take, waiting for a connection included.
        connect_timeout: Seconds an attempt to connect may take; only the first exchange on a loop waits for as long.
        most: How many connections there may be; a worker needs one for each deletion in flight, and some more.
        options: redis-py's own, for a connection.

    """

    def __init__(
        self,
        url: str,
        timeout: float,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        most: int = MOST,
        **options: Any,
    ) -> None:
        self._pools = LoopPools(url, timeout, connect_timeout, most, **options)

    def allow(self, most: int) -> None:
        """Allow so many connections from now on."""
        self._pools.most = most

    async def carry(self, calls: Iterable[Call[Any]]) -> list[Any]:
        """Run the calls in one round trip, two where the server does not know a script yet, and parse their replies.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        chosen = list(calls)
        replies = await self.send([call.command() for call in chosen])
        return await self.read(chosen, replies)

    async def read(self, calls: Sequence[Call[Any]], replies: list[Any]) -> list[Any]:
        """Parse the replies of calls, once more sent where the server did not know a script yet."""
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if missing:
            again = [step for i in missing for step in (calls[i].load(), calls[i].command())]
            for i, reply in zip(missing, (await self.send(again))[1::2], strict=True):
                replies[i] = reply
        return [call.read(reply) for call, reply in zip(calls, replies, strict=True)]

    async def run(self, commands: Sequence[tuple[str | float, ...]]) -> list[Any]:
        """Run plain commands in one round trip; an error reply is returned in its place.

        A connection that the server had closed, or that leads to a replica by now, is replaced once: every command of
        lapse may be carried out twice.

        Raises:
            RegistryUnavailable: no answer in time.

        """
        if any(isinstance(part, bytes) for command in commands for part in command):
            raise TypeError("bytes in a command: decode a reply before it is sent again")
        return await self.send([packed(*command) for command in commands])

    async def write(self, *commands: tuple[str | float, ...]) -> list[Any]:
        """Run plain writes in one round trip, each to the one key that its command names; a full Redis takes them too.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        return await self.carry(
            Call(script("registry/lua/write"), str(key), (name, *rest), _unread) for name, key, *rest in commands
        )

    async def send(self, commands: list[bytes]) -> list[Any]:
        """Send packed commands and return a reply each; an error reply is returned in its place.

        Raises:
            RegistryUnavailable: no answer in time.

        """
        try:
            return await self._pools.exchange(commands)
        except (redis.RedisError, OSError) as error:
            raise translated(error) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pools.aclose()


def _unread(reply: Any) -> Any:
    return reply


class AsyncRegistry:
    """The application's view of the registry for asyncio: the arguments, answers and errors of ``lapse.Registry``.

    One of them serves any number of event loops and threads. Each loop has its own connections, closed when it ends;
    the first call on each waits for at most ``connect_timeout``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        provider: str | None = None,
        timeout: float = 0.1,
        connect_timeout: float = CONNECT_TIMEOUT,
        on_error: str = "raise",
    ) -> None:
        check_mode(timeout, connect_timeout, on_error)
        self._commands = Commands(namespace_of(namespace), provider)
        self._log_errors = on_error == "log"
        self._carrier = Carrier(url_of(url), timeout, connect_timeout=connect_timeout)

    async def register(
        self,
        kind: str,
        id: str,
        policy: str,
        *,
        provider: str | None = None,
        uses: Iterable[tuple[str, ...]] = (),
        subject: str | None = None,
        labels: Mapping[str, str] | None = None,
        expires_in: Span | None = None,
        expires_at: When | None = None,
        created_at: When | None = None,
        last_active_at: When | None = None,
    ) -> Registered:
        """Track a resource under a policy; see ``Registry.register``."""
        return await self._guarded(
            lambda: self._commands.register(
                self._commands.registration(
                    kind,
                    id,
                    policy,
                    provider=provider,
                    uses=uses,
                    subject=subject,
                    labels=labels,
                    expires_in=expires_in,
                    expires_at=expires_at,
                    created_at=created_at,
                    last_active_at=last_active_at,
                )
            ),
            FAILED,
            lambda: {"call": "register", "provider": provider, "kind": kind, "id": id, "policy": policy},
            then=self._advise,
        )

    async def register_many(self, registrations: Iterable[Mapping[str, Any]]) -> Bulk:
        """Register many resources; see ``Registry.register_many``."""
        done, waiting = Bulk(), iter(registrations)
        while chunk := list(islice(waiting, BULK)):
            checked = [one for given in chunk for one in await self._checked(given)]
            done += await self._guarded(lambda checked=checked: self._commands.register_many(checked), Bulk(), dict)  # type: ignore[misc]
        return done

    async def touch(self, kind: str, id: str, *, provider: str | None = None) -> Answer:
        """Move last activity to now; see ``Registry.touch``."""
        return await self._guarded(
            lambda: self._commands.touch(self._commands.resource(kind, id, provider)),
            Answer.FAILED,
            lambda: {"call": "touch", "provider": provider, "kind": kind, "id": id},
        )

    async def hold(
        self,
        kind: str,
        id: str,
        *,
        reason: str,
        actor: str | None = None,
        until: When | None = None,
        provider: str | None = None,
    ) -> Answer:
        """Forbid deletion; see ``Registry.hold``."""
        return await self._guarded(
            lambda: self._commands.hold(self._commands.resource(kind, id, provider), reason, actor, until),
            Answer.FAILED,
            lambda: {
                "call": "hold",
                "provider": provider,
                "kind": kind,
                "id": id,
                "reason": reason,
                "actor": actor,
                "until": until,
            },
        )

    async def unhold(self, kind: str, id: str, *, actor: str | None = None, provider: str | None = None) -> Answer:
        """Remove a hold; see ``Registry.unhold``."""
        return await self._guarded(
            lambda: self._commands.unhold(self._commands.resource(kind, id, provider), actor),
            Answer.FAILED,
            lambda: {"call": "unhold", "provider": provider, "kind": kind, "id": id, "actor": actor},
        )

    async def forget(self, kind: str, id: str, *, release: bool = False, provider: str | None = None) -> Answer:
        """Stop tracking an id; see ``Registry.forget``."""
        return await self._guarded(
            lambda: self._commands.forget(self._commands.resource(kind, id, provider), release=release),
            Answer.FAILED,
            lambda: {"call": "forget", "provider": provider, "kind": kind, "id": id, "release": release or None},
        )

    async def expire(self, kind: str, id: str, at: When | None = None, *, provider: str | None = None) -> Answer:
        """Make an id due now, or at a time; see ``Registry.expire``."""
        return await self._guarded(
            lambda: self._commands.expire(self._commands.resource(kind, id, provider), at),
            Answer.FAILED,
            lambda: {"call": "expire", "provider": provider, "kind": kind, "id": id, "at": at},
        )

    async def get(self, kind: str, id: str, *, provider: str | None = None) -> Record | None:
        """Return all that the registry knows of an id; see ``Registry.get``."""
        return await self._guarded(
            lambda: self._commands.get(self._commands.resource(kind, id, provider)),
            None,
            lambda: {"call": "get", "provider": provider, "kind": kind, "id": id},
        )

    async def stamp(self, policy: str) -> dict[str, str]:
        """Return metadata that marks a provider's object as this registry's; see ``Registry.stamp``."""
        try:
            return stamped(
                self._commands.namespace, policy, await self._ask("HGET", keys.epoch(self._commands.namespace), "id")
            )
        except ConfigError:
            raise
        except LapseError as error:
            if not self._log_errors:
                raise
            notices.lost(error, [{"call": "stamp", "policy": policy}])
            return {}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._carrier.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _guarded(
        self,
        make: Callable[[], Operation[T]],
        fallback: T,
        given: Callable[[], dict[str, object]],
        then: Callable[[Operation[T], T], Awaitable[T]] | None = None,
    ) -> T:
        operation: Operation[T] | None = None
        try:
            operation = await self._made(make)
            answer = operation.finish(await self._carry(operation))
            return await then(operation, answer) if then else answer
        except ConfigError:
            raise
        except LapseError as error:
            if isinstance(error, TooManyUses):
                await self._say_unsaid(error.unsaid or (operation.unsaid() if operation else ()))
            if not self._log_errors:
                raise
            notices.lost(error, operation.describe() if operation else [given()])
            return fallback

    async def _made(self, make: Callable[[], T]) -> T:
        try:
            return make()
        except UnknownKind:  # unless a worker, newer than this client, knows it
            self._commands.kinds = known_kinds(
                *await self._ask("HMGET", keys.published(self._commands.namespace), "kinds", "policies")
            )
            return make()

    async def _checked(self, given: object) -> list[Registration]:
        """Return a registration, or none where it is one that cannot be stored, and only logged."""
        try:
            return [await self._made(lambda: self._commands.checked(given))]
        except ConfigError:
            raise
        except LapseError as error:
            if isinstance(error, TooManyUses):
                await self._say_unsaid(error.unsaid)
            if not self._log_errors:
                raise
            notices.lost(error, [{"call": "register_many", **(given if isinstance(given, Mapping) else {})}])
            return []

    async def _carry(self, operation: Operation[Any]) -> list[Any]:
        if operation.before and not all(await self._run(operation.before)):
            raise TooManyUses("it would use more than 20000 others")
        return await self._run(operation.calls, self._commands.news(operation))

    async def _run(self, calls: tuple[Call[Any], ...], news: Iterable[Call[Any]] = ()) -> list[Any]:
        commands = [call.command() for call in calls]
        if news:
            commands.append(self._commands.telling(news))
        replies = await self._carrier.send(commands)
        if news and not isinstance(replies.pop(), redis.ResponseError):
            self._commands.told(news)
        return await self._carrier.read(calls, replies)

    async def _ask(self, *command: str) -> Any:
        (reply,) = await self._carrier.send([packed(*command)])
        if isinstance(reply, redis.ResponseError):
            raise translated(reply)
        return reply

    async def _say_unsaid(self, calls: tuple[Call[Any], ...]) -> None:
        try:
            await self._run(calls)
        except LapseError as error:
            notices.lost(error, [{"call": "unsaid uses", "of": call.key} for call in calls])

    async def _advise(self, operation: Operation[Registered], answer: Registered) -> Registered:
        if not answer.managed and notices.first(operation.describe()[0]):
            with suppress(LapseError):  # it is registered all the same
                published = await self._ask("HGET", keys.published(self._commands.namespace), "policies")
                notices.unmanaged(operation.describe()[0], names(published))
        return answer
