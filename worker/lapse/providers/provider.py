"""One configured account: its credential, its URLs, and every request that lapse sends to it.

The openai client says what a base URL and a credential look like on the wire. The requests themselves go
over ``transport``: the client's lenient parsing hides what an outcome depends on (a 200 that deletes nothing
parses like one that does), and its layers cost several times the CPU of the request.
"""

import asyncio
import hashlib
import json
import os
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Self
from urllib.parse import quote, urlsplit

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from lapse import __version__, log
from lapse.errors import ConfigError, InvalidResource
from lapse.providers import deadline, entra
from lapse.providers.account import Account
from lapse.providers.credentials import Credential, NoCredential
from lapse.providers.deadline import Deadline
from lapse.providers.kinds import DIALECTS, Kind
from lapse.providers.outcomes import Spend, unauthorised
from lapse.providers.pagination import BOUNDS, PAGE_BYTES, Bounds, Listing, Take, selectless, walk
from lapse.providers.request_counters import RequestCounters
from lapse.providers.response import Reply
from lapse.providers.route import Route, route_to
from lapse.providers.transport import BODY_BYTES, HttpRequest, HttpTransport
from lapse.registry.keys import identifier

TIMEOUT = 30.0
"""Seconds for one request from connecting to the last byte. It has to stay below half a lease."""

OBJECT_BYTES = 4 * 1024 * 1024
"""How much is read of one object: an assistant's instructions alone may be a megabyte."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of an account, wherever its URL lies: for what (``op``, as counters name it) and how."""

    op: str
    method: str
    limit: int = BODY_BYTES
    body: Body | None = None


