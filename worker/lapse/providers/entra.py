"""Entra tokens for accounts with ``auth = "entra"``: the only module that imports azure.

azure-identity finds the credential as every Azure program does: a client secret or certificate in AZURE_TENANT_ID,
AZURE_CLIENT_ID, ..., workload identity, managed identity (AZURE_CLIENT_ID names a user-assigned one), or whoever is
signed in with the az program. AZURE_TOKEN_CREDENTIALS narrows that down.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

from lapse.errors import ConfigError
from lapse.providers.account import Account
from lapse.providers.credentials import NoCredential

INSTALL = "pip install 'PATH/TO/lapse[worker,entra]'"
RENEW_BEFORE = 300.0
"""Seconds before its end from which on a token is renewed."""
ASK_AGAIN = 10.0
"""Seconds after a failure during which nobody asks again: sixteen requests must not wait for it one after the other."""
_HINT = "(is there a managed or workload identity here, or AZURE_TENANT_ID, AZURE_CLIENT_ID and a secret?)"


class Token(Protocol):
    """An access token; ``expires_on`` in seconds since 1970."""

    @property
    def token(self) -> str:
        """The token itself."""

    @property
    def expires_on(self) -> int:
        """When it ends."""


class TokenSource(Protocol):
    """What azure-identity's asynchronous credentials are."""

    async def get_token(self, *scopes: str) -> Token:
        """Return a token; the same one for as long as it is good."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Issuer(NamedTuple):
    """Who is asked for tokens: for which scope, for how many seconds at most; None: whom azure-identity finds."""

    scope: str
    patience: float
    source: TokenSource | None = None


def installed() -> bool:
    """Return True if azure-identity is there."""
    return find_spec("azure") is not None and find_spec("azure.identity") is not None


def demand(accounts: Iterable[Account]) -> None:
    """Return if azure-identity is there, or no account needs it.

    Raises:
        ConfigError: it is missing; the text names the account and the line that installs it.

    """
    for account in accounts:
        if account.auth and not installed():
            raise _missing(account)


class Entra:
    """The token of one account. Make it inside the running event loop, after a fork."""

    def __init__(
        self,
        account: Account,
        issuer: Issuer,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._name = account.name
        self._issuer = issuer
        self._environ = environ
        self._clock = clock
        self._source = issuer.source or _found_by_azure(account)
        self._token: Token | None = None
        self._renew_at = 0.0
        self._failure = ""
        self._failed_at = float("-inf")
        self._turn = asyncio.Lock()

    async def current(self) -> str:
        """Return a token that is good for a while.

        Raises:
            NoCredential: there is none to be had.

        """
        if self._token is None or self._clock() >= self._renew_at:
            async with self._turn:
                if self._token is None or self._clock() >= self._renew_at:
                    return (await self._fetch()).token
        return self._token.token

    async def renewed(self, refused: str) -> str | None:
        """Return another token than the one that was answered with 401, or None if its age is not the reason.

        Raises:
            NoCredential: it has ended, and there is no other.

        """
        async with self._turn:
            token = self._token
            if token is None or token.token != refused:
                return token.token if token else None
            if self._clock() < token.expires_on - RENEW_BEFORE:
                return None
            other = await self._fetch()
            return None if other.token == refused else other.token

    def principal(self, token: str) -> str:
        """Return tenant and client: of the token, or as the environment names them where it does not say."""
        claims = _claims(token)
        tenant = claims.get("tid") or self._environ.get("AZURE_TENANT_ID", "")
        client = claims.get("appid") or claims.get("azp") or self._environ.get("AZURE_CLIENT_ID", "")
        return f"entra\n{tenant}\n{client}"

    async def aclose(self) -> None:
        """Close every connection."""
        await self._source.close()

    async def _fetch(self) -> Token:
        now = self._clock()
        if now - self._failed_at < ASK_AGAIN:
            raise NoCredential(self._failure)
        try:
            async with asyncio.timeout(self._issuer.patience):
                fetched = await self._source.get_token(self._issuer.scope)
        except Exception as error:
            if self._token and now < self._token.expires_on:
                self._renew_at = now + (self._token.expires_on - now) / 2
                return self._token
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            self._failure, self._failed_at = f"no Entra token for provider {self._name!r}: {said} {_HINT}", now
            raise NoCredential(self._failure) from error
        self._token = fetched
        self._renew_at = fetched.expires_on - min(RENEW_BEFORE, (fetched.expires_on - now) / 2)
        return fetched


def _found_by_azure(account: Account) -> TokenSource:
    try:
        from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - the extra may be missing
    except ImportError as missing:
        raise _missing(account) from missing
    return DefaultAzureCredential()


def _missing(account: Account) -> ConfigError:
    return ConfigError(
        f'[providers.{account.name}] auth = "entra" needs azure-identity, which is not installed: {INSTALL}'
    )


def _claims(token: str) -> Mapping[str, Any]:
    """Return what a token says of itself; it is not verified, which is the provider's business."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
