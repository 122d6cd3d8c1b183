"""What a rule of the fault script does to one request. No I/O: the server keeps the silences and delays."""

import json
from collections.abc import Callable

from lapse.sandbox.faults import LISTS, Fault
from lapse.sandbox.paging import listed
from lapse.sandbox.state import Json, Project
from lapse.sandbox.wire import HTML, ApiCall, ApiDialect, ApiRequest, ApiResponse, encode

SUNSET_KINDS = frozenset({"thread", "message", "run", "assistant"})
SUNSET_PATHS = ("/threads", "/assistants")
PAGE = b"<!DOCTYPE html>\n<html><head><title>Error</title></head><body>Something went wrong</body></html>\n"
LOGIN = "https://login.invalid/sign-in"

Carry = Callable[[ApiRequest, Project | None], ApiResponse]
"""Carries a request out: in the project of its key, or in the one given."""


def apply(rule: Fault, request: ApiRequest, call: ApiCall, dialect: ApiDialect, carry: Carry) -> ApiResponse:
    """Return the answer, or the silence, that a rule makes of a request."""
    if rule.effect == "sunset":
        answer = _sunset(rule, request, dialect) if _is_sunset(request, call) else carry(request, None)
    elif rule.effect == "wrong_project":
        answer = carry(request, Project())
        answer.executed = False
    elif rule.effect in LISTS:
        answer = _list(rule.effect, request, call, carry)
    elif rule.effect == "cut":
        answer = carry(request, None)
        answer.silence = "cut"
    else:
        done = rule.execute and carry(request, None).executed
        answer = _instead(rule, call, dialect)
        answer.executed = done
    answer.raw_headers += [(name.lower().encode(), value.encode()) for name, value in rule.headers.items()]
    return answer


def _is_sunset(request: ApiRequest, call: ApiCall) -> bool:
    return call.kind in SUNSET_KINDS or (not call.kind and any(part in request.path for part in SUNSET_PATHS))


def _sunset(rule: Fault, request: ApiRequest, dialect: ApiDialect) -> ApiResponse:
    if rule.body == "html":
        return ApiResponse(404, PAGE, "sunset", HTML)
    if rule.body == "json":
        body = dialect.error(404, f"Invalid URL ({request.method} {request.path})", None, None)
        return ApiResponse(404, body, "sunset")
    return ApiResponse(404, b"", "sunset", None)


def _instead(rule: Fault, call: ApiCall, dialect: ApiDialect) -> ApiResponse:
    if rule.effect == "error":
        return _error(rule, dialect)
    if rule.effect in {"hang", "reset", "close"}:
        silent = ApiResponse(0, b"", rule.effect)
        silent.silence = rule.effect
        return silent
    if rule.effect == "html":
        return ApiResponse(200, PAGE, "html", HTML)
    if rule.effect == "no_content":
        return ApiResponse(204, b"", "no_content", None)
    if rule.effect == "redirect":
        away = ApiResponse(302, b"", "redirect", None)
        away.headers["location"] = LOGIN
        return away
    id_ = call.ids[-1] if call.ids else ""
    shape: Json = {"id": id_, "object": f"{call.kind}.deleted", "deleted": True}
    whole = encode(shape)
    bodies = {
        "deleted_false": encode(shape | {"deleted": False}),
        "empty_object": "{}",
        "other_id": encode(shape | {"id": id_[:-1] + ("B" if id_.endswith("A") else "A")}),
        "empty": "",
        "truncated": whole[: len(whole) // 2],
    }
    return ApiResponse(200, bodies[rule.effect].encode(), rule.effect)


def _error(rule: Fault, dialect: ApiDialect) -> ApiResponse:
    if rule.text is not None:
        return ApiResponse(rule.status, rule.text.encode(), "error")
    if rule.body == "html":
        return ApiResponse(rule.status, PAGE, "error", HTML)
    if rule.body == "empty":
        return ApiResponse(rule.status, b"", "error", None)
    return ApiResponse(rule.status, dialect.error(rule.status, rule.message, rule.code, rule.type), "error")


def _list(effect: str, request: ApiRequest, call: ApiCall, carry: Carry) -> ApiResponse:
    if not call.listing:
        return carry(request, None)
    searched = request.method == "POST"
    if effect == "list_empty":
        return ApiResponse(200, b"[]" if searched else encode(listed([], has_more=True)).encode(), effect)
    answer = carry(_first_page(request) if effect == "list_loop" else request, None)
    if answer.status_code != 200:
        return answer
    if searched:  # an array says nothing of what follows it
        answer.word = effect
        return answer
    body = json.loads(answer.body) | {"has_more": effect == "list_loop"}
    return ApiResponse(200, encode(body).encode(), effect)


def _first_page(request: ApiRequest) -> ApiRequest:
    if request.method == "POST":
        return ApiRequest(request.scope, encode(json.loads(request.content) | {"offset": 0}).encode())
    kept = [pair for pair in request.query.split("&") if pair.partition("=")[0] not in {"after", "before"}]
    return ApiRequest({**request.scope, "query_string": "&".join(kept).encode()}, request.content)
