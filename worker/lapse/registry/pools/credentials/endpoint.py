"""Where a registry is and what opens it: a URL, and what proves who connects where no password stands in that."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import redis

from lapse.errors import ConfigError
from lapse.registry.pools.address import SENTINEL, Node, Several, several, split
from lapse.registry.pools.credentials.password_file import PasswordFile


@dataclass(frozen=True, slots=True)
class RedisEndpoint:
    """A registry's URL and what opens it.

    Attributes:
        url: The URL.
        credentials: What proves to its servers who connects; None: what the URL says.
        sentinels: What proves it to its Sentinels.

    """

    url: str = field(repr=False)
    credentials: redis.CredentialProvider | None = field(default=None, repr=False)
    sentinels: redis.CredentialProvider | None = field(default=None, repr=False)

    @property
    def several(self) -> Several | None:
        """What the URL says of several servers; None: it names one."""
        return several(self.url)

    @property
    def addresses(self) -> tuple[Node, ...]:
        """The servers that it names, where it names several."""
        return self.several.addresses if self.several else ()

    def at(self, address: Node) -> Self:
        """Return the same for one of several servers by itself."""
        return replace(self, url=self.several.url(address)) if self.several else self


def endpoint_of(given: str | RedisEndpoint | None) -> RedisEndpoint:
    """Return the registry's: the argument, or what the variables say: ``LAPSE_REGISTRY__URL`` or ``REDIS_URL``, with
    ``LAPSE_REGISTRY__PASSWORD_FILE`` and ``LAPSE_REGISTRY__SENTINEL_PASSWORD_FILE`` beside it.

    Raises:
        ConfigError: none of them, or they do not go together.

    """
    if isinstance(given, RedisEndpoint):
        return given
    if given:
        return RedisEndpoint(given)
    url = os.environ.get("LAPSE_REGISTRY__URL") or os.environ.get("REDIS_URL")
    if not url:
        raise ConfigError("which Redis? Give its URL to Registry(), or set LAPSE_REGISTRY__URL or REDIS_URL")
    return RedisEndpoint(url, *_from_files(url, os.environ))


def with_credentials(
    given: str | RedisEndpoint | None,
    password_file: str | PathLike[str] | None,
    provider: redis.CredentialProvider | None,
) -> str | RedisEndpoint | None:
    """Return what an application gives to its registry as one value.

    Raises:
        ConfigError: both, something that is no provider, a URL with a password, or a file without one.

    """
    if password_file is None and provider is None:
        return given
    if password_file is not None and provider is not None:
        raise ConfigError("password_file= and credential_provider= both open the registry: give one of them")
    endpoint = endpoint_of(given)
    if password_file is not None:
        return replace(endpoint, credentials=of_file(endpoint.url, password_file, "password_file"))
    if not isinstance(provider, redis.CredentialProvider):
        raise ConfigError("credential_provider= is no redis.CredentialProvider")
    demand_no_password(endpoint.url, "credential_provider")
    return replace(endpoint, credentials=provider)


def of_file(url: str, path: str | PathLike[str], key: str) -> PasswordFile:
    """Return the password that a file holds, for the user that a URL names.

    Raises:
        ConfigError: the URL has a password of its own, or the file has none; the text names the key.

    """
    demand_no_password(url, key)
    made = PasswordFile(Path(path), user_of(url), key)
    made.get_credentials()
    return made


def of_sentinels_file(url: str, path: str | PathLike[str], key: str) -> PasswordFile | None:
    """Return the password that a file holds for the Sentinels that a URL names; None if it names none.

    Raises:
        ConfigError: it has their password itself, or the file has none; the text names the key.

    """
    target = several(url)
    if target is None or target.what != SENTINEL:
        return None
    if sentinels_password(url):
        raise ConfigError(f"{key} is set, and the registry's URL has a sentinel_password too: leave one of them out")
    made = PasswordFile(Path(path), target.sentinels.get("username"), key)
    made.get_credentials()
    return made


def demand_no_password(url: str, key: str) -> None:
    """Return if a URL leaves it to a key to say the password.

    Raises:
        ConfigError: it does not; the text names the key.

    """
    if has_password(url):
        raise ConfigError(f"{key} is set, and the registry's URL has a password too: leave one of them out")


def has_password(url: str) -> bool:
    """Return True if a URL says the password itself."""
    return ":" in _login(url)


def sentinels_password(url: str) -> bool:
    """Return True if a URL says the password of Sentinels itself."""
    target = several(url)
    return target is not None and "password" in target.sentinels


def user_of(url: str) -> str | None:
    """Return the user that a URL names, or None."""
    return unquote(_login(url).partition(":")[0]) or None


def _login(url: str) -> str:
    return split(url).netloc.rpartition("@")[0]


def _from_files(
    url: str, environ: Mapping[str, str]
) -> tuple[redis.CredentialProvider | None, redis.CredentialProvider | None]:
    own, sentinels = "LAPSE_REGISTRY__PASSWORD_FILE", "LAPSE_REGISTRY__SENTINEL_PASSWORD_FILE"
    return (
        of_file(url, environ[own], own) if environ.get(own) else None,
        of_sentinels_file(url, environ[sentinels], sentinels) if environ.get(sentinels) else None,
    )
