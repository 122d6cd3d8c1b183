"""Responses, containers and stored chat completions."""

from lapse.sandbox.dialects.collections import Collection
from lapse.sandbox.state import Project, Stored, alnum_ids, hex_ids, now
from lapse.sandbox.wire import Json, Request, Response, answer, refusal

MINUTE = 60
IDLE_MINUTES = 20
LINGER = 180
"""Seconds for which a deleted container stays in the list: minutes were reported (unslothai/unsloth pull 5466)."""

_CANCELLABLE = frozenset({"queued", "in_progress"})


def new_response(id_: str, given: Json, created_at: int | None = None) -> Stored:
    """Return a response as ``POST /responses`` makes it; in the background it is in progress until cancelled."""
    made = now() if created_at is None else created_at
    background = bool(given.get("background"))
    body: Json = {
        "id": id_,
        "object": "response",
        "created_at": made,
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


def new_container(id_: str, given: Json, created_at: int | None = None) -> Stored:
    """Return a container as ``POST /containers`` makes it."""
    made = now() if created_at is None else created_at
    body = {
        "id": id_,
        "object": "container",
        "created_at": made,
        "status": "running",
        "expires_after": given.get("expires_after") or {"anchor": "last_active_at", "minutes": IDLE_MINUTES},
        "last_active_at": given.get("last_active_at") or made,
        "memory_limit": "1g",
        "name": given.get("name") or "container",
    }
    return Stored(body)


def show_container(stored: Stored) -> Json:
    """Return a container as it stands now: idle for too long it is expired, and stays listed."""
    idle = now() - stored.body["last_active_at"]
    expired = idle >= stored.body["expires_after"]["minutes"] * MINUTE
    return stored.body | ({"status": "expired"} if expired else {})


def new_completion(id_: str, given: Json, created_at: int | None = None) -> Stored:
    """Return a chat completion as ``POST /chat/completions`` with ``store`` makes it."""
    made = now() if created_at is None else created_at
    message: Json = {"role": "assistant", "content": "seeded", "refusal": None, "annotations": []}
    body = {
        "id": id_,
        "object": "chat.completion",
        "created": made,
        "model": given.get("model") or "sandbox",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        "metadata": given.get("metadata") or {},
    }
    return Stored(body)


RESPONSES = Collection(
    "response",
    "Response with id '{id}' not found.",
    "response",
    make=lambda given: new_response(hex_ids("resp_", 1)[0], given),
    updates=(),
)
CONTAINERS = Collection(
    "container",
    "Container with id '{id}' not found.",
    "container.deleted",
    make=lambda given: new_container(hex_ids("cntr_", 1)[0], given),
    show=show_container,
    updates=(),
)
# Its words are assumed: no public source shows them, and lapse does not know them.
COMPLETIONS = Collection(
    "chat_completion",
    "Chat completion {id} was not found.",
    "chat.completion.deleted",
    make=lambda given: new_completion(alnum_ids("chatcmpl-", 1, 29)[0], given),
    ascending=True,
)


def cancel_response(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /responses/{id}/cancel``: of one made in the background."""
    stored = project.kept["response"].get(ids[0])
    if stored is None:
        return RESPONSES.missing(ids[0])
    if not stored.body["background"]:
        message = "Cannot cancel a synchronous response. Only background responses can be cancelled."
        return refusal(400, message, "refused")
    if stored.body["status"] in _CANCELLABLE:
        stored.body["status"] = "cancelled"
    return answer(stored.body, "updated", executed=True)


def read_container(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /containers/{id}``: which counts as activity, unless it has expired."""
    stored = project.kept["container"].get(ids[0])
    if stored and show_container(stored)["status"] == "running":
        stored.body["last_active_at"] = now()
    return CONTAINERS.retrieve(request, project, ids)


def delete_container(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``DELETE /containers/{id}``: the list goes on showing it for a while."""
    stored = project.kept["container"].get(ids[0])
    done = CONTAINERS.delete(request, project, ids)
    if stored and done.executed:
        project.lingering["container"] = project.lingering.get("container", {}) | {ids[0]: (now() + LINGER, stored)}
    return done


def create_completion(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /chat/completions``: kept only with ``store``."""
    made = COMPLETIONS.create(request, project, ids)
    if b'"store":true' not in request.body.replace(b" ", b""):
        del project.kept["chat_completion"][next(reversed(project.kept["chat_completion"]))]
    return made


def _conversation(given: object) -> Json | None:
    return {"id": given} if isinstance(given, str) else given if isinstance(given, dict) else None
