"""OpenAI's dialect under /v1: threads with messages and runs, assistants, conversations with items, files, vector
stores, responses, containers and stored chat completions.

Checks are made in this order: route, key, beta header, form of the id, object.
Not here: lists of threads, conversations and responses, which the provider does not have either.
"""

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from lapse.sandbox.dialects import assistants, completions, conversations, files
from lapse.sandbox.dialects.collections import Collection
from lapse.sandbox.dialects.completions import COMPLETIONS, CONTAINERS, RESPONSES
from lapse.sandbox.dialects.files import FILES, VECTOR_STORES
from lapse.sandbox.state import Project, World
from lapse.sandbox.wire import ApiCall, Headers, Request, Response, encode, refusal

NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using "
    "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
)
NO_BETA = (
    "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
    "Please try again by setting the header 'OpenAI-Beta: assistants=v2'."
)
BETA_KINDS = frozenset({"thread", "message", "run", "assistant", "vector_store", "vector_store_file"})

# What the provider says with a status when nothing else is asked for: message, type, code.
USUAL: dict[int, tuple[str, str, str | None]] = {
    401: (
        "Incorrect API key provided: sk-*****. You can find your API key in the dashboard.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    403: (
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    409: (
        "The resource is being modified by another request. Please try again later.",
        "invalid_request_error",
        None,
    ),
    429: (
        "You've exceeded the rate limit, please slow down and try again later.",
        "invalid_request_error",
        "rate_limit_exceeded",
    ),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The engine is currently overloaded, please try again later.", "server_error", None),
}
QUOTA = "You exceeded your current quota, please check your plan and billing details."


class Route(NamedTuple):
    """What a request stands for: a kind, what carries it out, and whether it answers with a page."""

    kind: str
    run: Callable[[Request, Project, tuple[str, ...]], Response]
    listing: bool = False


def _routes(path: str, collection: Collection, *, listing: bool = True) -> dict[str, Route]:
    kind = collection.kind
    routes = {
        f"POST {path}": Route(kind, collection.create),
        f"GET {path}/*": Route(kind, collection.retrieve),
        f"POST {path}/*": Route(kind, collection.update),
        f"DELETE {path}/*": Route(kind, collection.delete),
    }
    if not collection.updates:
        del routes[f"POST {path}/*"]
    return routes | ({f"GET {path}": Route(kind, collection.list, listing=True)} if listing else {})


ROUTES = {
    **_routes("files", FILES),
    "POST files": Route("file", files.upload),
    **_routes("vector_stores", VECTOR_STORES),
    "GET vector_stores/*/files": Route("vector_store_file", files.list_attached, listing=True),
    "POST vector_stores/*/files": Route("vector_store_file", files.attach),
    "DELETE vector_stores/*/files/*": Route("vector_store_file", files.detach),
    **_routes("responses", RESPONSES, listing=False),
    "POST responses/*/cancel": Route("response", completions.cancel_response),
    **_routes("containers", CONTAINERS),
    "GET containers/*": Route("container", completions.read_container),
    "DELETE containers/*": Route("container", completions.delete_container),
    **_routes("chat.completions", COMPLETIONS),
    "POST chat.completions": Route("chat_completion", completions.create_completion),
    "GET threads/*/runs": Route("run", assistants.list_runs, listing=True),
    "POST threads/*/runs": Route("run", assistants.create_run),
    "POST threads/*/runs/*/cancel": Route("run", assistants.cancel_run),
    "POST threads": Route("thread", assistants.create_thread),
    "GET threads/*": Route("thread", assistants.read_thread),
    "POST threads/*": Route("thread", assistants.update_thread),
    "DELETE threads/*": Route("thread", assistants.delete_thread),
    "GET threads/*/messages": Route("message", assistants.list_messages, listing=True),
    "POST threads/*/messages": Route("message", assistants.create_message),
    "GET threads/*/messages/*": Route("message", assistants.read_message),
    "DELETE threads/*/messages/*": Route("message", assistants.delete_message),
    "GET assistants": Route("assistant", assistants.list_assistants, listing=True),
    "POST assistants": Route("assistant", assistants.create_assistant),
    "GET assistants/*": Route("assistant", assistants.read_assistant),
    "POST assistants/*": Route("assistant", assistants.update_assistant),
    "DELETE assistants/*": Route("assistant", assistants.delete_assistant),
    "POST conversations": Route("conversation", conversations.create_conversation),
    "GET conversations/*": Route("conversation", conversations.read_conversation),
    "POST conversations/*": Route("conversation", conversations.update_conversation),
    "DELETE conversations/*": Route("conversation", conversations.delete_conversation),
    "GET conversations/*/items": Route("conversation_item", conversations.list_items, listing=True),
    "POST conversations/*/items": Route("conversation_item", conversations.create_items),
    "GET conversations/*/items/*": Route("conversation_item", conversations.read_item),
    "DELETE conversations/*/items/*": Route("conversation_item", conversations.delete_item),
}
_FIRST_IDS = {
    "threads": ("thread_id", "thread"),
    "assistants": ("assistant_id", "asst"),
    "conversations": ("conversation_id", "conv"),
    "vector_stores": ("vector_store_id", "vs_"),
    "responses": ("response_id", "resp"),
    "containers": ("container_id", "cntr"),
}
_FIXED: Headers = ((b"openai-organization", b"lapse-sandbox"), (b"openai-version", b"2020-10-01"))


def pattern_of(request: Request, prefix: str) -> tuple[str, tuple[str, ...]]:
    """Return a request's method and path with ``*`` for each id, and the ids."""
    segments = request.path[len(prefix) + 1 :].replace("chat/completions", "chat.completions", 1).split("/")
    pattern = "/".join([segment if at % 2 == 0 else "*" for at, segment in enumerate(segments)])
    ids = tuple(segments[1::2])
    return f"{request.method} {pattern}", tuple(unquote(each) for each in ids) if "%" in request.path else ids


class OpenAI:
    """The dialect of api.openai.com and of servers compatible with it."""

    name = "openai"
    prefix = "/v1"
    holds: type[Project] = Project

    def route(self, request: Request) -> ApiCall:
        """Return the call a request stands for; an unknown route is answered ``Invalid URL``."""
        pattern, ids = pattern_of(request, self.prefix)
        found = ROUTES.get(pattern)
        if found is None or not all(ids):
            return ApiCall("", (), False, _no_such_route)
        return ApiCall(found.kind, ids, found.listing, found.run)

    def refuse(self, request: Request, call: ApiCall, world: World) -> Response | None:
        """Return the refusal of a request without a known key, the beta header or an id of the right form."""
        authorization = request.header(b"authorization")
        if world.opened_by(authorization) is None:
            return _bad_key(authorization)
        if call.kind in BETA_KINDS and b"assistants=v2" not in request.header(b"openai-beta"):
            return refusal(400, NO_BETA, "refused", code="invalid_beta")
        return self.malformed(request, call)

    def malformed(self, request: Request, call: ApiCall) -> Response | None:
        """Return the refusal of an id that does not begin as its kind's do."""
        if not call.ids:
            return None
        param, prefix = _FIRST_IDS.get(request.path[len(self.prefix) + 1 :].partition("/")[0], ("", ""))
        if call.ids[0].startswith(prefix):
            return None
        message = f"Invalid '{param}': '{call.ids[0]}'. Expected an ID that begins with '{prefix}'."
        return refusal(400, message, "refused", param=param, code="invalid_value")

    def project(self, request: Request, world: World) -> Project | None:
        """Return the project of the request's key."""
        return world.opened_by(request.header(b"authorization"))

    def headers(self, request_id: str, milliseconds: int) -> Headers:
        """Return the provider's own headers."""
        own = ((b"x-request-id", request_id.encode()), (b"openai-processing-ms", b"%d" % milliseconds))
        return _FIXED + own

    def error(
        self, status: int, message: str | None = None, *, code: str | None = None, kind: str | None = None
    ) -> bytes:
        """Return OpenAI's error envelope; ``code="insufficient_quota"`` is the 429 that no retry heals."""
        usual = USUAL.get(status, (f"The request failed with status {status}.", "invalid_request_error", None))
        if code == "insufficient_quota":
            usual = (QUOTA, "insufficient_quota", code)
        body = {
            "message": message or usual[0],
            "type": kind or usual[1],
            "param": None,
            "code": (usual[2] if code is None else code) or None,
        }
        return encode({"error": body}).encode()


def _no_such_route(request: Request, _project: Project, _ids: tuple[str, ...]) -> Response:
    return refusal(404, f"Invalid URL ({request.method} {request.path})", "no_route")


def _bad_key(authorization: bytes) -> Response:
    key = authorization.decode("latin-1").removeprefix("Bearer").strip()
    if not key:
        return refusal(401, NO_KEY, "refused")
    shown = f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 12 else "*" * 8
    message = f"Incorrect API key provided: {shown}. You can find your API key in the dashboard."
    return refusal(401, message, "refused", code="invalid_api_key")
