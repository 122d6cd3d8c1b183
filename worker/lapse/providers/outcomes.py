"""What a provider's answer means: the only place that reads statuses. No I/O.

The rule behind every line: only a positive statement about this very id counts as one. A missing object and a
missing endpoint are both 404 with the same error type; they differ in the words alone, so the words decide.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol

from lapse.errors import LapseError
from lapse.providers.kinds import Kind
from lapse.providers.not_found import ABSENT, absent, recogniser
from lapse.providers.renaming import ENCRYPTS, confirms_another, renamed
from lapse.providers.response import DETAIL, Reply, array, complaint, document, line, odd_wait, retry_after, say, shape

SLOW_DOWN = 900.0
"""Seconds to stay away after a 503 "Slow Down": OpenAI asks for at least 15 minutes at a reduced rate."""


class Outcome(StrEnum):
    """What became of one resource in one attempt.

    ``ACTIVE``: the provider saw it used since. ``FORBIDDEN``: a 403 to a request about this id, which may be its own
    matter or everybody's.
    No answer means ``UNPROVEN``: the sweep makes it out of an ``ALREADY_GONE`` that it has no proof for.
    """

    DELETED = "deleted"
    ALREADY_GONE = "already_gone"
    UNPROVEN = "unproven"
    UNRECOGNISED = "unrecognised"
    ENDPOINT_MISSING = "endpoint_missing"
    UNCONFIRMED = "unconfirmed"
    INVALID = "invalid"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"
    ERROR = "error"
    UNSUPPORTED = "unsupported"
    KEPT = "kept"
    ACTIVE = "active"
    LIMITED = "limited"


class Limited(LapseError):
    """No further request may be sent in the time that is left. ``retry_after``: seconds, None if unknown."""

    def __init__(self, detail: str = "no request tokens in time", after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = after


class Spend(Protocol):
    """Waits until the provider's shared budget has room for so many requests, and takes it."""

    async def __call__(self, requests: int = 1) -> None:
        """Return when the requests may be sent.

        Raises:
            Limited: not in the time that is left.

        """


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one attempt to delete one resource came to.

    Attributes:
        outcome: The meaning.
        unknown: True if the DELETE may have taken effect all the same.
        retry_after: Seconds to stay away from this provider, where it said so.
        detail: One redacted line for logs, audit and quarantine; empty for a plain success.
        status: The HTTP status, None without an answer.
        request_id: The provider's own name of the request.
        items: Children confirmed deleted on the way.
        left: Children that stay, by why.
        extra: Requests that were sent before its own DELETE.
        odd: True if its Retry-After made no sense: then it says nothing to others.
        named: True if the answer's words name the id: what they say, they say of it.
        active_at: Seconds since 1970, with ``ACTIVE``: when the provider saw it used last.
        identity: Of the account and credential that the deciding request was made with.
        sent_at: When that request was begun, on this process' monotonic clock.
        answered_at: When its answer was there.
        by_read: True if it was a read that decided, and no DELETE was sent.
        present: True if an answer showed the object, whatever else it came to.
        believed: True if an operator said that this id would not be found.
        heeded: True if what it means for the provider was heeded before: it speaks of another object's answer.

    """

    outcome: Outcome
    unknown: bool = False
    retry_after: float | None = None
    detail: str = ""
    status: int | None = None
    request_id: str | None = None
    items: int = 0
    active_at: float | None = None
    left: Mapping[str, int] = field(default_factory=dict)
    extra: int = 0
    identity: str = ""
    sent_at: float = 0.0
    answered_at: float = 0.0
    by_read: bool = False
    present: bool = False
    believed: bool = False
    odd: bool = False
    named: bool = False
    reacted: bool = False


_FAILURES = {
    "credentials": Outcome.AUTH,
    "invalid": Outcome.INVALID,
    "late": Outcome.LIMITED,
    "sunset": Outcome.UNSUPPORTED,
}

# Everything else from 400 on is an error.
_STATUSES = {
    400: Outcome.INVALID,
    401: Outcome.AUTH,
    402: Outcome.QUOTA,
    403: Outcome.FORBIDDEN,
    404: Outcome.UNRECOGNISED,
    405: Outcome.UNRECOGNISED,
    407: Outcome.AUTH,
    409: Outcome.CONFLICT,
    410: Outcome.UNRECOGNISED,
    414: Outcome.INVALID,
    422: Outcome.INVALID,
    423: Outcome.CONFLICT,
    429: Outcome.RATE_LIMITED,
}

_SUCCESS = 2  # the first digit of such statuses
_FIRST_REFUSAL = 400
_FIRST_FAULT = 500


def classify(
    kind: Kind, object_id: str, reply: Reply, recognisers: Sequence[str] = (), *, now: float | None = None
) -> Verdict:
    """Return what the answer to ``DELETE`` of this object means.

    A 200 is a deletion only if its JSON says ``deleted: true`` of exactly this id. An ``object`` may be
    missing; one that is not the kind's own tells of another thing's deletion and leaves this one unconfirmed.
    A 204, or a body that names nothing, is one only for a kind whose servers answer so.
    A 404 or 410 is ``ALREADY_GONE`` only if its message is the kind's own and names exactly this id, or
    matches a recogniser; a 400 or 405 only if it matches one with ``{id}``.

    Args:
        kind: What was asked to be deleted.
        object_id: Its id.
        reply: The provider's answer.
        recognisers: Further not-found texts of this provider, each a substring, or a text with ``{id}``.
        now: Seconds since 1970, for a Retry-After date in an answer without a Date of its own.

    """
    if reply.status == HTTPStatus.OK:
        wrong = _not_deleted(kind, object_id, reply)
        if wrong is None:
            return _confirmed(reply)
        return replace(unconfirmed(reply, wrong), unknown=True)
    if reply.status == HTTPStatus.NO_CONTENT and kind.no_content:
        return _confirmed(reply)
    if absent(kind.not_found, recognisers, object_id, reply):
        return _verdict(reply, Outcome.ALREADY_GONE)
    named = object_id in complaint(reply).message
    return _hinted(object_id, reply, replace(_refusal(kind, reply, now), named=named))


def classify_item(kind: Kind, object_id: str, item_id: str, reply: Reply, recognisers: Sequence[str] = ()) -> Verdict:
    """Return what the answer to ``DELETE`` of a child means: of ``item_id`` in the object ``object_id``.

    OpenAI answers with the parent and not with a deletion; a deletion that names the child is believed too.
    A 404 that names the parent is as good as one that names the child. ``unknown`` is always False: it is
    said of the parent, whose own deletion was not asked for yet.
    """
    child = kind.child or kind
    if reply.status == HTTPStatus.OK:
        body = document(reply)
        parent = body.get("id") == object_id and body.get("object", child.deleted_object) == child.deleted_object
        if parent or (body.get("deleted") is True and body.get("id") == item_id):
            return _confirmed(reply)
        return unconfirmed(reply, f"with {shape(reply)} for the deletion of {child.name} {item_id}")
    if absent(child.not_found, recognisers, item_id, reply) or absent(kind.not_found, (), object_id, reply):
        return _verdict(reply, Outcome.ALREADY_GONE)
    return replace(_refusal(kind, reply, None), unknown=False)


def taken_out(
    kind: Kind, object_id: str, child_id: str, reply: Reply, recognisers: Sequence[str] = ()
) -> Verdict | None:
    """Return what is wrong with the answer to taking a child out of an object's list, or None: it is not in it now.

    ``unknown`` is always False: it is said of the child, whose own deletion was not asked for yet.
    """
    if reply.status == HTTPStatus.OK:
        body = document(reply)
        if body.get("deleted") is True and body.get("id") == child_id:
            return None
        return unconfirmed(reply, f"with {shape(reply)} for taking {child_id} out of {object_id}")
    words = ("No file found with id {id}",)
    if absent(words, recognisers, child_id, reply) or absent(kind.not_found, (), object_id, reply):
        return None
    return replace(_refusal(kind, reply, None), unknown=False)


def classify_read(kind: Kind, object_id: str, reply: Reply, recognisers: Sequence[str] = ()) -> Verdict:
    """Return why a ``GET`` of this object, of its children or of a list gives nothing to go by.

    The caller found the body wanting, so a 2xx is ``UNCONFIRMED``, the 204 that would confirm a DELETE of this kind
    included. ``unknown`` is always False: nothing was asked to be deleted.
    """
    if reply.status is not None and reply.status // 100 == _SUCCESS:
        wrong = f"with {shape(reply)} where {kind.name} {object_id} was asked for".rstrip()
        encrypts = object_id and renamed(kind, object_id, reply)
        return replace(unconfirmed(reply, f"{wrong}, {ENCRYPTS}" if encrypts else wrong), by_read=True)
    verdict = replace(classify(kind, object_id, reply, recognisers), unknown=False, by_read=True)
    # A list is refused to the account; only what has an id can be refused for its own sake.
    return verdict if object_id else _of_the_account(verdict)


def _of_the_account(verdict: Verdict) -> Verdict:
    return replace(verdict, outcome=Outcome.AUTH) if verdict.outcome is Outcome.FORBIDDEN else verdict


def unconfirmed(reply: Reply, wrong: str) -> Verdict:
    """Return the verdict on an answer that says neither yes nor no; ``wrong`` is what is wrong with it."""
    return replace(_verdict(reply, Outcome.UNCONFIRMED), detail=line(f"{reply.status} {wrong}"))


def limited(reason: Limited, items: int = 0) -> Verdict:
    """Return the verdict on an attempt that the budget ended before it was over."""
    return Verdict(Outcome.LIMITED, retry_after=reason.retry_after, detail=line(str(reason)), items=items)


def exists(kind: Kind, object_id: str, reply: Reply) -> bool:
    """Return True if a ``GET`` of this id answered with the object itself: what a witness has to say."""
    return reply.status == HTTPStatus.OK and document(reply).get(kind.id_field) == object_id


def unnamed(kind: Kind, reply: Reply) -> bool:
    """Return True if a ``GET`` says that something is missing where its kind never says what: ask ``absence`` then."""
    return kind.absence is not None and reply.status in ABSENT


def unreadable(verdict: Verdict) -> bool:
    """Return True if a ``GET`` says in words of its own that something is missing: a ``DELETE`` may have others."""
    return verdict.outcome is Outcome.UNRECOGNISED and verdict.status in ABSENT and HINT in verdict.detail


def unauthorised(reply: Reply) -> bool:
    """Return True for the answer to a credential that is not valid, or not any more."""
    return reply.status == HTTPStatus.UNAUTHORIZED


def listed(kind: Kind, reply: Reply) -> dict[str, Any] | None:
    """Return the body of a 200 that holds a list, its objects under ``data``, or None for any other answer."""
    if reply.status != HTTPStatus.OK:
        return None
    body = {"data": array(reply)} if kind.search else document(reply)
    return body if isinstance(body.get("data"), list) else None


def probe_ok(kind: Kind, reply: Reply) -> bool:
    """Return True if the answer to a kind's probe shows that its endpoint is there: a 200 with a list."""
    return listed(kind, reply) is not None


