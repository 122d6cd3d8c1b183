"""One HTTP request to a provider and its raw answer, by aiohttp.

Nothing here follows a redirect, retries, keeps a cookie, asks the environment for a proxy or a password, or
raises for what a server does: every end of a request is a ``Reply``. Retries live in one layer, the sweep's.
Through a proxy https goes by CONNECT (RFC 9110 9.3.6), and then as without one; http goes by its whole URL.

A request dies with its lease. Its time is looked at last where its first byte is written, on a connection that is
open; what the kernel could not deliver is thrown away at its end, by the kernel itself if this process is stopped.
What a peer's kernel has acknowledged cannot be taken back.
"""

import asyncio
import contextlib
import inspect
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from lapse.errors import ConfigError
from lapse.providers.deadline import Deadline
from lapse.providers.response import Reply
from lapse.providers.route import Route

BODY_BYTES = 64 * 1024
"""How much of an answer is read unless the caller asks for more."""

_CONNECT_SECONDS = 10.0
# Servers close idle connections after as little as 5 s; a DELETE sent into a closing one has an unknown end.
_KEEPALIVE_SECONDS = 4.0
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
_RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing sends RST, and nothing that still waits to be sent


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request as it is written to a connection.

    Attributes:
        method: ``GET``, ``DELETE``, or ``POST``.
        url: Absolute and already percent-encoded; it is sent as it stands.
        headers: All of them but Host.
        limit: How many bytes of the answer's body are kept, after decompression.
        body: What is sent along; the headers say what it is.

    """

    method: str
    url: str
    headers: Mapping[str, str]
    limit: int = BODY_BYTES
    body: bytes | None = None


class HttpTransport:
    """A pool of connections. Make it inside the running event loop, after a fork; one process, one loop."""

    def __init__(self, *, concurrency: int, timeout: float, route: Route) -> None:
        """Make it.

        Raises:
            ConfigError: as ``demand`` and ``trust`` do.

        """
        demand()
        self._proxy = route.proxy
        self._total = timeout
        # Connecting must time out before the whole: that is how one knows that nothing was sent.
        self._connect = min(_CONNECT_SECONDS, timeout / 2)
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=self._connect)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=concurrency, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=trust(route) or True
            ),
            request_class=_Request,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        # aiohttp sends a DELETE a second time, unseen, when a kept-alive connection breaks under the first:
        # the second answer would speak of a deletion that the first one did.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public switch

    async def request(
        self,
        request: HttpRequest,
        *,
        deadline: Deadline | None = None,
        begun: Callable[[], None] | None = None,
        identity: str = "",
    ) -> Reply:
        """Send one request and return what became of it.

        Args:
            request: What is sent.
            deadline: That of the claim it is for; None: it is for none, and its timeout alone holds.
            begun: Told when its first byte is about to be written.
            identity: Of whom the answer will be: it is handed back with it.

        """
        sending = _Sending(self._total, deadline, begun, identity)
        token = _sending.set(sending)
        try:
            async with self._session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body,
                allow_redirects=False,
                timeout=self._within(deadline),
                **self._routed(request),
            ) as response:
                return await sending.answered(response, request.limit)
        except (aiohttp.ClientError, TimeoutError, OSError, _Late) as error:
            sending.reset()
            return sending.failed(error)
        except BaseException:
            sending.reset()
            raise
        finally:
            _sending.reset(token)

    def _routed(self, request: HttpRequest) -> dict[str, Any]:
        """Return a request's headers, and the proxy it goes through: who has its words is the proxy alone."""
        if self._proxy is None:
            return {"headers": request.headers}
        said = {"Proxy-Authorization": self._proxy.authorization} if self._proxy.authorization else {}
        if request.url.startswith("https:"):
            return {"headers": request.headers, "proxy": self._proxy.url, "proxy_headers": said}
        return {"headers": {**request.headers, **said}, "proxy": self._proxy.url}

    def _within(self, deadline: Deadline | None) -> aiohttp.ClientTimeout:
        """Return the timeouts of a request that begins now: they end with its lease."""
        if deadline is None:
            return self._timeout
        now = time.monotonic()
        connect, total = deadline.begin_by - now, deadline.end - now
        if connect >= self._connect and total >= self._total:
            return self._timeout
        # aiohttp takes 0 for no timeout at all.
        return aiohttp.ClientTimeout(
            total=max(0.001, min(total, self._total)), connect=max(0.001, min(connect, self._connect))
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


class _Late(Exception):
    """The claim's time was over before the request's first byte was written."""


@dataclass(slots=True)
class _Sending:
    """One request on its way. ``transport``: what its first byte is written to, None before that."""

    timeout: float
    deadline: Deadline | None
    begun: Callable[[], None] | None
    identity: str
    transport: asyncio.Transport | None = None
    connection: Any = None
    sent_at: float = field(default_factory=time.monotonic)

    def begin(self, transport: asyncio.Transport) -> None:
        """Let the first byte be written to a connection that is open; nothing may wait between this and that.

        Raises:
            _Late: it is too late for it.

        """
        rest = 2 * self.timeout
        if self.deadline:
            now = time.monotonic()
            if now >= self.deadline.begin_by:
                raise _Late("the time of its claim was over before it could be sent")
            rest = self.deadline.end - now
        self.transport, self.connection = transport, transport.get_extra_info("socket")
        if self.begun:
            self.begun()
        if _USER_TIMEOUT is not None:
            # This process may be stopped with the request in the kernel's buffer: the kernel gives up in time all the
            # same. It counts from the first retransmission or window probe, and anew when a part was acknowledged, so
            # it is given half, in whole seconds as most requests of a connection then need no new one; 0 would mean
            # 15 minutes.
            half = int(rest / 2) * 1000 or max(1, int(rest * 500))
            if _given_up_after.get(transport) != half:
                self.connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, half)
                _given_up_after[transport] = half

    async def answered(self, response: aiohttp.ClientResponse, limit: int) -> Reply:
        """Return the answer, once all that is read of it is there."""
        body = await _read(response, limit)
        return Reply(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=body,
            seconds=time.monotonic() - self.sent_at,
            identity=self.identity,
            sent_at=self.sent_at,
        )

    def failed(self, error: Exception) -> Reply:
        """Return why there is no answer."""
        failure, sent = _failure(error)
        if self.transport is None:
            sent = False
            if self.deadline and time.monotonic() >= self.deadline.begin_by:
                failure = "late"
        return Reply(
            body=_told(error).encode(errors="replace"),
            failure=failure,
            sent=sent,
            seconds=time.monotonic() - self.sent_at,
            identity=self.identity,
            sent_at=self.sent_at,
        )

    def reset(self) -> None:
        """Let no further byte leave: closing alone would go on sending what waits, long after the lease."""
        if self.transport is not None:
            with contextlib.suppress(OSError):  # closed already
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


