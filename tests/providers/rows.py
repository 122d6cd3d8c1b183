"""Answers as providers give them, and what each means: checked as values and again over a socket."""

import json
from dataclasses import dataclass, field

from lapse.outcomes import Outcome

THREAD = "thread_VSLQYOG6Wot7l03QzJKIet2d"
ASSISTANT = "asst_8fVY45hU3IM6creFkVi5MBKB"
CONVERSATION = "conv_689667905b048191b4740501625afd940c7533ace33a2dab"
UUID = "01a20661-1242-76a4-a2ed-5f1c1d0e9a55"
IDS = {"thread": THREAD, "assistant": ASSISTANT, "conversation": CONVERSATION}

PAGE = "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to the DELETE of ``IDS[kind]``."""

    name: str
    status: int
    body: str | bytes
    outcome: Outcome
    kind: str = "thread"
    unknown: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    says: str = ""
    id: str = ""

    @property
    def object_id(self) -> str:
        """The id that was asked to be deleted."""
        return self.id or IDS[self.kind]


def error(message: str, type_: str = "invalid_request_error", param: str | None = None, code: str | None = None) -> str:
    """Return OpenAI's error envelope."""
    return json.dumps({"error": {"message": message, "type": type_, "param": param, "code": code}})


def gone(kind: str, object_id: str) -> str:
    """Return OpenAI's answer to a DELETE that worked."""
    return json.dumps({"id": object_id, "object": f"{kind}.deleted", "deleted": True})


_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_RATE = "You've exceeded the rate limit, please slow down and try again later."
_SCOPES = "You have insufficient permissions for this operation. Missing scopes: api.threads.write."
_ORGANIZATION = "OpenAI-Organization header should match organization for API key"

DELETED = [
    Row("thread deleted", 200, gone("thread", THREAD), Outcome.DELETED),
    Row("assistant deleted", 200, gone("assistant", ASSISTANT), Outcome.DELETED, kind="assistant"),
    Row("conversation deleted", 200, gone("conversation", CONVERSATION), Outcome.DELETED, kind="conversation"),
    Row("no object", 200, json.dumps({"id": THREAD, "deleted": True}), Outcome.DELETED),
]

GONE = [
    Row("unknown thread", 404, error(f"No thread found with id '{THREAD}'."), Outcome.ALREADY_GONE),
    Row(
        "unknown assistant", 404, error(f"No assistant found with id '{ASSISTANT}'."), Outcome.ALREADY_GONE,
        kind="assistant",
    ),
    Row(
        "unknown conversation", 404, error(f"Conversation with id '{CONVERSATION}' not found."), Outcome.ALREADY_GONE,
        kind="conversation",
    ),
    Row("410 like 404", 410, error(f"No thread found with id '{THREAD}'."), Outcome.ALREADY_GONE),
    Row("double quotes", 404, error(f'No thread found with id "{THREAD}".'), Outcome.ALREADY_GONE),
    Row("backquotes", 404, error(f"No thread found with id `{THREAD}`"), Outcome.ALREADY_GONE),
    Row("typographic quotes", 404, error(f"No thread found with id \u2018{THREAD}\u2019."), Outcome.ALREADY_GONE),
    Row("no quotes", 404, error(f"No thread found with id {THREAD}."), Outcome.ALREADY_GONE),
    Row("a string for an error", 404, json.dumps({"error": f"No thread found with id '{THREAD}'."}), Outcome.ALREADY_GONE),
    Row("detail", 404, json.dumps({"detail": f"No thread found with id '{THREAD}'."}), Outcome.ALREADY_GONE),
    Row("plain text", 404, f"No thread found with id '{THREAD}'.\n", Outcome.ALREADY_GONE),
    Row("dotted id", 404, error("No thread found with id 'a.b'."), Outcome.ALREADY_GONE, id="a.b"),
    Row("id ending in a dot, bare", 404, error("No thread found with id a.b."), Outcome.ALREADY_GONE, id="a.b"),
]  # fmt: skip

