"""Outcomes on their way into the registry: what became of claims, each batch in one step, and once."""

import json
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from lapse.ledger.claim import Claim
from lapse.ledger.connection import LedgerConnection
from lapse.ledger.edges import Release
from lapse.policy import Share
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry import codec
from lapse.registry.model import Partition
from lapse.registry.scripts import text

BACKOFF_FIRST = 5.0
BACKOFF_LONGEST = 3600.0
BUSY_AGAIN = 30.0
KEPT_AGAIN = 6 * 3600.0
UNPROVEN_AGAIN = 60.0
FORBIDDEN_AGAIN = 60.0
ODD_AGAIN = 60.0
OUTAGE_AGAIN = 10.0
NO_ANSWER = frozenset({None, 502, 503, 504})
"""Statuses of an answer that was none, or a gateway's: a plain 500 may be one id's own."""


LAG_BOUNDS = (10, 60, 300, 1800, 3600, 21600, 86400, 604800, 2592000)
"""Upper bounds in seconds of how long after it was due an id is settled: ``settle.lua`` counts in these."""


class Act(StrEnum):
    """What is done with a claim: as ``settle.lua`` reads it."""

    DONE = "done"
    """It leaves the registry."""
    RETRY = "retry"
    KEEP = "keep"
    TOUCH = "touch"
    """The provider saw it used: it is as young as that."""
    QUARANTINE = "quarantine"
    RELEASE = "release"
    """It was not tried."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one claim.

    ``delay`` and ``active``, the last activity that the provider showed, are in milliseconds. ``identity`` is that of
    the deciding answer, and ``seen`` what it shows of the object: present, absent, or None for neither.
    ``believed``: an operator said that this id would not be found. ``told``: how many of ``items`` are counted
    already. ``at``: when it was claimed, in registry milliseconds. ``good``: its DELETE was confirmed, or
    recognised as that of something absent. ``doubt``: ``answer``, ``failure`` or ``error`` where all of the kind
    may get the same, ``outage`` where everything does: it counts as this id's only by what others get.
    """

    id: str
    token: int
    policy: str
    due: int
    act: Act
    outcome: Outcome
    delay: int = 0
    identity: str | None = None
    seen: str | None = None
    believed: bool = False
    at: int = 0
    counted: bool = False
    unknown: bool = False
    reason: str | None = None
    detail: str | None = None
    status: int | None = None
    request: str | None = None
    items: int = 0
    told: int = 0
    active: int | None = None
    left: Mapping[str, int] = field(default_factory=dict)
    extra: int = 0
    good: bool = False
    doubt: str | None = None

    def stored(self) -> dict[str, Any]:
        """Return the fields that say something: a script reads a null as a value."""
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        return {
            name: value for name, value in fields if value is not None and value is not False and value not in ("", {})
        }


@dataclass(frozen=True, slots=True)
class Recorded:
    """What of a batch is not as it was said.

    ``refused``: ids whose lease another worker had taken over. ``unbelieved``: ids that were not found, and were one
    too many: they wait, and their policy is halted. ``unrecordable``: ids whose outcome Redis refuses for good.
    """

    refused: tuple[str, ...] = ()
    unbelieved: tuple[str, ...] = ()
    unrecordable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutcomeBatch:
    """What is recorded in one step, under one name: sent again under it, it has the effect and the reply of once.

    Attributes:
        settled: The outcomes.
        counters: Increments of the slot's counters.
        attempts: How many failed ones lead to quarantine.
        listable: The kind can be listed, and lists may lag.
        name: Its name.
        wall: How many absences are believed; None: any number.
        rolled_back: What was due before an accepted rollback, in registry milliseconds, is expected to be gone.

    """

    settled: Sequence[Settled]
    counters: Mapping[str, int]
    attempts: int
    _: KW_ONLY
    listable: bool
    name: str = field(default_factory=partial(secrets.token_hex, 8))
    wall: Share | None = None
    rolled_back: int = 0

    def stored(self, worker: str) -> dict[str, Any]:
        """Return it as ``settle.lua`` takes it; ``worker``: whose outcomes these are, for the audit."""
        return {
            "batch": self.name,
            "rolled_back": self.rolled_back,
            **({"wall": asdict(self.wall)} if self.wall else {}),
            "worker": worker,
            "attempts": self.attempts,
            "listable": self.listable,
            "counters": dict(self.counters),
            "settled": [one.stored() for one in self.settled],
        }


def settlement(claim: Claim, verdict: Verdict, *, outage: bool = False, told: int = 0) -> Settled:
    """Decide what becomes of a claim: ids are kept unless the provider said that they are gone.

    ``outage``: the provider fails everybody; that is no attempt of this id. ``told``: of how many of its items the
    registry knows already.
    """
    act, delay, counted, reason = _consequence(claim, verdict)
    # What everybody is answered says nothing about this id: counted, an outage would quarantine all that is due.
    if outage and verdict.outcome is Outcome.ERROR:
        delay, counted = OUTAGE_AGAIN, False
    return Settled(
        id=claim.resource.id,
        token=claim.token,
        policy=claim.policy,
        due=claim.due,
        act=act,
        outcome=verdict.outcome,
        delay=round(delay * 1000),
        counted=counted,
        unknown=verdict.unknown,
        reason=reason,
        detail=verdict.detail or None,
        status=verdict.status,
        request=verdict.request_id,
        items=verdict.items,
        active=None if verdict.active_at is None else round(verdict.active_at * 1000),
        left=verdict.left,
        extra=verdict.extra,
        identity=verdict.identity or None,
        seen=_seen(verdict),
        believed=verdict.believed,
        at=claim.at,
        good=verdict.outcome in _GOOD and not verdict.by_read,
        doubt=_doubt(verdict, outage=outage),
        told=told,
    )


