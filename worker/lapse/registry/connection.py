"""What a connection of the registry is made of, for ``pool`` and ``aiopool``: its class, its options, its limits.

Connecting has a time of its own. A TLS handshake, a password and a database take six round trips: within the time of
one call they would never end where Redis is 20 ms away, and would begin anew with each.

What is sent a second time, on another connection: what a replica refused, for it did nothing. What an application sent
and got no answer to is not: it may have been carried out, and the second answer would be that of a repetition.
"""

import re
import socket
from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from select import select
from typing import Any, TypeVar

import redis
import redis.asyncio

from lapse.errors import ConfigError, LapseError, RegistryRefused, RegistryUnavailable, SlotUnavailable, TooManyUses
from lapse.registry.pools import sentinel
from lapse.registry.pools.address import several
from lapse.registry.pools.credentials.endpoint import RedisEndpoint, endpoint_of
from lapse.registry.pools.credentials.renewing import proving

try:
    from select import poll
except ImportError:  # eventlet takes it away
    poll = None  # type: ignore[assignment, misc]

E = TypeVar("E", bound=BaseException)

CONNECT_TIMEOUT = 2.0
"""Seconds that one attempt to connect may take."""
MOST = 100
"""Connections of one pool; a call that finds none of them free waits for one, within its own time."""
_POLLIN = 1
_LONGEST = 3600.0
_ON_A_REPLICA = re.compile("-READONLY|read only replica")
_CLOSED = re.compile("closed by server|closed the connection|connection lost|reset by peer", re.IGNORECASE)
_TLS = (redis.SSLConnection, redis.asyncio.SSLConnection)
MAYBE_TLS = "(before its first answer: a server that speaks TLS does that, and its URL begins with rediss)"
_OF_A_POOL = ("max_connections", "timeout", "retry_on_timeout", "retry_on_error")


def database(url: str) -> int:
    """Return the number of the database that a URL names.

    Raises:
        ConfigError: it is no URL of a Redis.

    """
    try:
        target = several(url)
        return target.database if target else int(redis.connection.parse_url(url).get("db", 0))
    except ValueError as error:
        raise ConfigError(f"the registry's URL cannot be used: {error}") from None


