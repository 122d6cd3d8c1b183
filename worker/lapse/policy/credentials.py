"""What opens the registry's Redis, and the broker's, where their URLs do not say it: by the keys of [registry]."""

from collections.abc import Callable

from redis import CredentialProvider

from lapse.errors import ConfigError
from lapse.policy.tables import IamTable, RegistrySection
from lapse.registry.pools.credentials.endpoint import (
    demand_no_password,
    has_password,
    of_file,
    of_sentinels_file,
    sentinels_password,
    user_of,
)
from lapse.registry.pools.credentials.entra import RedisEntraCredentials
from lapse.registry.pools.credentials.iam import IamCredentials

Opening = tuple[CredentialProvider | None, CredentialProvider | None]
"""What opens a Redis, and what opens the Sentinels that name it."""
Named = Callable[[str], str]
"""What a key of [registry] is called: its variable, if that says it, else the file and the key."""


def of_registry(url: str, section: RegistrySection, named: Named) -> Opening:
    """Return what opens the registry, beside what its URL says.

    Raises:
        ConfigError: they do not go together, or a file holds no password; the text names the key.

    """
    cache = section.iam.cache if section.iam else ""
    return _of_servers(url, section, cache, named), _of_sentinels(url, section, named)


def of_broker(url: str, section: RegistrySection, named: Named) -> Opening:
    """Return what opens a broker that is a Redis with a URL of its own: the same, where the URL has no password.

    Raises:
        ConfigError: a file holds no password; the text names the key.

    """
    cache = section.iam.broker_cache or section.iam.cache if section.iam else ""
    return (
        None if has_password(url) else _of_servers(url, section, cache, named),
        None if sentinels_password(url) else _of_sentinels(url, section, named),
    )


def _of_servers(url: str, section: RegistrySection, cache: str, named: Named) -> CredentialProvider | None:
    if section.auth:
        demand_no_password(url, named("auth"))
        return _of_iam(url, section.iam, cache, named) if section.iam else RedisEntraCredentials()
    if section.password_file is None:
        return None
    return of_file(url, section.password_file, named("password_file"))


def _of_iam(url: str, iam: IamTable, cache: str, named: Named) -> IamCredentials:
    user = user_of(url)
    if user is None:
        raise ConfigError(f'{named("auth")} = "iam" needs a user: write the URL as rediss://USER@HOST:6379/0')
    return IamCredentials(user, cache, region=iam.region, service=iam.service, serverless=iam.serverless)


def _of_sentinels(url: str, section: RegistrySection, named: Named) -> CredentialProvider | None:
    if section.sentinel_password_file is None:
        return None
    return of_sentinels_file(url, section.sentinel_password_file, named("sentinel_password_file"))
