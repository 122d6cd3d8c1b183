"""The values that cross the boundary between an application and the registry. No I/O."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

HOLDS_MARKER = "."
FORGOTTEN_MARKER = "."
EDGES_MARKER = "~"
"""What counts a slot's holds, forgotten ids and edges among them, and is none (``include/protection.lua``)."""

PURGED = "(purge)"
ERASURE = "(erasure)"
"""Where a policy's name stands for what is registered: objects that only a purge deletes. No policy is called so."""


class Answer(StrEnum):
    """What the registry says to touch, hold, unhold, forget and expire. True only for ``OK``.

    ``TOO_LATE``: a claim is out, a DELETE may have been sent; what was said is recorded, and no further attempt
    ignores it.
    ``FAILED``: the registry could not be reached and ``on_error="log"`` was chosen.
    ``SPOOLED``: the registry could not be reached; it waits in a local file, and is said when Redis is back.
    ``UNREPLICATED``: it stands, and fewer replicas have it than ``[registry] replicas`` says: a failover may lose it.
    """

    OK = "ok"
    UNKNOWN = "unknown"
    TOO_LATE = "too_late"
    FAILED = "failed"
    SPOOLED = "spooled"
    UNREPLICATED = "unreplicated"

    def __bool__(self) -> bool:
        return self is Answer.OK


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """One object at one provider: ids of two accounts or two kinds never mix."""

    provider: str
    kind: str
    id: str


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """The unit of sweeping, limits and metrics."""

    provider: str
    kind: str
    policy: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.kind}/{self.policy}"


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to ``register``. False where it was not registered: ``unavailable``, ``spooled``.

    Attributes:
        due: When the resource becomes due if nothing else happens; None while nothing says so.
        governed_by: What decides that: ``ttl``, ``max_age``, ``expires_at``, ``orphan``, ``hold``,
            ``claimed``, ``unmanaged``, ``unavailable`` where ``on_error="log"`` swallowed an error, or ``spooled``
            where it waits in a local file until Redis is back.
        new: False if the id was tracked already, in which case this was a touch.
        managed: False if no running worker knows this provider, kind and policy. The id is stored all the same.
        subject_kept: True if it was tracked as another subject's: whose data an id is, no registration changes.

    """

    due: datetime | None
    governed_by: str
    new: bool
    managed: bool
    subject_kept: bool = False

    def __bool__(self) -> bool:
        return self.governed_by not in {"unavailable", "spooled"}


@dataclass(frozen=True, slots=True)
class Bulk:
    """What ``register_many`` did: ids registered, how many new, how many no worker manages, how many are spooled.

    ``subject_kept`` counts those that were tracked as another subject's and stay so.
    """

    registered: int = 0
    new: int = 0
    unmanaged: int = 0
    spooled: int = 0
    subject_kept: int = 0

    def __add__(self, other: "Bulk") -> "Bulk":
        return Bulk(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a resource must not be deleted, by whom and until when; ``subject``: all of whose data is held, with it."""

    reason: str
    actor: str
    since: datetime
    until: datetime | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """All that the registry knows of one resource.

    ``state`` is ``tracked``, ``claimed``, ``waiting``, ``held``, ``referenced``, ``kept`` or ``quarantined``.
    ``subject`` is the first of ``subjects``.
    """

    resource: Resource
    policy: str
    state: str
    created_at: datetime | None
    last_active_at: datetime | None
    expires_at: datetime | None
    due: datetime | None
    governed_by: str
    hold: Hold | None = None
    uses: tuple[Resource, ...] = ()
    used_by: tuple[Resource, ...] = ()
    subject: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    subjects: tuple[str, ...] = ()
    attempts: int = 0
    crashes: int = 0
    reason: str | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SubjectAnswer:
    """What a call about all of a subject's ids came to. True if every slot has taken it.

    Attributes:
        changed: How many ids it changed at once.
        remaining: How many it did not come to; a hold covers these too, and workers do the rest.
        claimed: Ids whose deletion is under way; no further attempt ignores what was said.
        failed: "provider/kind" that did not take it, each with why: nothing is deleted there until it has.

    """

    changed: int = 0
    remaining: int = 0
    claimed: int = 0
    failed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.failed


@dataclass(frozen=True, slots=True)
class SubjectPage:
    """Some of a subject's ids.

    Attributes:
        records: What is tracked, by provider, kind and id.
        after: Where the next page begins; None if this was the last.
        whole: False while a worker is still looking for what clients of an older version registered.

    """

    records: tuple[Record, ...]
    after: str | None
    whole: bool


DELETION_TOKENS = 1_048_576
"""How many claims the score of a confirmed deletion tells apart, as ``include/once.lua`` writes it."""


def deleted_at(score: float) -> int:
    """Return when a deletion was confirmed, in registry milliseconds to the second, from its score in ``deleted``."""
    return int(score) // DELETION_TOKENS * 1000


def from_millis(value: float | None) -> datetime | None:
    """Registry time, milliseconds since 1970 on Redis' clock, as an aware datetime."""
    return None if value is None else datetime.fromtimestamp(value / 1000, UTC)
