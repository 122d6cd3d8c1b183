"""Answers as providers give them, and what each means: checked as values and again over a socket."""

import json
from dataclasses import dataclass, field, replace

from lapse.providers.outcomes import Outcome

THREAD = "thread_VSLQYOG6Wot7l03QzJKIet2d"
ASSISTANT = "asst_8fVY45hU3IM6creFkVi5MBKB"
CONVERSATION = "conv_689667905b048191b4740501625afd940c7533ace33a2dab"
UUID = "01a20661-1242-76a4-a2ed-5f1c1d0e9a55"
FILE = "file-4wDz5b167pAf72nx1h9eiN"
STORE = "vs_68870b8868b88191894165101435eef6"
RESPONSE = "resp_0a0cc8227e90b719016a585a7ada54819a9d3b18aedb5e2658"
CONTAINER = "cntr_68a1e2f09c8c8190b1d1e7a0f4c5d6e70123456789abcdef"
COMPLETION = "chatcmpl-AyPNinnUqUDYo9SAdA52NobMflmj2"
IDS = {
    "thread": THREAD,
    "assistant": ASSISTANT,
    "conversation": CONVERSATION,
    "file": FILE,
    "vector_store": STORE,
    "response": RESPONSE,
    "container": CONTAINER,
    "chat_completion": COMPLETION,
}

PAGE = "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to the DELETE of ``IDS[kind]``."""

    name: str
    status: int
    body: str | bytes = ""
    says: str = ""
    kind: str = "thread"
    outcome: Outcome = Outcome.ERROR
    unknown: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    id: str = ""
    type: str = "openai"

    @property
    def object_id(self) -> str:
        """The id that was asked to be deleted."""
        return self.id or IDS[self.kind]


def _rows(outcome: Outcome, *rows: Row, unknown: bool = False) -> list[Row]:
    return [replace(row, outcome=outcome, unknown=unknown) for row in rows]


def error(message: str, type_: str = "invalid_request_error", param: str | None = None, code: str | None = None) -> str:
    """Return OpenAI's error envelope."""
    return json.dumps({"error": {"message": message, "type": type_, "param": param, "code": code}})


def gone(kind: str, object_id: str) -> str:
    """Return OpenAI's answer to a DELETE that worked."""
    return json.dumps({"id": object_id, "object": f"{kind}.deleted", "deleted": True})


def confirmed(object_: str, object_id: str) -> str:
    """Return the answer to a DELETE with an ``object`` of its own."""
    return json.dumps({"id": object_id, "object": object_, "deleted": True})


_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_RATE = "You've exceeded the rate limit, please slow down and try again later."
_SCOPES = "You have insufficient permissions for this operation. Missing scopes: api.threads.write."
_ORGANIZATION = "OpenAI-Organization header should match organization for API key"

_NO_THREAD = f"No thread found with id '{THREAD}'."
_LOGIN = "https://login.example/sso?ticket=hidden"

DELETED = _rows(
    Outcome.DELETED,
    Row("thread", 200, gone("thread", THREAD)),
    Row("assistant", 200, gone("assistant", ASSISTANT), kind="assistant"),
    Row("conversation", 200, gone("conversation", CONVERSATION), kind="conversation"),
    Row("file", 200, confirmed("file", FILE), kind="file"),
    Row("file of the newer form", 200, confirmed("file", "file_1"), kind="file", id="file_1"),
    Row("vector store", 200, gone("vector_store", STORE), kind="vector_store"),
    Row("response", 200, confirmed("response", RESPONSE), kind="response"),
    Row("container", 200, gone("container", CONTAINER), kind="container"),
    Row("chat completion", 200, gone("chat.completion", COMPLETION), kind="chat_completion"),
    Row("no object", 200, json.dumps({"id": THREAD, "deleted": True})),
)

GONE = _rows(
    Outcome.ALREADY_GONE,
    Row("thread", 404, error(_NO_THREAD)),
    Row("assistant", 404, error(f"No assistant found with id '{ASSISTANT}'."), kind="assistant"),
    Row("conversation", 404, error(f"Conversation with id '{CONVERSATION}' not found."), kind="conversation"),
    Row("file", 404, error(f"No such File object: {FILE}", param="id"), kind="file"),
    Row("vector store", 404, error(f"No vector store found with id '{STORE}'."), kind="vector_store"),
    Row("response", 404, error(f"Response with id '{RESPONSE}' not found."), kind="response"),
    Row("container", 404, error(f"Container with id '{CONTAINER}' not found."), kind="container"),
    Row("410 like 404", 410, error(_NO_THREAD)),
    Row("double quotes", 404, error(f'No thread found with id "{THREAD}".')),
    Row("backquotes", 404, error(f"No thread found with id `{THREAD}`")),
    Row("typographic quotes", 404, error(f"No thread found with id \u2018{THREAD}\u2019.")),
    Row("no quotes", 404, error(f"No thread found with id {THREAD}.")),
    Row("a string for an error", 404, json.dumps({"error": _NO_THREAD})),
    Row("detail", 404, json.dumps({"detail": _NO_THREAD})),
    Row("plain text", 404, f"{_NO_THREAD}\n"),
    Row("dotted id", 404, error("No thread found with id 'a.b'."), id="a.b"),
    Row("dotted id, bare", 404, error("No thread found with id a.b."), id="a.b"),
)

