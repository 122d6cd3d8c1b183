"""What the provider saw against what the audit says: every DELETE claimed, every record true, nothing sent twice."""

from collections import defaultdict
from collections.abc import Iterator

from oracle.audit import TERMINAL, Audit, Claim
from oracle.confirmations import forgotten
from oracle.history import History, Request, Resource, Violation
from oracle.lives import TICK
from oracle.reading import Asked, asked

NOT_FOUND = frozenset({404, 410})


class Transport:
    """The requests about each resource; those about a child stand with its parent, too."""

    def __init__(self, history: History) -> None:
        self.deletes: defaultdict[Resource, list[Request]] = defaultdict(list)
        self.about: defaultdict[Resource, list[Request]] = defaultdict(list)
        self.children: list[tuple[Resource, Request]] = []
        for request in sorted(history.requests, key=lambda request: request.begun):
            if about := asked(request.path):
                self._file(about, request)

    def _file(self, about: Asked, request: Request) -> None:
        resource = Resource(request.provider, about.kind, about.id)
        self.about[resource].append(request)
        if request.method != "DELETE":
            return
        if about.parent:
            parent = Resource(request.provider, about.parent_kind, about.parent)
            self.children.append((parent, request))
        else:
            self.deletes[resource].append(request)


def judge(history: History, audit: Audit, wire: Transport) -> Iterator[Violation]:
    """Yield what was sent without a claim, recorded without an answer, or answered without a record."""
    yield from audit.offences
    yield from _sent(history, audit, wire)
    yield from _recorded(audit, wire)
    yield from _answered(history, audit, wire)
    yield from _open(history, audit)


def _sent(history: History, audit: Audit, wire: Transport) -> Iterator[Violation]:
    """Yield DELETEs outside of claims, and repeated ones: as many are allowed as crashes had requests in flight."""
    stray, again = [], []
    for resource, requests in wire.deletes.items():
        claims = audit.by_resource[resource]
        covering = [_covering(claims, request) for request in requests]
        stray += [(resource, request) for request, claim in zip(requests, covering, strict=True) if claim is None]
        again += [
            (resource, request)
            for i, (request, claim) in enumerate(zip(requests, covering, strict=True))
            if claim is not None and _needless(audit, resource, request, requests[:i], covering[:i], claim)
        ]
    stray += [(parent, one) for parent, one in wire.children if _covering(audit.by_resource[parent], one) is None]
    for resource, request in stray:
        # A process that was stopped while its lease ran out sends what it had in hand; it still needs an intent.
        if not history.crashes or not any(claim.at <= request.begun + TICK for claim in audit.by_resource[resource]):
            yield Violation("record", str(resource), f"DELETE at {request.begun:.3f} outside of any claim")
    allowed = history.crashes * history.in_flight
    if len(again) > allowed:
        resource, request = again[0]
        seen = f"{len(again)} DELETEs sent again, {allowed} allowed; the first at {request.begun:.3f}"
        yield Violation("duplicate", str(resource), seen)


def _covering(claims: list[Claim], request: Request) -> Claim | None:
    return next(
        (one for one in reversed(claims) if one.at <= request.begun + TICK and request.begun <= one.closed + TICK), None
    )


def _needless(
    audit: Audit, resource: Resource, request: Request, earlier: list[Request], claims: list[Claim | None], claim: Claim
) -> bool:
    """Return True if this life's answer was there or on its way: a deletion, one in flight, one of the same claim.

    What was not found is asked once more before that is believed.
    """
    began = max((end.at for end in audit.ends[resource] if end.at < claim.at), default=0.0)
    same = [one for one, its in zip(earlier, claims, strict=True) if its is claim and one.begun >= began]
    if len(same) == 1 and same[0].status in NOT_FOUND:
        return False
    return any(
        its is claim or (one.ended is not None and one.ended > request.begun) or one.confirmed
        for one, its in zip(earlier, claims, strict=True)
        if one.begun >= began
    )


def _recorded(audit: Audit, wire: Transport) -> Iterator[Violation]:
    """Yield outcomes that no answer bears out."""
    for claim in audit.claims:
        if not claim.end or claim.end["event"] != "settled":
            continue
        during = [
            one
            for one in wire.about[claim.resource]
            if claim.at <= one.begun + TICK and one.begun <= claim.closed + TICK
        ]
        if claim.outcome == "deleted" and not any(one.confirmed for one in during):
            yield Violation("unconfirmed", str(claim.resource), "recorded as deleted: no answer said so")
        if claim.outcome == "already_gone" and not any(one.status in NOT_FOUND for one in during):
            yield Violation("unconfirmed", str(claim.resource), "recorded as already_gone: no answer said so")


def _answered(history: History, audit: Audit, wire: Transport) -> Iterator[Violation]:
    """Yield confirmed deletions without exactly one terminal record."""
    for resource, requests in wire.deletes.items():
        confirmed = [request for request in requests if request.confirmed]
        if not confirmed:
            continue
        terminal = [
            claim
            for claim in audit.by_resource[resource]
            if claim.end and claim.end["event"] in TERMINAL and claim.closed + TICK >= confirmed[0].begun
        ]
        lives = len(confirmed) if not history.crashes else 1
        # Whoever had the answer died, and nobody looks again after what is no longer ours.
        unheard = history.crashes and (history.bound is None or forgotten(history, resource, confirmed[0].begun))
        if len(terminal) < lives and not unheard:
            seen = f"{len(confirmed)} confirmed deletions, {len(terminal)} terminal records"
            yield Violation("record", str(resource), seen)


def _open(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield claims that nothing ended, where the run was to end all of them."""
    for claim in audit.claims:
        if not claim.end and history.bound is not None and claim.at + history.bound < history.ended:
            yield Violation("record", str(claim.resource), f"claimed at {claim.at:.3f}, and no outcome was recorded")
