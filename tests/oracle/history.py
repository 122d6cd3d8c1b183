"""What the oracle is told: five records of one run, none of them written by what is judged alone.

It knows nothing of lapse: whatever can be read as these values can be judged. Times are seconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Resource(NamedTuple):
    """One object at one provider."""

    provider: str
    kind: str
    id: str

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True, slots=True)
class Call:
    """One thing the application said to the registry, and what it was answered.

    Attributes:
        verb: ``register``, ``touch``, ``hold``, ``unhold``, ``forget`` or ``expire``.
        resource: What about.
        called: Just before the call.
        acknowledged: Just after its answer; None if it failed: it may have taken effect all the same.
        answer: ``ok``, ``unknown`` or ``too_late``.
        policy: register: the policy named.
        created_at: register: as the application said it, as the following ones.
        last_active_at: register.
        expires_at: register and expire: an expiry of its own. expire without one: now.
        expires_in: register: the same, in seconds from now.
        uses: register: what this one refers to.
        until: hold: when it ends by itself.
        release: forget: what it uses is let go of.

    """

    verb: str
    resource: Resource
    called: float
    acknowledged: float | None
    answer: str = "ok"
    policy: str = ""
    created_at: float | None = None
    last_active_at: float | None = None
    expires_at: float | None = None
    expires_in: float | None = None
    uses: tuple[Resource, ...] = ()
    until: float | None = None
    release: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request on the provider's side of the wire.

    Attributes:
        provider: The account it was sent to.
        begun: When its first byte came.
        ended: When the last byte of its answer had gone; None: it never had.
        method: The HTTP method.
        path: The path with its query, as sent.
        status: The HTTP status; 0 without a whole answer.
        confirmed: Whether the answer says that this very object was deleted; ``reading.request`` finds out.

    """

    provider: str
    begun: float
    ended: float | None
    method: str
    path: str
    status: int
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of one policy for one kind, in force from ``since`` until ``until``.

    Where a change takes time to reach the workers, the old version's ``until`` lies after the new one's ``since``:
    while both are in force, either of them may decide. ``orphan`` is the rule's min_age, None where there is none.
    ``newly`` is max_newly_due, in percent of what is tracked, and at least so many ids; ``touches`` is False where the
    file says that there are none, ``uses`` where it says that nothing is ever used.
    """

    provider: str
    kind: str
    name: str
    ttl: float | None
    anchor: str | None
    max_age: float | None = None
    orphan: float | None = None
    enforce: bool = True
    amount: int | None = None
    window: float = 0.0
    formerly: tuple[str, ...] = ()
    newly: tuple[float, int] | None = None
    touches: bool = True
    uses: bool = True
    since: float = 0.0
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Account:
    """One provider's request budget: ``rate`` requests a second (None: unlimited) and a bucket of ``burst``."""

    name: str
    rate: float | None = None
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Quiet:
    """A time in which nothing of a provider's kind may be deleted: paused, halted, or another registry.

    Two seconds after ``since`` the last DELETE has begun. ``why`` is told with a violation.
    """

    provider: str
    kind: str
    since: float
    until: float
    why: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a provider answers no request; ``in_flight``: how many all workers together may have sent."""

    provider: str
    since: float
    until: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class History:
    """One run, from an empty registry to ``ended``.

    Attributes:
        calls: The application's own log.
        requests: The provider's traffic.
        audit: Audit records as they were written, in any order, repeated ones included.
        policies: Every version of every policy that was in force.
        accounts: The budgets. A provider that has none here may be asked at any rate.
        metrics: The text of the last /metrics; None if nobody scraped.
        ended: When the run was over and these were taken.
        bound: Within how many seconds of becoming due a resource has to be settled or quarantined; None: this run
            promises nothing of the kind.
        crashes: How often a process that may have held claims was killed or stopped, or Redis lost for a lease.
        in_flight: How many requests one process may have in flight.
        breaks: When processes died and connections to the provider broke: what was in flight then may have been lost.
            None: nobody wrote that down.
        alive: The ids that the provider has in the end, by (provider, kind); None: nobody looked.
        began: When the run began.
        tombstones: For how long an already_gone resource protects what it used.
        made: When objects were made at the provider, where known.
        stamped: Objects that carry our stamp.
        texts: Everything that was written anywhere, by where: logs, errors, answers of the command line.
        secrets: What none of it may hold.
        quiet: When nothing may have been deleted.
        outages: When a provider answered nothing.
        ramp: For how many seconds a first enforcement deletes ten at most; None: there is no ramp.

    """

    calls: tuple[Call, ...] = ()
    requests: tuple[Request, ...] = ()
    audit: tuple[Mapping[str, object], ...] = ()
    policies: tuple[Policy, ...] = ()
    accounts: tuple[Account, ...] = ()
    metrics: str | None = None
    ended: float = float("inf")
    bound: float | None = None
    crashes: int = 0
    in_flight: int = 1
    breaks: tuple[float, ...] | None = None
    alive: Mapping[tuple[str, str], frozenset[str]] | None = None
    began: float = 0.0
    tombstones: float = 30 * 86400.0
    made: Mapping[Resource, float] = field(default_factory=dict)
    stamped: frozenset[Resource] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    quiet: tuple[Quiet, ...] = ()
    outages: tuple[Outage, ...] = ()
    ramp: float | None = None


class Violation(NamedTuple):
    """One broken promise: which, about what, and what was seen."""

    promise: str
    about: str
    seen: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.about}: {self.seen}"
