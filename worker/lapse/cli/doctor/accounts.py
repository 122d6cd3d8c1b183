"""A provider's account: is there a key, does it open, and is the endpoint there? One harmless request."""

from collections.abc import Sequence
from dataclasses import replace

from lapse.errors import LapseError
from lapse.guards.integrity.preflight import Finding, Level
from lapse.ledger.known import known_before
from lapse.ledger.partition import Ledger
from lapse.policy import Rule
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Outcome, classify_read, exists, probe_ok
from lapse.providers.provider import Provider
from lapse.providers.response import Reply, say
from lapse.providers.throttle import Throttle
from lapse.registry import codec
from lapse.registry.model import Partition

NOBODY = "lapse-doctor-asks-for-nothing"
"""An id that nothing has: of a kind that can neither be listed nor probed, one that is not there is asked for."""

FIXES = {
    Outcome.AUTH: "look at the key, its scopes, organization and project",
    Outcome.QUOTA: "look at the account's billing",
    Outcome.UNSUPPORTED: "use the successor's kind in the policy",
    Outcome.UNRECOGNISED: "look at base_url: this endpoint is not there",
    Outcome.ENDPOINT_MISSING: "look at base_url: this endpoint is not there",
    Outcome.UNCONFIRMED: "look at base_url: something else answers there",
    Outcome.RATE_LIMITED: "lower rate, or wait",
    Outcome.ERROR: "look at base_url, proxy, ca_file, the network, and the provider's status page",
}
PASSING = {Outcome.RATE_LIMITED, Outcome.ERROR}
"""What may be over in a minute: a warning where the provider did answer."""


async def account(
    provider: Provider, rules: Sequence[Rule], ledger: Ledger | None, throttle: Throttle | None
) -> Finding:
    """Send one account one request that changes nothing, and say what came of it.

    Args:
        provider: The account.
        rules: The policies that use it; without any, one of its kinds is asked about.
        ledger: The registry, for the newest id and to count the request; None while it is away.
        throttle: The account's budget, which the request is taken from; None while it is away.

    """
    name = f"provider {provider.name}"
    kinds = [provider.kinds[rule.partition.kind] for rule in rules] or list(provider.kinds.values())
    kind = next((kind for kind in kinds if kind.probe or kind.search), None)
    kind = kind or next((kind for kind in kinds if kind.witness), kinds[0])
    try:
        if throttle:
            await throttle.spend(1, within=2)
        finding = await _asked(name, provider, kind, ledger)
        if ledger:
            counted = provider.drain_counters(kind.name).get(kind.name, {})
            await ledger.count(Partition(provider.name, kind.name, ""), counted)
    except LapseError as error:
        return Finding(name, Level.UNKNOWN, f"not asked: {error}", "try again when its budget has room")
    return replace(finding, detail=f"{finding.detail}, {provider.route.told}")


async def _asked(name: str, provider: Provider, kind: Kind, ledger: Ledger | None) -> Finding:
    probe = await provider.probe(kind)
    if probe is not None:
        if probe_ok(kind, probe):
            return Finding(name, Level.OK, f"lists {kind.plural}, {probe.seconds * 1000:.0f} ms")
        return _judged(name, kind, "", probe, provider)
    newest = await _newest(ledger, provider, kind) if ledger and kind.witness else []
    asked_for = newest[0] if newest else NOBODY
    reply = await provider.read(kind, asked_for)
    took = f"{reply.seconds * 1000:.0f} ms"
    if exists(kind, asked_for, reply):
        return Finding(name, Level.OK, f"reads the newest {kind.name} of the registry, {took}")
    verdict = classify_read(kind, asked_for, reply, provider.recognisers)
    if verdict.outcome is Outcome.ALREADY_GONE and newest:
        detail = (
            f"takes the key, and does not know the newest {kind.name} of the registry ({asked_for}): {verdict.detail}"
        )
        return Finding(
            name, Level.WARNING, detail, "make sure that key, project and base_url are those it was made with"
        )
    if verdict.outcome in {Outcome.ALREADY_GONE, Outcome.INVALID}:
        return Finding(name, Level.OK, f"takes the key, and knows of no {kind.name} that does not exist, {took}")
    return _judged(name, kind, asked_for, reply, provider)


async def _newest(ledger: Ledger, provider: Provider, kind: Kind) -> list[str]:
    at = Partition(provider.name, kind.name, "")
    return await known_before(ledger.carrier, ledger.namespace, at, codec.now_millis())


def _judged(name: str, kind: Kind, asked_for: str, reply: Reply, provider: Provider) -> Finding:
    outcome = classify_read(kind, asked_for, reply, provider.recognisers).outcome
    level = Level.WARNING if outcome in PASSING and reply.status is not None else Level.FATAL
    return Finding(name, level, f"asked for {kind.plural}: {say(reply)}", FIXES.get(outcome, FIXES[Outcome.ERROR]))
