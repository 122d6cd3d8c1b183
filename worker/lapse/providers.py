"""One configured account: its credential, its URLs, and every request that lapse sends to it.

The openai client says what a base URL and a credential look like on the wire. The requests themselves go
over ``wire``: the client's lenient parsing hides what an outcome depends on (a 200 that deletes nothing
parses like one that does), and its layers cost several times the CPU of the request.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Self
from urllib.parse import quote

from openai import AsyncOpenAI

from lapse import __version__, log
from lapse.answers import Reply
from lapse.errors import ConfigError, InvalidResource
from lapse.keys import identifier
from lapse.kinds import KINDS, Kind
from lapse.listing import MAX_OBJECTS, MAX_PAGES, PAGE_BYTES, Listing, walk
from lapse.outcomes import Spend
from lapse.policy import Account
from lapse.tally import Tally
from lapse.wire import BODY_BYTES, Wire

TIMEOUT = 30.0
"""Seconds for one request from connecting to the last byte. It has to stay below half a lease."""


OBJECT_BYTES = 4 * 1024 * 1024
"""How much is read of one object: an assistant's instructions alone may be a megabyte."""


class NoCredential(Exception):  # noqa: N818 - the name says the state
    """There is no usable key now; the text says where one was looked for."""


class Credential:
    """The account's key, looked up for every request: a mounted file changes under a running worker."""

    def __init__(self, account: Account, environ: Mapping[str, str]) -> None:
        self._account = account
        self._environ = environ
        self._stamp: tuple[int, int, int] | None = None
        self._from_file = ""

    def current(self) -> str:
        """Return the key, or an empty string for an account that is configured without one.

        Raises:
            NoCredential: it is missing, unreadable, or nothing that a header can carry.

        """
        if self._account.api_key_env:
            origin, key = self._account.api_key_env, self._environ.get(self._account.api_key_env, "")
        elif self._account.api_key_file:
            origin, key = self._account.api_key_file, self._read(Path(self._account.api_key_file))
        else:
            return ""
        key = key.strip()
        if not key:
            raise NoCredential(f"{origin} holds no key for provider {self._account.name!r}: set it")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise NoCredential(
                f"{origin} holds more than a key for provider {self._account.name!r}: one line, no spaces"
            )
        return key

    def _read(self, path: Path) -> str:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._from_file, self._stamp = path.read_text(), stamp
        except (OSError, UnicodeDecodeError) as error:
            self._stamp = None
            raise NoCredential(f"{path} cannot be read for provider {self._account.name!r}: {error}") from error
        return self._from_file


