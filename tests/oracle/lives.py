"""When a resource may be deleted, and when it has to be: computed from the application's calls alone.

A call took effect at some moment between its start and its acknowledgement; one that failed may never have, or may
have later. Every question is asked for the side that has to be proved: a deletion was too early only if no order of
these moments allows it, and one is missing only if every order demands it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from oracle.history import Call, Policy, Resource

TICK = 0.001
"""Registry time is whole milliseconds, rounded down; application, provider and Redis read one machine's clock."""

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class End:
    """A life's end as the audit tells it: settled (deleted or already_gone) or dropped."""

    at: float
    event: str
    outcome: str = ""


def surely_before(call: Call, at: float) -> bool:
    """Return True if the call had been acknowledged by then."""
    return call.acknowledged is not None and call.acknowledged < at


def maybe_before(call: Call, at: float) -> bool:
    """Return True if the call had begun by then."""
    return call.called <= at + TICK


def surely_after(later: Call, earlier: Call) -> bool:
    """Return True if one call was made after the other's acknowledgement."""
    return earlier.acknowledged is not None and later.called > earlier.acknowledged


class Life:
    """One resource's standing at one moment: the calls since it was last forgotten or settled."""

    def __init__(self, calls: Sequence[Call], ends: Iterable[End], at: float) -> None:
        self._all = [call for call in calls if maybe_before(call, at)]
        self._at = at
        self._end = max((end.at for end in ends if end.at < at), default=0.0)
        forgets = [call for call in self._said("forget") if surely_before(call, at)]
        after = self._end
        self._live = [
            call
            for call in self._all
            if not surely_before(call, after) and not any(surely_after(forget, call) for forget in forgets)
        ]
        self._sure = [call for call in self._live if surely_before(call, at) and call.called > after]

    def _said(self, *verbs: str) -> list[Call]:
        return [call for call in self._all if call.verb in verbs]

    def _latest(self, calls: Iterable[Call]) -> list[Call]:
        """Return those that none of the others surely overruled."""
        chosen = list(calls)
        sure = [call for call in chosen if surely_before(call, self._at)]
        return [call for call in chosen if not any(surely_after(other, call) for other in sure)]

    @cached_property
    def registrations(self) -> list[Call]:
        """Every registration of this life that may have taken effect."""
        return [call for call in self._live if call.verb == "register"]

    @property
    def tracked(self) -> bool:
        """True if the registry was surely told of it in this life."""
        return any(call.verb == "register" for call in self._sure)

    def policies(self) -> set[str]:
        """Return the policies it may be under."""
        return {call.policy for call in self._latest(self.registrations)}

    def erasures(self) -> list[Call]:
        """Return what was said of erasing it; that knows no lives."""
        return self._said("erase")

    def held(self) -> Call | None:
        """Return a hold that surely stood; holds know no lives."""
        unholds = self._said("unhold")
        for hold in self._said("hold"):
            ended = hold.until is not None and hold.until <= self._at + TICK
            if surely_before(hold, self._at) and not ended and not any(not surely_after(hold, un) for un in unholds):
                replaced = [one for one in self._said("hold") if one is not hold and not surely_after(hold, one)]
                if all(one.until is None or one.until > self._at + TICK for one in replaced):
                    return hold
        return None

    def maybe_held(self) -> bool:
        """Return True if a hold may stand."""
        unholds = [call for call in self._said("unhold") if surely_before(call, self._at)]
        return any(not any(surely_after(un, hold) for un in unholds) for hold in self._said("hold"))

    def forgotten(self) -> Call | None:
        """Return a forget that surely stands: nothing registered it since."""
        registers = self._said("register")
        for forget in self._said("forget"):
            back = any(not surely_after(forget, register) for register in registers)
            if surely_before(forget, self._at) and not back:
                return forget
        return None

    def changed(self) -> float:
        """Return when something was last said of it, or inf if a call failed: nobody knows when that took effect."""
        return max((NEVER if call.acknowledged is None else call.acknowledged for call in self._all), default=0.0)

    def uses(self) -> set[Resource]:
        """Return what this one surely uses, if this life is not over: a release ends it, a forget does not."""
        releases = [call for call in self._said("forget") if call.release]
        said = [call for call in self._said("register") if surely_before(call, self._at) and call.called > self._end]
        kept = [call for call in said if all(surely_after(call, release) for release in releases)]
        return {target for call in kept for target in call.uses}

    def earliest_due(self, policy: Policy) -> float:
        """Return when the policy makes it due at the earliest; inf: it does not."""
        own = [self._expiry(call, call.called) for call in self._latest(self._expiries(self._live))]
        surely_own = bool(self._expiries(self._sure))
        due = own + ([] if surely_own else [self._by_ttl(policy, early=True)])
        return min([*due, self._by_age(policy, early=True)], default=NEVER)

    def latest_due(self, policy: Policy) -> float:
        """Return when the policy makes it due at the latest; inf: it may not."""
        own = [self._expiry(call, call.acknowledged or NEVER) for call in self._latest(self._expiries(self._live))]
        surely_own = bool(self._expiries(self._sure))
        due = own + ([] if surely_own else [self._by_ttl(policy, early=False)])
        return min(max(due, default=NEVER), self._by_age(policy, early=False))

    def _expiries(self, calls: Iterable[Call]) -> list[Call]:
        """Return the calls that set an expiry of its own."""
        return [
            call
            for call in calls
            if (call.verb == "expire" and call.answer != "unknown")
            or (call.verb == "register" and (call.expires_at is not None or call.expires_in is not None))
        ]

    def _expiry(self, call: Call, effect: float) -> float:
        if call.expires_at is not None:
            return call.expires_at
        return effect + (call.expires_in or 0.0)

    def _creation(self, *, early: bool) -> float:
        first = [
            call
            for call in self.registrations
            if not any(surely_after(call, other) for other in self._sure if other.verb == "register")
        ]
        times = [call.created_at or (call.called if early else call.acknowledged or NEVER) for call in first]
        return (min if early else max)(times, default=NEVER)

    def _activity(self, *, early: bool) -> float:
        moves = [call for call in self._live if call.verb in {"register", "touch"} and call.answer != "unknown"]
        sure = [call for call in moves if call in self._sure]
        creation = self._creation(early=early)
        if early:
            times = [call.last_active_at or call.called for call in sure or moves]
            return max([creation, *(times if sure else [min(times, default=NEVER)])])
        return max([creation, *(call.last_active_at or call.acknowledged or NEVER for call in moves)])

    def _by_ttl(self, policy: Policy, *, early: bool) -> float:
        if policy.ttl is None:
            return NEVER
        base = self._creation(early=early) if policy.anchor == "created_at" else self._activity(early=early)
        return base + policy.ttl

    def _by_age(self, policy: Policy, *, early: bool) -> float:
        return NEVER if policy.max_age is None else self._creation(early=early) + policy.max_age
