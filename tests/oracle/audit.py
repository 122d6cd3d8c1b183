"""The audit read as claims: each has an intent, at most one end, and what came between."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from oracle.history import Resource, Violation
from oracle.lives import End

CLOSING = frozenset({"settled", "retried", "released", "kept", "active", "quarantined", "lapsed"})
ERASURE = "erasure"
TERMINAL = frozenset({"settled", "quarantined"})


@dataclass(slots=True)
class Claim:
    """One lease: from its intent to whatever closed it."""

    resource: Resource
    policy: str
    token: int
    at: float
    by: str
    due: float
    parent: str = ""
    """What it goes along with, as "provider|kind|id"; empty for what is due by itself."""
    circle: frozenset[Resource] = frozenset()
    """What is due with it as a whole."""
    ends: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def end(self) -> Mapping[str, Any] | None:
        """What closed it first."""
        return self.ends[0] if self.ends else None

    @property
    def closed(self) -> float:
        """When; inf: it is open."""
        return self.ends[0]["at"] / 1000 if self.ends else float("inf")

    @property
    def outcome(self) -> str:
        """What it came to; empty while open and for a lapsed one."""
        return self.ends[0].get("outcome", "") if self.ends else ""


class Audit:
    """All records of a run, each once, in the order of each slot."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self.records = _in_order(records)
        self.claims: list[Claim] = []
        self.offences: list[Violation] = []
        self.ends: defaultdict[Resource, list[End]] = defaultdict(list)
        self._open: dict[tuple[Resource, int], Claim] = {}
        for record in self.records:
            self._read(record)
        self.by_resource: defaultdict[Resource, list[Claim]] = defaultdict(list)
        for claim in self.claims:
            self.by_resource[claim.resource].append(claim)

    def leased(self, resource: Resource, at: float) -> bool:
        """Return True if a claim on it was open then."""
        return self.lease(resource, at) is not None

    def lease(self, resource: Resource, at: float) -> Claim | None:
        """Return a claim on it that was open then."""
        return next((claim for claim in self.by_resource[resource] if claim.at <= at <= claim.closed), None)

    def _read(self, record: Mapping[str, Any]) -> None:
        resource = Resource(record["provider"], record["kind"], record.get("id") or "")
        event, at = record["event"], record["at"] / 1000
        if event == "intent":
            due, parent = record.get("due", record["at"]) / 1000, record.get("parent", "")
            circle = frozenset(Resource(*one.split("|")) for one in record.get("circle", ()))
            claim = Claim(resource, record["policy"], record["token"], at, record["by"], due, parent, circle)
            if (resource, claim.token) in self._open:
                self.offences.append(Violation("record", str(resource), f"two intents with token {claim.token}"))
            self._open[resource, claim.token] = claim
            self.claims.append(claim)
        elif event in CLOSING:
            self._close(resource, event, record)
        if event in {"settled", "dropped"}:
            self.ends[resource].append(End(at, event, record.get("outcome", "")))
        elif event == "undone":
            self.ends[resource] = self.ends[resource][:-1]

    def _close(self, resource: Resource, event: str, record: Mapping[str, Any]) -> None:
        claim = self._open.get((resource, record["token"]))
        if claim is None:
            seen = f"{event} with token {record['token']}, without an intent before it"
            self.offences.append(Violation("record", str(resource), seen))
            return
        claim.ends.append(record)
        if len(claim.ends) > 1:
            seen = f"token {claim.token} ended twice: {claim.ends[0]['event']}, then {event}"
            self.offences.append(Violation("record", str(resource), seen))


def _in_order(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return each record once, by (provider, kind, seq): a sink may have been given lines twice."""
    seen: dict[object, Mapping[str, Any]] = {}
    for i, record in enumerate(records):
        seen.setdefault((record["provider"], record["kind"], record.get("seq", i)), record)
    return sorted(seen.values(), key=_place)


def _place(record: Mapping[str, Any]) -> tuple[int, int]:
    if "seq" not in record:
        return 0, 0  # hand-made: in the order given
    millis, number = record["seq"].split("-")
    return int(millis), int(number)


def deletions(audit: Audit) -> Iterator[Claim]:
    """Return the claims that ended in a confirmed deletion."""
    return (claim for claim in audit.claims if claim.end and claim.outcome == "deleted")
