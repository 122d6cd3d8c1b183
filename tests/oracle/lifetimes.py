"""Nothing is deleted that should live, and everything due is: each claim against what the application had said."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from oracle.audit import ERASURE, TERMINAL, Audit, Claim
from oracle.history import Call, History, Policy, Resource, Violation
from oracle.lives import NEVER, TICK, End, Life
from oracle.reading import asked

ALREADY_GONE = "already_gone"
ASIDE = {"quarantined", "kept"}
"""What the last attempt may have come to with nothing more to be done by itself."""


UNTIMED = {"orphan", "purge", ERASURE}
"""Claims that are due by no ttl."""


class Application:
    """The application's log, by resource, with the ends of lives that the audit tells of."""

    def __init__(self, history: History, audit: Audit) -> None:
        self.calls: defaultdict[Resource, list[Call]] = defaultdict(list)
        self._sources: defaultdict[Resource, set[Resource]] = defaultdict(set)
        for call in sorted(history.calls, key=lambda call: call.called):
            self.calls[call.resource].append(call)
            for target in call.uses:
                self._sources[target].add(call.resource)
        self._ends = audit.ends
        self._tombstones = history.tombstones

    def life(self, resource: Resource, at: float) -> Life:
        """Return what a resource surely and possibly was at a moment."""
        return Life(self.calls[resource], self._ends[resource], at)

    def user(self, resource: Resource, at: float) -> Resource | None:
        """Return something that surely used it then."""
        return next(self.users(resource, at), None)

    def users(self, resource: Resource, at: float) -> Iterator[Resource]:
        """Yield everything that surely used it then."""
        return (one for one in sorted(self._sources[resource]) if resource in self._uses(one, at))

    def used_until(self, resource: Resource) -> float:
        """Return when the last thing that named it was over; inf: it is not."""
        return max((self._released(source) for source in self._sources[resource]), default=0.0)

    def _uses(self, source: Resource, at: float) -> set[Resource]:
        ends = [end for end in self._ends[source] if not self._protects(end, at)]
        return Life(self.calls[source], ends, at).uses()

    def _protects(self, end: End, at: float) -> bool:
        return end.outcome == ALREADY_GONE and end.at + self._tombstones > at

    def _released(self, source: Resource) -> float:
        calls = self.calls[source]
        releases = [call.acknowledged or NEVER for call in calls if call.verb == "forget" and call.release]
        ends = [end.at for end in self._ends[source] if end.outcome != ALREADY_GONE]
        over = max([*releases, *ends], default=NEVER)
        return NEVER if any(call.verb == "register" and call.called > over for call in calls) else over


