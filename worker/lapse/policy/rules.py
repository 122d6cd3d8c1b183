"""What the policy file says, checked and in final form: the values every other module of the worker uses. No I/O.

Durations are seconds. ``None`` where a limit could stand means that the file says ``"unlimited"`` (or ``"off"``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lapse.policy import tables
from lapse.providers.account import Account
from lapse.registry.model import Partition


@dataclass(frozen=True, slots=True)
class Orphan:
    """What makes a listed object an orphan.

    Attributes:
        min_age: Seconds since its creation, at least.
        seen: Complete listings in a row on which nothing live named it.
        max_share: How much of one listing may be orphaned before nothing is deleted; None: any share.
        uses_stated: ``uses = "none"`` was written: nothing will ever name these objects, and that is meant.

    """

    min_age: float
    seen: int
    max_share: tables.Share | None
    uses_stated: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy for one kind: either ``ttl`` and ``anchor``, or ``orphan``; never both, never neither.

    Attributes:
        partition: Provider, kind and policy.
        ttl: Seconds after ``anchor``; None for an orphan rule.
        anchor: ``created_at`` or ``last_active_at``; None for an orphan rule.
        max_age: Seconds after creation that nothing outlives, touched or not; None: no such cap.
        orphan: The orphan rule; None for a ttl rule.
        keep: What is never deleted, whatever its age.
        cascade: Kind -> ``delete``, ``leave`` or ``protect``: what becomes of the objects that this one uses.
        enforce: False while the policy only observes.
        max_deletions: The pace of deletions; None: unlimited.
        max_newly_due: How much a moved cut-off may make due without an approval; None: any share.
        touches_stated: ``touches = "none"`` was written: the application never touches these, and that is meant.
        expect_gone: The provider, or someone else, deletes these too: finding one gone is no news.
        cancel: What still runs on it is cancelled before it is deleted.
        every: Seconds between two sweeps.
        formerly: Old policy names whose registrations this one adopts, sorted.
        digest: 12 hex digits over all that decides a deletion; equal for equal meaning, however it is spelled.
        max_already_gone: How many of its last answers may say "not found" before none is believed; None: any number.

    """

    partition: Partition
    ttl: float | None
    anchor: str | None
    max_age: float | None
    orphan: Orphan | None
    keep: tuple[tables.Keep, ...]
    cascade: Mapping[str, str]
    enforce: bool
    max_deletions: tables.Pace | None
    max_newly_due: tables.Share | None
    touches_stated: bool
    expect_gone: bool
    cancel: bool
    every: float
    formerly: tuple[str, ...]
    digest: str
    max_already_gone: tables.Share | None = None

    @property
    def along(self) -> str | None:
        """The kind whose uses of an object do not protect it, because they are deleted before it."""
        users = self.partition.kind == "conversation" and self.cascade.get("response") == "delete"
        return "response" if users else None


@dataclass(frozen=True, slots=True)
class Config:
    """One version of the policy file with the environment's overrides applied.

    Attributes:
        registry, celery, schedule, sweep, audit, erasure, receipts: The sections of these names.
        accounts: Provider name -> account.
        rules: Sorted by provider, kind and policy.
        path: The file; None if the text came from elsewhere.
        variables: The environment variables that changed something, sorted.
        hash: 12 hex digits over the effective content: the same for two spellings of one meaning. Passwords in URLs
            are left out of it, because it is published.

    """

    registry: tables.RegistrySection
    celery: tables.CelerySection
    schedule: tables.ScheduleSection
    sweep: tables.SweepSection
    audit: tables.AuditSection
    erasure: tables.ErasureSection
    receipts: tables.ReceiptsSection
    accounts: Mapping[str, Account]
    rules: tuple[Rule, ...]
    path: Path | None
    variables: tuple[str, ...]
    hash: str
