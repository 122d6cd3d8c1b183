"""Budgets: the provider's bucket in every window, max_deletions, the ramp's first step, and the probes of an outage."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from oracle.audit import ERASURE, Audit, deletions
from oracle.history import Account, History, Outage, Policy, Violation

LATE = 0.05
"""Seconds between taking a token and the request's arrival: a loaded machine bunches what the bucket spread."""


FIRST_STEP = 10
OPENS_AFTER = 20
PROBE_EVERY = 10.0


def judge(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield every budget that was passed."""
    for account in history.accounts:
        begun = sorted(request.begun for request in history.requests if request.provider == account.name)
        yield from _bucket(account, begun)
    for policy in history.policies:
        if policy.amount is not None:
            yield from _pace(history, policy, _claimed(audit, policy))
    if history.ramp is not None:
        yield from _ramp(history.ramp, history, audit)
    for outage in history.outages:
        yield from _probes(outage, [one.begun for one in history.requests if one.provider == outage.provider])


def _ramp(lasts: float, history: History, audit: Audit) -> Iterator[Violation]:
    """Yield a policy whose first enforced sweeps deleted more than the first step of the ramp allows."""
    for where in {(policy.provider, policy.kind, policy.name) for policy in history.policies if policy.enforce}:
        claimed = sorted(
            claim.at
            for claim in deletions(audit)
            if (claim.resource.provider, claim.resource.kind, claim.policy) == where
            and claim.by not in {"purge", ERASURE}
        )
        first = [at for at in claimed if at < claimed[0] + lasts]
        if len(first) > FIRST_STEP:
            yield Violation("ramp", "/".join(where), f"{len(first)} deletions in the first {lasts:g} s")


def _probes(outage: Outage, begun: Sequence[float]) -> Iterator[Violation]:
    """Yield an outage that was asked more often than it takes to see it, and then once in ten seconds."""
    sent = sum(outage.since <= at <= outage.until for at in begun)
    most = OPENS_AFTER + outage.in_flight + int((outage.until - outage.since) // PROBE_EVERY) + 1
    if sent > most:
        yield Violation("breaker", outage.provider, f"{sent} requests in the outage; at most {most}")


def _bucket(account: Account, begun: Sequence[float]) -> Iterator[Violation]:
    """Yield the first window [t, t + T] with more than rate * T + burst requests."""
    if account.rate is None:
        return
    lowest, start = float("inf"), 0
    for i, at in enumerate(begun):
        level = i - account.rate * at
        if level < lowest:
            lowest, start = level, i
        if level - lowest + 1 > account.burst + account.rate * LATE:
            seen = f"{i - start + 1} requests in {at - begun[start]:.3f} s from {begun[start]:.3f}"
            yield Violation("rate", account.name, f"{seen}, at {account.rate:g}/s with a burst of {account.burst}")
            return


def _claimed(audit: Audit, policy: Policy) -> list[float]:
    """Return when each confirmed deletion of a policy was claimed: that is when it counts."""
    return sorted(
        claim.at
        for claim in deletions(audit)
        if (claim.resource.provider, claim.resource.kind, claim.policy) == (policy.provider, policy.kind, policy.name)
        and claim.by != ERASURE
        and policy.since <= claim.at <= policy.until
    )


def _pace(history: History, policy: Policy, claimed: Sequence[float]) -> Iterator[Violation]:
    """Yield the first stretch with more deletions than the windows that fit into it allow.

    A window begins with the first claim after the one before, so the t seconds since the run's beginning hold at most
    t // window + 1 of them, and any other stretch one more.
    """
    amount = policy.amount or 0
    for i, at in enumerate(claimed):
        windows = int((at - max(history.began, policy.since)) // policy.window) + (
            2 if policy.since > history.began else 1
        )
        within = i + 1 - bisect_right(claimed, at - policy.window)
        if i + 1 > windows * amount or within > 2 * amount:
            seen = f"{i + 1} deletions by {at:.3f}, {within} of them in its last {policy.window:g} s"
            yield Violation("pace", f"{policy.provider}/{policy.kind}/{policy.name}", f"{seen}; {amount} in each")
            return