def options(
    module: Any, url: str | RedisEndpoint | None, timeout: float, connect_timeout: float, private: Iterable[str]
) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of a URL's connections and their arguments, ``connect_timeout`` for each step of connecting.

    Args:
        module: ``redis.connection``, or ``redis.asyncio.connection``.
        url: The registry's, if not the environment's.
        timeout: Seconds of a call.
        connect_timeout: Seconds.
        private: What is used of a connection that redis-py does not promise.

    Raises:
        ConfigError: no URL of a Redis, an option that no connection takes, a time that could block a request, or a
            redis-py that lacks something private.

    """
    for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST:
            raise ConfigError(f"{name}={seconds!r}: give seconds above zero, such as 0.1")
    try:
        made, said = _said(module, endpoint_of(url), connect_timeout)
        given = {name: value for name, value in said.items() if name not in _OF_A_POOL} | {
            "socket_connect_timeout": connect_timeout,
            "socket_timeout": connect_timeout,
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
        }
        one = made(**given)
    except (ValueError, TypeError, redis.RedisError) as error:
        raise ConfigError(f"the registry's URL cannot be used: {error}") from None
    for name in private:
        try:
            attrgetter(name)(one)
        except AttributeError:
            raise ConfigError(
                f"redis-py {redis.__version__} has no {made.__module__}.{made.__name__}.{name}, which lapse reads "
                "replies by: install a release that lapse was tested with, redis 6.4 to 8"
            ) from None
    return made, given


def _said(module: Any, endpoint: RedisEndpoint, connect_timeout: float) -> tuple[type[Any], dict[str, Any]]:
    target = several(endpoint.url)
    if target:
        made, given = sentinel.connections(module, target, connect_timeout, endpoint.sentinels)
    else:
        given = dict(module.parse_url(endpoint.url))
        made = given.pop("connection_class", module.Connection)
    return proving(made, given, endpoint.credentials)


def silent(connection: Any) -> Any:
    """Return a connection that will not say which library it is: two round trips for nothing that anybody needs."""
    for name in ("driver_info", "lib_name", "lib_version"):  # of redis-py 8, and of those before
        setattr(connection, name, None)
    return connection


def watched(sock: socket.socket) -> Callable[[], object]:
    """Return what is true if a socket has something to read that nobody asked for: its end, most of the time."""
    if poll is not None:
        one = poll()
        one.register(sock, _POLLIN)
        return partial(one.poll, 0)

    def look() -> object:
        try:
            return select([sock], [], [], 0)[0]
        except ValueError:  # select() knows no number above 1023
            return None

    return look


def late(timeout: float) -> redis.TimeoutError:
    """Return the error of a call that got no reply in time."""
    return redis.TimeoutError(f"no reply within timeout={timeout:g} s")


def hurried(timeout: float) -> redis.TimeoutError:
    """Return the error of a call that got a connection when there was no time left for a reply.

    It sends nothing: a connection on which a reply is late is closed, and each next call would meet a new one as late.
    """
    return redis.TimeoutError(f"no connection within {timeout:g} s (timeout=); there is one now, for the next call")


def unconnected(waited: float, last: BaseException | None, free: int) -> redis.TimeoutError:
    """Return the error of a call that got no connection in time.

    Args:
        waited: Seconds.
        last: What the last attempt to connect failed by; None while the first one goes on.
        free: How many more connections there may be.

    """
    if free <= 0:
        return redis.TimeoutError(f"all connections were in use for {waited:g} s (timeout=)")
    why = f"; the last attempt: {last}" if last else ""
    return redis.TimeoutError(
        f"no connection within {waited:g} s (timeout=); connecting goes on in the background (connect_timeout=){why}"
    )


def failure(error: Exception, seconds: float) -> redis.RedisError | OSError:
    """Return what an attempt to connect failed by as an error of Redis: a credential provider may raise anything."""
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return redis.TimeoutError(f"no connection within connect_timeout={seconds:g} s")
    if isinstance(error, redis.RedisError | OSError):
        return error
    return redis.ConnectionError(f"{type(error).__name__}: {error}")


def ended(error: E, made: type[Any]) -> E | redis.ConnectionError:
    """Return the error of a connection that ended before its first reply, with what it most often is.

    Args:
        error: What it ended by.
        made: Its class.

    """
    plain = issubclass(made, redis.Connection | redis.asyncio.Connection) and not issubclass(made, _TLS)
    if plain and isinstance(error, redis.ConnectionError | ConnectionError) and _CLOSED.search(str(error)):
        return redis.ConnectionError(f"{error} {MAYBE_TLS}")
    return error


def translated(error: redis.RedisError | OSError) -> LapseError:
    """Return lapse's error for one of redis-py: unavailable where nothing was said, refused where Redis said no."""
    if isinstance(error, redis.exceptions.TryAgainError | redis.exceptions.ClusterDownError):
        return SlotUnavailable(f"the registry's cluster cannot serve this now: {error}")
    if why := _away(error):
        return RegistryUnavailable(f"the registry{why}: {error or type(error).__name__}")
    if isinstance(error, redis.exceptions.MovedError):
        return RegistryRefused(f"this server is a cluster: use redis+cluster:// in the registry's URL ({error})")
    if "LAPSE-USES" in str(error):
        return TooManyUses(str(error).partition("LAPSE-USES ")[2].partition(" script:")[0])
    return RegistryRefused(f"the registry refused: {error}")


def _away(error: redis.RedisError | OSError) -> str | None:
    if isinstance(error, redis.exceptions.AuthenticationError) or "NOAUTH" in str(error):
        return " refused the user or password"
    if isinstance(error, redis.exceptions.BusyLoadingError | redis.ConnectionError | redis.TimeoutError | OSError):
        return " did not answer"
    return "'s server is a replica now" if _demoted(error) else None


def refused(replies: Iterable[object]) -> bool:
    """Return True if a server did not do what it was told for what it is, or whom it takes the connection for.

    A replica is one whose primary is elsewhere, behind the same address perhaps. NOAUTH is the answer where what the
    connection was opened with has ended.
    """
    for reply in replies:  # the way of every call: no generator
        if isinstance(reply, redis.RedisError) and (isinstance(reply, redis.AuthenticationError) or _demoted(reply)):
            return True
    return False


def _demoted(reply: redis.RedisError | OSError) -> bool:
    """Return True if a server said that it is a replica.

    It may go on answering on every connection that it has. Redis 6.2 says it of a script within the text, and in a
    process of Celery's it is a ``ConnectionError``.
    """
    return isinstance(reply, redis.exceptions.ReadOnlyError) or bool(_ON_A_REPLICA.search(str(reply)))
