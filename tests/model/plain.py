"""The registry in plain Python: where each id of one slot stands, by the meaning of the words and nothing of Redis."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from model.entries import ALONE, ATTEMPTS, LEASE, NEVER, Budget, Entry, Rule, Sighting


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
    named: dict[str, int] = field(default_factory=dict)
    sightings: dict[tuple[str, str], Sighting] = field(default_factory=dict)
    budgets: defaultdict[str, Budget] = field(default_factory=lambda: defaultdict(Budget))

    # --- what an application says

    def register(self, id_: str, policy: str, facts: dict[str, Any], uses: list[str]) -> bool:
        """Track an id, or touch it and move it; True if it is new."""
        for target in uses:
            self.edges.add((target, id_))
            self.named[target] = self.now
        known = self.entries.get(id_)
        if known is None:
            self._track(id_, policy, facts)
        else:
            if known.stamped:
                known.created, known.active = self.now, None
            elif known.expiry is None:
                known.active = max(known.active or known.since, facts.get("active", self.now))
            known.forgotten, known.stamped, known.orphan = False, False, False
            if known.place == "claimed":
                known.later = policy if policy != known.policy else None
            else:
                known.policy = policy
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
        if entry is None or entry.stamped:
            if any((policy, id_) in self.sightings for policy in self.rules):
                self.named[id_] = self.now
            if entry and entry.place == "waiting":
                del self.entries[id_]
            grave = None if entry else self.graves.get(id_)
            if grave and grave.expiry is None:
                grave.active = max(grave.active or grave.created or 0, self.now)
            return "too_late" if entry and entry.place == "claimed" else "unknown"
        if entry.expiry is None:
            entry.active = max(entry.active or entry.since, self.now)
        entry.orphan = False
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
            self._back(id_, entry)

    def forget(self, id_: str, *, release: bool = False) -> str:
        """Stop tracking; what it uses stays protected, unless it is let go of."""
        before, entry = id_ in self.forgotten, self.entries.get(id_)
        self.forgotten.add(id_)
        if entry and entry.place == "claimed":
            entry.forgotten, entry.released = True, release
            return "too_late"
        tracked = entry is not None and not entry.stamped
        if tracked:
            del self.entries[id_]
        freed = release and (tracked or before) and id_ in self.uses
        if freed:
            self._release(id_)
        return "ok" if tracked or freed else "unknown"

    def expire(self, id_: str, at: int | None) -> str:
        """Give an expiry of its own."""
        entry = self.entries.get(id_)
        if entry is None or entry.stamped:
            return "unknown"
        entry.expiry, entry.active, entry.orphan = self.now if at is None else at, None, False
        return "too_late" if entry.place == "claimed" else "ok"

    # --- what a worker does

    def due(self, entry: Entry) -> int | None:
        """Return when it is due, None if no rule says so."""
        rule = self.rules.get(entry.later or entry.policy)
        if entry.stamped:
            return None
        base = entry.since if rule and rule.anchor == "created_at" else entry.active or entry.since
        times = [entry.expiry] if entry.expiry is not None else [base + rule.ttl] if rule else []
        if rule and rule.max_age:
            times.append(entry.since + rule.max_age)
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
            if (one.policy, one.place) == (policy, "waiting")
            and not (one.crashes or one.orphan)
            and (one.score or 0) <= self.now
        ]
        return [id_ for _score, id_ in sorted(found)][:limit]

    def suspects(self, policy: str) -> list[str]:
        """Return ids that a worker crashed on and that may be tried now, in their order."""
        found = [
            (entry.score or 0, id_)
            for id_, entry in self.entries.items()
            if (entry.policy, entry.place) == (policy, "waiting")
            and entry.crashes
            and not entry.orphan
            and (entry.score or 0) <= self.now
        ]
        return [id_ for _score, id_ in sorted(found)]

    def before_claim(self, policy: str) -> None:
        """End leases, holds and keeps that are over, and what an orphan waits for where nothing is listed any more."""
        self.lapsed(policy)
        self.end_holds()
        for id_, entry in list(self.entries.items()):
            if entry.policy == policy and entry.place == "kept" and (entry.score or 0) <= self.now:
                self._back(id_, entry)
            elif entry.policy == policy and entry.place == "waiting" and not self.rules[policy].orphan:
                entry.orphan = False

    def lapsed(self, policy: str) -> None:
        """End the leases of a policy that ran out."""
        for id_, entry in list(self.entries.items()):
            if entry.policy == policy and entry.place == "claimed" and (entry.score or 0) <= self.now:
                self.lapse(id_, entry)

    def end_holds(self) -> None:
        """End the holds whose time has come."""
        for id_ in [id_ for id_, until in self.holds.items() if until is not None and until <= self.now]:
            self.unhold(id_)

    def lapse(self, id_: str, entry: Entry) -> None:
        """Take a lease that ran out for a crash."""
        self._count(f"crashes|{entry.policy}")
        entry.alone += bool(entry.crashes)
        entry.crashes, entry.unknown, entry.token = entry.crashes + 1, True, None
        foreign, entry.orphan = entry.purged and entry.stamped, entry.orphan and not entry.purged
        entry.purged = False
        entry.move()
        if entry.forgotten or foreign:
            self._untrack(id_, entry)
        elif entry.alone >= ALONE:
            self._quarantine(entry, "crashes")
        elif id_ in self.holds:
            self._park(entry, "held")
        else:
            self._wait(id_, entry, 0)

    def claim(self, policy: str, limit: int, *, alone: bool = False) -> tuple[str, list[str]]:
        """Lease what is due; return the status and the ids granted."""
        self.before_claim(policy)
        waiting = self.suspects(policy)[:1] if alone else self.again(policy, limit)
        chosen = waiting if alone else self.ready(policy, limit)
        for id_ in waiting:
            entry = self.entries[id_]
            if entry.stamped:
                del self.entries[id_]
            elif (self.due(entry) or NEVER) > self.now:
                self._index(entry)
        chosen = [id_ for id_ in chosen if id_ in self.entries and (self.due(self.entries[id_]) or NEVER) <= self.now]
        if not chosen:
            return "ok", []
        room = self.budgets[policy].room(self.rules[policy], self.now, self.fence)
        if not room:
            return "limited", []
        self.fence = max(self.fence + 1, self.now)
        granted: list[str] = []
        for id_ in chosen:
            if len(granted) >= room:
                break
            if not self.parked(id_):
                self.grant(id_, self.entries[id_])
                granted.append(id_)
        self.budgets[policy].spend(len(granted))
        return "ok", granted

    def parked(self, id_: str) -> bool:
        """Park an id that something protects; True if it was."""
        reason = self.guarded(id_)
        if reason:
            self._park(self.entries[id_], reason)
        return reason is not None

    def grant(self, id_: str, entry: Entry) -> None:
        """Lease it."""
        self.entries[id_] = entry
        entry.place, entry.score, entry.token, entry.reason = "claimed", self.now + LEASE, self.fence, None

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
            self._bury(id_, entry, outcome, said["policy"])
        elif act == "quarantine":
            self._quarantined(id_, entry, said)
        else:
            self._again(id_, entry, act, said)
        return True

    def _refund(self, entry: Entry, policy: str) -> None:
        if not entry.purged and entry.policy == policy and entry.token:
            self.budgets[policy].refund(entry.token)

    def _quarantined(self, id_: str, entry: Entry, said: dict[str, Any]) -> None:
        if not said.get("unknown"):
            self._refund(entry, said["policy"])
        foreign, entry.purged = entry.purged and entry.stamped, False
        if foreign:
            del self.entries[id_]
        else:
            self.budgets[entry.policy].ramp_since = self.now
            entry.move()
            self._quarantine(entry, said["reason"])

    def _bury(self, id_: str, entry: Entry, outcome: str, policy: str) -> None:
        self.sightings.pop((entry.policy, id_), None)
        if outcome == "deleted":
            self._count(f"deletions|{entry.policy}|thread")
            self.named.pop(id_, None)
            self._end(id_)
            return
        self._refund(entry, policy)
        self.tombstones[id_] = self.now
        entry.move()
        self.graves[id_] = replace(entry, token=None, score=None, reason=None, place="tracked")
        del self.entries[id_]

    def _again(self, id_: str, entry: Entry, act: str, said: dict[str, Any]) -> None:
        if act == "release" or not said.get("unknown"):
            self._refund(entry, said["policy"])
        if act == "retry" and not entry.purged:
            self.budgets[entry.policy].ramp_since = self.now
        if (act == "keep" and entry.orphan) or (act == "touch" and entry.stamped):
            self.sightings.pop((entry.policy, id_), None)
        entry.move()
        entry.token = None
        entry.unknown = entry.unknown or said.get("unknown", False)
        entry.attempts += said.get("counted", False)
        if act == "touch" and entry.expiry is None and not entry.stamped:
            entry.active = max(entry.active or entry.since, said["active"])
        foreign, entry.purged = entry.purged and entry.stamped, False
        if entry.forgotten or foreign:
            self._untrack(id_, entry)
        elif id_ in self.holds and not entry.stamped:
            self._park(entry, "held")
        else:
            self._stays(id_, entry, act, said)

    def _stays(self, id_: str, entry: Entry, act: str, said: dict[str, Any]) -> None:
        seen_anew = act == "keep" and entry.orphan
        if entry.stamped and (seen_anew or act == "touch"):
            del self.entries[id_]
        elif act == "touch" or seen_anew:
            self._index(entry)
        elif act == "keep" and not entry.stamped:
            entry.place, entry.score = "kept", self.now + said["delay"]
        elif entry.attempts >= ATTEMPTS:
            self._quarantine(entry, "attempts")
        elif act == "release" and not (entry.failed or entry.stamped):
            self._index(entry)
        else:
            entry.reason = said.get("reason")
            self._wait(id_, entry, said.get("delay", 0))

    def end_tombstones(self, before: int) -> None:
        """End what was settled before a time; already_gone ones let go of what they used. So do leases that ran out."""
        for policy in {entry.policy for entry in self.entries.values()}:
            self.lapsed(policy)
        for id_ in [id_ for id_, at in self.tombstones.items() if at <= before]:
            del self.tombstones[id_]
            if self.graves.pop(id_, None) is not None:
                self._release(id_)

    def release(self) -> None:
        """Remove the edges of what is over; what nothing uses any more comes back."""
        for target, source in self.released:
            self.edges.discard((target, source))
            entry = self.entries.get(target)
            if entry and (entry.place, entry.reason) == ("parked", "referenced"):
                if self._used(target):
                    entry.score = self.now
                else:
                    self._back(target, entry)
        self.released.clear()

    def adopt(self, policy: str, rule: Rule) -> None:
        """Let other rules decide from now on; what was kept is looked at again."""
        self.rules[policy] = rule
        for entry in self.entries.values():
            if entry.policy == policy and entry.place == "kept":
                entry.score = self.now

    def rename(self, old: str, new: str) -> None:
        """Move everything from one name to another."""
        for id_, entry in self.entries.items():
            if entry.policy == old:
                entry.policy = new
                entry.orphan = entry.orphan and (entry.place != "waiting" or (new, id_) in self.sightings)

    # --- what an operator says

    def operate(self, verb: str, id_: str) -> bool:
        """Answer a quarantine: retry, drop or undo; True if that changed anything."""
        if verb == "undo":
            grave = self.graves.get(id_)
            if grave is None or id_ in self.entries:
                return False
            del self.graves[id_], self.tombstones[id_]
            if not grave.stamped:
                self.entries[id_] = grave
                self._index(grave)
                grave.forgotten = grave.purged = False
            return True
        entry = self.entries.get(id_)
        if entry is None or entry.place != "quarantined":
            return False
        entry.attempts, entry.crashes, entry.alone, entry.reason = 0, 0, 0, None
        if verb == "retry":
            self._wait(id_, entry, 0)
        else:
            self.forgotten.add(id_)
            self._end(id_)
        return True

    # --- moves

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def _used(self, id_: str) -> bool:
        return any(target == id_ for target, _source in self.edges)

    def _park(self, entry: Entry, reason: str) -> None:
        entry.place, entry.reason, entry.score = "parked", reason, self.now

    def _back(self, id_: str, entry: Entry) -> None:
        entry.reason = None
        if entry.stamped:
            del self.entries[id_]
        elif entry.failed:
            self._wait(id_, entry, 0)
        else:
            self._index(entry)

    def _wait(self, id_: str, entry: Entry, delay: int) -> None:
        entry.place, entry.score = "waiting", self.now + delay
        entry.orphan = entry.orphan and (entry.policy, id_) in self.sightings

    def _index(self, entry: Entry) -> None:
        entry.place, entry.score, entry.reason, entry.token = "tracked", None, None, None
        entry.attempts, entry.crashes, entry.alone, entry.unknown, entry.orphan = 0, 0, 0, False, False

    def _quarantine(self, entry: Entry, reason: str) -> None:
        entry.place, entry.reason, entry.token, entry.score = "quarantined", reason, None, self.now

    def _end(self, id_: str) -> None:
        del self.entries[id_]
        self._release(id_)

    def _untrack(self, id_: str, entry: Entry) -> None:
        if entry.forgotten and not entry.released:
            del self.entries[id_]
        else:
            self._end(id_)

    def _release(self, id_: str) -> None:
        self.released += [(target, id_) for target in self.uses.pop(id_, [])]
