"""OpenAI's dialect under /v1: threads with messages and runs, assistants, conversations with items, files, vector
stores, responses, containers and stored chat completions.

Checks are made in this order: route, key, beta header, form of the id, object.
Not here: lists of threads, conversations and responses, which the provider does not have either.
"""

from lapse.sandbox.dialects import assistants, completions, conversations, files
from lapse.sandbox.dialects.assistants import ASSISTANTS, MESSAGES, THREADS
from lapse.sandbox.dialects.completions import COMPLETIONS, CONTAINERS, RESPONSES
from lapse.sandbox.dialects.conversations import CONVERSATIONS, ITEMS
from lapse.sandbox.dialects.files import ATTACHED, FILES, VECTOR_STORES
from lapse.sandbox.state import Project, World
from lapse.sandbox.wire import (
    ApiCall,
    ApiDialect,
    ApiError,
    ApiRequest,
    ApiResponse,
    Headers,
    Routes,
    encode,
    refusal,
)

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


ROUTES = {
    **FILES.routes("/files"),
    "POST /files": ApiCall("file", files.upload),
    **VECTOR_STORES.routes("/vector_stores"),
    "GET /vector_stores/{id}/files": ApiCall("vector_store_file", ATTACHED.list, listing=True),
    "POST /vector_stores/{id}/files": ApiCall("vector_store_file", files.attach),
    "DELETE /vector_stores/{id}/files/{file}": ApiCall("vector_store_file", ATTACHED.delete),
    **RESPONSES.routes("/responses", listing=False),
    "POST /responses/{id}/cancel": ApiCall("response", completions.cancel_response),
    **CONTAINERS.routes("/containers"),
    "GET /containers/{id}": ApiCall("container", completions.read_container),
    **COMPLETIONS.routes("/chat/completions"),
    "POST /chat/completions": ApiCall("chat_completion", completions.create_completion),
    **THREADS.routes("/threads", listing=False),
    "GET /threads/{id}/runs": ApiCall("run", assistants.list_runs, listing=True),
    "POST /threads/{id}/runs": ApiCall("run", assistants.create_run),
    "POST /threads/{id}/runs/{run}/cancel": ApiCall("run", assistants.cancel_run),
    "GET /threads/{id}/messages": ApiCall("message", MESSAGES.list, listing=True),
    "POST /threads/{id}/messages": ApiCall("message", assistants.create_message),
    "GET /threads/{id}/messages/{message}": ApiCall("message", MESSAGES.retrieve),
    "DELETE /threads/{id}/messages/{message}": ApiCall("message", MESSAGES.delete),
    **ASSISTANTS.routes("/assistants"),
    **CONVERSATIONS.routes("/conversations", listing=False),
    "POST /conversations/{id}": ApiCall("conversation", conversations.update_conversation),
    "GET /conversations/{id}/items": ApiCall("conversation_item", ITEMS.list, listing=True),
    "POST /conversations/{id}/items": ApiCall("conversation_item", conversations.create_items),
    "GET /conversations/{id}/items/{item}": ApiCall("conversation_item", ITEMS.retrieve),
    "DELETE /conversations/{id}/items/{item}": ApiCall("conversation_item", ITEMS.delete),
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


class OpenAI(ApiDialect):
    """The dialect of api.openai.com and of servers compatible with it."""

    name = "openai"
    prefix = "/v1"
    routes = Routes(ROUTES)

    def no_route(self, request: ApiRequest) -> ApiResponse:
        """Return ``Invalid URL``."""
        return refusal(404, f"Invalid URL ({request.method} {request.path})", "no_route").answer

    def check(self, request: ApiRequest, call: ApiCall, world: World) -> Project:
        """Refuse a request without a known key, the beta header or an id of the right form."""
        authorization = request.header("authorization")
        project = world.opened_by(authorization)
        if project is None:
            raise _bad_key(authorization)
        if call.kind in BETA_KINDS and "assistants=v2" not in request.header("openai-beta"):
            raise refusal(400, NO_BETA, code="invalid_beta")
        self.check_id(request, call)
        return project

    def check_id(self, request: ApiRequest, call: ApiCall) -> None:
        """Refuse an id that does not begin as its kind's do."""
        if not call.ids:
            return
        param, prefix = _FIRST_IDS.get(request.path[len(self.prefix) + 1 :].partition("/")[0], ("", ""))
        if not call.ids[0].startswith(prefix):
            message = f"Invalid '{param}': '{call.ids[0]}'. Expected an ID that begins with '{prefix}'."
            raise refusal(400, message, param=param, code="invalid_value")

    def headers(self, request_id: str, milliseconds: int) -> Headers:
        """Return the provider's own headers."""
        own = ((b"x-request-id", request_id.encode()), (b"openai-processing-ms", b"%d" % milliseconds))
        return _FIXED + own

    def error(self, status: int, message: str | None, code: str | None, kind: str | None) -> bytes:
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


def _bad_key(authorization: str) -> ApiError:
    key = authorization.removeprefix("Bearer").strip()
    if not key:
        return refusal(401, NO_KEY)
    shown = f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 12 else "*" * 8
    message = f"Incorrect API key provided: {shown}. You can find your API key in the dashboard."
    return refusal(401, message, code="invalid_api_key")
