"""What concerns several keys of the policy file at once. No I/O."""

from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from lapse.kinds import KINDS, Kind
from lapse.policy.fields import is_loopback
from lapse.policy.models import File, Policy, Provider
from lapse.policy.problems import Problem, did_you_mean, shown

OPENAI = "https://api.openai.com/v1"
SHORTEST_LEASE = 2.0


def check(file: File) -> Iterator[Problem]:
    """Yield what is wrong between keys that are each right by themselves."""
    if file.sweep.lease < SHORTEST_LEASE:
        yield Problem(("sweep", "lease"), "is too short for one request and its answer: at least 2s")
    for name, provider in file.providers.items():
        yield from _provider(name, provider)
    if not file.policies:
        yield Problem(("policies",), "there is none: write [policies.NAME] with kind, ttl and anchor")
    for name, policy in file.policies.items():
        yield from _when(name, policy)
        yield from _where(name, policy, file)
    yield from _former_names(file)


def account_of(policy: Policy, file: File) -> str | None:
    """Return the name of the provider a policy is for: its own, or the only one there is."""
    if policy.provider is not None:
        return policy.provider
    return next(iter(file.providers)) if len(file.providers) == 1 else None


def base_url(provider: Provider) -> str:
    """Return where a provider is: as configured, and OpenAI for a type openai without one."""
    return provider.base_url or OPENAI


def _provider(name: str, provider: Provider) -> Iterator[Problem]:
    at = ("providers", name)
    if provider.type is None:
        yield Problem((*at, "type"), f"is missing: write one of {', '.join(sorted(KINDS))}")
    credentials = [key for key in ("api_key_env", "api_key_file", "auth") if getattr(provider, key)]
    if len(credentials) != 1:
        yield Problem((*at, "api_key_env"), "name the key's place once: api_key_env, or api_key_file")
    if provider.auth and provider.type == "openai":
        yield Problem((*at, "auth"), "type openai takes a key: api_key_env, or api_key_file")
    parts = urlsplit(base_url(provider))
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not provider.allow_plaintext:
        yield Problem(
            (*at, "base_url"),
            "would send the key readable over the network: use https, or state allow_plaintext = true",
        )


def _when(name: str, policy: Policy) -> Iterator[Problem]:
    at = ("policies", name)
    ways = [key for key in ("ttl", "expires_after", "orphan") if getattr(policy, key) is not None]
    if not ways:
        yield Problem(
            (*at, "ttl"), "is missing, and nothing has a default ttl: write a ttl and an anchor, or an orphan rule"
        )
    if len(ways) > 1:
        yield Problem((*at, ways[1]), f"stands beside {ways[0]}: a policy has one of ttl, expires_after and orphan")
    if policy.ttl is not None and policy.anchor is None:
        yield Problem((*at, "anchor"), 'is missing: say what the ttl counts from, "created_at" or "last_active_at"')
    if policy.ttl is None and policy.anchor is not None:
        yield Problem((*at, "anchor"), "counts for nothing without a ttl")
    if policy.orphan and policy.max_age is not None:
        yield Problem((*at, "max_age"), "has no meaning beside an orphan rule")
    if policy.expires_after:
        given = [unit for unit in ("days", "hours", "minutes", "seconds") if getattr(policy.expires_after, unit)]
        if len(given) != 1:
            yield Problem((*at, "expires_after"), "give exactly one of days, hours, minutes and seconds")


def _where(name: str, policy: Policy, file: File) -> Iterator[Problem]:
    at = ("policies", name)
    if policy.kind is None:
        yield Problem((*at, "kind"), 'is missing: write what it deletes, such as "conversation"')
    account = account_of(policy, file)
    if account is None:
        said = "is missing: there is more than one" if file.providers else "is missing: write [providers.NAME] first"
        yield Problem((*at, "provider"), said)
    elif account not in file.providers:
        yield Problem((*at, "provider"), f"{shown(account)} is not configured: {did_you_mean(account, file.providers)}")
    else:
        for kind in policy.kind or ():
            yield from _kind(name, policy, kind, file.providers[account])


def _kind(name: str, policy: Policy, kind: str, provider: Provider) -> Iterator[Problem]:
    at = ("policies", name)
    known: Mapping[str, Kind] = KINDS.get(provider.type or "", {})
    if kind not in known:
        if provider.type:
            text = f"{shown(kind)} is no kind of type {provider.type}: {did_you_mean(kind, known)}"
            yield Problem((*at, "kind"), text)
        return
    found = known[kind]
    host = urlsplit(base_url(provider)).hostname or ""
    if sunset := found.sunset(host):
        yield Problem(
            (*at, "kind"),
            f"{host} shut {found.plural} down on {sunset.date}; its successor is {sunset.successor}",
        )
    if policy.orphan and not found.listable:
        yield Problem((*at, "orphan"), f"{found.plural} cannot be listed: there is no way to find orphans")
    for i, keep in enumerate(policy.keep):
        if keep.name is None and not keep.metadata:
            yield Problem((*at, "keep", i), "is blank, and a blank does not mean everything: give a name or metadata")
        if keep.name is not None and not found.has_name:
            yield Problem((*at, "keep", i, "name"), f"{found.plural} have no name: keep them by metadata")
        if keep.metadata and not found.has_metadata:
            yield Problem((*at, "keep", i, "metadata"), f"{found.plural} have no metadata")


def _former_names(file: File) -> Iterator[Problem]:
    claimed = Counter(old for policy in file.policies.values() for old in policy.formerly)
    for name, policy in file.policies.items():
        for i, old in enumerate(policy.formerly):
            if old in file.policies:
                yield Problem(("policies", name, "formerly", i), f"{shown(old)} is a policy of this file")
            elif claimed[old] > 1:
                yield Problem(("policies", name, "formerly", i), f"{shown(old)} is claimed by two policies, or twice")
