"""Whether an object could be an orphan by what it says of itself: its stamp, its age, its name. No I/O."""

from dataclasses import dataclass

from lapse.keys import NAME
from lapse.listing import Listed
from lapse.policy import Orphan, Rule

OURS = "ours"
PARTS = 3


def stamp(item: Listed, namespace: str, epoch: str) -> tuple[str, str]:
    """Return what an object's stamp says to a registry, ``ours`` or why it is not, and its policy; "" without one.

    Whoever may write metadata may write anything there: what could be no policy's name is no stamp.
    """
    parts = item.metadata.get("lapse", "").split("/")
    if len(parts) != PARTS or not NAME.fullmatch(parts[2]):
        return "", ""
    if parts[0] != namespace:
        return "other_namespace", parts[2]
    return (OURS if parts[1] == epoch else "old_epoch"), parts[2]


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges listed objects for one orphan rule of one registry: the namespace in its epoch."""

    rule: Rule
    orphan: Orphan
    namespace: str
    epoch: str

    def stamp(self, item: Listed) -> str:
        """Return what its stamp says: ``ours``, why it is not, or an empty string if it has none."""
        said, policy = stamp(item, self.namespace, self.epoch)
        mine = {self.rule.partition.policy, *self.rule.formerly}
        return said if said != OURS or policy in mine else "other_policy"

    def spared(self, item: Listed, now: int) -> str | None:
        """Return why it is no orphan at a registry time in milliseconds, or None if the registry has to say more."""
        if item.created_at is None:
            return "undated"
        if self.ripens(item) > now:
            return "young"
        if any(keep.matches(item.name, item.metadata) for keep in self.rule.keep):
            return "kept"
        return None

    def ripens(self, item: Listed) -> float:
        """Return when it is as old as the rule asks, in registry milliseconds.

        Last activity counts as creation does, where the provider keeps one: what was used a moment ago is no orphan.
        """
        latest = max(item.created_at or 0, item.last_active_at or 0)
        return (latest + self.orphan.min_age) * 1000

    def changed(self, item: Listed, now: int, stamp: str) -> str | None:
        """Return why an object read just before its deletion is no orphan any more, or None; ``stamp`` as listed."""
        if self.stamp(item) != stamp:
            return "its stamp is not what the listing showed"
        why = self.spared(item, now)
        return why and f"it is {why} by what it says of itself"
