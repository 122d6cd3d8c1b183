"""Registry: what a synchronous application calls. One round trip each."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import redis

from lapse.errors import ConfigError, LapseError, TooManyUses, UnknownKind
from lapse.registry import keys, notices
from lapse.registry.codec import Span, When
from lapse.registry.commands import BULK, FAILED, Bulk, Commands, Operation, known_kinds, names, stamped
from lapse.registry.connection import CONNECT_TIMEOUT, demoted, translated
from lapse.registry.facts import Registration
from lapse.registry.model import Answer, Record, Registered
from lapse.registry.pool import Pool
from lapse.registry.scripts import Call, packed

T = TypeVar("T")

LONGEST = 3600.0


def url_of(given: str | None) -> str:
    """Return the registry's URL: the argument, ``LAPSE_REGISTRY__URL``, or ``REDIS_URL``.

    Raises:
        ConfigError: none of them.

    """
    url = given or os.environ.get("LAPSE_REGISTRY__URL") or os.environ.get("REDIS_URL")
    if not url:
        raise ConfigError("which Redis? Give its URL to Registry(), or set LAPSE_REGISTRY__URL or REDIS_URL")
    return url


def namespace_of(given: str | None) -> str:
    """Return the namespace: the argument, ``LAPSE_REGISTRY__NAMESPACE`` as workers read it, or ``lapse``."""
    return given if given is not None else os.environ.get("LAPSE_REGISTRY__NAMESPACE") or "lapse"


def check_mode(timeout: float, connect_timeout: float, on_error: str) -> None:
    """Refuse constructor arguments that could block a request or hide a typing error.

    Raises:
        ConfigError: a time that is not above zero, or an ``on_error`` other than "raise" and "log".

    """
    for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
            raise ConfigError(f"{name}={seconds!r}: give seconds above zero, such as 0.1")
    if on_error not in {"raise", "log"}:
        raise ConfigError(f'on_error={on_error!r}: use "raise" or "log"')


class Registry:
    """The application's view of the registry. Thread-safe; connections are made on first use, and again after a fork.

    Args:
        url: The registry's Redis; else ``LAPSE_REGISTRY__URL``, else ``REDIS_URL``.
        namespace: The first part of every key; else ``LAPSE_REGISTRY__NAMESPACE``, else ``lapse``.
        provider: The provider of calls that name none; else ``LAPSE_PROVIDER``.
        timeout: Seconds a call may take: waiting for a connection and replies together.
        connect_timeout: Seconds an attempt to connect may take. It goes on without the calls that wait for it: only the
            first call in a process waits for as long.
        on_error: ``"raise"``, or ``"log"``: one warning as JSON that ``lapse register --from`` can replay, and the call
            answers falsy, whatever the reason. Only a wrong argument here, and a missing provider, is raised always.

    Raises:
        ConfigError: an argument is wrong, or there is no URL.

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
        self._pool = Pool(url_of(url), timeout, connect_timeout)

    def register(
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
        """Track a resource under a policy; on a tracked id, touch it and update the facts given.

        Args:
            kind: ``"thread"``, ``"conversation"``, ``"assistant"``, ...
            id: The provider's id.
            policy: The rule's name in the worker's ``retention.toml``.
            provider: The account that issued the id.
            uses: (kind, id) of what this one refers to; those live as long as this one does. Added, never taken away;
                at most 1,000 a call and 20,000 an id.
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
            checked = [one for given in chunk for one in self._checked(given)]
            done += self._guarded(lambda checked=checked: self._commands.register_many(checked), Bulk(), dict)  # type: ignore[misc]
        return done

    def touch(self, kind: str, id: str, *, provider: str | None = None) -> Answer:
        """Move last activity to now. Creates nothing; never moves an expiry of its own, a creation or a max_age."""
        return self._guarded(
            lambda: self._commands.touch(self._commands.resource(kind, id, provider)),
            Answer.FAILED,
            lambda: {"call": "touch", "provider": provider, "kind": kind, "id": id},
        )

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
        """Forbid deletion, whether or not the id is tracked, until ``unhold`` or ``until``."""
        return self._guarded(
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

    def unhold(self, kind: str, id: str, *, actor: str | None = None, provider: str | None = None) -> Answer:
        """Remove a hold: the id is due when it would have been without it."""
        return self._guarded(
            lambda: self._commands.unhold(self._commands.resource(kind, id, provider), actor),
            Answer.FAILED,
            lambda: {"call": "unhold", "provider": provider, "kind": kind, "id": id, "actor": actor},
        )

    def forget(self, kind: str, id: str, *, release: bool = False, provider: str | None = None) -> Answer:
        """Stop tracking an id and delete nothing: it is foreign to lapse until it is registered again.

        The object lives on, so what it uses stays protected; ``release=True`` says that it needs none of that any more.
        """
        return self._guarded(
            lambda: self._commands.forget(self._commands.resource(kind, id, provider), release=release),
            Answer.FAILED,
            lambda: {"call": "forget", "provider": provider, "kind": kind, "id": id, "release": release or None},
        )

    def expire(self, kind: str, id: str, at: When | None = None, *, provider: str | None = None) -> Answer:
        """Make an id due now, or at a time."""
        return self._guarded(
            lambda: self._commands.expire(self._commands.resource(kind, id, provider), at),
            Answer.FAILED,
            lambda: {"call": "expire", "provider": provider, "kind": kind, "id": id, "at": at},
        )

    def get(self, kind: str, id: str, *, provider: str | None = None) -> Record | None:
        """Return all that the registry knows of an id, or None if it is not tracked."""
        return self._guarded(
            lambda: self._commands.get(self._commands.resource(kind, id, provider)),
            None,
            lambda: {"call": "get", "provider": provider, "kind": kind, "id": id},
        )

    def stamp(self, policy: str) -> dict[str, str]:
        """Return the metadata of one object of this registry's: ``{"lapse": "<namespace>/<epoch>/<policy>/<nonce>"}``.

        It is proof for the first object that is seen with it; any further one is a copy, and foreign.

        Raises:
            NoEpoch: no worker has opened this registry yet.
            RegistryUnavailable: no answer in time.

        """
        try:
            return stamped(
                self._commands.namespace, policy, self._ask("HGET", keys.epoch(self._commands.namespace), "id")
            )
        except ConfigError:
            raise
        except LapseError as error:
            if not self._log_errors:
                raise
            notices.lost(error, [{"call": "stamp", "policy": policy}])
            return {}

    def close(self) -> None:
        """Close the connections. The registry opens new ones when it is used again."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _guarded(
        self,
        make: Callable[[], Operation[T]],
        fallback: T,
        given: Callable[[], dict[str, object]],
        then: Callable[[Operation[T], T], T] | None = None,
    ) -> T:
        operation: Operation[T] | None = None
        try:
            operation = self._made(make)
            answer = operation.finish(self._carry(operation))
            return then(operation, answer) if then else answer
        except ConfigError:
            raise
        except LapseError as error:
            if isinstance(error, TooManyUses):
                self._say_unsaid(error.unsaid or (operation.unsaid() if operation else ()))
            if not self._log_errors:
                raise
            notices.lost(error, operation.describe() if operation else [given()])
            return fallback

    def _made(self, make: Callable[[], T]) -> T:
        try:
            return make()
        except UnknownKind:  # unless a worker, newer than this client, knows it
            self._commands.kinds = known_kinds(
                *self._ask("HMGET", keys.published(self._commands.namespace), "kinds", "policies")
            )
            return make()

    def _checked(self, given: object) -> list[Registration]:
        """Return a registration, or none where it is one that cannot be stored, and only logged."""
        try:
            return [self._made(lambda: self._commands.checked(given))]
        except ConfigError:
            raise
        except LapseError as error:
            if isinstance(error, TooManyUses):
                self._say_unsaid(error.unsaid)
            if not self._log_errors:
                raise
            notices.lost(error, [{"call": "register_many", **(given if isinstance(given, Mapping) else {})}])
            return []

    def _carry(self, operation: Operation[Any]) -> list[Any]:
        if operation.before and not all(self._run(operation.before)):
            raise TooManyUses("it would use more than 20000 others")
        return self._run(operation.calls, self._commands.news(operation))

    def _run(self, calls: tuple[Call[Any], ...], news: Iterable[Call[Any]] = ()) -> list[Any]:
        commands = [call.command() for call in calls]
        if news:
            commands.append(self._commands.telling(news))
        replies = self._exchange(commands)
        if news and not isinstance(replies.pop(), redis.ResponseError):
            self._commands.told(news)
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if missing:
            again = [step for i in missing for step in (calls[i].load(), calls[i].command())]
            for i, reply in zip(missing, self._exchange(again)[1::2], strict=True):
                replies[i] = reply
        return [call.read(reply) for call, reply in zip(calls, replies, strict=True)]

    def _ask(self, *command: str) -> Any:
        (reply,) = self._exchange([packed(*command)])
        if isinstance(reply, redis.ResponseError):
            raise translated(reply)
        return reply

    def _exchange(self, commands: list[bytes]) -> list[Any]:
        try:
            replies = self._pool.exchange(commands)
        except (redis.RedisError, OSError) as error:
            raise translated(error) from None
        if demoted(replies):
            self._pool.doubt()
        return replies

    def _say_unsaid(self, calls: tuple[Call[Any], ...]) -> None:
        try:
            self._run(calls)
        except LapseError as error:
            notices.lost(error, [{"call": "unsaid uses", "of": call.key} for call in calls])

    def _advise(self, operation: Operation[Registered], answer: Registered) -> Registered:
        if not answer.managed and notices.first(operation.describe()[0]):
            with suppress(LapseError):  # it is registered all the same
                published = self._ask("HGET", keys.published(self._commands.namespace), "policies")
                notices.unmanaged(operation.describe()[0], names(published))
        return answer
