"""What concerns several keys of the policy file at once. No I/O.

A key that is wrong by itself has been reported and is not in the tables checked here: ``Given`` remembers that it was
written, so that it is not reported as missing too.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from types import MappingProxyType
from urllib.parse import urlsplit

from lapse import durations
from lapse.policy.accounts import Given, base_url, check_provider, check_twins
from lapse.policy.positions import Path
from lapse.policy.problems import Problem, did_you_mean, shown
from lapse.policy.schema import SECONDS_PER, Policy, PolicyFile
from lapse.policy.tables import UNSAID, RegistrySection
from lapse.providers.kinds import KINDS, Kind

SHORTEST_LEASE = 2.0
DAY = 86400.0
ERASURE_BOUNDS = {"late": (0.0, 30 * DAY), "records": (DAY, durations.LONGEST), "due": (DAY, 92 * DAY)}
"""The shortest and the longest time that each may be; 92 days is a month and the two that Art. 12(3) GDPR may add."""
_WAYS = ("ttl", "expires_after", "orphan")


def check(
    file: PolicyFile, broken: Collection[Path], today: date, environ: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Problem]:
    """Yield what is wrong between keys that are each right by themselves.

    Args:
        file: The tables, without the keys that are wrong by themselves.
        broken: Where those were.
        today: Kinds that a host has shut down by then are refused there.
        environ: Where keys are, as far as it is known.

    """
    if file.sweep.lease < SHORTEST_LEASE:
        yield Problem(("sweep", "lease"), "is too short for one request and its answer: at least 2s")
    yield from _registry(file.registry, {path[1] for path in broken if path[0] == "registry" and len(path) > 1})
    yield from _erasure(file)
    for name, provider in file.providers.items():
        yield from check_provider(Given(("providers", name), provider, _keys_of(("providers", name), broken)), provider)
    yield from check_twins(file.providers, environ)
    if not _names("policies", file.policies, broken):
        yield Problem(("policies",), "there is none: write [policies.NAME] with kind, ttl and anchor")
    providers = _names("providers", file.providers, broken)
    for name, policy in file.policies.items():
        given = Given(("policies", name), policy, _keys_of(("policies", name), broken))
        yield from _when(given, policy)
        yield from _where(given, policy, providers)
        yield from _what(given, policy, file, today)
    yield from _former_names(file)
    yield from _canaries(file)


def _registry(registry: RegistrySection, broken: Collection[str | int]) -> Iterator[Problem]:
    """Yield what does not go together of what opens the registry."""
    iam = registry.iam is not None or "iam" in broken
    if registry.auth is not None and registry.password_file is not None:
        yield Problem(
            ("registry", "password_file"), f'is of no use beside auth = "{registry.auth}": leave one of them out'
        )
    if registry.auth == "iam" and not iam:
        yield Problem(("registry", "auth"), 'needs a cache beside it: iam = { cache = "NAME" }')
    if registry.iam is not None and registry.auth != "iam" and "auth" not in broken:
        yield Problem(("registry", "iam"), 'has no meaning without auth = "iam"')
    if registry.iam is not None and registry.iam.serverless and registry.iam.service != "elasticache":
        yield Problem(("registry", "iam", "serverless"), "is of ElastiCache alone: leave it out")


def _erasure(file: PolicyFile) -> Iterator[Problem]:
    for key, (shortest, longest) in ERASURE_BOUNDS.items():
        said: float = getattr(file.erasure, key)
        if not shortest <= said <= longest:
            bound = f"at least {durations.show(shortest)}" if said < shortest else f"at most {durations.show(longest)}"
            yield Problem(("erasure", key), f"of {durations.show(said)} is out of bounds: {bound}")
    if file.receipts.key_file is not None and file.receipts.key_file == file.audit.key_file:
        yield Problem(("receipts", "key_file"), "is the one of [audit]: who checks receipts must not seal records")


def _canaries(file: PolicyFile) -> Iterator[Problem]:
    """Yield providers whose proof is an object that nobody could make."""
    for name, provider in file.providers.items():
        if provider.proof is None or provider.type is None:
            continue
        known = KINDS[provider.type]
        said = {
            kind for policy in file.policies.values() if account_of(policy, file) == name for kind in policy.kind or ()
        }
        if said and not any(known[kind].create is not None for kind in said & known.keys()):
            can = sorted(kind.name for kind in known.values() if kind.create is not None)
            makes = f"of its kinds lapse can make {', '.join(can)} alone" if can else "lapse can make none of its kinds"
            text = f"has no meaning for {', '.join(sorted(said))}: {makes}; leave it out"
            yield Problem(("providers", name, "proof"), text)


def account_of(policy: Policy, file: PolicyFile) -> str | None:
    """Return the name of the provider a policy is for: its own, or the only one there is."""
    if policy.provider is not None:
        return policy.provider
    return next(iter(file.providers)) if len(file.providers) == 1 else None


def ttl_of(policy: Policy) -> float | None:
    """Return the seconds of ``ttl``, or of ``expires_after``; None if there is neither."""
    after = policy.expires_after
    if after is None:
        return policy.ttl
    return float(sum((getattr(after, unit) or 0) * seconds for unit, seconds in SECONDS_PER.items()))


def _names(section: str, tables: Mapping[str, object], broken: Collection[Path]) -> set[str]:
    """Return the names in a section, those of broken tables included; a broken section is called ``""``."""
    return {*tables, *("".join(map(str, path[1:2])) for path in broken if path[:1] == (section,))}


def _keys_of(at: Path, broken: Collection[Path]) -> frozenset[str]:
    return frozenset(str(path[len(at)]) for path in broken if path[: len(at)] == at and len(path) > len(at))


def _when(given: Given, policy: Policy) -> Iterator[Problem]:
    at = given.at
    ways = [key for key in _WAYS if given.has(key)]
    if not ways:
        text = "is missing, and nothing has a default ttl: write a ttl and an anchor, or an orphan rule"
        yield Problem((*at, "ttl"), text)
    if len(ways) > 1:
        yield Problem((*at, ways[1]), f"stands beside {ways[0]}: a policy has one of ttl, expires_after and orphan")
    if ways == ["ttl"] and not given.has("anchor"):
        yield Problem((*at, "anchor"), 'is missing: say what the ttl counts from, "created_at" or "last_active_at"')
    if ways and not given.has("ttl") and given.has("anchor"):
        yield Problem((*at, "anchor"), f"has no meaning beside {ways[0]}, which says itself what it counts from")
    if ways == ["orphan"] and given.has("max_age"):
        yield Problem((*at, "max_age"), "has no meaning beside an orphan rule")
    if policy.expires_after:
        yield from _expires_after(policy, (*at, "expires_after"))
    ttl = ttl_of(policy)
    if ttl and policy.max_age and policy.max_age < ttl:
        ttl_text, age_text = durations.show(ttl), durations.show(policy.max_age)
        yield Problem((*at, "max_age"), f"of {age_text} is shorter than the ttl of {ttl_text}, which would never count")


def _expires_after(policy: Policy, at: Path) -> Iterator[Problem]:
    given = [unit for unit in SECONDS_PER if getattr(policy.expires_after, unit)]
    if len(given) != 1:
        yield Problem(at, f"give exactly one of {', '.join(SECONDS_PER)}")
    if (ttl_of(policy) or 0) > durations.LONGEST:
        yield Problem(at, "is longer than 100 years")


def _where(given: Given, policy: Policy, providers: Collection[str]) -> Iterator[Problem]:
    at = given.at
    if not given.has("kind"):
        yield Problem((*at, "kind"), 'is missing: write what it deletes, such as "conversation"')
    for i, keep in enumerate(policy.keep):
        if keep.name is None and not keep.metadata:
            text = "is blank, and a blank does not mean everything: give a name or metadata"
            yield Problem((*at, "keep", i, *(() if keep.metadata is UNSAID else ("metadata",))), text)
    if policy.provider is None and "provider" not in given.broken and len(providers) != 1:
        choice = f"write one of {', '.join(sorted(providers))}" if providers else "write [providers.NAME] first"
        yield Problem((*at, "provider"), f"is missing: {choice}")
    elif policy.provider is not None and not {policy.provider, ""} & set(providers):
        text = f"{shown(policy.provider)} is not configured: {did_you_mean(policy.provider, providers)}"
        yield Problem((*at, "provider"), text)


def _what(given: Given, policy: Policy, file: PolicyFile, today: date) -> Iterator[Problem]:
    provider = None if "provider" in given.broken else file.providers.get(account_of(policy, file) or "")
    if provider is None or provider.type is None:
        return
    at, known, names = given.at, KINDS[provider.type], policy.kind or ()
    for name in names:
        if name not in known:
            text = f"{shown(name)} is no kind of type {provider.type}: {did_you_mean(name, known)}"
            yield Problem((*at, "kind"), text)
    found = [known[name] for name in names if name in known]
    host = urlsplit(base_url(provider)).hostname or ""
    for kind in found:
        if (sunset := kind.sunset(host)) and sunset.over(today):
            text = f"{host} shut {kind.plural} down on {sunset.date}; its successor is {sunset.successor}"
            yield Problem((*at, "kind"), text)
        if policy.orphan and not kind.listable:
            yield Problem((*at, "orphan"), f"{kind.plural} cannot be listed: there is no way to find orphans")
        yield from _keep(at, policy, kind)
    if policy.cancel and not any(kind.cancel for kind in found):
        plurals = " or ".join(kind.plural for kind in found)
        yield Problem((*at, "cancel"), f"has no meaning: nothing that runs on {plurals} can be cancelled")
    yield from _cascade(at, policy, found)


def _keep(at: Path, policy: Policy, kind: Kind) -> Iterator[Problem]:
    if policy.keep and not kind.witness and not policy.orphan:
        text = f"would have every one of the {kind.plural} read, which keeps it alive: use an orphan rule, or hold"
        yield Problem((*at, "keep"), text)
    for i, keep in enumerate(policy.keep):
        if keep.name is not None and not kind.has_name:
            yield Problem((*at, "keep", i, "name"), f"{kind.plural} have no name: keep them by metadata")
        if keep.metadata and not kind.has_metadata:
            yield Problem((*at, "keep", i, "metadata"), f"{kind.plural} have no metadata")


def _cascade(at: Path, policy: Policy, kinds: Collection[Kind]) -> Iterator[Problem]:
    contents = {kind.child.name for kind in kinds if kind.child}
    children = contents | {child.kind for kind in kinds for child in kind.children}
    for kind, what in policy.cascade.items():
        if kind in contents and what == "protect":
            yield Problem((*at, "cascade", kind), 'belongs to what is deleted: write "delete" or "leave"')
        elif kind not in children and what != "leave":
            can = f"; what can be said here is about {', '.join(sorted(children))}" if children else ""
            none = f"no {kind} belongs to a {', '.join(kind.name for kind in kinds)}"
            yield Problem((*at, "cascade", kind), f"{shown(what)} has no meaning: {none}{can}")


def _former_names(file: PolicyFile) -> Iterator[Problem]:
    claims = [
        ((name, i), (account_of(policy, file), kind, old), old)
        for name, policy in file.policies.items()
        for i, old in enumerate(policy.formerly)
        for kind in policy.kind or ()
    ]
    times = Counter(claimed for _, claimed, _ in claims)
    for (name, i), claimed, old in claims:
        at = ("policies", name, "formerly", i)
        if old in file.policies:
            yield Problem(at, f"{shown(old)} is a policy of this file")
        elif times[claimed] > 1:
            yield Problem(at, f"{shown(old)} is claimed twice for {claimed[1]}")
