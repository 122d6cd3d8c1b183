"""Lists, one page at a time: limit, order, after and before, as the provider reads them. No I/O."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from lapse.sandbox.state import Json
from lapse.sandbox.wire import ApiError, ApiRequest, ApiResponse, answer, refusal


@dataclass(frozen=True, slots=True)
class Window:
    """How a list is read where a request does not say it: its largest and its usual page, and its order."""

    largest: int = 100
    usual: int = 20
    order: str = "desc"

    def page(
        self,
        request: ApiRequest,
        existing: Collection[str],
        body: Callable[[str], Json],
        unknown: Callable[[str], ApiError],
    ) -> ApiResponse:
        """Return the page that is asked for of ``existing`` ids, which stand in order of creation.

        A cursor that names no object of the list is answered as an unknown id is (assumed: the provider does
        not document it). ``body`` gives each object's JSON.

        Raises:
            ApiError: the query is wrong, or its cursor is unknown.

        """
        limit, order = self._limit(request), request.query_params.get("order") or self.order
        if order not in {"asc", "desc"}:
            message = f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'."
            raise refusal(400, message, param="order", code="invalid_value")
        after, before = request.query_params.get("after"), request.query_params.get("before")
        ids = list(existing) if order == "asc" else list(existing)[::-1]
        for cursor in (after, before):
            if cursor and cursor not in existing:
                raise unknown(cursor)
        span = ids[ids.index(after) + 1 if after else 0 : ids.index(before) if before else len(ids)]
        shown = span[-limit:] if before and not after else span[:limit]
        return answer(listed([body(each) for each in shown], has_more=len(span) > len(shown)), "listed")

    def _limit(self, request: ApiRequest) -> int:
        text = request.query_params.get("limit") or str(self.usual)
        if not text.removeprefix("-").isdecimal():
            message = f"Invalid type for 'limit': expected an integer, but got {text!r} instead."
            raise refusal(400, message, param="limit", code="invalid_type")
        limit = int(text)
        for wrong, how, sign, bound, code in (
            (limit > self.largest, "above maximum", "<=", self.largest, "integer_above_max_value"),
            (limit < 1, "below minimum", ">=", 1, "integer_below_min_value"),
        ):
            if wrong:
                expected = f"Expected a value {sign} {bound}, but got {limit} instead."
                raise refusal(400, f"Invalid 'limit': integer {how} value. {expected}", param="limit", code=code)
        return limit


USUAL = Window()


def listed(bodies: list[Json], *, has_more: bool) -> Json:
    """Return the envelope of a page."""
    first, last = (bodies[0]["id"], bodies[-1]["id"]) if bodies else (None, None)
    return {"object": "list", "data": bodies, "first_id": first, "last_id": last, "has_more": has_more}
