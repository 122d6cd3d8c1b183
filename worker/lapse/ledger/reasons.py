"""Why something is halted: every reason that a guard has, and what it concerns. No I/O."""

from enum import StrEnum


class HaltReason(StrEnum):
    """A reason as it is stored, shown, and the label ``guard`` of a metric."""

    CUTOFF_JUMPED = "cutoff_jumped"
    NO_WITNESS = "no_witness"
    ENDPOINT_MISSING = "endpoint_missing"
    UNRECOGNISED = "unrecognised"
    SUNSET = "sunset"
    NO_TOUCHES = "no_touches"
    NO_USES = "no_uses"
    USES_EXCEEDED = "uses_exceeded"
    ORPHAN_SHARE = "orphan_share"
    LISTING_SHRUNK = "listing_shrunk"
    CONFIG_DIVERGENCE = "config_divergence"
    IDENTITY_CHANGED = "identity_changed"
    INCONSISTENT_ABSENCE = "inconsistent_absence"
    GONE_WALL = "gone_wall"
    PRINCIPAL_UNPROVEN = "principal_unproven"
    UNRECORDABLE = "unrecordable"
    OLDER_THAN_REGISTRY = "older_than_registry"
    """What the provider created before the registry began waits for an operator; everything else goes on."""
    REGISTRY_DAMAGED = "registry_damaged"
    """A key that protects ids is gone: stands in the slot, or the policies, that it protected."""
    REGISTRY_LOST = "registry_lost"
    REGISTRY_ROLLED_BACK = "registry_rolled_back"
    CLOCK_JUMPED = "clock_jumped"
    REGISTRY_UNFIT = "registry_unfit"
    """Stands as widely as those of ``EVERYWHERE``, while this Redis must not hold a registry."""
    MOVED = "moved"
    """``lapse export --move`` took everything into another registry."""
    HALF_IMPORTED = "half_imported"
    """``lapse import`` of an export ended in the middle, or goes on."""


EVERYWHERE = frozenset(
    {
        HaltReason.REGISTRY_LOST,
        HaltReason.REGISTRY_ROLLED_BACK,
        HaltReason.CLOCK_JUMPED,
        HaltReason.MOVED,
        HaltReason.HALF_IMPORTED,
    }
)
"""Halts that concern the whole registry: they stand in every (provider, kind)."""

OF_ALL = EVERYWHERE | {HaltReason.REGISTRY_UNFIT}

BESIDE = frozenset({HaltReason.CONFIG_DIVERGENCE, HaltReason.PRINCIPAL_UNPROVEN, HaltReason.OLDER_THAN_REGISTRY})
"""Halts that stop one worker, with old rules or another credential, or some ids: claims of all else go on.

``ledger/lua/include/lease.lua`` has the same.
"""

OF_A_RULE = frozenset({HaltReason.CUTOFF_JUMPED, HaltReason.ORPHAN_SHARE})
"""Halts that a rule brought about: a rule that was changed since, or renamed, is looked at anew."""

STANDING = frozenset({HaltReason.NO_TOUCHES, HaltReason.NO_USES, HaltReason.REGISTRY_UNFIT})
"""Halts that last as long as their cause: they end when it does, without an operator."""

UNANSWERED = STANDING | {HaltReason.HALF_IMPORTED}
"""Halts that no ``resume`` ends."""

OF_ORPHANS = (
    HaltReason.NO_USES,
    HaltReason.USES_EXCEEDED,
    HaltReason.ORPHAN_SHARE,
    HaltReason.LISTING_SHRUNK,
    HaltReason.OLDER_THAN_REGISTRY,
)
"""Halts that only an orphan rule meets."""

SHARED = (
    HaltReason.ENDPOINT_MISSING,
    HaltReason.SUNSET,
    HaltReason.IDENTITY_CHANGED,
    HaltReason.INCONSISTENT_ABSENCE,
    HaltReason.GONE_WALL,
    HaltReason.PRINCIPAL_UNPROVEN,
    HaltReason.UNRECORDABLE,
    HaltReason.REGISTRY_DAMAGED,
    HaltReason.REGISTRY_LOST,
    HaltReason.REGISTRY_ROLLED_BACK,
    HaltReason.CLOCK_JUMPED,
    HaltReason.REGISTRY_UNFIT,
    HaltReason.MOVED,
    HaltReason.HALF_IMPORTED,
)
"""Halts of a whole provider and kind, or of everything: counted once for them, not in each partition."""
