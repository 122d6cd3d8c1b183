"""A plain HTTP client for the stand-in's tests: what it returns is what stood on the wire."""

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

KEY = "sk-test-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Asker:
    """Sends requests to one server over one connection pool."""

    def __init__(self, root: str, session: aiohttp.ClientSession) -> None:
        self._root = root
        self._session = session
        # aiohttp would send a DELETE whose connection broke a second time: here each request is sent once.
        session._retry_connection = False

    async def __call__(self, method: str, path: str, body: Any = None, *, within: float = 10, **headers: str) -> Reply:
        """Send ``method`` to ``path`` below the server's root; a header given as "" is left out.

        Raises:
            TimeoutError: no answer came ``within`` so many seconds.
            aiohttp.ClientError: the connection broke.

        """
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name: value for name, value in (HEADERS | _named(headers)).items() if value}
        async with self._session.request(
            method,
            self._root + path,
            data=content,
            headers=sent,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=within),
        ) as reply:
            kept = {name.lower(): value for name, value in reply.headers.items()}
            return Reply(reply.status, kept, await reply.read())


def _named(headers: dict[str, str]) -> dict[str, str]:
    wire = {
        "authorization": "Authorization",
        "beta": "OpenAI-Beta",
        "content_type": "Content-Type",
        "api_key": "X-Api-Key",
    }
    return {wire[name]: value for name, value in headers.items()}
