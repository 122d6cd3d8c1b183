"""The registry in plain Python, and the claims that name ids: of listings, plans, parents and purges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.entries import Entry, Sighting
from model.plain import Plain

OURS = "ours"


@dataclass(slots=True)
class Chosen(Plain):
    """One slot, with what listings showed of it."""

    # --- listings

    def sight(self, policy: str, run: int, stamps: Mapping[str, str]) -> tuple[dict[str, int], dict[str, list[int]]]:
        """Count one complete listing; return how many are no orphans, by why, and how often the others were seen."""
        refused: dict[str, int] = {}
        seen: dict[str, list[int]] = {}
        for id_, stamp in stamps.items():
            one = self.sightings.get((policy, id_))
            if one is None or one.run < run - 1:
                one = Sighting(self.now, run - 1, stamp)
            why, entry = self.spared(policy, id_, stamp, settled=one.settled)
            if why:
                refused[why] = refused.get(why, 0) + 1
                if why == "settled":
                    self.sightings[policy, id_] = Sighting(self.now, run, stamp, settled=True)
                continue
            if self._used_since(id_, entry, one):
                one = Sighting(self.now, run - 1, stamp)
            one.stamp, one.stamped = stamp, entry.stamped
            one.times, one.run = one.times + (one.run < run), run
            self.sightings[policy, id_] = one
            seen[id_] = [one.times, one.first, int(entry.crashes > 0)]
        return refused, seen

    def unsight(self, policy: str, run: int) -> list[str]:
        """End the sightings that a listing did not renew; return of which ids."""
        over = [id_ for (name, id_), one in self.sightings.items() if name == policy and one.run < run]
        for id_ in over:
            del self.sightings[policy, id_]
            entry = self.entries.get(id_)
            if entry and entry.place == "waiting" and entry.orphan:
                if entry.stamped:
                    del self.entries[id_]
                else:
                    self._index(entry)
        return over

    def spared(self, policy: str, id_: str, stamp: str, *, settled: bool) -> tuple[str | None, Entry]:
        """Return why a listed object is no orphan, and what stands of it."""
        entry = self.entries.get(id_) or Entry(policy, None, stamped=True)
        known = id_ in self.entries
        reasons = (
            ("other_namespace", stamp == "other_namespace"),
            ("forgotten", id_ in self.forgotten),
            ("settled", id_ in self.tombstones),
            ("foreign", not known and stamp == "" and not settled),
            ("old_epoch", not known and stamp == "old_epoch" and not settled),
            ("other_policy", entry.policy != policy),
            ("own_expiry", entry.expiry is not None),
            (entry.place, entry.place in {"claimed", "quarantined"}),
            ("held", id_ in self.holds),
            ("referenced", self._used(id_)),
            ("kept", entry.place == "kept" and (entry.score or 0) > self.now),
        )
        return next((why for why, true in reasons if true), None), entry

    def _used_since(self, id_: str, entry: Entry, seen: Sighting) -> bool:
        said = max(entry.active or 0, 0 if entry.active else entry.created or 0, self.named.get(id_, 0))
        return said >= seen.first or (seen.stamped and not entry.stamped)

    def claim_orphans(self, policy: str, wanted: Mapping[str, int], *, alone: bool) -> tuple[str, list[str]]:
        """Lease what listings showed unused, if nothing was said of it since."""
        room = self.budgets[policy].room(self.rules[policy], self.now, self.fence)
        if not room:
            return "limited", []
        self.fence = max(self.fence + 1, self.now)
        granted: list[str] = []
        for id_, first in wanted.items():
            entry = self._still(policy, id_, first)
            if len(granted) < room and entry and (entry.crashes > 0) == alone:
                self.grant(id_, entry)
                entry.orphan = True
                granted.append(id_)
        self.budgets[policy].spend(len(granted))
        return "ok", granted

    def _still(self, policy: str, id_: str, first: int) -> Entry | None:
        one = self.sightings.get((policy, id_))
        if one is None or one.first != first:
            return None
        why, entry = self.spared(policy, id_, one.stamp, settled=one.settled)
        waits = entry.place == "waiting" and (entry.score or 0) > self.now
        return None if why or waits or self._used_since(id_, entry, one) else entry

    # --- plans

    def claim_planned(
        self, policy: str, wanted: Mapping[str, int], *, alone: bool
    ) -> tuple[str, list[str], dict[str, str]]:
        """Lease ids of a plan as they were, and say why the others are not."""
        self.lapsed(policy)
        self.end_holds()
        room = self.budgets[policy].room(self.rules[policy], self.now, self.fence)
        if not room:
            return "limited", [], {}
        self.fence = max(self.fence + 1, self.now)
        granted, left = list[str](), dict[str, str]()
        for id_, due in wanted.items():
            if len(granted) >= room:
                break
            if why := self._changed(policy, id_, due, alone=alone):
                left[id_] = why
            elif self.parked(id_):
                left[id_] = self.entries[id_].reason or ""
            else:
                self.grant(id_, self.entries[id_])
                granted.append(id_)
        self.budgets[policy].spend(len(granted))
        return "ok", granted, left

    def _changed(self, policy: str, id_: str, planned: int, *, alone: bool) -> str | None:
        entry = self.entries.get(id_)
        if entry is None or entry.stamped:
            return "forgotten" if id_ in self.forgotten else "not tracked any more"
        due = self.due(entry)
        reasons = (
            (f"moved to {entry.policy}", entry.policy != policy),
            (entry.place, entry.place in {"claimed", "quarantined", "kept"}),
            ("backed off", entry.place == "waiting" and (entry.score or 0) > self.now),
            ("not due any more", due is None or due > self.now),
            ("touched, or given another expiry", due != planned),
            ("crashed a worker since", entry.crashes > 0 and not alone),
        )
        return next((why for why, true in reasons if true), None)

    # --- parents

    def claim_child(self, id_: str, stamped: str, going: Sequence[str], since: int) -> tuple[str, Entry | None]:
        """Lease what goes with a parent; return the word for it, and the entry if granted."""
        self.end_holds()
        entry = self.entries.get(id_)
        if entry and entry.place == "claimed" and (entry.score or 0) <= self.now:
            self.lapse(id_, entry)
            entry = self.entries.get(id_)
        if entry is None and id_ in self.tombstones:
            return "gone", None
        if id_ in self.forgotten or (entry is None and not stamped):
            return "foreign", None
        entry = entry or Entry(stamped, None, stamped=True)
        rule = self.rules.get(entry.policy)
        used = any(target == id_ and source not in going for target, source in self.edges)
        active = entry.active or (entry.created if entry.expiry is None else 0) or 0
        later = (entry.score or 0) > self.now
        reasons = (
            ("held", id_ in self.holds),
            ("used", used),
            ("active", active >= since),
            ("quarantined", entry.place == "quarantined"),
            ("kept", entry.place == "kept" and later),
            ("claimed", entry.place == "claimed"),
            ("waiting", entry.place == "waiting" and later),
        )
        if why := next((why for why, true in reasons if true), None):
            return why, None
        if not self.budgets[entry.policy].paced(rule.pace if rule else None, self.now, self.fence):
            return "limited", None
        self.fence = max(self.fence + 1, self.now)
        self.grant(id_, entry)
        self.budgets[entry.policy].spend(1)
        return "granted", entry

    # --- purges

    def claim_purged(self, policy: str, ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Lease whatever is named, known or not; return what was granted, and why the others were not."""
        for name in {policy, *(entry.policy for entry in self.entries.values())}:
            self.lapsed(name)
        self.end_holds()
        self.fence = max(self.fence + 1, self.now)
        granted, left = list[str](), dict[str, str]()
        for id_ in ids:
            entry = self.entries.get(id_) or Entry(policy, None, stamped=True)
            if id_ in self.holds:
                left[id_] = "held"
            elif entry.place == "claimed":
                left[id_] = "with another worker"
            else:
                self.grant(id_, entry)
                entry.purged, entry.orphan = True, False
                granted.append(id_)
        return granted, left