def after_probe(kind: Kind, verdict: Verdict, probe: Reply | None) -> Verdict:
    """Return what an unrecognised answer means after the kind's probe: one id's matter, or the endpoint's.

    A good probe leaves the verdict as it was. A probe refused for reasons of its own (credentials, rate, an
    outage) says nothing of the endpoint, and is itself the verdict. All else, a kind without a probe
    included, is ``ENDPOINT_MISSING``.
    """
    if probe is None:
        found = "this kind has no probe"
    elif probe_ok(kind, probe):
        return verdict
    else:
        refused = _of_the_account(_refusal(kind, probe, None))
        if refused.outcome in _SAYS_NOTHING:
            # Without a status: it was not this id that was answered so.
            return replace(refused, unknown=False, status=None)
        found = f"the probe answered {say(probe)}"
    return replace(verdict, outcome=Outcome.ENDPOINT_MISSING, detail=line(f"{verdict.detail}; {found}"))


_SAYS_NOTHING = frozenset(
    {Outcome.AUTH, Outcome.QUOTA, Outcome.RATE_LIMITED, Outcome.ERROR, Outcome.UNSUPPORTED, Outcome.LIMITED}
)


def _refusal(kind: Kind, reply: Reply, now: float | None) -> Verdict:
    """Return the meaning of an answer that is neither a confirmation nor a recognised absence."""
    if reply.status is None:
        outcome = _FAILURES.get(reply.failure or "", Outcome.ERROR)
        return Verdict(outcome, unknown=reply.sent and outcome is Outcome.ERROR, detail=say(reply))
    if reply.status < _FIRST_REFUSAL:
        return replace(_verdict(reply, Outcome.UNCONFIRMED, now), unknown=True)
    verdict = _verdict(reply, _STATUSES.get(reply.status, Outcome.ERROR), now)
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS and "insufficient_quota" in {
        complaint(reply).code,
        complaint(reply).type,
    }:
        return replace(verdict, outcome=Outcome.QUOTA)
    if reply.status == HTTPStatus.SERVICE_UNAVAILABLE and "slow down" in verdict.detail.lower():
        verdict = replace(verdict, retry_after=max(verdict.retry_after or 0, SLOW_DOWN))
    if reply.status >= _FIRST_FAULT and complaint(reply).message in kind.denied:
        return replace(verdict, outcome=Outcome.AUTH)
    # A 408 and every 5xx tell of an answer that was lost, not of a request that was refused.
    return replace(verdict, unknown=reply.status == HTTPStatus.REQUEST_TIMEOUT or reply.status >= _FIRST_FAULT)


