"""AsyncRegistry: the same commands as ``client.Registry``, carried by asyncio."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from os import PathLike
from typing import Any, Self, TypeVar

import redis

from lapse.errors import LapseError
from lapse.registry import keys
from lapse.registry.codec import Span, When
from lapse.registry.commands import Commands
from lapse.registry.connection import CONNECT_TIMEOUT, MOST, translated
from lapse.registry.model import Answer, Bulk, Record, Registered, SubjectAnswer, SubjectPage
from lapse.registry.pools import opening
from lapse.registry.pools.cluster import ClusterLoops
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.replicas import NONE
from lapse.registry.protocol import Conversation, Protocol, Settings, carried
from lapse.registry.scripts import Call, as_it_is, packed, script
from lapse.registry.spool.spool import WAIT
from lapse.registry.subjects import Subjects

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


class AsyncRegistry:
    """The application's view of the registry for asyncio: the arguments, answers and errors of ``lapse.Registry``.

    One of them serves any number of event loops and threads. Each loop has its own connections, closed when it ends;
    the first call on each waits for at most ``connect_timeout``.
    """

    def __init__(
        self,
        url: str | RedisEndpoint | None = None,
        *,
        namespace: str | None = None,
        provider: str | None = None,
        timeout: float = 0.1,
        connect_timeout: float = CONNECT_TIMEOUT,
        on_error: str = "raise",
        spool: str | PathLike[str] | None = None,
        password_file: str | PathLike[str] | None = None,
        credential_provider: redis.CredentialProvider | None = None,
    ) -> None:
        self.settings = Settings(
            url, namespace, provider, timeout, connect_timeout, on_error, spool, password_file, credential_provider
        )
        self._carrier = Carrier(self.settings.endpoint, timeout, connect_timeout=connect_timeout, resend=False)
        self.protocol = Protocol(self.settings)
        self.spool = self.protocol.spool
        self._subjects = Subjects(self.protocol.commands)

    async def register(
        self,
        kind: str,
        id: str,
        policy: str,
        *,
        provider: str | None = None,
        uses: Iterable[tuple[str, ...]] = (),
        subject: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        expires_in: Span | None = None,
        expires_at: When | None = None,
        created_at: When | None = None,
        last_active_at: When | None = None,
    ) -> Registered:
        """Track a resource under a policy; see ``Registry.register``."""
        return await self._carrier.say(
            self.protocol.register(
                {
                    "kind": kind,
                    "id": id,
                    "policy": policy,
                    "provider": provider,
                    "uses": uses,
                    "subject": subject,
                    "labels": labels,
                    "expires_in": expires_in,
                    "expires_at": expires_at,
                    "created_at": created_at,
                    "last_active_at": last_active_at,
                }
            )
        )

    async def register_many(self, registrations: Iterable[Mapping[str, Any]]) -> Bulk:
        """Register many resources; see ``Registry.register_many``."""
        return await self._carrier.say(self.protocol.register_many(registrations))

    async def touch(self, kind: str, id: str, *, provider: str | None = None) -> Answer:
        """Move last activity to now; see ``Registry.touch``."""
        return await self._carrier.say(self.protocol.answer(Commands.touch, kind, id, provider))

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
        return await self._carrier.say(
            self.protocol.answer(Commands.hold, kind, id, provider, reason=reason, actor=actor, until=until)
        )

    async def unhold(self, kind: str, id: str, *, actor: str | None = None, provider: str | None = None) -> Answer:
        """Remove a hold; see ``Registry.unhold``."""
        return await self._carrier.say(self.protocol.answer(Commands.unhold, kind, id, provider, actor=actor))

    async def forget(self, kind: str, id: str, *, release: bool = False, provider: str | None = None) -> Answer:
        """Stop tracking an id; see ``Registry.forget``."""
        return await self._carrier.say(
            self.protocol.answer(Commands.forget, kind, id, provider, release=release or None)
        )

    async def expire(self, kind: str, id: str, at: When | None = None, *, provider: str | None = None) -> Answer:
        """Make an id due now, or at a time; see ``Registry.expire``."""
        return await self._carrier.say(self.protocol.answer(Commands.expire, kind, id, provider, at=at))

    async def deleted(self, kind: str, id: str, *, provider: str | None = None) -> Answer:
        """Stop tracking an id that the application deleted itself; see ``Registry.deleted``."""
        return await self._carrier.say(self.protocol.answer(Commands.deleted, kind, id, provider))

    async def get(self, kind: str, id: str, *, provider: str | None = None) -> Record | None:
        """Return all that the registry knows of an id; see ``Registry.get``."""
        return await self._carrier.say(self.protocol.get(kind, id, provider))

    async def resources(self, *, subject: str, after: str | None = None, limit: int = 100) -> SubjectPage:
        """Return a page of what is tracked as a subject's; see ``Registry.resources``."""
        return await self._carrier.say(self._subjects.resources(subject, after, limit))

    async def hold_subject(
        self, subject: str, *, reason: str, actor: str | None = None, until: When | None = None
    ) -> SubjectAnswer:
        """Hold all of a subject's data; see ``Registry.hold_subject``."""
        held = self._subjects.hold(subject, reason, actor, until)
        return await self._carrier.say(self.protocol.lasting(held, keys.held_subjects))

    async def unhold_subject(self, subject: str) -> SubjectAnswer:
        """End the hold of a subject; see ``Registry.unhold_subject``."""
        return await self._carrier.say(self.protocol.lasting(self._subjects.unhold(subject), keys.held_subjects))

    async def expire_subject(self, subject: str, at: When | None = None) -> SubjectAnswer:
        """Make all of a subject's tracked ids due; see ``Registry.expire_subject``."""
        return await self._carrier.say(self._subjects.expire(subject, at))

    async def erase(
        self, subject: str, request_id: str, *, reason: str = "", received: When | None = None, actor: str | None = None
    ) -> str:
        """Ask workers to erase all that is a subject's: see ``Registry.erase``."""
        asked = self._subjects.ask_erasure(subject, request_id, reason, received, actor)
        return await self.say(self.protocol.lasting(asked, keys.asked_erasures))

    async def stamp(self, policy: str) -> dict[str, str]:
        """Return metadata that marks a provider's object as this registry's; see ``Registry.stamp``."""
        return await self._carrier.say(self.protocol.stamp(policy))

    def say(self, call: Conversation[T]) -> Awaitable[T]:
        """Return what a conversation of ``protocol`` comes to."""
        return self._carrier.say(call)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._carrier.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.aclose()
