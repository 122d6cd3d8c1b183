"""What concerns several keys of one ``[providers.NAME]`` table: what its type takes, and where it may be. No I/O."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lapse.errors import InvalidResource
from lapse.policy.problems import Problem
from lapse.policy.schema import Policy, ProviderTable
from lapse.providers.kinds import DIALECTS, KINDS, Dialect
from lapse.providers.kinds.kind import is_below
from lapse.providers.route import ENVIRONMENT, EXPOSED, exposes, is_loopback, parse
from lapse.registry import keys

_CREDENTIALS = ("api_key_env", "api_key_file", "auth")


@dataclass(frozen=True, slots=True)
class Given:
    """One named table, without what is wrong in it by itself."""

    at: tuple[str, str]
    table: Policy | ProviderTable
    broken: frozenset[str]

    def has(self, key: str) -> bool:
        """Return True if the key is written, rightly or not."""
        return key in self.broken or getattr(self.table, key) not in (None, False)


def base_url(provider: ProviderTable) -> str:
    """Return where a provider is: as configured, or where its type always is; empty if that cannot be told."""
    return provider.base_url or (DIALECTS[provider.type].base_url if provider.type else None) or ""


def api_version(provider: ProviderTable) -> str | None:
    """Return the api-version that requests carry: as configured, or its type's own."""
    return provider.api_version or (DIALECTS[provider.type].api_version if provider.type else None)


def check_provider(given: Given, provider: ProviderTable) -> Iterator[Problem]:
    """Yield what is wrong between the keys of a provider's table."""
    dialect = DIALECTS[provider.type] if provider.type else None
    try:
        keys.provider(given.at[1])
    except InvalidResource as error:
        yield Problem(given.at, str(error))
    if not given.has("type"):
        yield Problem((*given.at, "type"), f"is missing: write one of {', '.join(sorted(KINDS))}")
    yield from _credentials(given, dialect)
    if dialect:
        yield from _meaningless(given, provider, dialect)
        yield from _place(given, provider, dialect)
    parts = urlsplit(base_url(provider))
    allowed = provider.allow_plaintext or "allow_plaintext" in given.broken
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not allowed:
        text = "would send the key readable over the network: use https, or state allow_plaintext = true"
        yield Problem((*given.at, "base_url"), text)
    if provider.proxy not in {None, ENVIRONMENT} and exposes(base_url(provider), parse(provider.proxy)) and not allowed:
        yield Problem((*given.at, "proxy"), EXPOSED)


def check_twins(providers: Mapping[str, ProviderTable], environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong where two tables are one account: a hold under one name would be none under the other.

    ``environ`` tells that two variables hold one key.
    """
    seen: dict[tuple[str | None, ...], str] = {}
    for name, provider in providers.items():
        for place in _places(provider, environ):
            first = seen.setdefault(place, name)
            if first != name:
                text = (
                    f"is the account of [providers.{first}] once more, by the same URL and key: what is held or used"
                    " under one name is neither under the other. Keep one, and give its policies that provider"
                )
                yield Problem(("providers", name, "base_url"), text)
                break


def _places(provider: ProviderTable, environ: Mapping[str, str]) -> Iterator[tuple[str | None, ...]]:
    """Yield what tells an account from others, by each way in which its key may be named."""
    at = (base_url(provider), provider.organization, provider.project)
    for key in _CREDENTIALS if base_url(provider) else ():
        if said := getattr(provider, key):
            yield (*at, key, said)
    if base_url(provider) and (held := environ.get(provider.api_key_env or "", "").strip()):
        yield (*at, "key", held)


def _credentials(given: Given, dialect: Dialect | None) -> Iterator[Problem]:
    written = [key for key in _CREDENTIALS if given.has(key)]
    if not written:
        example = (dialect or DIALECTS["openai"]).key_example
        other = ', or state auth = "entra"' if dialect and dialect.scopes else ""
        text = f'is missing: name the variable that holds the key, such as "{example}", or a file with api_key_file'
        yield Problem((*given.at, "api_key_env"), text + other)
    if len(written) > 1:
        yield Problem((*given.at, written[1]), f"stands beside {written[0]}: name one place of the key")


def _meaningless(given: Given, provider: ProviderTable, dialect: Dialect) -> Iterator[Problem]:
    for key in sorted(frozenset().union(*(each.takes for each in DIALECTS.values())) - dialect.takes):
        if getattr(provider, key) is not None:
            fix = "use api_key_env, or api_key_file" if key == "auth" else "leave it out"
            yield Problem((*given.at, key), f"is nothing that type {provider.type} knows: {fix}")


def _place(given: Given, provider: ProviderTable, dialect: Dialect) -> Iterator[Problem]:
    at = (*given.at, "base_url")
    if not base_url(provider) and "base_url" not in given.broken:
        yield Problem(at, f'is missing: write where the account is, such as "{dialect.example}"')
    parts = urlsplit(base_url(provider))
    known = any(re.fullmatch(end, parts.path) for end in dialect.ends)
    if "/deployments/" in parts.path and not known and dialect.ends:
        yield Problem(at, f'is one deployment, where only a model answers: write it as "{dialect.example}"')
    elif is_below(parts.hostname or "", dialect.hosts) and not known:
        yield Problem(at, f'is not where this API is: write it as "{dialect.example}"')
    elif dialect.versioned and re.fullmatch(dialect.versioned, parts.path) and not given.has("api_version"):
        text = f'is missing, and {parts.path} is not served without: write one, or end base_url in "{parts.path}/v1"'
        yield Problem((*given.at, "api_version"), text)
