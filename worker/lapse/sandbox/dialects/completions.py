"""Responses, containers and stored chat completions."""

from functools import partial

from lapse.sandbox.bodies import read
from lapse.sandbox.dialects.collections import Collection
from lapse.sandbox.paging import Window
from lapse.sandbox.state import Json, Project, Stored, alnum_ids, hex_ids, now
from lapse.sandbox.wire import ApiRequest, ApiResponse, answer, refusal

MINUTE = 60
IDLE_MINUTES = 20
LINGER = 180
"""Seconds for which a deleted container stays in the list: minutes were reported (unslothai/unsloth pull 5466)."""

_CANCELLABLE = frozenset({"queued", "in_progress"})


def new_response(id_: str, given: Json, created_at: int) -> Stored:
    """Return a response as ``POST /responses`` makes it; in the background it is in progress until cancelled."""
    background = bool(given.get("background"))
    body: Json = {
        "id": id_,
        "object": "response",
        "created_at": created_at,
        "status": given.get("status") or ("in_progress" if background else "completed"),
        "background": background,
        "error": None,
        "incomplete_details": None,
        "instructions": given.get("instructions"),
        "model": given.get("model") or "sandbox",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "previous_response_id": given.get("previous_response_id"),
        "conversation": _conversation(given.get("conversation")),
        "store": True,
        "metadata": given.get("metadata") or {},
    }
    return Stored(body)


def new_container(id_: str, given: Json, created_at: int) -> Stored:
    """Return a container as ``POST /containers`` makes it."""
    body = {
        "id": id_,
        "object": "container",
        "created_at": created_at,
        "status": "running",
        "expires_after": given.get("expires_after") or {"anchor": "last_active_at", "minutes": IDLE_MINUTES},
        "last_active_at": given.get("last_active_at") or created_at,
        "memory_limit": "1g",
        "name": given.get("name") or "container",
    }
    return Stored(body)


def show_container(stored: Stored) -> Json:
    """Return a container as it stands now: idle for too long it is expired, and stays listed."""
    idle = now() - stored.body["last_active_at"]
    expired = idle >= stored.body["expires_after"]["minutes"] * MINUTE
    return stored.body | ({"status": "expired"} if expired else {})


def new_completion(id_: str, given: Json, created_at: int) -> Stored:
    """Return a chat completion as ``POST /chat/completions`` with ``store`` makes it."""
    message: Json = {"role": "assistant", "content": "seeded", "refusal": None, "annotations": []}
    body = {
        "id": id_,
        "object": "chat.completion",
        "created": created_at,
        "model": given.get("model") or "sandbox",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        "metadata": given.get("metadata") or {},
    }
    return Stored(body)


def _linger(project: Project, stored: Stored) -> None:
    """Let the list go on showing a deleted container for a while."""
    late = {stored.body["id"]: (now() + LINGER, stored)}
    project.lingering["container"] = project.lingering.get("container", {}) | late


RESPONSES = Collection(
    "response",
    "Response with id '{id}' not found.",
    "response",
    partial(hex_ids, "resp_"),
    new_response,
    updates=(),
)
CONTAINERS = Collection(
    "container",
    "Container with id '{id}' not found.",
    "container.deleted",
    partial(hex_ids, "cntr_"),
    new_container,
    show=show_container,
    updates=(),
    leaves=_linger,
)
# Its words are assumed: no public source shows them, and lapse does not know them.
COMPLETIONS = Collection(
    "chat_completion",
    "Chat completion {id} was not found.",
    "chat.completion.deleted",
    partial(alnum_ids, "chatcmpl-", length=29),
    new_completion,
    window=Window(order="asc"),
)


def cancel_response(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /responses/{id}/cancel``: of one made in the background."""
    stored = RESPONSES.find(project, ids[0])
    if not stored.body["background"]:
        message = "Cannot cancel a synchronous response. Only background responses can be cancelled."
        raise refusal(400, message)
    if stored.body["status"] in _CANCELLABLE:
        stored.body["status"] = "cancelled"
    return answer(stored.body, "updated", executed=True)


def read_container(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``GET /containers/{id}``: which counts as activity, unless it has expired."""
    stored = CONTAINERS.find(project, ids[0])
    if show_container(stored)["status"] == "running":
        stored.body["last_active_at"] = now()
    return CONTAINERS.retrieve(request, project, ids)


def create_completion(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /chat/completions``: kept only with ``store``."""
    kept = read(request).get("store") is True
    return COMPLETIONS.create(request, project if kept else Project(), ids)


def _conversation(given: object) -> Json | None:
    return {"id": given} if isinstance(given, str) else given if isinstance(given, dict) else None