HINT = "; if that means gone, add "
"""What stands between an answer and the line for [providers.NAME] that would recognise it."""


def _hinted(object_id: str, reply: Reply, verdict: Verdict) -> Verdict:
    """Add to a refusal the line that would recognise it as an absence, where there is one that can be written."""
    if verdict.outcome not in {Outcome.UNRECOGNISED, Outcome.INVALID} or reply.status is None:
        return verdict
    text = recogniser(object_id, reply)
    if text is None:
        return verdict
    hint = f"{HINT}not_found = [{json.dumps(text, ensure_ascii=False)}]"
    return replace(verdict, detail=verdict.detail[: DETAIL - len(hint)] + hint)


def _verdict(reply: Reply, outcome: Outcome, now: float | None = None) -> Verdict:
    odd = odd_wait(reply.headers, now)
    return Verdict(
        outcome,
        retry_after=retry_after(reply.headers, now),
        detail=line(f"{say(reply)}; {odd}") if odd else say(reply),
        status=reply.status,
        request_id=_request_id(reply),
        **_of(reply),
        odd=bool(odd),
    )


def _confirmed(reply: Reply) -> Verdict:
    return Verdict(Outcome.DELETED, status=reply.status, request_id=_request_id(reply), **_of(reply))


def _of(reply: Reply) -> dict[str, Any]:
    """Return whose answer it is, and when it was asked for and given."""
    answered_at = reply.sent_at + reply.seconds
    return {"identity": reply.identity, "sent_at": reply.sent_at, "answered_at": answered_at}


_REQUEST_IDS = ("x-request-id", "apim-request-id", "x-ms-request-id")  # the last two are Azure's


def _request_id(reply: Reply) -> str | None:
    text = next((reply.headers[name] for name in _REQUEST_IDS if name in reply.headers), "")
    return text[:128] if text.isascii() and text.isprintable() and text else None


def _not_deleted(kind: Kind, object_id: str, reply: Reply) -> str | None:
    """Return what is wrong with a 200 as a confirmation, or None if it is one."""
    body = document(reply)
    if not body:
        return f"with {shape(reply)}"
    if kind.confirmation and body == kind.confirmation:
        return None
    if body.get("deleted") is not True:
        return f"with {shape(reply)}, deleted: {json.dumps(body.get('deleted'))}"
    if body.get("id") != object_id:
        wrong = f"that names another id: {json.dumps(body.get('id'))}"
        return f"{wrong}, {ENCRYPTS}" if confirms_another(kind, object_id, reply) else wrong
    if body.get("object", kind.deleted_object) != kind.deleted_object:
        return f"for another kind: {shape(reply)}, not {kind.deleted_object}"
    return None
