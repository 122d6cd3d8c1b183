"""What the registry in plain Python is made of: rules, budgets, entries and sightings."""

import math
from dataclasses import dataclass

NEVER = 10**15
LEASE = 10_000
ATTEMPTS = 3
HOUR = 3_600_000
STEPS, TENTH = 2, 10
ALONE = 3
"""Crashes of an id claimed alone, before it is quarantined."""


@dataclass(slots=True)
class Rule:
    """A policy as workers adopted it; times in milliseconds."""

    ttl: int
    anchor: str
    max_age: int | None = None
    orphan: bool = False
    pace: int | None = None
    """How many an hour."""
    ramp: bool = False


@dataclass(slots=True)
class Budget:
    """What a partition may delete yet: its pace and its ramp."""

    since: int | None = None
    used: int = 0
    step: int = 0
    ramp_since: int | None = None
    ramp_used: int = 0
    cap: int = TENTH
    before: int | None = None
    """The last token given before the window began; None: there was no window yet."""
    ramp_before: int | None = None

    def room(self, rule: Rule, now: int, fence: int) -> float:
        """Return how many more may be claimed now; a window or a step that is over ends here."""
        return min(self.paced(rule.pace, now, fence), self.ramped(now, fence) if rule.ramp else math.inf)

    def paced(self, pace: int | None, now: int, fence: int) -> float:
        """Return what the pace leaves."""
        if pace is None:
            return math.inf
        if self.since is None or now >= self.since + HOUR:
            self.since, self.used, self.before = now, 0, fence
        return max(0, pace - self.used)

    def ramped(self, now: int, fence: int) -> float:
        """Return what the ramp leaves: few ids are there, so a tenth of what is due is the least that a step allows."""
        if self.step >= STEPS:
            return math.inf
        if self.ramp_since is None:
            self.ramp_since, self.ramp_used, self.cap, self.ramp_before = now, 0, TENTH, fence
        elif self.ramp_used > 0 and now >= self.ramp_since + HOUR:
            self.step, self.ramp_since, self.ramp_used, self.cap = self.step + 1, now, 0, TENTH
            self.ramp_before = fence
            if self.step >= STEPS:
                return math.inf
        return max(0, self.cap - self.ramp_used)

    def spend(self, n: int) -> None:
        """Count claims."""
        self.used += n
        self.ramp_used += n

    def refund(self, token: int) -> None:
        """Give one back that deleted nothing, to the window and the step that it was of."""
        if self.before is not None and token > self.before:
            self.used = max(0, self.used - 1)
        if self.ramp_before is not None and token > self.ramp_before:
            self.ramp_used = max(0, self.ramp_used - 1)


@dataclass(slots=True)
class Entry:
    """One id. ``active`` is None until it was touched, and once it has an expiry of its own."""

    policy: str
    created: int | None
    active: int | None = None
    expiry: int | None = None
    place: str = "tracked"
    score: int | None = None
    attempts: int = 0
    crashes: int = 0
    alone: int = 0
    unknown: bool = False
    reason: str | None = None
    token: int | None = None
    forgotten: bool = False
    released: bool = False
    """Forgotten under a claim, and what it uses let go of."""
    stamped: bool = False
    """Not registered: it only carries our stamp, or a purge names it."""
    orphan: bool = False
    purged: bool = False
    later: str | None = None
    """Registered under another policy while claimed: it moves there when the claim ends."""

    def move(self) -> None:
        """Move to the policy that it was registered under meanwhile."""
        self.policy, self.later = self.later or self.policy, None

    @property
    def since(self) -> int:
        """Return its creation, which only one that is not registered lacks."""
        assert self.created is not None
        return self.created

    @property
    def failed(self) -> bool:
        """True if an attempt was made that counts."""
        return bool(self.attempts or self.crashes or self.unknown)


@dataclass(slots=True)
class Sighting:
    """How often in a row listings showed it unused."""

    first: int
    run: int
    stamp: str
    times: int = 0
    stamped: bool = False
    settled: bool = False
