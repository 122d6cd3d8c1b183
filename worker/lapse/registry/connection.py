"""What a connection of the registry is made of, for ``pool`` and ``aiopool``: its class, its options, its limits.

Connecting has a time of its own. A TLS handshake, a password and a database take six round trips: within the time of
one call they would never end where Redis is 20 ms away, and would begin anew with each.
"""

from collections.abc import Iterable
from typing import Any

import redis

from lapse.errors import ConfigError, LapseError, RegistryRefused, RegistryUnavailable, TooManyUses

CONNECT_TIMEOUT = 2.0
"""Seconds that one attempt to connect may take."""
MOST = 100
"""Connections of one pool; a call that finds none of them free waits for one, within its own time."""
_OF_A_POOL = ("max_connections", "timeout", "retry_on_timeout", "retry_on_error")


def options(module: Any, url: str, seconds: float) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of a URL's connections and their arguments, with ``seconds`` for each step of connecting.

    Args:
        module: ``redis.connection``, or ``redis.asyncio.connection``.
        url: The registry's.
        seconds: ``connect_timeout``.

    Raises:
        ConfigError: no URL of a Redis, or an option that no connection takes.

    """
    try:
        given = {name: value for name, value in module.parse_url(url).items() if name not in _OF_A_POOL}
        made = given.pop("connection_class", module.Connection)
        given |= {
            "socket_connect_timeout": seconds,
            "socket_timeout": seconds,
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
        }
        made(**given)
    except (ValueError, TypeError, redis.RedisError) as error:
        raise ConfigError(f"the registry's URL cannot be used: {error}") from None
    return made, given


def silent(connection: Any) -> Any:
    """Return a connection that will not say which library it is: two round trips for nothing that anybody needs."""
    for name in ("driver_info", "lib_name", "lib_version"):  # of redis-py 8, and of those before
        setattr(connection, name, None)
    return connection


def late(timeout: float) -> redis.TimeoutError:
    """Return the error of a call that got no reply in time."""
    return redis.TimeoutError(f"no reply within timeout={timeout:g} s")


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


def translated(error: redis.RedisError | OSError) -> LapseError:
    """Return lapse's error for one of redis-py: unavailable where nothing was said, refused where Redis said no."""
    if isinstance(error, redis.exceptions.AuthenticationError) or "NOAUTH" in str(error):
        return RegistryUnavailable(f"the registry refused the user or password of its URL: {error}")
    if isinstance(error, redis.exceptions.BusyLoadingError | redis.ConnectionError | redis.TimeoutError | OSError):
        return RegistryUnavailable(f"the registry did not answer: {error or type(error).__name__}")
    if demoted([error]):
        return RegistryUnavailable(f"the registry's server is a replica now: {error}")
    if "LAPSE-USES" in str(error):
        return TooManyUses(str(error).partition("LAPSE-USES ")[2].partition(" script:")[0])
    return RegistryRefused(f"the registry refused: {error}")


def demoted(replies: Iterable[object]) -> bool:
    """Return True if a server said that it is a replica: its primary is elsewhere, behind the same address perhaps.

    It may go on answering on every connection that it has. Redis 6.2 says it of a script within the text.
    """
    for reply in replies:  # the way of every call: no generator
        if isinstance(reply, redis.ResponseError) and (
            isinstance(reply, redis.exceptions.ReadOnlyError) or "-READONLY" in str(reply)
        ):
            return True
    return False
