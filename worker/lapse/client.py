"""Registry: what a synchronous application calls. One round trip each."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import redis

from lapse import advice, keys
from lapse.codec import Span, When, nonce
from lapse.commands import BULK, Bulk, Commands, Operation, names
from lapse.errors import ConfigError, InvalidResource, LapseError, NoEpoch, RegistryRefused, RegistryUnavailable
from lapse.model import Answer, Record, Registered
from lapse.scripts import Call, packed

T = TypeVar("T")
log = logging.getLogger("lapse")

MOST_OF = 0.8


def url_of(given: str | None) -> str:
    """Return the registry's URL: the argument, ``LAPSE_REGISTRY__URL``, or ``REDIS_URL``.

    Raises:
        ConfigError: none of them.

    """
    url = given or os.environ.get("LAPSE_REGISTRY__URL") or os.environ.get("REDIS_URL")
    if not url:
        raise ConfigError("which Redis? Give its URL to Registry(), or set LAPSE_REGISTRY__URL or REDIS_URL")
    return url


def check_mode(timeout: float, on_error: str) -> None:
    """Refuse constructor arguments that could block a request or hide a typing error.

    Raises:
        ConfigError: a timeout that is not above zero, or an ``on_error`` other than "raise" and "log".

    """
    if not timeout > 0:
        raise ConfigError(f"timeout={timeout!r}: give seconds above zero, such as 0.1")
    if on_error not in {"raise", "log"}:
        raise ConfigError(f'on_error={on_error!r}: use "raise" or "log"')


def translated(error: redis.RedisError | OSError) -> LapseError:
    """Return lapse's error for one of redis-py: unavailable where nothing was said, refused where Redis said no."""
    if isinstance(error, redis.exceptions.AuthenticationError) or "NOAUTH" in str(error):
        return RegistryUnavailable(f"the registry refused the user or password of its URL: {error}")
    if isinstance(error, redis.exceptions.BusyLoadingError | redis.ConnectionError | redis.TimeoutError | OSError):
        return RegistryUnavailable(f"the registry did not answer: {error or type(error).__name__}")
    if demoted([error]):
        return RegistryUnavailable(f"the registry's server is a replica now: {error}")
    return RegistryRefused(f"the registry refused: {error}")


def demoted(replies: Iterable[object]) -> bool:
    """Return True if a server said that it is a replica: its primary is elsewhere, behind the same address perhaps.

    It may go on answering on every connection that it has. Redis 6.2 says it of a script within the text.
    """
    return any(
        isinstance(reply, redis.exceptions.ReadOnlyError)
        or (isinstance(reply, redis.ResponseError) and "-READONLY" in str(reply))
        for reply in replies
    )


