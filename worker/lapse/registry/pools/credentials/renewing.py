"""Connections that are replaced before what they were opened with ends, and tried twice where it was refused.

Servers close what outlives its token, or answer NOAUTH there. A password may change between its reading and its use.
"""

import base64
import binascii
import json
import math
import time
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio

from lapse.registry.pools.steps import Steps, taken

BEFORE = 10.0
"""Seconds before the end of what a connection was opened with, at which it is replaced; half of a shorter life."""


class Term(redis.CredentialProvider):
    """What one connection is opened with, and until when that is good.

    Args:
        provider: Whoever knows. Its ``connection_lifetime``, if it has one, are the seconds for which a server keeps a
            connection; a password that is a JSON Web Token says when it ends itself.

    """

    def __init__(self, provider: redis.CredentialProvider) -> None:
        self._provider = provider
        self._until = math.inf

    @property
    def over(self) -> bool:
        """True once the connection has to be replaced."""
        return time.monotonic() >= self._until

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return what the provider says now."""
        return self._noted(self._provider.get_credentials())

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return what the provider says now."""
        return self._noted(await self._provider.get_credentials_async())

    def _noted(self, said: tuple[str] | tuple[str, str]) -> tuple[str] | tuple[str, str]:
        life = min(getattr(self._provider, "connection_lifetime", math.inf), ends(said[-1]) - time.time())
        self._until = time.monotonic() + life - min(BEFORE, life / 2)
        return said


def ends(password: str) -> float:
    """Return when a token ends, in seconds since 1970 (``exp`` of RFC 7519); of any other password infinity."""
    try:
        body = password.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return math.inf


def proving(
    made: type[Any], given: dict[str, Any], provider: redis.CredentialProvider | None
) -> tuple[type[Any], dict[str, Any]]:
    """Return a class of connections and its arguments, as they are with a provider; unchanged without one."""
    if provider is None:
        return made, given
    return renewing(made), given | {"credential_provider": provider}


def over(connection: Any) -> bool:
    """Return True if a connection has to be replaced."""
    term = getattr(connection, "term", None)
    return term is not None and term.over


def renewing(base: Any) -> type[Any]:
    """Return the class of such connections, asyncio's or others."""
    awaits = issubclass(base, redis.asyncio.connection.AbstractConnection)

    class Renewing(base):  # type: ignore[misc]
        def __init__(self, *, credential_provider: redis.CredentialProvider, **given: Any) -> None:
            self.term = Term(credential_provider)
            super().__init__(credential_provider=self.term, **_unnamed(given))

        def connect(self) -> Any:
            return taken(self._renewed(super().connect), awaits=awaits)

        def _renewed(self, connect: Callable[[], Any]) -> Steps[None]:
            if self.term.over:
                yield self.disconnect()
            try:
                yield connect()
            except redis.AuthenticationError:
                yield connect()

    return Renewing


def _unnamed(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments without the user of the URL: the provider says whose password it is."""
    return {name: value for name, value in given.items() if name not in {"username", "password"}}