def unbelieved(settled: Settled) -> Settled:
    """Return an absence as the registry recorded it where it was one too many: not proven, and backed off."""
    return replace(settled, act=Act.RETRY, outcome=Outcome.UNPROVEN, reason="unproven")


def _seen(verdict: Verdict) -> str | None:
    if verdict.present or verdict.outcome is Outcome.DELETED:
        return "present"
    return "absent" if verdict.outcome in {Outcome.UNPROVEN, Outcome.ALREADY_GONE} else None


_GOOD = frozenset({Outcome.DELETED, Outcome.ALREADY_GONE})


def _doubt(verdict: Verdict, *, outage: bool) -> str | None:
    """Return what others may be told too: ``answer`` (one without sense), ``failure``, ``error``, ``outage``.

    None: it is this id's own.
    """
    if outage:
        return "outage" if verdict.outcome is Outcome.ERROR else None
    if verdict.outcome is Outcome.INVALID:
        return None if verdict.named or verdict.status is None else "answer"
    if verdict.outcome is Outcome.ERROR:
        return "failure" if verdict.status in NO_ANSWER else "error"
    return "answer" if verdict.outcome in {Outcome.FORBIDDEN, Outcome.UNCONFIRMED} else None


_CERTAIN: dict[Outcome, tuple[Act, float, bool, str | None]] = {
    Outcome.DELETED: (Act.DONE, 0, False, None),
    Outcome.ALREADY_GONE: (Act.DONE, 0, False, None),
    Outcome.UNRECOGNISED: (Act.QUARANTINE, 0, False, "unrecognised"),
    Outcome.INVALID: (Act.QUARANTINE, 0, False, "invalid"),
    Outcome.UNPROVEN: (Act.RETRY, UNPROVEN_AGAIN, False, "unproven"),
    Outcome.KEPT: (Act.KEEP, KEPT_AGAIN, False, None),
    Outcome.ACTIVE: (Act.TOUCH, 0, False, None),
}


def _consequence(claim: Claim, verdict: Verdict) -> tuple[Act, float, bool, str | None]:
    match verdict.outcome:
        case Outcome.ERROR | Outcome.UNCONFIRMED:
            # A request that never left says nothing about this id; and to delete some of its items is to get further.
            counted = (verdict.unknown or verdict.status is not None) and not verdict.items
            return Act.RETRY, backoff(claim.attempts), counted, str(verdict.outcome)
        case Outcome.FORBIDDEN:
            return Act.RETRY, max(FORBIDDEN_AGAIN, backoff(claim.attempts)), True, "forbidden"
        case Outcome.RATE_LIMITED if verdict.odd:
            # Others first: what one id is told may not hold up those behind it.
            return Act.RETRY, ODD_AGAIN, False, "rate_limited"
        case Outcome.CONFLICT:
            return Act.RETRY, BUSY_AGAIN * random.uniform(0.8, 1.2), False, "conflict"
        case outcome:
            # The rest speaks of the account or of us, not of the id: it is given back as it was claimed.
            return _CERTAIN.get(outcome, (Act.RELEASE, 0, False, None))


def backoff(attempts: int) -> float:
    """Return the seconds before the next attempt: 5 s doubling to an hour, 20 % jitter either way."""
    longest = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(attempts, 16))
    return longest * random.uniform(0.8, 1.2)


class Settlements(LedgerConnection):
    """Records outcomes, and ends what they leave behind."""

    async def settle(self, partition: Partition, batch: OutcomeBatch) -> Recorded:
        """Record outcomes and counters in one step, and once; see ``record``."""
        return await self.record(partition, batch.stored(self.worker))

    async def record(self, partition: Partition, batch: Mapping[str, Any]) -> Recorded:
        """Record a batch in its stored form; return what was not recorded as it was said.

        Raises:
            RegistryUnavailable: no answer; it may be recorded, and sending it again changes nothing then.
            RegistryRefused: Redis said no.

        """
        call = self.commands.on_slot(
            "ledger/lua/settle", partition.provider, partition.kind, codec.dump(batch), parse=list
        )
        _now, released, walled, *refused = (await self.carrier.carry_lasting([call]))[0]
        # What it used stands in other slots, where its own script cannot write. Until that is done the sources are kept
        # as released: whoever ends in between leaves edges that protect too much for a while, and none too little.
        if released:
            await self.release_edges(partition.provider, partition.kind)
        return Recorded(tuple(text(id_) for id_ in refused), tuple(json.loads(walled)))

    async def release_edges(self, provider: str, kind: str) -> int:
        """Remove the edges of settled or forgotten sources, in the slots of their targets; return how many sources."""
        release = Release(self.carrier, self.commands, provider, kind)
        sources = await release.run()
        self.freed |= release.freed
        return sources

    async def end_tombstones(self, provider: str, kind: str, before: int, deleted: int | str = "") -> int:
        """Forget what was settled before a registry time in milliseconds, and ``deleted`` before another one."""
        name, ended = "ledger/lua/housekeeping/housekeep", 0
        call = self.commands.on_slot(name, provider, kind, before, 500, deleted, parse=int)
        while n := (await self.carrier.carry([call]))[0]:
            ended += n
        return ended

    async def count(self, partition: Partition, counters: Mapping[str, int]) -> None:
        """Add to counters of a slot that no settled claim carries."""
        if counters:
            await self.settle(partition, OutcomeBatch([], counters, 1, listable=False))