class Provider:
    """Every request to one account. Make it in the running event loop, after a fork; ``aclose`` it there.

    Attributes:
        name: As policies call it.
        place: What tells this account from others: see ``Account.place``.
        type: The row of ``lapse.providers.kinds.KINDS``.
        kinds: What it can delete, by name.
        recognisers: Its further not-found texts, for ``outcomes.classify``.
        canary: True if an object that lapse makes and deletes itself may prove an absence.
        opaque: True if answers are expected to call an object by another id than the one asked for.
        concurrency: How many requests are in flight at most.
        route: How it is reached.

    """

    def __init__(
        self,
        account: Account,
        environ: Mapping[str, str] | None = None,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
        tokens: entra.TokenSource | None = None,
    ) -> None:
        if account.type not in DIALECTS:
            raise ConfigError(f"[providers.{account.name}] type {account.type!r}: use {', '.join(DIALECTS)}")
        dialect = DIALECTS[account.type]
        environ = os.environ if environ is None else environ
        self.name = account.name
        self.place = account.place
        self.type = account.type
        self.kinds = dialect.kinds
        self.recognisers = account.not_found
        self.canary = account.proof == "canary"
        self.opaque = account.ids == "opaque"
        self.concurrency = account.concurrency
        self.route = _route(account, environ)
        self._clock = clock
        self._key_header = "Authorization" if account.auth else dialect.key_header
        self._version = quote(account.api_version, safe="") if account.api_version else None
        self._client = _client(account, timeout)
        self._base = str(self._client.base_url).rstrip("/")
        self._host = self._client.base_url.host
        self._credential: Credential | entra.Entra = Credential(account, environ)
        if account.auth:
            issuer = entra.Issuer(_scope(account), timeout, tokens)
            self._credential = entra.Entra(account, issuer, environ, clock=clock)
        self._transport = HttpTransport(concurrency=account.concurrency, timeout=timeout, route=self.route)
        self._slots = asyncio.Semaphore(account.concurrency)
        self._counters = RequestCounters()
        self._request_ids = map(f"lapse-{secrets.token_hex(6)}-{{:x}}".format, count(1))
        self._selectless: set[str] = set()
        self._key: str | None = None
        self._headers: dict[str, dict[str, str]] = {}
        self._identity = ""

    async def identity(self) -> str:
        """Return 16 hex digits over base URL, organisation, project and the credential of this moment.

        It changes with the credential; of Entra's that is tenant and client, whatever the token. Every ``Reply``
        carries that of its own request, whatever became of the credential since.

        Raises:
            ConfigError: there is no credential; the text says where it was looked for.

        """
        try:
            self._use(await self._credential.current())
        except NoCredential as error:
            raise ConfigError(str(error)) from None
        return self._identity

    async def delete(self, kind: Kind, object_id: str) -> Reply:
        """Send the DELETE of one object."""
        return await self._about(_Question("delete", "DELETE"), kind, object_id)

    async def read(self, kind: Kind, object_id: str) -> Reply:
        """Read one object, to see its name and metadata."""
        return await self._about(_Question("read", "GET", OBJECT_BYTES), kind, object_id)

    async def absence(self, kind: Kind, object_id: str) -> Reply:
        """Ask for a missing object where the answer names it, as that of ``read`` does not for this kind."""
        return await self._about(_Question("read", "POST", OBJECT_BYTES, {}), kind, object_id, kind.absence or "")

    async def witness(self, kind: Kind, object_id: str) -> Reply:
        """Read one object, to see that objects of this kind can be seen from here."""
        return await self._about(_Question("witness", "GET", OBJECT_BYTES), kind, object_id)

    async def probe(self, kind: Kind) -> Reply | None:
        """Ask the kind's endpoint for what needs no id, or return None if there is no such thing."""
        if kind.search:
            asked = _search(kind, 0, 1, select=False)
            return await self._send(_Question("probe", "POST", OBJECT_BYTES, asked), kind, self._url(kind.search))
        if kind.probe is None:
            return None
        # Some servers list all there is, whatever limit the probe names.
        return await self._send(_Question("probe", "GET", PAGE_BYTES), kind, self._url(kind.probe))

    async def create(self, kind: Kind, metadata: Mapping[str, str]) -> Reply:
        """Make an empty object of a kind that can be made so; ``metadata`` says what it is for."""
        body = dict(kind.create or {}) | ({"metadata": dict(metadata)} if kind.has_metadata else {})
        return await self._send(_Question("create", "POST", body=body), kind, self._url(kind.path))

    async def items(self, kind: Kind, object_id: str, size: int = 100) -> Reply:
        """Read the first page of an object's children, oldest first."""
        tail = f"{kind.items}?limit={size}&order=asc"
        return await self._about(_Question("items", "GET", PAGE_BYTES), kind, object_id, tail)

    async def delete_item(self, kind: Kind, object_id: str, item_id: str) -> Reply:
        """Send the DELETE of one child."""
        try:
            tail = f"{kind.items}/{quote(identifier(item_id), safe='')}"
        except InvalidResource as error:
            return _never_sent("invalid", str(error))
        return await self._about(_Question("items", "DELETE", OBJECT_BYTES), kind, object_id, tail)

    async def part(self, op: str, method: str, kind: Kind, object_id: str, path: str) -> Reply:
        """Send a request about what lies below one object; ``path`` is percent-encoded."""
        return await self._about(_Question(op, method, PAGE_BYTES), kind, object_id, path)

    async def listing(self, kind: Kind, spend: Spend, *, take: Take | None = None, bounds: Bounds = BOUNDS) -> Listing:
        """Read the whole list of a listable kind, oldest first; ``take`` gets it page by page."""
        identities, began = set[str](), time.monotonic()

        async def fetch(after: str | int | None, size: int) -> Reply:
            reply = await page(after, size)
            identities.add(reply.identity)
            return reply

        async def page(after: str | int | None, size: int) -> Reply:
            if kind.search:
                return await self._searched(kind, kind.search, after, size, spend)
            query = "" if kind.unpaged else f"&limit={size}&order=asc"
            query += f"&after={quote(str(after), safe='')}" if after else ""
            url = self._url(kind.path + query.replace("&", "?", 1))
            return await self._send(_Question("list", "GET", PAGE_BYTES), kind, url)

        listing = await walk(kind, fetch, spend, take=take, bounds=bounds)
        identity = identities.pop() if len(identities) == 1 else ""
        return replace(listing, identity=identity, sent_at=began)

    async def _searched(self, kind: Kind, path: str, after: str | int | None, size: int, spend: Spend) -> Reply:
        """Ask a search for a page, for whole objects where the server takes no ``select``."""
        asked = _search(kind, after, size, select=kind.name not in self._selectless)
        reply = await self._send(_Question("list", "POST", PAGE_BYTES, asked), kind, self._url(path))
        if "select" in asked and selectless(reply):
            self._selectless.add(kind.name)
            await spend(1)
            return await self._searched(kind, path, after, size, spend)
        return reply

    def drain_counters(self, kind: str | None = None) -> dict[str, dict[str, int]]:
        """Return kind -> counter field -> increment of the requests since the last call, and forget them.

        Counters live with their (provider, kind): who records one kind's names it, and the others' stay.
        """
        return self._counters.drain(kind)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
        await self._client.close()
        await self._credential.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _url(self, tail: str) -> str:
        if self._version is None:
            return f"{self._base}{tail}"
        return f"{self._base}{tail}{'&' if '?' in tail else '?'}api-version={self._version}"

    async def _about(self, question: _Question, kind: Kind, object_id: str, tail: str = "") -> Reply:
        try:
            url = self._url(f"{kind.path}/{quote(identifier(object_id), safe='')}{tail}")
        except InvalidResource as error:
            return _never_sent("invalid", str(error))
        return await self._send(question, kind, url)

    async def _send(self, question: _Question, kind: Kind, url: str) -> Reply:
        if (sunset := kind.sunset(self._host)) and sunset.over(datetime.fromtimestamp(self._clock(), UTC).date()):
            why = f"{self._host} shut {kind.plural} down on {sunset.date}; use {sunset.successor} instead"
            return _never_sent("sunset", why)
        try:
            key = await self._credential.current()
            reply = await self._exchange(question, kind, url, key)
            if unauthorised(reply) and (renewed := await self._credential.renewed(key)):
                reply = await self._exchange(question, kind, url, renewed)
        except NoCredential as error:
            return _never_sent("credentials", str(error))
        return reply

    async def _exchange(self, question: _Question, kind: Kind, url: str, key: str) -> Reply:
        self._use(key)
        headers, identity = self._headers[kind.name].copy(), self._identity
        headers["X-Client-Request-Id"] = next(self._request_ids)
        content, op = None, question.op
        if question.body is not None:
            headers["Content-Type"], content = "application/json", json.dumps(question.body).encode()
        claimed = deadline.current()
        until = claimed.deadline if claimed else None
        if not await (self._slot(until) if until and self._slots.locked() else self._slots.acquire()):
            return _never_sent("late", "every connection was taken until the time of its claim was over")
        try:
            reply = await self._transport.request(
                HttpRequest(question.method, url, headers, question.limit, content),
                deadline=until,
                begun=claimed.begun if claimed and op == "delete" else None,
                identity=identity,
            )
        except asyncio.CancelledError:
            self._counters.add(kind.name, op, Reply(failure="cancelled"))
            raise
        finally:
            self._slots.release()
        if reply.failure != "late":
            self._counters.add(kind.name, op, reply)
        return reply

    async def _slot(self, until: Deadline) -> bool:
        """Wait for a slot of the account's concurrency; False if none came free while a request could begin."""
        try:
            async with asyncio.timeout_at(until.begin_by):
                return await self._slots.acquire()
        except TimeoutError:
            return False

    def _use(self, key: str) -> None:
        """Make this the key of the requests from now on; cheap while it stays the same."""
        if key == self._key:
            return
        if not key.startswith("eyJ"):  # tokens come and go, and the log knows them by their form
            log.register_secret(key)
        self._key = self._client.api_key = key
        own = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"lapse/{__version__}",
            "OpenAI-Organization": self._client.organization or "",
            "OpenAI-Project": self._client.project or "",
            **(self._client.auth_headers if self._key_header == "Authorization" else {self._key_header: key}),
        }
        given = {name: value for name, value in own.items() if value}
        self._headers = {name: {**given, **kind.headers} for name, kind in self.kinds.items()}
        self._identity = self._fingerprint(self._credential.principal(key))

    def _fingerprint(self, principal: str) -> str:
        hashed = hashlib.sha256(principal.encode()).hexdigest()
        parts = (self._base, self._client.organization or "", self._client.project or "", hashed)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _client(account: Account, timeout: float) -> AsyncOpenAI:
    # Every argument is given: for each one left out, the client would ask the environment, and an
    # OPENAI_BASE_URL or OPENAI_PROJECT_ID of another program must not redirect a deletion. Nothing is sent over it, so
    # that it trusts nobody: to read the certificates of all authorities takes 25 ms of each start.
    return AsyncOpenAI(
        api_key="",
        admin_api_key="",
        base_url=account.base_url,
        organization=account.organization or "",
        project=account.project or "",
        webhook_secret="",
        timeout=timeout,
        max_retries=0,
        http_client=DefaultAsyncHttpxClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False),
    )


def _route(account: Account, environ: Mapping[str, str]) -> Route:
    route = route_to(account, environ)
    for secret in route.proxy.secrets if route.proxy else ():
        log.register_secret(secret)
    return route


def _scope(account: Account) -> str:
    scope = DIALECTS[account.type].scope(urlsplit(account.base_url).path)
    if scope is None:
        raise ConfigError(
            f"[providers.{account.name}] auth = {account.auth!r} does not exist for type {account.type!r}: "
            "use api_key_env or api_key_file"
        )
    return scope


def _search(kind: Kind, offset: str | int | None, size: int, *, select: bool) -> Body:
    """Return the question that lists a kind oldest first, if it may with no more of each object than lapse reads."""
    asked = {"limit": size, "offset": offset or 0, "sort_by": kind.created_field, "sort_order": "asc"}
    fields = [kind.id_field, kind.created_field, "metadata"]
    seen = [*fields, *(["name"] if kind.has_name else []), *(["status"] if kind.busy else [])]
    return asked | ({"select": seen} if select else {})


def _never_sent(failure: str, why: str) -> Reply:
    return Reply(body=why.encode(errors="replace"), failure=failure, sent=False)