UNRECOGNISED = _rows(
    Outcome.UNRECOGNISED,
    Row("invalid url", 404, error(f"Invalid URL (DELETE /v1/threads/{THREAD})"), "Invalid URL"),
    Row("a longer id", 404, error(f"No thread found with id '{THREAD}X'.")),
    Row("a longer id, bare", 404, error(f"No thread found with id {THREAD}X.")),
    Row("a shorter id", 404, error(f"No thread found with id '{THREAD[:-1]}'.")),
    Row("a quoted id with a dot more", 404, error(f"No thread found with id '{THREAD}.'")),
    Row("an id that ends in ours", 404, error(f"No thread found with id x{THREAD}.")),
    Row("another kind", 404, error(f"No assistant found with id '{THREAD}'.")),
    Row("no id", 404, error("No thread found."), "No thread found."),
    Row("another file", 404, error(f"No such File object: {FILE}x", param="id"), kind="file"),
    Row("a file in a store", 404, error(f"No file found with id '{FILE}' in vector store '{STORE}'."), kind="file"),
    Row("a file of the store", 404, error(f"No such File object: {STORE}"), kind="vector_store"),
    Row("another store", 404, error("No vector store found with id 'vs_1'."), kind="vector_store"),
    Row("a previous response", 404, error("Previous response with id 'resp_1' not found."), kind="response"),
    Row("another container", 404, error("Container with id 'cntr_1' not found."), kind="container"),
    Row(
        "chat completion",
        404,
        error(f"Chat completion {COMPLETION} was not found."),
        'add not_found = ["Chat completion {id} was not found."]',
        kind="chat_completion",
    ),
    Row("empty", 404, "", "an empty body"),
    Row("html", 404, PAGE, "HTML page '502 Bad Gateway'"),
    Row("html with the text", 404, f"<p>{_NO_THREAD}</p>", "an HTML page"),
    Row("langgraph thread", 404, json.dumps({"detail": f"Thread with ID {UUID} not found"}), id=UUID),
    Row("langgraph route", 404, json.dumps({"detail": "Not Found"}), id=UUID),
    Row("azure", 404, json.dumps({"error": {"code": "404", "message": "Resource not found"}})),
    Row("message that is no text", 404, json.dumps({"error": {"message": {"a": 1}}})),
    Row("a list", 404, "[]"),
    Row("sunset 410", 410),
    Row("405", 405, json.dumps({"detail": "Method Not Allowed"}), "Method Not Allowed"),
)

UNCONFIRMED = _rows(
    Outcome.UNCONFIRMED,
    Row("deleted false", 200, gone("thread", THREAD).replace("true", "false"), "deleted: false"),
    Row("deleted 1", 200, gone("thread", THREAD).replace("true", "1"), "deleted: 1"),
    Row("deleted in words", 200, gone("thread", THREAD).replace("true", '"true"'), 'deleted: "true"'),
    Row("the thread", 200, json.dumps({"id": THREAD, "object": "thread"}), "a thread object, deleted: null"),
    Row("another id", 200, gone("thread", "thread_other"), "thread_other"),
    Row("another kind", 200, gone("assistant", THREAD), "assistant.deleted"),
    Row("file.deleted", 200, gone("file", FILE), "file.deleted", kind="file"),
    Row("response.deleted", 200, gone("response", RESPONSE), "response.deleted", kind="response"),
    Row("the response itself", 200, confirmed("response", RESPONSE).replace("true", "null"), kind="response"),
    Row("object null", 200, json.dumps({"id": THREAD, "object": None, "deleted": True})),
    Row("empty object", 200, "{}", "the text '{}'"),
    Row("empty", 200, "", "an empty body"),
    Row("html", 200, PAGE, "an HTML page"),
    Row("plain", 200, "ok", "the text 'ok'"),
    Row("langgraph's", 200, json.dumps({"status": "deleted"}), "JSON with status"),
    Row("binary", 200, b"\x00\x01\x02\xff", "4 bytes that are not text"),
    Row("latin-1", 200, b"\xe9\xe9\xe9", "3 bytes that are not text"),
    Row("truncated json", 200, gone("thread", THREAD)[:40]),
    Row("deeply nested json", 200, "[" * 60_000),
    Row("a json string", 200, json.dumps(THREAD)),
    Row("201", 201, gone("thread", THREAD)),
    Row("202", 202, gone("thread", THREAD)),
    Row("204", 204, "", "204 an empty body"),
    Row("302", 302, PAGE, "302 redirect to https://login.example/sso", headers={"Location": _LOGIN}),
    Row("303", 303, "", "redirect to /login", headers={"Location": "/login"}),
    Row("301", 301, "", "redirect to nowhere"),
    Row("308", 308, "", "redirect to /v2", headers={"Location": "/v2"}),
    unknown=True,
)