class Registry:
    """The application's view of the registry. Thread-safe; connections are made on first use, and again after a fork.

    Args:
        url: The registry's Redis; else ``LAPSE_REGISTRY__URL``, else ``REDIS_URL``.
        namespace: The first part of every key.
        provider: The provider of calls that name none; else ``LAPSE_PROVIDER``.
        timeout: Seconds a call may take: connecting and replies together.
        on_error: ``"raise"``, or ``"log"``: one warning as JSON that ``lapse register --from`` can replay, and the call
            answers falsy. A missing provider or URL is raised always.

    Raises:
        ConfigError: an argument is wrong, or there is no URL.

    """

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
        self._timeout = timeout
        self._log_errors = on_error == "log"
        self._pool = redis.ConnectionPool.from_url(
            url_of(url), socket_connect_timeout=timeout, socket_timeout=timeout, protocol=2
        )

    def register(
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
        """Track a resource under a policy; on a tracked id, touch it and update the facts given.

        Args:
            kind: ``"thread"``, ``"conversation"``, ``"assistant"``, ...
            id: The provider's id.
            policy: The rule's name in the worker's ``retention.toml``.
            provider: The account that issued the id.
            uses: (kind, id) of what this one refers to; those live as long as this one does. Added, never taken away.
            subject: Whose data it is.
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
        return self._guarded(
            lambda: self._commands.register(
                self._commands.registration(
                    kind, id, policy, provider=provider, uses=uses, subject=subject, labels=labels,
                    expires_in=expires_in, expires_at=expires_at, created_at=created_at, last_active_at=last_active_at,
                )
            ),
            then=self._advise,
        )  # fmt: skip

    def register_many(self, registrations: Iterable[Mapping[str, Any]]) -> Bulk:
        """Register many resources, each a mapping of ``register``'s own parameters, in round trips of 500.

        Raises:
            ConfigError: no provider.
            InvalidResource: one of them cannot be stored; the round trips before it are done.
            RegistryUnavailable: no answer in time.
            RegistryRefused: Redis said no.

        """
        done, waiting = Bulk(), iter(registrations)
        while chunk := list(islice(waiting, BULK)):
            done += self._guarded(
                lambda chunk=chunk: self._commands.register_many([self._commands.registration(**one) for one in chunk])  # type: ignore[misc]
            )
        return done

    def touch(self, kind: str, id: str, *, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Move last activity to now. Creates nothing; never moves an expiry of its own, a creation or a max_age."""
        return self._guarded(lambda: self._commands.touch(self._commands.resource(kind, id, provider)))

    def hold(
        self,
        kind: str,
        id: str,  # noqa: A002 - as register
        *,
        reason: str,
        actor: str | None = None,
        until: When | None = None,
        provider: str | None = None,
    ) -> Answer:
        """Forbid deletion, whether or not the id is tracked, until ``unhold`` or ``until``."""
        return self._guarded(
            lambda: self._commands.hold(self._commands.resource(kind, id, provider), reason, actor, until)
        )

    def unhold(self, kind: str, id: str, *, actor: str | None = None, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Remove a hold: the id is due when it would have been without it."""
        return self._guarded(lambda: self._commands.unhold(self._commands.resource(kind, id, provider), actor))

    def forget(self, kind: str, id: str, *, release: bool = False, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Stop tracking an id and delete nothing: it is foreign to lapse until it is registered again.

        The object lives on, so what it uses stays protected; ``release=True`` says that it needs none of that any more.
        """
        return self._guarded(
            lambda: self._commands.forget(self._commands.resource(kind, id, provider), release=release)
        )

    def expire(self, kind: str, id: str, at: When | None = None, *, provider: str | None = None) -> Answer:  # noqa: A002 - as register
        """Make an id due now, or at a time."""
        return self._guarded(lambda: self._commands.expire(self._commands.resource(kind, id, provider), at))

    def get(self, kind: str, id: str, *, provider: str | None = None) -> Record | None:  # noqa: A002 - as register
        """Return all that the registry knows of an id, or None if it is not tracked."""
        return self._guarded(lambda: self._commands.get(self._commands.resource(kind, id, provider)))

    def stamp(self, policy: str) -> dict[str, str]:
        """Return the metadata of one object of this registry's: ``{"lapse": "<namespace>/<epoch>/<policy>/<nonce>"}``.

        It is proof for the first object that is seen with it; any further one is a copy, and foreign.

        Raises:
            NoEpoch: no worker has opened this registry yet.
            RegistryUnavailable: no answer in time.

        """
        namespace = self._commands.namespace
        (epoch,) = self._run([packed("HGET", keys.epoch(namespace), "id")])
        if epoch is None:
            raise NoEpoch("this registry has no epoch yet: start a lapse worker once, then stamp")
        return {"lapse": f"{namespace}/{epoch.decode()}/{keys.name(policy, 'policy')}/{nonce()}"}

    def close(self) -> None:
        """Close the connections. The registry opens new ones when it is used again."""
        self._pool.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _guarded(self, make: Callable[[], Operation[T]], then: Callable[[Operation[T], T], T] | None = None) -> T:
        operation: Operation[T] | None = None
        try:
            operation = make()
            answer = operation.finish(self._carry(operation.calls))
            return then(operation, answer) if then else answer
        except (RegistryUnavailable, RegistryRefused, InvalidResource) as error:
            if not self._log_errors or operation is None:
                raise
            advice.lost(error, operation.describe())
            return operation.fallback

    def _carry(self, calls: tuple[Call[Any], ...]) -> list[Any]:
        replies = self._run([call.command() for call in calls])
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if missing:
            again = [step for i in missing for step in (calls[i].load(), calls[i].command())]
            for i, reply in zip(missing, self._run(again)[1::2], strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise translated(reply)
        return [call.parse(reply) for call, reply in zip(calls, replies, strict=True)]

    def _run(self, commands: list[bytes]) -> list[Any]:
        deadline = time.monotonic() + self._timeout
        connection = None
        try:
            connection = self._pool.get_connection()
            connection.send_packed_command(commands, check_health=False)
            replies = [self._reply(connection, deadline) for _ in commands]
        except (redis.RedisError, OSError) as error:
            if connection:
                connection.disconnect()
            # Those that wait in the pool may be of no use either: each of them would fail a call of its own.
            self._pool.disconnect(inuse_connections=False)
            raise translated(error) from None
        else:
            if demoted(replies):
                connection.disconnect()
                self._pool.disconnect(inuse_connections=False)
            return replies
        finally:
            if connection:
                self._pool.release(connection)

    def _reply(self, connection: Any, deadline: float) -> Any:  # noqa: ANN401 - a reply is what the script returns
        left = deadline - time.monotonic()
        # A read waits for the whole timeout. It is asked before only if connecting has used some of that up.
        if left < self._timeout * MOST_OF and not connection.can_read(timeout=max(0.0, left)):
            raise redis.TimeoutError(f"no reply within {self._timeout} s")
        try:
            return connection.read_response()
        except redis.ResponseError as error:
            return error

    def _advise(self, operation: Operation[Registered], answer: Registered) -> Registered:
        if not answer.managed and advice.first(operation.describe()[0]):
            published = self._run([packed("HGET", keys.published(self._commands.namespace), "policies")])[0]
            advice.unmanaged(operation.describe()[0], names(published))
        return answer
