"""An erasure as it is printed: what it would do, what became of each id, all requests."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lapse.cli import formatting, output
from lapse.cli.exit_codes import Code
from lapse.cli.output import Column
from lapse.ledger.erasure.request import ErasedId, ErasureAccount, ErasureRequest, Fate, State

SHOWN = 50
"""Ids that are printed unless more are asked for."""

COLUMNS = (
    Column("request"),
    Column("subject"),
    Column("state"),
    Column("received", 2),
    Column("due"),
    Column("ids", 1),
)


def announce(account: ErasureAccount) -> None:
    """Say what a request would do, kind by kind, and what stays."""
    request = account.request
    if not account.ids:
        output.note(f"nothing is registered under {request.subject}", output.STRONG)
        return
    output.note(f"{formatting.count(len(account.ids), 'object')} of {request.subject}:", output.STRONG)
    goes = Counter((one.resource.provider, one.resource.kind) for one in account.ids if one.fate is Fate.PENDING)
    for (provider, kind), n in sorted(goes.items()):
        output.note(f"{provider}: {formatting.count(n, kind, formatting.plural(kind))} to erase", indent=2)
    below = Counter((child.provider, child.kind) for child, _parent in account.along)
    for (provider, kind), n in sorted(below.items()):
        kinds = formatting.count(n, kind, formatting.plural(kind))
        output.note(f"{provider}: {kinds} may go along, where nothing and nobody else uses them", indent=2)
    for one in [one for one in account.open if one.fate is not Fate.PENDING][:SHOWN]:
        output.note(_line(one), output.WARN, indent=2)


def say(account: ErasureAccount, limit: int) -> None:
    """Print how far a request has come, and what is left, and why."""
    request = account.request
    output.say(f"request {request.id} of {request.subject or '(forgotten)'}: {_standing(account)}", output.STRONG)
    output.say(f"received {formatting.iso(request.received)}, due {formatting.iso(request.due)}")
    counts = account.counts or request.counts
    output.say(", ".join(f"{n:,} {fate}" for fate, n in counts.items()) or "nothing is registered under it")
    for one in account.open[:limit]:
        output.say(_line(one), output.WARN)
    if len(account.open) > limit:
        output.say(f"... and {len(account.open) - limit:,} more (--limit)", output.DIM)
    for doubt in request.doubts if request.state is State.OPEN else ():
        output.note(f"it cannot be complete: {doubt}", output.WARN)


def _standing(account: ErasureAccount) -> str:
    request = account.request
    if request.state is State.OPEN and not account.open:
        found = "everything found is gone; " if account.ids else ""
        return f"{found}open for late registrations until {formatting.iso(request.until)}"
    if request.completed:
        return f"complete since {formatting.iso(request.completed)}"
    return str(request.state)


def _line(one: ErasedId) -> str:
    at = one.resource
    again = f", tried again at {formatting.iso(one.again)}" if one.again else ""
    return f"{at.provider} {at.kind} {at.id}: {one.fate}: {one.detail}{again}"


def code(account: ErasureAccount) -> Code:
    """Return the exit code of what came of a request so far."""
    if any(one.halted for one in account.open):
        return Code.HALTED
    return Code.PARTIAL if account.open or account.request.state is State.REFUSED else Code.OK


def along(account: ErasureAccount) -> dict[str, Any]:
    """Return what may go along with the ids of a plan, for ``--json``."""
    return {
        "along": [
            {"provider": child.provider, "kind": child.kind, "id": child.id, "with": parent.id}
            for child, parent in account.along
        ]
    }


def described(account: ErasureAccount) -> dict[str, Any]:
    """Return a request with all its ids for ``--json``."""
    return _request(account.request) | {
        "found": len(account.ids),
        "counts": account.counts or dict(account.request.counts),
        "ids": [
            {
                "provider": one.resource.provider,
                "kind": one.resource.kind,
                "id": one.resource.id,
                "policy": one.policy,
                "fate": one.fate,
                "detail": one.detail or None,
                "at": formatting.iso(one.at, "milliseconds"),
                "status": one.status,
                "provider_request_id": one.request_id,
                "next_try": formatting.iso(one.again, "milliseconds"),
            }
            for one in account.ids
        ],
    }


def _request(request: ErasureRequest) -> dict[str, Any]:
    times = {name: formatting.iso(getattr(request, name)) for name in ("received", "due", "completed")}
    return {
        "request_id": request.id,
        "subject": request.subject or None,
        "state": request.state,
        **times,
        "asked_at": formatting.iso(request.at, "milliseconds"),
        "open_until": formatting.iso(request.until, "milliseconds"),
        "reason": request.reason or None,
        "actor": request.actor,
        "by_application": request.by_application,
        "doubts": list(request.doubts),
    }


def listed(found: Sequence[ErasureRequest], *, as_json: bool, wide: bool) -> None:
    """Print requests, a line each."""
    if as_json:
        output.records(_request(one) | {"counts": dict(one.counts)} for one in found)
        return
    rows = [
        (
            one.id,
            one.subject or "(forgotten)",
            str(one.state),
            formatting.iso(one.received) or "",
            formatting.iso(one.due) or "",
            f"{sum(one.counts.values()):,}" if one.counts else "",
        )
        for one in found
    ]
    output.table(COLUMNS, rows, empty="nobody asked to erase anything", wide=wide)
