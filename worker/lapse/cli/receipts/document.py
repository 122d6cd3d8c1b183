"""What a receipt says of an erasure, and whether that is all there was to do. No I/O.

It is made of what workers recorded: what the provider answered to each id, and why others are not gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from lapse.audit.chain import Sealed
from lapse.audit.subjects import HASHED, SubjectsShown
from lapse.cli import formatting
from lapse.ledger.erasure.request import GONE, ErasedId, ErasureAccount, ErasureRequest, State
from lapse.registry.model import Resource

FORMAT = "lapse-receipt/1"
COVERS = "what was registered under this subject, as far as the provider accepted its deletion, and nothing else"
AUDIT = "a line of the audit is a pointer that only the holder of the audit's key can check"
NAMED = {
    True: "as HMAC-SHA-256 (RFC 2104) in hexadecimal, with the salt of the registry's namespace as the key",
    False: "in clear",
}
LATE = "late"
"""Among the reasons: what was created before the request may still come to be registered."""
UNCONCLUDED = "not_concluded"
"""Among the reasons: no worker has found yet that all is done."""

_time = partial(formatting.iso, timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Issue:
    """What a receipt is made with, besides the account of its erasure.

    Attributes:
        now: When, in registry milliseconds: from before the account was taken.
        tool: What makes it, and its version.
        policy: The hash of the policy file.
        salt: The namespace's, if names are to be hashed; None: they stand in clear.
        places: Where the audit has the answer to an id, as far as it was found.

    """

    now: int
    tool: str
    policy: str
    salt: bytes | None
    places: Mapping[Resource, Sealed]

    def named(self, name: str) -> str:
        """Return a name as the receipt has it."""
        return name if self.salt is None else SubjectsShown(HASHED, self.salt).told([name])[0]


def document(account: ErasureAccount, issue: Issue) -> dict[str, Any]:
    """Return the receipt of an erasure, not signed yet."""
    request = account.request
    reasons = left_open(account, issue.now)
    return {
        "audit": AUDIT,
        "complete": not reasons if account.ids else None,
        "counts": {str(fate): n for fate, n in account.counts.items()},
        "covers": COVERS,
        "format": FORMAT,
        "found": len(account.ids),
        "ids": sorted((_told(one, issue) for one in account.ids), key=itemgetter("provider", "kind", "id")),
        "issued": _time(issue.now),
        "names": NAMED[issue.salt is not None],
        "open_until": _time(request.until) if LATE in reasons else None,
        "policy": issue.policy,
        "reasons": reasons,
        "request": _request(request),
        "subject": issue.named(request.subject),
        "tool": issue.tool,
        "unsubjected": account.unsubjected,
    }


def left_open(account: ErasureAccount, now: int) -> list[str]:
    """Return why an erasure is not complete: fates of ids, what may still come, and what workers doubt."""
    request = account.request
    reasons = sorted({str(one.fate) for one in account.open})
    if now < request.until:
        reasons.append(LATE)
    if request.state is not State.COMPLETE or request.began is None:
        reasons.append(UNCONCLUDED)
    return [*reasons, *request.doubts]


def _request(request: ErasureRequest) -> dict[str, Any]:
    times = ("received", "at", "began", "completed", "due", "until")
    return {"id": request.id} | {name: _time(getattr(request, name)) for name in times}


def _told(one: ErasedId, issue: Issue) -> dict[str, Any]:
    resource, place = one.resource, issue.places.get(one.resource) if one.fate in GONE else None
    return {
        "at": _time(one.at),
        "audit": {"chain": place.chain, "mac": place.mac.hex(), "n": place.n} if place else None,
        # A provider's words and an operator's reason may hold names: hashed, none of them stands anywhere.
        "detail": one.detail if issue.salt is None else "",
        "id": issue.named(resource.id),
        "kind": resource.kind,
        "next_try": _time(one.again),
        "outcome": str(one.fate),
        "policy": one.policy,
        "provider": resource.provider,
        "request_id": one.request_id,
        "status": one.status,
    }
