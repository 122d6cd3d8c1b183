"""What a guard would have stopped: the accident itself, looked for in what happened."""

from collections.abc import Iterator

from oracle.audit import ERASURE, Audit, Claim
from oracle.history import History, Policy, Request, Violation
from oracle.lifetimes import Application
from oracle.lives import TICK
from oracle.reading import COLLECTIONS, asked
from oracle.wire import NOT_FOUND

HUSH = 2.0
OK = 200


def judge(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield every accident that a guard is there for."""
    yield from _unproven(history, audit)
    yield from _unasked_endpoint(history, audit)
    yield from _loud(history)
    application = Application(history, audit)
    for policy in history.policies:
        claims = [claim for claim in audit.claims if _of(claim, policy)]
        if policy.enforce and claims:
            first = min(claims, key=lambda claim: claim.at)
            yield from _jumped(history, application, audit, policy, first)
            yield from _untouched(application, policy, first)
            yield from _unused(application, policy, claims)


def _of(claim: Claim, policy: Policy) -> bool:
    where = (claim.resource.provider, claim.resource.kind, claim.policy)
    ruled = claim.by != ERASURE and where == (policy.provider, policy.kind, policy.name)
    return ruled and policy.since <= claim.at + TICK <= policy.until


def _unproven(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield an already_gone that nothing seen after it bears out: a wrong key, project or replica says so of all.

    What counts is asked for after the first "not found" of the claim was there, and before the claim was closed.
    """
    signs = [(one.provider, kind, one.begun) for one in history.requests if (kind := _sign(one))]
    lifted = [record for record in audit.records if record["event"] == "resumed"]
    missing = [one for one in history.requests if one.status in NOT_FOUND]
    for claim in audit.claims:
        if not claim.end or (claim.end["event"], claim.outcome) != ("settled", "already_gone"):
            continue
        at = (claim.resource.provider, claim.resource.kind)
        first = min((one.begun for one in missing if _answers(one, claim)), default=claim.closed)
        seen = any((p, k) == at and first <= begun <= claim.closed + TICK for p, k, begun in signs)
        said = any((one["provider"], one["kind"]) == at and one["at"] / 1000 <= claim.closed for one in lifted)
        if not seen and not said:
            yield Violation(
                "unproven", str(claim.resource), f"already_gone at {claim.closed:.3f}, and nothing was seen"
            )
            return


def _answers(request: Request, claim: Claim) -> bool:
    """Return True if a request is about a claim's object, and was sent under it."""
    about = asked(request.path)
    return (
        about is not None and about.id == claim.resource.id and claim.at - TICK <= request.begun <= claim.closed + TICK
    )


def _unasked_endpoint(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield an unknown "not found" that was held against an id, without a look at whether the endpoint is there."""
    ids = {claim.resource.id for claim in audit.claims}
    for claim in audit.claims:
        if not claim.end or (claim.end["event"], claim.outcome) != ("quarantined", "unrecognised"):
            continue
        near = [one for one in history.requests if claim.at - TICK <= one.begun <= claim.closed + TICK]
        if all(ids & set(one.path.partition("?")[0].split("/")) for one in near):
            yield Violation(
                "unproven", str(claim.resource), f"unrecognised at {claim.closed:.3f}, and nothing was asked"
            )
            return


def _sign(request: Request) -> str | None:
    """Return the kind of which an object was seen there: read, listed, or deleted as the answer says."""
    about = asked(request.path)
    read = request.method == "GET" and request.status == OK
    if about:
        return about.kind if request.confirmed or read else None
    return COLLECTIONS.get(request.path.partition("?")[0].rsplit("/", 1)[-1]) if read else None


def _loud(history: History) -> Iterator[Violation]:
    for quiet in history.quiet:
        for request in history.requests:
            about = asked(request.path)
            here = about and (request.provider, about.kind) == (quiet.provider, quiet.kind)
            if here and request.method == "DELETE" and quiet.since + HUSH < request.begun < quiet.until:
                yield Violation(
                    "quiet", f"{quiet.provider}/{quiet.kind}", f"DELETE at {request.begun:.3f}: {quiet.why}"
                )
                break


def _jumped(
    history: History, application: Application, audit: Audit, policy: Policy, first: Claim
) -> Iterator[Violation]:
    """Yield a version whose first claims found more newly due than it allows: by it, and not by the one before."""
    if policy.newly is None or first.by == "orphan":
        return
    before = [one for one in history.policies if _follows(policy, one)]
    tracked, newly = 0, 0
    for resource in application.calls:
        life = application.life(resource, first.at)
        if (resource.provider, resource.kind) != (policy.provider, policy.kind) or not life.tracked:
            continue
        if life.policies() & {policy.name, *policy.formerly}:
            tracked += 1
            newly += life.latest_due(policy) <= first.at and all(life.latest_due(one) > first.at for one in before)
    percent, at_least = policy.newly
    approved = any(one["event"] == "resumed" and one.get("reason") == "cutoff_jumped" for one in audit.records)
    if newly > max(at_least, tracked * percent / 100) and not approved:
        seen = f"{newly} of {tracked} newly due at {first.at:.3f}, and claimed"
        yield Violation("jump", f"{policy.provider}/{policy.kind}/{policy.name}", seen)


def _follows(policy: Policy, other: Policy) -> bool:
    same = (other.provider, other.kind, other.name) == (policy.provider, policy.kind, policy.name)
    return same and other.enforce and other.since < policy.since


def _untouched(application: Application, policy: Policy, first: Claim) -> Iterator[Violation]:
    """Yield a policy that deletes the idle where nobody ever said that something is used."""
    if policy.anchor != "last_active_at" or not policy.touches or first.by != "ttl":
        return
    for resource, calls in application.calls.items():
        used = [one for one in calls if one.verb in {"touch", "register"} and one.called <= first.at + TICK]
        if (resource.provider, resource.kind) == (policy.provider, policy.kind) and len(used) > 1:
            return
    seen = f"claims from {first.at:.3f} on, and no touch before"
    yield Violation("untouched", f"{policy.provider}/{policy.kind}/{policy.name}", seen)


def _unused(application: Application, policy: Policy, claims: list[Claim]) -> Iterator[Violation]:
    """Yield an orphan rule that deletes the unused where nobody ever said that anything is used."""
    orphans = [claim for claim in claims if claim.by == "orphan"]
    if policy.orphan is None or not policy.uses or not orphans:
        return
    said = [call for calls in application.calls.values() for call in calls if call.called <= orphans[0].at + TICK]
    used = {(target.provider, target.kind) for call in said for target in call.uses}
    if (policy.provider, policy.kind) not in used:
        seen = f"orphans claimed from {orphans[0].at:.3f} on, and no use before"
        yield Violation("unused", f"{policy.provider}/{policy.kind}/{policy.name}", seen)
