"""What a rule of the fault script does to one request. No I/O: the server keeps the silences and delays."""

import json
from collections.abc import Callable

from lapse.sandbox.faults import LISTS, Fault
from lapse.sandbox.paging import listed
from lapse.sandbox.state import Project
from lapse.sandbox.wire import HTML, JSON, ApiCall, ApiDialect, Headers, Json, Request, Response, encode

SUNSET_KINDS = frozenset({"thread", "message", "run", "assistant"})
SUNSET_PATHS = ("/threads", "/assistants")
PAGE = b"<!DOCTYPE html>\n<html><head><title>Error</title></head><body>Something went wrong</body></html>\n"
LOGIN = b"https://login.invalid/sign-in"

Carry = Callable[[Request, Project | None], Response]
"""Carries a request out: in the project of its key, or in the one given."""


def apply(rule: Fault, request: Request, call: ApiCall, dialect: ApiDialect, carry: Carry) -> Response:
    """Return the answer, or the silence, that a rule makes of a request."""
    if rule.effect == "sunset":
        answer = _sunset(rule, request, dialect) if _is_sunset(request, call) else carry(request, None)
    elif rule.effect == "wrong_project":
        answer = carry(request, Project())._replace(executed=False)
    elif rule.effect in LISTS:
        answer = _list(rule.effect, request, call, carry)
    elif rule.effect == "cut":
        answer = carry(request, None)._replace(silence="cut")
    else:
        done = carry(request, None) if rule.execute else None
        answer = _instead(rule, call, dialect)._replace(executed=done is not None and done.executed)
    return answer._replace(headers=answer.headers + _given(rule)) if rule.headers else answer


def _given(rule: Fault) -> Headers:
    return tuple((name.lower().encode(), value.encode()) for name, value in rule.headers.items())


def _is_sunset(request: Request, call: ApiCall) -> bool:
    return call.kind in SUNSET_KINDS or (not call.kind and any(part in request.path for part in SUNSET_PATHS))


def _sunset(rule: Fault, request: Request, dialect: ApiDialect) -> Response:
    if rule.body == "html":
        return Response(404, PAGE, "sunset", headers=HTML)
    if rule.body == "json":
        return Response(404, dialect.error(404, f"Invalid URL ({request.method} {request.path})"), "sunset")
    return Response(404, b"", "sunset", headers=())


def _instead(rule: Fault, call: ApiCall, dialect: ApiDialect) -> Response:
    id_ = call.ids[-1] if call.ids else ""
    shape: Json = {"id": id_, "object": f"{call.kind}.deleted", "deleted": True}
    whole = encode(shape).encode()
    made = {
        "hang": Response(0, b"", "hang", silence="hang"),
        "reset": Response(0, b"", "reset", silence="reset"),
        "close": Response(0, b"", "close", silence="close"),
        "deleted_false": Response(200, encode(shape | {"deleted": False}).encode(), "deleted_false"),
        "empty_object": Response(200, b"{}", "empty_object"),
        "other_id": Response(200, encode(shape | {"id": _other(id_)}).encode(), "other_id"),
        "html": Response(200, PAGE, "html", headers=HTML),
        "empty": Response(200, b"", "empty"),
        "no_content": Response(204, b"", "no_content", headers=()),
        "redirect": Response(302, b"", "redirect", headers=((b"location", LOGIN),)),
        "truncated": Response(200, whole[: len(whole) // 2], "truncated"),
    }
    return made.get(rule.effect) or _error(rule, dialect)


def _error(rule: Fault, dialect: ApiDialect) -> Response:
    if rule.text is not None:
        return Response(rule.status, rule.text.encode(), "error")
    if rule.body == "html":
        return Response(rule.status, PAGE, "error", headers=HTML)
    if rule.body == "empty":
        return Response(rule.status, b"", "error", headers=())
    body = dialect.error(rule.status, rule.message, code=rule.code, kind=rule.type)
    return Response(rule.status, body, "error", headers=JSON)


def _list(effect: str, request: Request, call: ApiCall, carry: Carry) -> Response:
    if not call.listing:
        return carry(request, None)
    searched = request.method == "POST"
    if effect == "list_empty":
        return Response(200, b"[]" if searched else encode(listed([], has_more=True)).encode(), effect)
    answer = carry(_first_page(request) if effect == "list_loop" else request, None)
    if answer.status != 200:
        return answer
    if searched:  # an array says nothing of what follows it
        return answer._replace(word=effect)
    body = json.loads(answer.body) | {"has_more": effect == "list_loop"}
    return answer._replace(body=encode(body).encode(), word=effect)


def _first_page(request: Request) -> Request:
    if request.method == "POST":
        return request._replace(body=encode(json.loads(request.body) | {"offset": 0}).encode())
    kept = [pair for pair in request.query.split("&") if pair.partition("=")[0] not in {"after", "before"}]
    return request._replace(query="&".join(kept))


def _other(id_: str) -> str:
    return id_[:-1] + ("A" if not id_.endswith("A") else "B")
