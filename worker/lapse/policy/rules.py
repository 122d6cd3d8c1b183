"""What the policy file says, checked and in final form: the values every other module of the worker uses. No I/O.

Durations are seconds. ``None`` where a limit could stand means that the file says ``"unlimited"`` (or ``"off"``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from lapse.providers.account import Account
from lapse.registry.model import Partition


@dataclass(frozen=True, slots=True)
class Share:
    """A limit that grows with what it is compared to: ``percent`` of it, but at least ``at_least``."""

    percent: float
    at_least: int

    def exceeded(self, count: int, population: int) -> bool:
        """Return True if ``count`` out of ``population`` is more than this allows."""
        return count > self.allows(population)

    def allows(self, population: int) -> float:
        """Return how many out of ``population`` it allows."""
        return max(self.at_least, self.percent * population / 100)


USUAL_WALL = Share(50, 20)
"""``max_already_gone`` where the file says nothing."""


@dataclass(frozen=True, slots=True)
class Pace:
    """At most ``amount`` in each ``window`` of seconds."""

    amount: int
    window: float


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
    max_share: Share | None
    uses_stated: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """What is never deleted: every part given has to match. Patterns are shell globs and mind upper and lower case."""

    name: str | None
    metadata: Mapping[str, str]

    def matches(self, name: str | None, metadata: Mapping[str, str]) -> bool:
        """Return True if an object with this name and metadata is to be kept; one without a name is called ``""``."""
        if self.name is not None and not fnmatchcase(name or "", self.name):
            return False
        return all(key in metadata and fnmatchcase(metadata[key], glob) for key, glob in self.metadata.items())


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
    keep: tuple[Keep, ...]
    cascade: Mapping[str, str]
    enforce: bool
    max_deletions: Pace | None
    max_newly_due: Share | None
    touches_stated: bool
    expect_gone: bool
    cancel: bool
    every: float
    formerly: tuple[str, ...]
    digest: str
    max_already_gone: Share | None = None

    @property
    def along(self) -> str | None:
        """The kind whose uses of an object do not protect it, because they are deleted before it."""
        users = self.partition.kind == "conversation" and self.cascade.get("response") == "delete"
        return "response" if users else None


@dataclass(frozen=True, slots=True)
class RegistrySection:
    """``[registry]``. ``url`` may hold a password: it is not shown in the representation.

    ``deployment``: what metrics call this one, or None.
    """

    url: str | None = field(repr=False)
    namespace: str
    witness_file: str | None
    allow_volatile: bool
    tls_ca: str | None
    tls_verify: bool
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class CelerySection:
    """``[celery]``. ``broker_url`` may hold a password: it is not shown in the representation."""

    broker_url: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScheduleSection:
    """``[schedule]``: seconds between two sweeps, and between two looks for orphans."""

    sweep: float
    orphans: float


@dataclass(frozen=True, slots=True)
class SweepSection:
    """``[sweep]``: seconds, ids and attempts; ``ramp`` is None where it is ``"off"``, ``outbox`` a folder or None."""

    budget: float
    lease: float
    batch: int
    max_attempts: int
    tombstones: float
    ramp: float | None
    deleted_tombstones: float = 7 * 86400.0
    outbox: str | None = None


@dataclass(frozen=True, slots=True)
class AuditSection:
    """``[audit]``: ``sink`` is ``stdout`` or ``file:PATH``; ``max_pending`` counts records of one slot.

    ``key_file`` names the file with the key that seals the records, or is None.
    """

    sink: str
    max_pending: int
    key_file: str | None


@dataclass(frozen=True, slots=True)
class Config:
    """One version of the policy file with the environment's overrides applied.

    Attributes:
        registry: ``[registry]``.
        celery: ``[celery]``.
        schedule: ``[schedule]``.
        sweep: ``[sweep]``.
        audit: ``[audit]``.
        accounts: Provider name -> account.
        rules: Sorted by provider, kind and policy.
        path: The file; None if the text came from elsewhere.
        variables: The environment variables that changed something, sorted.
        hash: 12 hex digits over the effective content: the same for two spellings of one meaning. Passwords in URLs
            are left out of it, because it is published.

    """

    registry: RegistrySection
    celery: CelerySection
    schedule: ScheduleSection
    sweep: SweepSection
    audit: AuditSection
    accounts: Mapping[str, Account]
    rules: tuple[Rule, ...]
    path: Path | None
    variables: tuple[str, ...]
    hash: str
