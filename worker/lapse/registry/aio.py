"""AsyncRegistry: the same commands as ``client.Registry``, carried by asyncio."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import redis

from lapse.errors import LapseError
from lapse.registry.client import OpenedRegistry, Registry
from lapse.registry.connection import CONNECT_TIMEOUT, MOST, translated
from lapse.registry.pools import opening
from lapse.registry.pools.cluster import ClusterLoops
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.replicas import NONE
from lapse.registry.protocol import Conversation, carried
from lapse.registry.scripts import Call, as_it_is, packed, script
from lapse.registry.spool.spool import WAIT

P = ParamSpec("P")
T = TypeVar("T")


class Carrier:
    """Runs commands on asyncio connections of the loop that it is used on, every exchange within ``timeout`` seconds.

    Args:
        url: The registry's Redis.
        timeout: Seconds an exchange may take, waiting for a connection included.
        connect_timeout: Seconds an attempt to connect may take; only the first exchange on a loop waits for as long.
        most: How many connections there may be; a worker needs one for each deletion in flight, and some more.
        resend: Send again what got no answer: a worker's commands have the effect and the answer of once.

    """

    def __init__(
        self,
        url: str | RedisEndpoint | None,
        timeout: float,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        most: int = MOST,
        resend: bool = True,
    ) -> None:
        self._pools = opening.loops(url, timeout, connect_timeout, most, resend=resend)
        self.replicas = NONE
        """How many have to have what ``carry_lasting`` says."""

    @property
    def clustered(self) -> bool:
        """True if the registry's URL is that of a cluster."""
        return isinstance(self._pools, ClusterLoops)

    def allow(self, most: int) -> None:
        """Allow so many connections from now on."""
        self._pools.most = most

    async def say(self, conversation: Conversation[T]) -> T:
        """Carry a conversation to its end, and return what it comes to."""
        try:
            wanted = next(conversation)
            while True:
                try:
                    heard = await self._heard(wanted)
                except LapseError as error:
                    wanted = conversation.throw(error)
                else:
                    wanted = conversation.send(heard)
        except StopIteration as end:
            answer: T = end.value
            return answer
        finally:
            conversation.close()  # cancelled, it still has something to put into a spool

    async def _heard(self, wanted: list[bytes] | Future[int]) -> Any:
        if not isinstance(wanted, Future):
            return await self._exchange(wanted)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(wanted)), WAIT)
        except TimeoutError:
            return 0

    async def _exchange(self, commands: list[bytes]) -> list[Any]:
        try:
            return await self._pools.exchange(commands)
        except (redis.RedisError, OSError) as error:
            raise translated(error) from None

    async def carry(self, calls: Iterable[Call[Any]]) -> list[Any]:
        """Run the calls in one round trip, two where the server does not know a script yet, and parse their replies.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        return await self.say(carried(calls))

    async def carry_lasting(self, calls: Iterable[Call[Any]]) -> list[Any]:
        """Do so with calls of one slot, and wait until replicas have what they wrote.

        Raises:
            RegistryUnavailable: no answer in time; ``Unreplicated``: they are done, and too few replicas have it.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        return await self.say(carried(calls, self.replicas))

    async def run(self, commands: Sequence[tuple[str | float, ...]]) -> list[Any]:
        """Run plain commands in one round trip; an error reply is returned in its place.

        A connection that the server closes, or that leads to a replica by now, is replaced once: every command of a
        worker may be carried out twice.

        Raises:
            RegistryUnavailable: no answer in time.

        """
        if any(isinstance(part, bytes) for command in commands for part in command):
            raise TypeError("bytes in a command: decode a reply before it is sent again")
        return await self._exchange([packed(*command) for command in commands])

    async def everywhere(self, *commands: tuple[str | float, ...]) -> dict[str, list[Any] | LapseError]:
        """Run plain commands on every primary of a cluster, or on the one server that there is, whose name is empty.

        Returns:
            The name of each -> a reply a command, an error reply in its place; or why that node gave none.

        Raises:
            RegistryUnavailable: no answer in time: of the one server, or of a cluster that says which nodes it has.

        """
        if isinstance(self._pools, ClusterLoops):
            await self.run([("PING",)])  # whoever answers says which nodes there are
            return await self._pools.everywhere([packed(*command) for command in commands])
        return {"": await self.run(commands)}

    async def write(self, *commands: tuple[str | float, ...]) -> list[Any]:
        """Run plain writes in one round trip, each to the one key that its command names; a full Redis takes them too.

        Raises:
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis refused one of them; those after it were carried out all the same.

        """
        return await self.carry(
            Call(script("registry/lua/write"), str(key), (name, *rest), as_it_is) for name, key, *rest in commands
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pools.aclose()


def _awaited(
    call: Callable[Concatenate[Registry, P], T],
) -> "Callable[Concatenate[AsyncRegistry, P], Coroutine[Any, Any, T]]":
    """Return a call of ``Registry`` as one of ``AsyncRegistry``: all that it does is ``say``, which awaits there."""

    @wraps(call)
    async def awaited(registry: Any, /, *given: P.args, **named: P.kwargs) -> T:
        answer: Any = call(registry, *given, **named)
        return cast("T", await answer)

    awaited.__doc__ = f"See ``Registry.{call.__name__}``."
    return awaited


class AsyncRegistry(OpenedRegistry):
    """The application's view of the registry for asyncio: the arguments, answers and errors of ``lapse.Registry``.

    One of them serves any number of event loops and threads. Each loop has its own connections, closed when it ends;
    the first call on each waits for at most ``connect_timeout``.
    """

    register = _awaited(Registry.register)
    register_many = _awaited(Registry.register_many)
    touch = _awaited(Registry.touch)
    hold = _awaited(Registry.hold)
    unhold = _awaited(Registry.unhold)
    forget = _awaited(Registry.forget)
    expire = _awaited(Registry.expire)
    deleted = _awaited(Registry.deleted)
    get = _awaited(Registry.get)
    resources = _awaited(Registry.resources)
    hold_subject = _awaited(Registry.hold_subject)
    unhold_subject = _awaited(Registry.unhold_subject)
    expire_subject = _awaited(Registry.expire_subject)
    erase = _awaited(Registry.erase)
    stamp = _awaited(Registry.stamp)

    def _open(self) -> None:
        timeout, connect_timeout = self.settings.timeout, self.settings.connect_timeout
        self._carrier = Carrier(self.settings.endpoint, timeout, connect_timeout=connect_timeout, resend=False)

    def say(self, call: Conversation[T]) -> Coroutine[Any, Any, T]:
        """Return what a conversation of ``protocol`` comes to."""
        return self._carrier.say(call)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._carrier.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.aclose()
