"""AsyncRegistry: the same commands as ``client.Registry``, carried by asyncio."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import redis
import redis.asyncio

from lapse import advice, keys
from lapse.client import check_mode, demoted, translated, url_of
from lapse.codec import Span, When, nonce
from lapse.commands import BULK, Bulk, Commands, Operation, names
from lapse.errors import InvalidResource, NoEpoch, RegistryRefused, RegistryUnavailable
from lapse.model import Answer, Record, Registered
from lapse.scripts import Call, packed, script

T = TypeVar("T")


class Carrier:
    """Runs commands on a pool of asyncio connections, every exchange within ``timeout`` seconds."""

    def __init__(self, url: str, timeout: float, **options: Any) -> None:  # noqa: ANN401 - redis-py's own options
        self._timeout = timeout
        self._heard: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._in_doubt = 0.0
        self._pool = redis.asyncio.ConnectionPool.from_url(
            url, socket_connect_timeout=timeout, socket_timeout=timeout, protocol=2, **options
        )

    async def carry(self, calls: Iterable[Call[Any]]) -> list[Any]:
        """Run the calls in one round trip, two where the server does not know a script yet, and parse their replies.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        chosen = list(calls)
        replies = await self._send([call.command() for call in chosen])
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if missing:
            again = [step for i in missing for step in (chosen[i].load(), chosen[i].command())]
            for i, reply in zip(missing, (await self._send(again))[1::2], strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise translated(reply)
        return [call.parse(reply) for call, reply in zip(chosen, replies, strict=True)]

    async def run(self, commands: Sequence[tuple[str | float, ...]]) -> list[Any]:
        """Run plain commands in one round trip; an error reply is returned in its place.

        A connection that the server had closed, or that leads to a replica by now, is replaced once: every command of
        lapse may be carried out twice.

        Raises:
            RegistryUnavailable: no answer in time.

        """
        if any(isinstance(part, bytes) for command in commands for part in command):
            raise TypeError("bytes in a command: decode a reply before it is sent again")
        return await self._send([packed(*command) for command in commands])

    async def write(self, *commands: tuple[str | float, ...]) -> list[Any]:
        """Run plain writes in one round trip, each to the one key that its command names; a full Redis takes them too.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        return await self.carry(
            Call(script("write"), str(key), (name, *rest), _unread) for name, key, *rest in commands
        )

    async def _send(self, commands: list[bytes]) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout):
                replies = await self._once(commands)
                return await self._exchange(commands) if replies is None else replies
        except (redis.RedisError, OSError, TimeoutError) as error:
            if isinstance(error, redis.TimeoutError | TimeoutError):
                self._in_doubt = time.monotonic()
            raise translated(error) from None

    async def _once(self, commands: list[bytes]) -> list[Any] | None:
        """Return the replies, or None where a connection of the pool was of no use, and a new one may be."""
        try:
            replies = await self._exchange(commands)
        except redis.ConnectionError:
            self._in_doubt = time.monotonic()
            return None
        if demoted(replies):
            self._in_doubt = time.monotonic()
            return None
        return replies

    async def _exchange(self, commands: list[bytes]) -> list[Any]:
        connection = await self._pool.get_connection()
        try:
            if self._heard.get(connection, self._in_doubt) < self._in_doubt:
                # Half open like the one that timed out, perhaps, or with a server that is the primary no more.
                await connection.disconnect(nowait=True)
                await connection.connect()
            await connection.send_packed_command(commands, check_health=False)
            replies = [await self._reply(connection) for _ in commands]
        except BaseException:  # cancelled or failed: what is still to come would be taken for another's reply
            await connection.disconnect(nowait=True)
            raise
        else:
            self._heard[connection] = time.monotonic()
            return replies
        finally:
            await self._pool.release(connection)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.disconnect()

    async def _reply(self, connection: Any) -> Any:  # noqa: ANN401 - redis-py types neither
        try:
            return await connection.read_response()
        except redis.ResponseError as error:
            return error


def _unread(reply: Any) -> Any:  # noqa: ANN401 - what the command says
    return reply


class AsyncRegistry:
    """The application's view of the registry for asyncio: the arguments, answers and errors of ``lapse.Registry``."""

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = "lapse",
        provider: str | None = None,
        timeout: float = 0.1,
        on_error: str = "raise",
    ) -> None:
        check_mode(timeout, on_error)
        self._commands = Commands(namespace, provider)
        self._log_errors = on_error == "log"
        self._carrier = Carrier(url_of(url), timeout)

    async def register(
        self,
        kind: str,
        id: str,  # noqa: A002 - the field's own word
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
                    kind, id, policy, provider=provider, uses=uses, subject=subject, labels=labels,
                    expires_in=expires_in, expires_at=expires_at, created_at=created_at, last_active_at=last_active_at,
                )
            ),
            then=self._advise,
        )  # fmt: skip

    async def register_many(self, registrations: Iterable[Mapping[str, Any]]) -> Bulk:
        """Register many resources; see ``Registry.register_many``."""
        done, waiting = Bulk(), iter(registrations)
        while chunk := list(islice(waiting, BULK)):
            done += await self._guarded(
                lambda chunk=chunk: self._commands.register_many([self._commands.registration(**one) for one in chunk])  # type: ignore[misc]
            )
        return done

    async def touch(self, kind: str, id: str, *, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Move last activity to now; see ``Registry.touch``."""
        return await self._guarded(lambda: self._commands.touch(self._commands.resource(kind, id, provider)))

    async def hold(
        self,
        kind: str,
        id: str,  # noqa: A002 - as register
        *,
        reason: str,
        actor: str | None = None,
        until: When | None = None,
        provider: str | None = None,
    ) -> Answer:
        """Forbid deletion; see ``Registry.hold``."""
        return await self._guarded(
            lambda: self._commands.hold(self._commands.resource(kind, id, provider), reason, actor, until)
        )

    async def unhold(self, kind: str, id: str, *, actor: str | None = None, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Remove a hold; see ``Registry.unhold``."""
        return await self._guarded(lambda: self._commands.unhold(self._commands.resource(kind, id, provider), actor))

    async def forget(self, kind: str, id: str, *, release: bool = False, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Stop tracking an id; see ``Registry.forget``."""
        return await self._guarded(
            lambda: self._commands.forget(self._commands.resource(kind, id, provider), release=release)
        )

    async def expire(self, kind: str, id: str, at: When | None = None, *, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Make an id due now, or at a time; see ``Registry.expire``."""
        return await self._guarded(lambda: self._commands.expire(self._commands.resource(kind, id, provider), at))

    async def get(self, kind: str, id: str, *, provider: str | None = None) -> Record | None:  # noqa: A002 - as register
        """Return all that the registry knows of an id; see ``Registry.get``."""
        return await self._guarded(lambda: self._commands.get(self._commands.resource(kind, id, provider)))

    async def stamp(self, policy: str) -> dict[str, str]:
        """Return metadata that marks a provider's object as this registry's; see ``Registry.stamp``."""
        namespace = self._commands.namespace
        (epoch,) = await self._carrier.run([("HGET", keys.epoch(namespace), "id")])
        if epoch is None:
            raise NoEpoch("this registry has no epoch yet: start a lapse worker once, then stamp")
        return {"lapse": f"{namespace}/{epoch.decode()}/{keys.name(policy, 'policy')}/{nonce()}"}

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
        self, make: Callable[[], Operation[T]], then: Callable[[Operation[T], T], Awaitable[T]] | None = None
    ) -> T:
        operation: Operation[T] | None = None
        try:
            operation = make()
            answer = operation.finish(await self._carrier.carry(operation.calls))
            return await then(operation, answer) if then else answer
        except (RegistryUnavailable, RegistryRefused, InvalidResource) as error:
            if not self._log_errors or operation is None:
                raise
            advice.lost(error, operation.describe())
            return operation.fallback

    async def _advise(self, operation: Operation[Registered], answer: Registered) -> Registered:
        if not answer.managed and advice.first(operation.describe()[0]):
            (published,) = await self._carrier.run([("HGET", keys.published(self._commands.namespace), "policies")])
            advice.unmanaged(operation.describe()[0], names(published))
        return answer