class Provider:
    """Every request to one account. Make it in the running event loop, after a fork; ``aclose`` it there.

    Attributes:
        name: As policies call it.
        type: The row of ``lapse.kinds.KINDS``.
        kinds: What it can delete, by name.
        recognisers: Its further not-found texts, for ``outcomes.classify``.
        concurrency: How many requests are in flight at most.

    """

    def __init__(self, account: Account, environ: Mapping[str, str] | None = None, *, timeout: float = TIMEOUT) -> None:
        if account.type not in KINDS:
            raise ConfigError(f"[providers.{account.name}] type {account.type!r}: use {', '.join(KINDS)}")
        if account.auth:
            raise ConfigError(
                f"[providers.{account.name}] auth = {account.auth!r} does not exist for type {account.type!r}: "
                "use api_key_env or api_key_file"
            )
        self.name = account.name
        self.type = account.type
        self.kinds = KINDS[account.type]
        self.recognisers = account.not_found
        self.concurrency = account.concurrency
        self._credential = Credential(account, os.environ if environ is None else environ)
        # Every argument is given: for each one left out, the client would ask the environment, and an
        # OPENAI_BASE_URL or OPENAI_PROJECT_ID of another program must not redirect a deletion.
        self._client = AsyncOpenAI(
            api_key="",
            admin_api_key="",
            base_url=account.base_url,
            organization=account.organization or "",
            project=account.project or "",
            webhook_secret="",
            timeout=timeout,
            max_retries=0,
        )
        self._base = str(self._client.base_url).rstrip("/")
        self._host = self._client.base_url.host
        self._wire = Wire(concurrency=account.concurrency, timeout=timeout)
        self._slots = asyncio.Semaphore(account.concurrency)
        self._tally = Tally()
        self._request_ids = (f"lapse-{secrets.token_hex(6)}-{number:x}" for number in count(1))
        self._key: str | None = None
        self._headers: dict[str, dict[str, str]] = {}
        self._identity = ""

    @property
    def identity(self) -> str:
        """16 hex digits over base URL, organisation, project and credential: what a proof holds for.

        It changes with the credential. While that is missing it is the identity of an account without one.
        """
        try:
            self._use(self._credential.current())
        except NoCredential:
            return self._fingerprint("")
        return self._identity

    async def delete(self, kind: Kind, object_id: str) -> Reply:
        """Send the DELETE of one object."""
        return await self._about("delete", "DELETE", kind, object_id)

    async def read(self, kind: Kind, object_id: str) -> Reply:
        """Read one object, to see its name and metadata."""
        return await self._about("read", "GET", kind, object_id, limit=OBJECT_BYTES)

    async def witness(self, kind: Kind, object_id: str) -> Reply:
        """Read one object, to see that objects of this kind can be seen from here."""
        return await self._about("witness", "GET", kind, object_id, limit=OBJECT_BYTES)

    async def probe(self, kind: Kind) -> Reply | None:
        """Ask the kind's endpoint for what needs no id, or return None if there is no such thing."""
        if kind.probe is None:
            return None
        return await self._send("probe", "GET", kind, f"{self._base}{kind.probe}")

    async def items(self, kind: Kind, object_id: str, size: int = 100) -> Reply:
        """Read the first page of an object's children, oldest first."""
        return await self._about(
            "items", "GET", kind, object_id, f"{kind.items}?limit={size}&order=asc", limit=PAGE_BYTES
        )

    async def delete_item(self, kind: Kind, object_id: str, item_id: str) -> Reply:
        """Send the DELETE of one child."""
        try:
            tail = f"{kind.items}/{quote(identifier(item_id), safe='')}"
        except InvalidResource as error:
            return _never_sent("invalid", str(error))
        return await self._about("items", "DELETE", kind, object_id, tail, limit=OBJECT_BYTES)

    async def part(self, op: str, method: str, kind: Kind, object_id: str, path: str) -> Reply:
        """Send a request about what lies below one object; ``path`` is percent-encoded."""
        return await self._about(op, method, kind, object_id, path, limit=PAGE_BYTES)

    async def listing(
        self, kind: Kind, spend: Spend, *, max_pages: int = MAX_PAGES, max_objects: int = MAX_OBJECTS
    ) -> Listing:
        """Read the whole list of a listable kind, oldest first."""

        async def fetch(after: str | None, size: int) -> Reply:
            cursor = f"&after={quote(after, safe='')}" if after else ""
            url = f"{self._base}{kind.path}?limit={size}&order=asc{cursor}"
            return await self._send("list", "GET", kind, url, limit=PAGE_BYTES)

        return await walk(kind, fetch, spend, max_pages=max_pages, max_objects=max_objects)

    def drain_tally(self, kind: str | None = None) -> dict[str, dict[str, int]]:
        """Return kind -> counter field -> increment of the requests since the last call, and forget them.

        Counters live with their (provider, kind): who records one kind's names it, and the others' stay.
        """
        return self._tally.drain(kind)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._wire.aclose()
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _about(
        self, op: str, method: str, kind: Kind, object_id: str, tail: str = "", *, limit: int = BODY_BYTES
    ) -> Reply:
        try:
            # Checked again here, where it becomes part of a URL: whatever wrote it into the registry.
            url = f"{self._base}{kind.path}/{quote(identifier(object_id), safe='')}{tail}"
        except InvalidResource as error:
            return _never_sent("invalid", str(error))
        return await self._send(op, method, kind, url, limit=limit)

    async def _send(self, op: str, method: str, kind: Kind, url: str, *, limit: int = BODY_BYTES) -> Reply:
        if sunset := kind.sunset(self._host):
            why = f"{self._host} shut {kind.plural} down on {sunset.date}; use {sunset.successor} instead"
            return _never_sent("sunset", why)
        try:
            self._use(self._credential.current())
        except NoCredential as error:
            return _never_sent("credentials", str(error))
        headers = self._headers[kind.name].copy()
        headers["X-Client-Request-Id"] = next(self._request_ids)
        async with self._slots:
            try:
                reply = await self._wire.request(method, url, headers, limit)
            except asyncio.CancelledError:
                self._tally.add(kind.name, op, Reply(failure="cancelled"))
                raise
        self._tally.add(kind.name, op, reply)
        return reply

    def _use(self, key: str) -> None:
        """Make this the key of the requests from now on; cheap while it stays the same."""
        if key == self._key:
            return
        log.register_secret(key)
        self._key = self._client.api_key = key
        own = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"lapse/{__version__}",
            "OpenAI-Organization": self._client.organization or "",
            "OpenAI-Project": self._client.project or "",
            **self._client.auth_headers,
        }
        given = {name: value for name, value in own.items() if value}
        self._headers = {name: {**given, **kind.headers} for name, kind in self.kinds.items()}
        self._identity = self._fingerprint(key)

    def _fingerprint(self, key: str) -> str:
        hashed = hashlib.sha256(key.encode()).hexdigest()
        parts = (self._base, self._client.organization or "", self._client.project or "", hashed)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _never_sent(failure: str, why: str) -> Reply:
    return Reply(body=why.encode(errors="replace"), failure=failure, sent=False)
