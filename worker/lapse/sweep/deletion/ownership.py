"""Whether an object could be an orphan by what it says of itself: its stamp, its age, its name. No I/O."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from lapse.policy import Orphan, Rule
from lapse.providers.pagination import Listed
from lapse.registry.keys import NAME

OURS = "ours"
COPIED = "copied"
PARTS = 3


class Stamp(NamedTuple):
    """What an object's stamp says: ``ours`` or why it is not, its policy, and its nonce; "" each without a stamp."""

    says: str = ""
    policy: str = ""
    nonce: str = ""


def stamp(item: Listed, namespace: str, epoch: str, also: Collection[str] = ()) -> Stamp:
    """Return what an object's stamp says to a registry; that it is no copy is for ``nonces`` to say.

    Whoever may write metadata may write anything there: what could be no policy's name, or no nonce, is no stamp.
    Stamps without a nonce, which lapse made before it knew copies, could be anybody's: they prove nothing.

    Args:
        item: What a list shows.
        namespace: The registry's.
        epoch: The registry's.
        also: ``NAMESPACE/EPOCH`` of what was imported into it: its stamps are ours too.

    """
    parts = item.metadata.get("lapse", "").split("/")
    if len(parts) not in {PARTS, PARTS + 1} or not all(NAME.fullmatch(part) for part in parts[2:]):
        return Stamp()
    policy, nonce = parts[2], "".join(parts[PARTS:])
    if "/".join(parts[:2]) in also:
        return Stamp(OURS if nonce else "no_nonce", policy, nonce)
    if parts[0] != namespace:
        return Stamp("other_namespace", policy, nonce)
    if parts[1] != epoch:
        return Stamp("old_epoch", policy, nonce)
    return Stamp(OURS if nonce else "no_nonce", policy, nonce)


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges listed objects for one orphan rule of one registry: the namespace in its epoch.

    ``copies``: ids of which something else was seen first with the same stamp. ``also``: as ``stamp`` takes it.
    """

    rule: Rule
    orphan: Orphan
    namespace: str
    epoch: str
    copies: set[str] = field(default_factory=set)
    also: set[str] = field(default_factory=set)

    def stamp(self, item: Listed) -> str:
        """Return what its stamp says: ``ours``, why it is not, or an empty string if it has none."""
        said, policy, _nonce = stamp(item, self.namespace, self.epoch, self.also)
        if said != OURS:
            return said
        if policy not in {self.rule.partition.policy, *self.rule.formerly}:
            return "other_policy"
        return COPIED if item.id in self.copies else OURS

    def nonce(self, item: Listed) -> str:
        """Return the nonce of a stamp of this registry's, whatever its policy; an empty string without one."""
        said = stamp(item, self.namespace, self.epoch, self.also)
        return said.nonce if said.says == OURS else ""

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
