"""One HTTP request to a provider and its raw answer, by aiohttp.

Nothing here follows a redirect, retries, keeps a cookie, asks the environment for a proxy or a password, or
raises for what a server does: every end of a request is a ``Reply``. Retries live in one layer, the sweep's.
"""

import time
from collections.abc import Mapping

import aiohttp
from yarl import URL

from lapse.answers import Reply

BODY_BYTES = 64 * 1024
"""How much of an answer is read unless the caller asks for more."""

_CONNECT_SECONDS = 10.0
# Servers close idle connections after as little as 5 s; a DELETE sent into a closing one has an unknown end.
_KEEPALIVE_SECONDS = 4.0


class Wire:
    """A pool of connections. Make it inside the running event loop, after a fork; one process, one loop."""

    def __init__(self, *, concurrency: int, timeout: float) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=_KEEPALIVE_SECONDS),
            # Connecting must time out before the whole: that is how one knows that nothing was sent.
            timeout=aiohttp.ClientTimeout(total=timeout, connect=min(_CONNECT_SECONDS, timeout / 2)),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        # aiohttp sends a DELETE a second time, unseen, when a kept-alive connection breaks under the first:
        # the second answer would speak of a deletion that the first one did.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public switch

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], limit: int = BODY_BYTES, *, body: bytes | None = None
    ) -> Reply:
        """Send one request and return what became of it.

        Args:
            method: ``GET``, ``DELETE``, or ``POST``.
            url: Absolute and already percent-encoded; it is sent as it stands.
            headers: All of them but Host.
            limit: How many bytes of the answer's body are kept, after decompression.
            body: What is sent along; the headers say what it is.

        """
        started = time.perf_counter()
        try:
            async with self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            ) as response:
                answer = await _read(response, limit)
                return Reply(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=answer,
                    seconds=time.perf_counter() - started,
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure, sent = _failure(error)
            text = str(error) or type(error).__name__
            return Reply(
                body=text.encode(errors="replace"),
                failure=failure,
                sent=sent,
                seconds=time.perf_counter() - started,
            )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


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
        case aiohttp.ClientConnectorError():
            return "connect", False
        case aiohttp.ClientResponseError():
            return "protocol", True
        case _:
            return "reset", True