UNRECOGNISED = [
    Row("invalid url", 404, error(f"Invalid URL (DELETE /v1/threads/{THREAD})"), Outcome.UNRECOGNISED, says="Invalid URL"),
    Row("a longer id", 404, error(f"No thread found with id '{THREAD}X'."), Outcome.UNRECOGNISED),
    Row("a longer id, bare", 404, error(f"No thread found with id {THREAD}X."), Outcome.UNRECOGNISED),
    Row("a shorter id", 404, error(f"No thread found with id '{THREAD[:-1]}'."), Outcome.UNRECOGNISED),
    Row("a quoted id with a dot more", 404, error(f"No thread found with id '{THREAD}.'"), Outcome.UNRECOGNISED),
    Row("an id that ends in ours", 404, error(f"No thread found with id x{THREAD}."), Outcome.UNRECOGNISED),
    Row("another kind", 404, error(f"No assistant found with id '{THREAD}'."), Outcome.UNRECOGNISED),
    Row("no id", 404, error("No thread found."), Outcome.UNRECOGNISED, says="No thread found."),
    Row("empty 404", 404, "", Outcome.UNRECOGNISED, says="an empty body"),
    Row("html 404", 404, PAGE, Outcome.UNRECOGNISED, says="HTML page '502 Bad Gateway'"),
    Row(
        "html 404 with the text", 404, f"<p>No thread found with id '{THREAD}'.</p>", Outcome.UNRECOGNISED,
        says="an HTML page",
    ),
    Row("langgraph thread", 404, json.dumps({"detail": f"Thread with ID {UUID} not found"}), Outcome.UNRECOGNISED, id=UUID),
    Row("langgraph route", 404, json.dumps({"detail": "Not Found"}), Outcome.UNRECOGNISED, id=UUID),
    Row("azure", 404, json.dumps({"error": {"code": "404", "message": "Resource not found"}}), Outcome.UNRECOGNISED),
    Row("message that is no text", 404, json.dumps({"error": {"message": {"a": 1}}}), Outcome.UNRECOGNISED),
    Row("a list", 404, "[]", Outcome.UNRECOGNISED),
    Row("sunset 410", 410, "", Outcome.UNRECOGNISED),
    Row("405", 405, json.dumps({"detail": "Method Not Allowed"}), Outcome.UNRECOGNISED, says="Method Not Allowed"),
]  # fmt: skip

UNCONFIRMED = [
    Row("deleted false", 200, json.dumps({"id": THREAD, "object": "thread.deleted", "deleted": False}), Outcome.UNCONFIRMED, unknown=True, says="deleted: false"),
    Row("deleted 1", 200, json.dumps({"id": THREAD, "object": "thread.deleted", "deleted": 1}), Outcome.UNCONFIRMED, unknown=True, says="deleted: 1"),
    Row("deleted in words", 200, json.dumps({"id": THREAD, "deleted": "true"}), Outcome.UNCONFIRMED, unknown=True),
    Row("the thread itself", 200, json.dumps({"id": THREAD, "object": "thread"}), Outcome.UNCONFIRMED, unknown=True, says="a thread object, deleted: null"),
    Row("another id", 200, gone("thread", "thread_other"), Outcome.UNCONFIRMED, unknown=True, says="thread_other"),
    Row("another kind", 200, gone("assistant", THREAD), Outcome.UNCONFIRMED, unknown=True, says="assistant.deleted"),
    Row("object null", 200, json.dumps({"id": THREAD, "object": None, "deleted": True}), Outcome.UNCONFIRMED, unknown=True),
    Row("empty object", 200, "{}", Outcome.UNCONFIRMED, unknown=True, says="the text '{}'"),
    Row("empty 200", 200, "", Outcome.UNCONFIRMED, unknown=True, says="an empty body"),
    Row("html 200", 200, PAGE, Outcome.UNCONFIRMED, unknown=True, says="an HTML page"),
    Row("plain 200", 200, "ok", Outcome.UNCONFIRMED, unknown=True, says="the text 'ok'"),
    Row("binary 200", 200, b"\x00\x01\x02\xff", Outcome.UNCONFIRMED, unknown=True, says="4 bytes that are not text"),
    Row("latin-1 200", 200, b"\xe9\xe9\xe9", Outcome.UNCONFIRMED, unknown=True, says="3 bytes that are not text"),
    Row("truncated json", 200, gone("thread", THREAD)[:40], Outcome.UNCONFIRMED, unknown=True),
    Row("deeply nested json", 200, "[" * 60_000, Outcome.UNCONFIRMED, unknown=True),
    Row("a json string", 200, json.dumps(THREAD), Outcome.UNCONFIRMED, unknown=True),
    Row("201", 201, gone("thread", THREAD), Outcome.UNCONFIRMED, unknown=True),
    Row("202", 202, gone("thread", THREAD), Outcome.UNCONFIRMED, unknown=True),
    Row("204", 204, "", Outcome.UNCONFIRMED, unknown=True, says="204 an empty body"),
    Row("302", 302, PAGE, Outcome.UNCONFIRMED, unknown=True, headers={"Location": "https://login.example/sso?ticket=hidden"}, says="302 redirect to https://login.example/sso"),
    Row("303", 303, "", Outcome.UNCONFIRMED, unknown=True, headers={"Location": "/login"}, says="redirect to /login"),
    Row("301", 301, "", Outcome.UNCONFIRMED, unknown=True, says="redirect to nowhere"),
    Row("308", 308, "", Outcome.UNCONFIRMED, unknown=True, headers={"Location": "/v2/threads"}),
]  # fmt: skip

