"""Registry: what a synchronous application calls. One round trip each."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from os import PathLike
from typing import Any, Self, TypeVar

import redis

from lapse.errors import LapseError
from lapse.registry import keys
from lapse.registry.codec import Span, When
from lapse.registry.commands import Commands
from lapse.registry.connection import CONNECT_TIMEOUT, translated
from lapse.registry.model import Answer, Bulk, Record, Registered, SubjectAnswer, SubjectPage
from lapse.registry.pools import opening
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.protocol import Conversation, Protocol, Settings
from lapse.registry.spool.spool import WAIT
from lapse.registry.subjects import Subjects

T = TypeVar("T")


class OpenedRegistry(ABC):
    """What both ways to talk to a registry are made of: the arguments are those of ``Registry``."""

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
        self._open()
        self.protocol = Protocol(self.settings)
        self.spool = self.protocol.spool
        self._subjects = Subjects(self.protocol.commands)

    @abstractmethod
    def _open(self) -> None:
        """Make what the connections come from."""


class Registry(OpenedRegistry):
    """The application's view of the registry. Thread-safe; connections are made on first use, and again after a fork.

    Args:
        url: The registry's Redis; else ``LAPSE_REGISTRY__URL``, else ``REDIS_URL``. Several servers are
            ``redis+cluster://HOST:6379,HOST`` or ``redis+sentinel://HOST:26379,HOST/PRIMARY/0``; by TLS ``rediss+...``.
        namespace: The first part of every key; else ``LAPSE_REGISTRY__NAMESPACE``, else ``lapse``.
        provider: The provider of calls that name none; else ``LAPSE_PROVIDER``.
        timeout: Seconds a call may take: waiting for a connection and replies together.
        connect_timeout: Seconds an attempt to connect may take. It goes on without the calls that wait for it: only the
            first call in a process waits for as long.
        on_error: ``"raise"``, or ``"log"``: one warning as JSON that ``lapse register --from`` can replay, and the call
            answers falsy, whatever the reason. Only a wrong argument here, and a missing provider, is raised always.
            ``"spool"``: what is said while Redis is away goes into a local file, and to Redis when that is back; the
            call answers ``Answer.SPOOLED``, or a falsy ``Registered``. What asks, such as ``get``, is raised.
        spool: The file; else ``LAPSE_SPOOL``, else ``$XDG_STATE_HOME/lapse/<namespace>.spool``: one for all
            processes of this user. One that cannot be written is said once, and calls are logged as with ``"log"``.
        password_file: The file that holds the password of the URL's user, read anew for every connection; beside a URL
            from the environment ``LAPSE_REGISTRY__PASSWORD_FILE`` says it too.
        credential_provider: redis-py's: what says user and password for every connection. One is replaced 10 s before a
            token ends that is a JSON Web Token, or before it is ``connection_lifetime`` seconds old, if the provider
            says so.

    Raises:
        ConfigError: an argument is wrong, or there is no URL.

    """

    def _open(self) -> None:
        self._pool = opening.threads(self.settings.endpoint, self.settings.timeout, self.settings.connect_timeout)

    def register(
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
        """Track a resource under a policy; on a tracked id, touch it and update the facts given.

        Args:
            kind: ``"thread"``, ``"conversation"``, ``"assistant"``, ...
            id: The provider's id.
            policy: The rule's name in the worker's ``retention.toml``.
            provider: The account that issued the id.
            uses: (kind, id) of what this one refers to; those live as long as this one does. Added, never taken away;
                at most 1,000 a call and 20,000 an id.
            subject: Whose data it is, or up to 16 of them; a tracked id keeps its own.
            labels: At most 16 pairs of text.
            expires_in: Its own expiry from now: seconds, a timedelta, or ``"7d"``. Wins over the policy's ttl, not over
                max_age.
            expires_at: The same as a time.
            created_at: When the provider made it, for ids older than their registration; never moved later.
            last_active_at: When it was last used; registration, if not said.

        Raises:
            ConfigError: no provider.
            InvalidResource: something here cannot be stored; nothing was.
            RegistryUnavailable: no answer in time; register again, it is an upsert.
            RegistryRefused: Redis said no.

        """
        return self.say(
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

    def register_many(self, registrations: Iterable[Mapping[str, Any]]) -> Bulk:
        """Register many resources, each a mapping of ``register``'s own parameters, in round trips of 500.

        Raises:
            ConfigError: no provider.
            InvalidResource: one of them cannot be stored; the round trips before it are done.
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis said no.

        """
        return self.say(self.protocol.register_many(registrations))

    def touch(self, kind: str, id: str, *, provider: str | None = None) -> Answer:
        """Move last activity to now. Creates nothing; never moves an expiry of its own, a creation or a max_age."""
        return self.say(self.protocol.answer(Commands.touch, kind, id, provider))

    def hold(
        self,
        kind: str,
        id: str,
        *,
        reason: str,
        actor: str | None = None,
        until: When | None = None,
        provider: str | None = None,
    ) -> Answer:
        """Forbid deletion, whether or not the id is tracked, until ``unhold`` or ``until``, a time ahead."""
        return self.say(
            self.protocol.answer(Commands.hold, kind, id, provider, reason=reason, actor=actor, until=until)
        )

    def unhold(self, kind: str, id: str, *, actor: str | None = None, provider: str | None = None) -> Answer:
        """Remove a hold: the id is due when it would have been without it."""
        return self.say(self.protocol.answer(Commands.unhold, kind, id, provider, actor=actor))

    def forget(self, kind: str, id: str, *, release: bool = False, provider: str | None = None) -> Answer:
        """Stop tracking an id and delete nothing: it is foreign to lapse until it is registered again.

        The object lives on, so what it uses stays protected; ``release=True`` says that it needs none of that any more.
        """
        return self.say(self.protocol.answer(Commands.forget, kind, id, provider, release=release or None))

    def expire(self, kind: str, id: str, at: When | None = None, *, provider: str | None = None) -> Answer:
        """Make an id due now, or at a time."""
        return self.say(self.protocol.answer(Commands.expire, kind, id, provider, at=at))

    def deleted(self, kind: str, id: str, *, provider: str | None = None) -> Answer:
        """Stop tracking an id that the application deleted itself, as the provider has confirmed to it.

        What it used is released and a hold of it ends; it stands in the audit as ``deleted_by_app``, and in no count of
        what lapse deleted. A 404 confirms nothing: leave that to the worker.
        """
        return self.say(self.protocol.answer(Commands.deleted, kind, id, provider))

    def get(self, kind: str, id: str, *, provider: str | None = None) -> Record | None:
        """Return all that the registry knows of an id, or None if it is not tracked."""
        return self.say(self.protocol.get(kind, id, provider))

    def resources(self, *, subject: str, after: str | None = None, limit: int = 100) -> SubjectPage:
        """Return a page of what is tracked as a subject's, at every provider and of every kind.

        Args:
            subject: Whose; matched as a whole.
            after: Where the page before ended.
            limit: How many at most, up to 10,000.

        Raises:
            InvalidResource: one of these is none.
            RegistryUnavailable: no answer in time; so in the three calls below, which are never only logged.
            RegistryRefused: Redis said no.

        """
        return self.say(self._subjects.resources(subject, after, limit))

    def hold_subject(
        self, subject: str, *, reason: str, actor: str | None = None, until: When | None = None
    ) -> SubjectAnswer:
        """Forbid deletion of all that is a subject's until ``unhold_subject`` or ``until``, also of what comes later.

        ``until`` is a time ahead. True once every slot has taken it. What could not (``failed``) deletes nothing until
        it has.
        """
        held = self._subjects.hold(subject, reason, actor, until)
        return self.say(self.protocol.lasting(held, keys.held_subjects))

    def unhold_subject(self, subject: str) -> SubjectAnswer:
        """End the hold of a subject. An id that is held by itself, or as another subject's, stays held."""
        return self.say(self.protocol.lasting(self._subjects.unhold(subject), keys.held_subjects))

    def expire_subject(self, subject: str, at: When | None = None) -> SubjectAnswer:
        """Make all of a subject's tracked ids due now, or at a time. What is registered later is not."""
        return self.say(self._subjects.expire(subject, at))

    def erase(
        self, subject: str, request_id: str, *, reason: str = "", received: When | None = None, actor: str | None = None
    ) -> str:
        """Ask workers to erase all that is a subject's, at every provider.

        Args:
            subject: Whose; matched as a whole.
            request_id: A UUID of this request's own: said again, it is the same request.
            reason: Why, for the record.
            received: When the person asked; else now.
            actor: Who says it; this process' user by default.

        Returns:
            ``asked`` until a worker takes it up; then ``open``, ``complete`` or ``refused``: how far it has come.

        Raises:
            InvalidResource: one of these is none, or the id belongs to another subject.
            RegistryRefused: the policy file of the workers does not say ``[erasure] by_application = true``.
            RegistryUnavailable: no answer in time: say it again. It never waits in a spool.

        """
        asked = self._subjects.ask_erasure(subject, request_id, reason, received, actor)
        return self.say(self.protocol.lasting(asked, keys.asked_erasures))

    def stamp(self, policy: str) -> dict[str, str]:
        """Return the metadata of one object of this registry's: ``{"lapse": "<namespace>/<epoch>/<policy>/<nonce>"}``.

        It is proof for the first object that is seen with it; any further one is a copy, and foreign.

        Raises:
            NoEpoch: no worker has opened this registry yet.
            RegistryUnavailable: no answer in time.

        """
        return self.say(self.protocol.stamp(policy))

    def close(self) -> None:
        """Close the connections. The registry opens new ones when it is used again."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def _exchange(self, commands: list[bytes]) -> list[Any]:
        try:
            return self._pool.exchange(commands)
        except (redis.RedisError, OSError) as error:
            raise translated(error) from None

    def say(self, call: Conversation[T]) -> T:
        """Return what a conversation of ``protocol`` comes to."""
        try:
            wanted = next(call)
            while True:
                try:
                    heard = self._heard(wanted)
                except LapseError as error:
                    wanted = call.throw(error)
                else:
                    wanted = call.send(heard)
        except StopIteration as end:
            answer: T = end.value
            return answer
        finally:
            call.close()  # interrupted, it still has something to put into a spool

    def _heard(self, wanted: list[bytes] | Future[int]) -> Any:
        if not isinstance(wanted, Future):
            return self._exchange(wanted)
        try:
            return wanted.result(WAIT)
        except TimeoutError:
            return 0
