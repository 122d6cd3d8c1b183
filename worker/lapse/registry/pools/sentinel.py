"""Connections to the primary that Sentinels name: who that is, they are asked whenever one is made.

What Sentinels answer: redis.io/docs/latest/operate/oss_and_stack/reference/sentinel-clients.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import redis
import redis.asyncio

from lapse.registry.pools.address import Node, Several
from lapse.registry.pools.credentials.renewing import proving
from lapse.registry.pools.steps import Steps, taken

_AWAY = (redis.RedisError, OSError)


def connections(
    module: Any, target: Several, connect_timeout: float, provider: redis.CredentialProvider | None = None
) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of connections to the primary, and its arguments.

    Args:
        module: ``redis.connection``, or ``redis.asyncio.connection``.
        target: The Sentinels.
        connect_timeout: Seconds for an attempt, the questions included.
        provider: What proves to the Sentinels who asks; None: what the URL says.

    """
    given = module.parse_url(target.url(target.addresses[0]))
    made = given.pop("connection_class", module.Connection)
    del given["host"], given["port"]
    return _primary(made), {**given, "sentinels": Sentinels(module, target, connect_timeout, given, provider)}


class Sentinels:
    """Where to ask, who answered last before the others."""

    def __init__(
        self,
        module: Any,
        target: Several,
        connect_timeout: float,
        given: dict[str, Any],
        provider: redis.CredentialProvider | None,
    ) -> None:
        tls = target.sentinels_tls
        seconds = connect_timeout / (len(target.addresses) + 1)
        options = {name: value for name, value in given.items() if tls and name.startswith("ssl_")} | {
            "username": target.sentinels.get("username"),
            "password": target.sentinels.get("password"),
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "protocol": 2,
        }
        self._class, self._options = proving(module.SSLConnection if tls else module.Connection, options, provider)
        self._order = list(target.addresses)
        self.service = target.service

    def each(self) -> Iterator[tuple[Node, Any]]:
        """Yield an unopened connection to each, in the order in which to ask."""
        for one in tuple(self._order):
            yield one, self._class(host=one.host, port=one.port, **self._options)

    def read(self, reply: Any, said_by: Node) -> tuple[str, int] | None:
        """Return the primary that one names; None if it knows none."""
        if not reply:
            return None
        self._order = [said_by, *(one for one in self._order if one != said_by)]
        host, port = (part.decode() if isinstance(part, bytes) else part for part in reply)
        return host, int(port)

    def unknown(self, why: Exception | None) -> redis.ConnectionError:
        """Return the error of a question that none of them has answered."""
        said = f"none answers; the last: {why}" if why else "none knows it"
        where = ", ".join(f"{one.host}:{one.port}" for one in self._order)
        return redis.ConnectionError(f"Sentinels ({where}) name no primary {self.service!r}: {said}")


@cache
def _primary(base: type[Any]) -> type[Any]:
    awaits = issubclass(base, redis.asyncio.connection.AbstractConnection)

    class Primary(base):  # type: ignore[misc]
        def __init__(self, *, sentinels: Sentinels, **given: Any) -> None:
            self._sentinels = sentinels
            super().__init__(**given)

        def connect(self) -> Any:
            return taken(self._met(super().connect), awaits=awaits)

        def _met(self, connect: Callable[[], Any]) -> Steps[None]:
            if not (self.is_connected if awaits else self._sock):
                self.host, self.port = yield from self._found()
            yield connect()

        def _found(self) -> Steps[tuple[str, int]]:
            failed: Exception | None = None
            for address, one in self._sentinels.each():
                try:
                    yield one.connect()
                    yield one.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._sentinels.service)
                    if found := self._sentinels.read((yield one.read_response()), address):
                        return found
                except _AWAY as error:
                    failed = error
                finally:
                    yield one.disconnect()
            raise self._sentinels.unknown(failed)

    return Primary
