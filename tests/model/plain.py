"""The registry in plain Python: where each id of one slot stands, by the meaning of the words and nothing of Redis."""

from dataclasses import dataclass, field, replace
from typing import Any

NEVER = 10**15
LEASE = 10_000
ATTEMPTS = 3
ALONE = 3
"""Crashes of an id claimed alone, before it is quarantined."""


@dataclass(slots=True)
class Rule:
    """A policy as workers adopted it; times in milliseconds."""

    ttl: int
    anchor: str
    max_age: int | None = None


@dataclass(slots=True)
class Entry:
    """One id. ``active`` is None until it was touched, and once it has an expiry of its own."""

    policy: str
    created: int
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

    @property
    def failed(self) -> bool:
        """True if an attempt was made that counts."""
        return bool(self.attempts or self.crashes or self.unknown)


@dataclass(slots=True)
class Plain:
    """One slot."""

    now: int
    rules: dict[str, Rule]
    entries: dict[str, Entry] = field(default_factory=dict)
    holds: dict[str, int | None] = field(default_factory=dict)
    edges: set[tuple[str, str]] = field(default_factory=set)
    uses: dict[str, list[str]] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    tombstones: dict[str, int] = field(default_factory=dict)
    graves: dict[str, Entry] = field(default_factory=dict)
    released: list[tuple[str, str]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    fence: int = 0

    # --- what an application says

    def register(self, id_: str, policy: str, facts: dict[str, Any], uses: list[str]) -> bool:
        """Track an id, or touch it and move it; True if it is new."""
        for target in uses:
            self.edges.add((target, id_))
        known = self.entries.get(id_)
        if known is None:
            self._track(id_, policy, facts)
        else:
            if known.expiry is None:
                known.active = max(known.active or known.created, facts.get("active", self.now))
            known.policy, known.forgotten = policy, False
            self.forgotten.discard(id_)
        self._expire(self.entries[id_], facts)
        if uses:
            self.uses[id_] = [*self.uses.get(id_, []), *(one for one in uses if one not in self.uses.get(id_, []))]
            self.released = [edge for edge in self.released if edge not in {(one, id_) for one in uses}]
        return known is None

    def _track(self, id_: str, policy: str, facts: dict[str, Any]) -> None:
        created, active = facts.get("created", self.now), facts.get("active", self.now)
        entry = Entry(policy, created, None if active == created else max(created, active))
        self.entries[id_] = entry
        self.forgotten.discard(id_)
        self.tombstones.pop(id_, None)
        self.graves.pop(id_, None)
        if id_ in self.holds:
            self._park(entry, "held")

    def _expire(self, entry: Entry, facts: dict[str, Any]) -> None:
        if "at" in facts or "within" in facts:
            entry.expiry, entry.active = facts.get("at", self.now + facts.get("within", 0)), None

    def touch(self, id_: str) -> str:
        """Move last activity."""
        entry = self.entries.get(id_)
        if entry is None:
            return "unknown"
        if entry.expiry is None:
            entry.active = max(entry.active or entry.created, self.now)
        return "too_late" if entry.place == "claimed" else "ok"

    def hold(self, id_: str, until: int | None) -> str:
        """Store a hold and park what is not claimed or quarantined."""
        self.holds[id_] = until
        entry = self.entries.get(id_)
        if entry is None:
            return "unknown"
        if entry.place == "claimed":
            return "too_late"
        if entry.place != "quarantined" and entry.reason != "held":
            self._park(entry, "held")
        return "ok"

    def unhold(self, id_: str) -> str:
        """Remove a hold; the id comes back."""
        if id_ not in self.holds:
            return "unknown"
        del self.holds[id_]
        self._let_go(id_)
        return "ok"

    def _let_go(self, id_: str) -> None:
        entry = self.entries.get(id_)
        if entry and (entry.place, entry.reason) == ("parked", "held"):
            self._back(entry)

    def forget(self, id_: str) -> str:
        """Stop tracking."""
        self.forgotten.add(id_)
        entry = self.entries.get(id_)
        if entry is None:
            return "unknown"
        if entry.place == "claimed":
            entry.forgotten = True
            return "too_late"
        self._end(id_)
        return "ok"

    def expire(self, id_: str, at: int | None) -> str:
        """Give an expiry of its own."""
        entry = self.entries.get(id_)
        if entry is None:
            return "unknown"
        entry.expiry, entry.active = self.now if at is None else at, None
        return "too_late" if entry.place == "claimed" else "ok"

    # --- what a worker does

    def due(self, entry: Entry) -> int | None:
        """Return when it is due, None if no rule says so."""
        rule = self.rules.get(entry.policy)
        base = entry.created if rule and rule.anchor == "created_at" else entry.active or entry.created
        times = [entry.expiry] if entry.expiry is not None else [base + rule.ttl] if rule else []
        if rule and rule.max_age:
            times.append(entry.created + rule.max_age)
        return min(times, default=None)

    def ready(self, policy: str, limit: int) -> list[str]:
        """Return what is due of a policy and may be tried now, oldest first; held and used ones among them."""
        tracked = [id_ for id_, one in self.entries.items() if (one.policy, one.place) == (policy, "tracked")]
        found = [(self.due(self.entries[id_]) or NEVER, id_) for id_ in (*tracked, *self.again(policy, limit))]
        return [id_ for due, id_ in sorted(found) if due <= self.now][:limit]

    def again(self, policy: str, limit: int) -> list[str]:
        """Return failed ones whose next attempt has come: those that wait longest."""
        found = [
            (one.score or 0, id_)
            for id_, one in self.entries.items()
            if (one.policy, one.place) == (policy, "waiting") and not one.crashes and (one.score or 0) <= self.now
        ]
        return [id_ for _score, id_ in sorted(found)][:limit]

    def suspects(self, policy: str) -> list[str]:
        """Return ids that a worker crashed on and that may be tried now, in their order."""
        found = [
            (entry.score or 0, id_)
            for id_, entry in self.entries.items()
            if entry.policy == policy and entry.place == "waiting" and entry.crashes and (entry.score or 0) <= self.now
        ]
        return [id_ for _score, id_ in sorted(found)]

    def before_claim(self, policy: str) -> None:
        """End leases, holds and keeps that are over."""
        for id_, entry in list(self.entries.items()):
            if entry.policy == policy and entry.place == "claimed" and (entry.score or 0) <= self.now:
                self._lapse(id_, entry)
        for id_ in [id_ for id_, until in self.holds.items() if until is not None and until <= self.now]:
            self.unhold(id_)
        for entry in self.entries.values():
            if entry.policy == policy and entry.place == "kept" and (entry.score or 0) <= self.now:
                self._back(entry)

    def _lapse(self, id_: str, entry: Entry) -> None:
        self._count(f"crashes|{entry.policy}")
        entry.alone += bool(entry.crashes)
        entry.crashes, entry.unknown, entry.token = entry.crashes + 1, True, None
        if entry.forgotten:
            self._end(id_)
        elif entry.alone >= ALONE:
            self._quarantine(entry, "crashes")
        elif id_ in self.holds:
            self._park(entry, "held")
        else:
            entry.place, entry.score = "waiting", self.now

    def claim(self, policy: str, limit: int, *, alone: bool = False) -> list[str]:
        """Lease what is due; return the ids granted."""
        self.before_claim(policy)
        waiting = self.suspects(policy)[:1] if alone else self.again(policy, limit)
        chosen = waiting if alone else self.ready(policy, limit)
        for id_ in waiting:
            if (self.due(self.entries[id_]) or NEVER) > self.now:
                self._index(self.entries[id_])
        chosen = [id_ for id_ in chosen if (self.due(self.entries[id_]) or NEVER) <= self.now]
        if not chosen:
            return []
        self.fence += 1
        granted = []
        for id_ in chosen:
            entry = self.entries[id_]
            if reason := self.guarded(id_):
                self._park(entry, reason)
            else:
                entry.place, entry.score, entry.token, entry.reason = "claimed", self.now + LEASE, self.fence, None
                granted.append(id_)
        return granted

    def guarded(self, id_: str) -> str | None:
        """Return what protects an id."""
        if id_ in self.holds:
            return "held"
        return "referenced" if any(target == id_ for target, _source in self.edges) else None

    def settle(self, id_: str, token: int, act: str, outcome: str, **said: Any) -> bool:
        """Record an outcome; False if the lease was taken over."""
        entry = self.entries.get(id_)
        if entry is None or entry.place != "claimed" or entry.token != token:
            self._count(f"settled|{said['policy']}|refused")
            return False
        if outcome != "limited":
            self._count(f"settled|{entry.policy}|{outcome}")
        if act == "done":
            self._bury(id_, entry, outcome)
        elif act == "quarantine":
            self._quarantine(entry, said["reason"])
        else:
            self._again(id_, entry, act, said)
        return True

    def _bury(self, id_: str, entry: Entry, outcome: str) -> None:
        if outcome == "deleted":
            self._count(f"deletions|{entry.policy}|thread")
            self._end(id_)
            return
        self.tombstones[id_] = self.now
        self.graves[id_] = replace(entry, token=None, score=None, reason=None, place="tracked")
        del self.entries[id_]

    def _again(self, id_: str, entry: Entry, act: str, said: dict[str, Any]) -> None:
        entry.token = None
        entry.unknown = entry.unknown or said.get("unknown", False)
        entry.attempts += said.get("counted", False)
        if entry.forgotten:
            self._end(id_)
        elif id_ in self.holds:
            self._park(entry, "held")
        elif act == "keep":
            entry.place, entry.score = "kept", self.now + said["delay"]
        elif entry.attempts >= ATTEMPTS:
            self._quarantine(entry, "attempts")
        elif act == "release" and not entry.failed:
            self._index(entry)
        else:
            entry.place, entry.score, entry.reason = "waiting", self.now + said.get("delay", 0), said.get("reason")

    def end_tombstones(self, before: int) -> None:
        """End what was settled before a time; already_gone ones let go of what they used."""
        for id_ in [id_ for id_, at in self.tombstones.items() if at <= before]:
            del self.tombstones[id_]
            if self.graves.pop(id_, None) is not None:
                self._release(id_)

    def release(self) -> None:
        """Remove the edges of what is over; what nothing uses any more comes back."""
        for target, source in self.released:
            self.edges.discard((target, source))
            entry = self.entries.get(target)
            if entry and (entry.place, entry.reason) == ("parked", "referenced") and not self._used(target):
                self._back(entry)
        self.released.clear()

    def adopt(self, policy: str, rule: Rule) -> None:
        """Let other rules decide from now on; what was kept is looked at again."""
        self.rules[policy] = rule
        for entry in self.entries.values():
            if entry.policy == policy and entry.place == "kept":
                entry.score = self.now

    def rename(self, old: str, new: str) -> None:
        """Move everything from one name to another."""
        for entry in self.entries.values():
            entry.policy = new if entry.policy == old else entry.policy

    # --- what an operator says

    def operate(self, verb: str, id_: str) -> bool:
        """Answer a quarantine: retry, drop or undo; True if that changed anything."""
        if verb == "undo":
            grave = self.graves.get(id_)
            if grave is None or id_ in self.entries:
                return False
            del self.graves[id_], self.tombstones[id_]
            self.entries[id_] = replace(grave, attempts=0, crashes=0, alone=0, unknown=False)
            return True
        entry = self.entries.get(id_)
        if entry is None or entry.place != "quarantined":
            return False
        entry.attempts, entry.crashes, entry.alone, entry.reason = 0, 0, 0, None
        if verb == "retry":
            entry.place, entry.score = "waiting", self.now
        else:
            self._end(id_)
        return True

    # --- moves

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def _used(self, id_: str) -> bool:
        return any(target == id_ for target, _source in self.edges)

    def _park(self, entry: Entry, reason: str) -> None:
        entry.place, entry.reason, entry.score = "parked", reason, self.now

    def _back(self, entry: Entry) -> None:
        entry.reason = None
        if entry.failed:
            entry.place, entry.score = "waiting", self.now
        else:
            self._index(entry)

    def _index(self, entry: Entry) -> None:
        entry.place, entry.score, entry.reason, entry.token = "tracked", None, None, None
        entry.attempts, entry.crashes, entry.alone, entry.unknown = 0, 0, 0, False

    def _quarantine(self, entry: Entry, reason: str) -> None:
        entry.place, entry.reason, entry.token, entry.score = "quarantined", reason, None, self.now

    def _end(self, id_: str) -> None:
        del self.entries[id_]
        self._release(id_)

    def _release(self, id_: str) -> None:
        self.released += [(target, id_) for target in self.uses.pop(id_, [])]