REFUSED = [
    *_rows(
        Outcome.INVALID,
        Row(
            "wrong prefix",
            400,
            error("Invalid 'thread_id': 'x'. Expected an ID that begins with 'thread'."),
            "begins with 'thread'",
        ),
        Row(
            "old beta header",
            400,
            error("The v1 Assistants API has been deprecated.", code="invalid_beta"),
            "[invalid_beta]",
        ),
        Row("no uuid", 422, json.dumps({"detail": "Invalid thread ID: must be a UUID"}), "must be a UUID"),
        Row("fastapi", 422, json.dumps({"detail": [{"loc": ["path"], "msg": "bad"}]}), '"msg": "bad"'),
        Row("too long", 414),
    ),
    *_rows(
        Outcome.AUTH,
        Row(
            "bad key",
            401,
            error("Incorrect API key provided: sk-proj-Abcdefgh12345678.", code="invalid_api_key"),
            "[invalid_api_key]",
        ),
        Row("missing scope", 401, error(_SCOPES), "Missing scopes: api.threads.write"),
        Row(
            "organisation",
            401,
            error(_ORGANIZATION, code="mismatched_organization"),
            "[mismatched_organization]",
        ),
        Row("project", 401, error("wrong project", code="mismatched_project"), "[mismatched_project]"),
        Row("hostname", 401, error("wrong host", code="incorrect_hostname"), "[incorrect_hostname]"),
        Row("address", 401, error("IP not authorized"), "IP not authorized"),
        Row("proxy", 407),
    ),
    *_rows(
        Outcome.FORBIDDEN,
        Row("country", 403, error("Country, region, or territory not supported"), "territory"),
        Row("page", 403, PAGE),
        Row("empty", 403),
    ),
    *_rows(
        Outcome.QUOTA,
        Row("code", 429, error(_QUOTA, code="insufficient_quota"), "current quota"),
        Row("type", 429, error(_QUOTA, type_="insufficient_quota"), "current quota"),
        Row("payment", 402, error("Insufficient balance")),
    ),
    *_rows(
        Outcome.RATE_LIMITED,
        Row("seconds", 429, error(_RATE), headers={"Retry-After": "30"}, retry_after=30),
        Row("no time", 429, error(_RATE, code="rate_limit_exceeded"), "[rate_limit_exceeded]"),
        Row("page", 429, PAGE, headers={"x-ratelimit-reset-requests": "6m0s"}),
        Row("31 years", 429, error(_RATE), "its Retry-After '978307200'", headers={"Retry-After": "978307200"}),
        Row("no number", 429, error(_RATE), "its Retry-After 'NaN'", headers={"Retry-After": "NaN"}),
    ),
    *_rows(Outcome.CONFLICT, Row("busy", 409, error("Thread has an active run.")), Row("locked", 423)),
    *_rows(Outcome.ERROR, Row("teapot", 418), Row("dependency", 424, error("Invalid URL"))),
    *_rows(
        Outcome.ERROR,
        Row("request timeout", 408),
        Row("server", 500, error("The server had an error while processing your request", "server_error")),
        Row("azure tenant", 500, error("Unable to get resource information.")),
        Row("not implemented", 501),
        Row("bad gateway", 502, PAGE, "HTML page '502 Bad Gateway'"),
        Row("overloaded", 503, error("overloaded"), headers={"retry-after-ms": "1500"}, retry_after=1.5),
        Row("slow down", 503, error("Slow Down"), headers={"Retry-After": "5"}, retry_after=900),
        Row("gateway timeout", 504),
        Row("529", 529),
        unknown=True,
    ),
]

ROWS = [*DELETED, *GONE, *UNRECOGNISED, *UNCONFIRMED, *REFUSED]