_given_up_after: "WeakKeyDictionary[asyncio.Transport, int]" = WeakKeyDictionary()
"""Milliseconds, by connection: as the kernel was told last."""
_sending: ContextVar[_Sending] = ContextVar("sending")


class _Request(aiohttp.ClientRequest):
    """aiohttp's request, which asks once more before it writes.

    There is no public seam between an open connection and the first byte: middleware runs before the connection is
    there. So ``send`` is overridden, and ``demand`` looks whether it still is what writes a request.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request to a connection that is open."""
        if (transport := conn.transport) is None:
            raise aiohttp.ClientConnectionResetError("the connection was lost before it was written to")
        _sending.get().begin(transport)
        response = await super().send(conn)
        if transport.get_write_buffer_size() and not self.body:
            # The kernel's buffer takes any request of lapse whole. What stays in this process' own has no deadline.
            raise aiohttp.ClientConnectionResetError("the connection took a part of the request only")
        return response


@cache
def demand() -> None:
    """Refuse an aiohttp whose requests would pass by where their deadline is looked at.

    Raises:
        ConfigError: the installed one is such.

    """
    send, session = getattr(aiohttp.ClientRequest, "send", None), aiohttp.ClientSession
    known = {
        "ClientRequest.send": inspect.iscoroutinefunction(send)
        and list(inspect.signature(send).parameters) == ["self", "conn"],
        "ClientSession(request_class=)": "request_class" in inspect.signature(session.__init__).parameters,
        "Connection.transport": isinstance(inspect.getattr_static(Connection, "transport", None), property),
        "ClientSession._retry_connection": "_retry_connection" in session.ATTRS,
    }
    if other := [name for name, is_known in known.items() if not is_known]:
        raise ConfigError(
            f"aiohttp {aiohttp.__version__} does not have {' and '.join(other)} as lapse knows it, and a request might "
            "leave after its lease: install the release that lapse was tested with, aiohttp 3.14"
        )


def trust(route: Route) -> ssl.SSLContext | None:
    """Return what believes the authorities of ``ca_file`` alone; None without one: the system's are believed.

    Raises:
        ConfigError: it cannot be read, or holds no certificate.

    """
    if route.ca_file is None:
        return None
    file = f"[providers.{route.account}] ca_file: {route.ca_file}"
    try:
        return ssl.create_default_context(cafile=route.ca_file)
    except ssl.SSLError:
        raise ConfigError(f"{file} holds no certificate in PEM: write the authorities' there") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = await response.content.readany()
    if response.content.at_eof():
        return body[:limit]
    longer = bytearray(body)
    while len(longer) < limit and not response.content.at_eof():
        longer += await response.content.readany()
    if not response.content.at_eof():
        response.close()
    return bytes(longer[:limit])


def _failure(error: Exception) -> tuple[str, bool]:
    """Return the word for a failure, and whether the request may have reached the provider."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "timeout", False
        case TimeoutError():
            return "timeout", True
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return "tls", False
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError():
            return "connect", False
        case aiohttp.ClientResponseError():
            return "protocol", True
        case _:
            return "reset", True


def _told(error: Exception) -> str:
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"the proxy lets nobody through: {error.status} {error.message}"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy: {error}"
        case _:
            return str(error) or type(error).__name__
