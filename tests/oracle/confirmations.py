"""What the provider confirmed, against what is counted; and what is said to be gone, against what the provider keeps.

The provider's log is one side, for objects, children and items alike; the metric and the audit, which the worker writes
together, are the other. Only what was in flight when a process died, or a connection broke, may be missing, and it has
to show: the id was not found afterwards, ``already_gone`` with ``after_unknown``.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from oracle.audit import Audit, Claim
from oracle.history import History, Request, Resource, Violation
from oracle.lives import TICK
from oracle.reading import Asked, asked, metrics

RECORDED = 1.0
"""Seconds from an answer until Redis or the disk has it, at most: a batch waits for others, and then for its turn."""

ON_THE_WAY = 0.5
"""Seconds that bytes may be under way which a process had sent when it died."""

DETACHED = frozenset({"vector_store_file"})
"""What a DELETE takes out of something, and does not delete."""

DELETIONS = "lapse_deletions_total"
Slot = tuple[str, str]


@dataclass(slots=True)
class Object:
    """One object's confirmed DELETEs, or those of what lies in it, and how many of them were recorded."""

    confirmed: list[Request] = field(default_factory=list)
    recorded: int = 0


def judge(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield every confirmation that is not counted once, and everything that is settled as gone and is there."""
    objects, parts = _objects(history, audit)
    lost: Counter[Slot] = Counter()
    for slot, resource, one in [
        *(((resource.provider, resource.kind), resource, one) for resource, one in objects.items()),
        *(((resource.provider, kind), resource, one) for (resource, kind), one in parts.items()),
    ]:
        missing = len(one.confirmed) - one.recorded
        if missing < 0:
            seen = f"{one.recorded} deletions recorded, the provider confirmed {len(one.confirmed)}"
            yield Violation("uncounted", str(resource), seen)
        elif missing and (why := _unexcused(history, audit, resource, one.confirmed)):
            yield Violation("uncounted", str(resource), f"{missing} confirmed deletions were not recorded: {why}")
        lost[slot] += max(0, missing)
    yield from _bounded(history, lost)
    yield from _totals(history, lost)
    yield from _living(history, audit)


def _objects(history: History, audit: Audit) -> tuple[Mapping[Resource, Object], Mapping[tuple[Resource, str], Object]]:
    """Return what was confirmed and recorded of each object, and of the items in each, by their kind."""
    objects: defaultdict[Resource, Object] = defaultdict(Object)
    parts: defaultdict[tuple[Resource, str], Object] = defaultdict(Object)
    for about, request in _deleted(history):
        if about.parent:
            parent = Resource(request.provider, about.parent_kind, about.parent)
            parts[parent, about.kind].confirmed.append(request)
        else:
            objects[Resource(request.provider, about.kind, about.id)].confirmed.append(request)
    for record in audit.records:
        resource = Resource(record["provider"], record["kind"], record.get("id") or "")
        if is_deletion(record):
            objects[resource].recorded += 1
        if record.get("items"):
            parts[resource, f"{resource.kind}_item"].recorded += record["items"]
    return objects, parts


def _deleted(history: History) -> Iterator[tuple[Asked, Request]]:
    """Yield the requests that deleted something, as the provider says."""
    for request in history.requests:
        about = asked(request.path) if request.confirmed else None
        if about and about.kind not in DETACHED:
            yield about, request


def is_deletion(record: Mapping[str, Any]) -> bool:
    """Return True for an audit record of one confirmed deletion."""
    return record["event"] == "corrected" or (record["event"], record.get("outcome")) == ("settled", "deleted")


def _unexcused(history: History, audit: Audit, resource: Resource, confirmed: list[Request]) -> str:
    """Return why confirmations of one object may not be missing, or ""."""
    if not history.crashes:
        return "no process died, and no connection broke"
    if history.breaks is not None and not any(_in_flight(one, history.breaks) for one in confirmed):
        return "none was in flight when something broke"
    first = min(one.begun for one in confirmed)
    claims = [claim for claim in audit.by_resource[resource] if claim.closed + TICK >= first]
    if history.bound is None or forgotten(history, resource, first) or any(_shows(claim) for claim in claims):
        return ""
    if any(_gone(claim) and _used(history, resource, first, claim.at) for claim in claims):
        return ""
    ends = ", ".join(f"{claim.end['event']} {claim.outcome}".strip() for claim in claims if claim.end) or "nothing"
    return f"it does not show as already_gone after an unknown answer, but as: {ends}"


def _in_flight(request: Request, breaks: tuple[float, ...]) -> bool:
    answered = float("inf") if request.ended is None else request.ended
    return any(request.begun <= at + ON_THE_WAY and at <= answered + RECORDED for at in breaks)


def _shows(claim: Claim) -> bool:
    """Return True if a later look found the object gone, and it is written that an answer had been lost."""
    end = claim.end
    if end is None or end["event"] in {"quarantined", "lapsed"}:
        return end is None or end["event"] == "quarantined"  # an operator is told; or it is not over yet
    # Of a conversation, items alone may be missing.
    return (_gone(claim) and end.get("after_unknown") is True) or claim.outcome == "deleted"


def _gone(claim: Claim) -> bool:
    return claim.end is not None and (claim.end["event"], claim.outcome) == ("settled", "already_gone")


def _used(history: History, resource: Resource, since: float, until: float) -> bool:
    """Return True if the application may have used it between: what was tried of it before is over then."""
    return any(
        call.called <= until and (call.acknowledged is None or call.acknowledged >= since)
        for call in history.calls
        if call.resource == resource and call.verb in {"touch", "register"}
    )


def forgotten(history: History, resource: Resource, since: float) -> bool:
    """Return True if the application may have said afterwards that the id is no longer ours."""
    return any(
        call.verb == "forget" and (call.acknowledged is None or call.acknowledged >= since)
        for call in history.calls
        if call.resource == resource
    )


def _bounded(history: History, lost: Mapping[Slot, int]) -> Iterator[Violation]:
    allowed, missing = history.crashes * history.in_flight, sum(lost.values())
    if missing > allowed > 0:  # without a crash each was told of by itself
        seen = f"{missing} confirmed deletions were not recorded; at most {allowed} were in flight when something broke"
        yield Violation("uncounted", "all", seen)


def _totals(history: History, lost: Mapping[Slot, int]) -> Iterator[Violation]:
    """Yield a slot whose metric is not what the provider's log says."""
    if history.metrics is None:
        return
    shown: Counter[Slot] = Counter()
    for (series, labels), value in metrics(history.metrics).items():
        if series == DELETIONS:
            at = dict(labels)
            shown[at["provider"], at["kind"]] += int(value)
    confirmed: Counter[Slot] = Counter()
    for about, request in _deleted(history):
        confirmed[request.provider, about.kind] += 1
    for slot in sorted({*shown, *confirmed}):
        if shown[slot] != confirmed[slot] - lost[slot]:
            seen = f"shows {shown[slot]}, the provider confirmed {confirmed[slot]}"
            seen += f", of which {lost[slot]} were in flight when something broke" if lost[slot] else ""
            yield Violation("uncounted", f"{DELETIONS}{{{','.join(slot)}}}", seen)


def _living(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield what was settled as gone, or deleted, and lives in the provider's own store."""
    if history.alive is None:
        return
    for resource, ends in audit.ends.items():
        if not ends or ends[-1].event != "settled" or resource.id not in history.alive.get(resource[:2], ()):
            continue
        if history.made.get(resource, 0.0) <= ends[-1].at:
            seen = f"settled as {ends[-1].outcome} at {ends[-1].at:.3f}, and the provider has it"
            yield Violation("living", str(resource), seen)
