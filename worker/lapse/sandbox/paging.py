"""Lists, one page at a time: limit, order, after and before, as the provider reads them. No I/O."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from lapse.sandbox.wire import Json, Request, Response, answer, refusal

LARGEST = 100
USUAL = 20


@dataclass(frozen=True, slots=True)
class Window:
    """What a request asks of a list."""

    limit: int
    descending: bool
    after: str | None
    before: str | None


def window(
    request: Request, *, largest: int = LARGEST, usual: int = USUAL, ascending: bool = False
) -> Window | Response:
    """Return what the query asks for, or the answer that refuses it."""
    text = request.param("limit") or str(usual)
    if not text.removeprefix("-").isdecimal():
        return refusal(
            400,
            f"Invalid type for 'limit': expected an integer, but got {text!r} instead.",
            "refused",
            param="limit",
            code="invalid_type",
        )
    limit = int(text)
    if limit > largest:
        return _bound(limit, "above maximum", "<=", largest, "integer_above_max_value")
    if limit < 1:
        return _bound(limit, "below minimum", ">=", 1, "integer_below_min_value")
    order = request.param("order") or ("asc" if ascending else "desc")
    if order not in {"asc", "desc"}:
        message = f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'."
        return refusal(400, message, "refused", param="order", code="invalid_value")
    return Window(limit, order == "desc", request.param("after"), request.param("before"))


def page(
    existing: Collection[str], body: Callable[[str], Json], asked: Window, unknown: Callable[[str], Response]
) -> Response:
    """Return one page of ``existing`` ids, which stand in order of creation; ``body`` gives each one's JSON.

    A cursor that names no object of the list is answered as an unknown id is (assumed: the provider does
    not document it).
    """
    ids = list(existing)
    if asked.descending:
        ids.reverse()
    for cursor in (asked.after, asked.before):
        if cursor and cursor not in existing:
            return unknown(cursor)
    start = ids.index(asked.after) + 1 if asked.after else 0
    stop = ids.index(asked.before) if asked.before else len(ids)
    span = ids[start:stop]
    shown = span[-asked.limit :] if asked.before and not asked.after else span[: asked.limit]
    return answer(listed([body(each) for each in shown], has_more=len(span) > len(shown)), "listed")


def listed(bodies: list[Json], *, has_more: bool) -> Json:
    """Return the envelope of a page."""
    first, last = (bodies[0]["id"], bodies[-1]["id"]) if bodies else (None, None)
    return {"object": "list", "data": bodies, "first_id": first, "last_id": last, "has_more": has_more}


def _bound(limit: int, how: str, sign: str, bound: int, code: str) -> Response:
    message = f"Invalid 'limit': integer {how} value. Expected a value {sign} {bound}, but got {limit} instead."
    return refusal(400, message, "refused", param="limit", code=code)