def judge(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield what was claimed too early, against the application's word, or not at all."""
    application = Application(history, audit)
    for claim in audit.claims:
        if claim.parent:
            yield from _child(history, application, audit, claim)
        else:
            yield from _claimed(history, application, claim)
    yield from _sent(history, application, audit)
    if history.bound is not None:
        yield from _missing(history, application, audit, history.bound)


def _sent(history: History, application: Application, audit: Audit) -> Iterator[Violation]:
    """Yield a DELETE outside of any claim and before its time by the provider's clock: the audit's own may be wrong."""
    for request in history.requests:
        about = asked(request.path)
        if request.method != "DELETE" or about is None or about.parent:
            continue
        resource = Resource(request.provider, about.kind, about.id)
        claims, life = audit.by_resource[resource], application.life(resource, request.begun)
        if any(claim.parent or claim.by in UNTIMED for claim in claims) or not life.registrations:
            continue
        if any(claim.at - TICK <= request.begun <= claim.closed + TICK for claim in claims):
            continue  # judged as a claim
        rules = [one for one in history.policies if _governs(one, resource, life) and one.orphan is None]
        due = min((life.earliest_due(rule) for rule in rules), default=0.0)
        if request.begun < due - TICK:
            yield Violation("early", str(resource), f"DELETE at {request.begun:.3f}, due at {due:.3f}")


def _governs(policy: Policy, resource: Resource, life: Life) -> bool:
    return (policy.provider, policy.kind) == (resource.provider, resource.kind) and bool(
        life.policies() & {policy.name, *policy.formerly}
    )


def _claimed(history: History, application: Application, claim: Claim) -> Iterator[Violation]:
    life, about = application.life(claim.resource, claim.at), str(claim.resource)
    orphan = claim.by == "orphan"
    if forget := life.forgotten():
        yield Violation("forgotten", about, f"claimed at {claim.at:.3f}, forgotten since {forget.acknowledged:.3f}")
        return
    if not life.registrations and not (orphan and claim.resource in history.stamped):
        yield Violation("unasked", about, f"claimed at {claim.at:.3f}: nobody had registered it")
        return
    if hold := life.held():
        yield Violation("held", about, f"claimed at {claim.at:.3f}, held since {hold.acknowledged:.3f}")
    if user := next((one for one in application.users(claim.resource, claim.at) if one not in claim.circle), None):
        yield Violation("referenced", about, f"claimed at {claim.at:.3f}, used by {user}")
    if claim.by == ERASURE:
        yield from _erased(life, claim)
        return
    rules = in_force(history.policies, claim, claim.at)
    names = {name for rule in rules for name in (rule.name, *rule.formerly)}
    if life.registrations and not life.policies() & names:
        under = ", ".join(sorted(life.policies()))
        yield Violation("moved", about, f"claimed at {claim.at:.3f} by policy {claim.policy}, registered under {under}")
    if not any(rule.enforce for rule in rules):
        yield Violation("unasked", about, f"claimed at {claim.at:.3f}: no enforced policy {claim.policy}")
    elif orphan:
        yield from _orphan(history, application, claim, [rule for rule in rules if rule.orphan is not None])
    else:
        due = min(life.earliest_due(rule) for rule in rules)
        if claim.at < due - TICK:
            yield Violation("early", about, f"claimed at {claim.at:.3f}, due at {due:.3f}")


def _erased(life: Life, claim: Claim) -> Iterator[Violation]:
    """Yield a claim for a request to erase a subject that does not cover the id: unsaid, or not of all its subjects."""
    said = [call for call in life.erasures() if call.called <= claim.at + TICK]
    made = min((call.created_at or call.called for call in life.registrations), default=claim.at)
    if not any(made < (call.until or NEVER) + TICK for call in said):
        about = str(claim.resource)
        yield Violation("unasked", about, f"claimed at {claim.at:.3f} to be erased, and nobody had asked for that")


def _child(history: History, application: Application, audit: Audit, claim: Claim) -> Iterator[Violation]:
    """Yield what speaks against a claim that goes along with its parent: it is due when that one is."""
    life, about = application.life(claim.resource, claim.at), str(claim.resource)
    if life.forgotten() or not (life.registrations or claim.resource in history.stamped):
        yield Violation("unasked", about, f"claimed at {claim.at:.3f} with {claim.parent}: it is not ours")
    if not audit.leased(Resource(*claim.parent.split("|")), claim.at):
        yield Violation("unasked", about, f"claimed at {claim.at:.3f} with {claim.parent}, which is not claimed")
    if hold := life.held():
        yield Violation("held", about, f"claimed at {claim.at:.3f}, held since {hold.acknowledged:.3f}")
    for user in application.users(claim.resource, claim.at):
        if not audit.leased(user, claim.at):
            yield Violation("referenced", about, f"claimed at {claim.at:.3f}, used by {user}")
    rules = in_force(history.policies, claim, claim.at)
    parent = audit.lease(Resource(*claim.parent.split("|")), claim.at)
    erasing = parent is not None and parent.by == ERASURE
    if rules and not erasing and not any(rule.enforce for rule in rules):
        yield Violation("unasked", about, f"claimed at {claim.at:.3f}, and {claim.policy} does not enforce")


def _orphan(history: History, application: Application, claim: Claim, rules: list[Policy]) -> Iterator[Violation]:
    about = str(claim.resource)
    if not rules:
        yield Violation("early", about, f"claimed as an orphan, and {claim.policy} has no orphan rule")
        return
    made, age = history.made.get(claim.resource), min(rule.orphan or 0.0 for rule in rules)
    if made is not None and claim.at < made + age - 1:  # providers tell ages in whole seconds
        yield Violation("early", about, f"claimed at {claim.at:.3f} as an orphan, made at {made:.3f}")
    since = [call for call in application.calls[claim.resource] if call.verb in {"touch", "register"}]
    for call in since:
        if (
            call.called > claim.due + TICK
            and call.acknowledged
            and call.acknowledged < claim.at
            and call.answer == "ok"
        ):
            yield Violation("early", about, f"claimed at {claim.at:.3f} as an orphan, used at {call.called:.3f}")


def in_force(policies: Iterable[Policy], claim: Claim, at: float) -> list[Policy]:
    """Return the versions of a claim's policy that may have decided then."""
    where = (claim.resource.provider, claim.resource.kind, claim.policy)
    return [
        one
        for one in policies
        if (one.provider, one.kind, one.name) == where and one.since <= at + TICK and at <= one.until + TICK
    ]


def _missing(history: History, application: Application, audit: Audit, bound: float) -> Iterator[Violation]:
    """Yield every resource that was due, by all that was said, and not settled or quarantined in time."""
    for resource, calls in application.calls.items():
        claims = [claim for claim in audit.by_resource[resource] if claim.end]
        over = [(claim.closed, claim.at) for claim in claims if claim.end and claim.end["event"] in TERMINAL]
        if not (claims and claims[-1].end and claims[-1].end["event"] in ASIDE):
            over.append((history.ended, history.ended))
        for closed, claimed in over if any(call.verb == "register" for call in calls) else []:
            due = _due_by(history, application, resource, claimed)
            if closed > due + bound:
                seen = f"settled at {closed:.3f}" if (closed, claimed) in over[:-1] else "not settled"
                yield Violation("overdue", str(resource), f"due by {due:.3f} at the latest, {seen}")


def _due_by(history: History, application: Application, resource: Resource, at: float) -> float:
    """Return when a resource was due by any order of events; inf: it may not have been."""
    life = application.life(resource, at)
    rules = [
        rule
        for rule in history.policies
        if (rule.provider, rule.kind, rule.until) == (resource.provider, resource.kind, NEVER)
        and life.policies() & {rule.name, *rule.formerly}
    ]
    if not life.tracked or not rules or life.maybe_held() or life.changed() == NEVER:
        return NEVER
    if any(rule.orphan is not None or not rule.enforce for rule in rules):
        return NEVER
    said = [life.changed(), application.used_until(resource), *(rule.since for rule in rules)]
    return max(*(life.latest_due(rule) for rule in rules), *said)