REFUSED = [
    Row("wrong prefix", 400, error("Invalid 'thread_id': 'x'. Expected an ID that begins with 'thread'."), Outcome.INVALID, says="begins with 'thread'"),
    Row("old beta header", 400, error("The v1 Assistants API has been deprecated.", code="invalid_beta"), Outcome.INVALID, says="[invalid_beta]"),
    Row("not a uuid", 422, json.dumps({"detail": "Invalid thread ID: must be a UUID"}), Outcome.INVALID, says="must be a UUID"),
    Row("fastapi 422", 422, json.dumps({"detail": [{"loc": ["path", "id"], "msg": "bad"}]}), Outcome.INVALID, says='"msg": "bad"'),
    Row("too long", 414, "", Outcome.INVALID),
    Row("bad key", 401, error("Incorrect API key provided: sk-proj-Abcdefgh12345678.", code="invalid_api_key"), Outcome.AUTH, says="[invalid_api_key]"),
    Row("missing scope", 401, error(_SCOPES), Outcome.AUTH, says="Missing scopes: api.threads.write"),
    Row("organisation", 401, error(_ORGANIZATION, code="mismatched_organization"), Outcome.AUTH, says="[mismatched_organization]"),
    Row("project", 401, error("OpenAI-Project header should match project for API key", code="mismatched_project"), Outcome.AUTH, says="[mismatched_project]"),
    Row("hostname", 401, error("wrong host", code="incorrect_hostname"), Outcome.AUTH, says="[incorrect_hostname]"),
    Row("address", 401, error("IP not authorized"), Outcome.AUTH),
    Row("country", 403, error("Country, region, or territory not supported"), Outcome.AUTH),
    Row("proxy authentication", 407, "", Outcome.AUTH),
    Row("payment", 402, error("Insufficient balance"), Outcome.QUOTA),
    Row("busy", 409, error("Thread has an active run."), Outcome.CONFLICT),
    Row("locked", 423, "", Outcome.CONFLICT),
    Row("quota code", 429, error(_QUOTA, code="insufficient_quota"), Outcome.QUOTA),
    Row("quota type", 429, error(_QUOTA, type_="insufficient_quota"), Outcome.QUOTA),
    Row("rate", 429, error(_RATE, code="rate_limit_exceeded"), Outcome.RATE_LIMITED, headers={"Retry-After": "30"}, retry_after=30),
    Row("rate without a time", 429, error(_RATE), Outcome.RATE_LIMITED),
    Row("rate as a page", 429, PAGE, Outcome.RATE_LIMITED, headers={"x-ratelimit-reset-requests": "6m0s"}),
    Row("request timeout", 408, "", Outcome.ERROR, unknown=True),
    Row("teapot", 418, "", Outcome.ERROR),
    Row("dependency", 424, error("Invalid URL"), Outcome.ERROR),
    Row("server error", 500, error("The server had an error while processing your request", "server_error"), Outcome.ERROR, unknown=True),
    Row("azure tenant", 500, error("Unable to get resource information."), Outcome.ERROR, unknown=True),
    Row("not implemented", 501, "", Outcome.ERROR, unknown=True),
    Row("bad gateway", 502, PAGE, Outcome.ERROR, unknown=True, says="HTML page '502 Bad Gateway'"),
    Row("overloaded", 503, error("The engine is currently overloaded"), Outcome.ERROR, unknown=True, headers={"retry-after-ms": "1500"}, retry_after=1.5),
    Row("slow down", 503, error("Slow Down"), Outcome.ERROR, unknown=True, headers={"Retry-After": "5"}, retry_after=900),
    Row("gateway timeout", 504, "", Outcome.ERROR, unknown=True),
    Row("529", 529, "", Outcome.ERROR, unknown=True),
]  # fmt: skip

ROWS = [*DELETED, *GONE, *UNRECOGNISED, *UNCONFIRMED, *REFUSED]
