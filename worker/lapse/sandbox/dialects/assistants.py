"""The Assistants shape: threads with messages and runs, and assistants; bodies as OpenAI's beta v2 had them.

Texts that no public source shows are marked "assumed".
"""

from functools import partial

from lapse.sandbox.bodies import missing, mistyped, read
from lapse.sandbox.dialects.collections import Collection, Inside
from lapse.sandbox.paging import USUAL
from lapse.sandbox.state import Json, Project, Stored, alnum_ids, now
from lapse.sandbox.wire import ApiRequest, ApiResponse, answer, refusal

ASSISTANT_FIELDS = (
    "name",
    "description",
    "instructions",
    "tool_resources",
    "temperature",
    "top_p",
    "reasoning_effort",
)


def new_thread(id_: str, given: Json, created_at: int) -> Stored:
    """Return a thread as ``POST /threads`` makes it, with messages if it brings some."""
    body = {
        "id": id_,
        "object": "thread",
        "created_at": created_at,
        "metadata": given.get("metadata") or {},
        "tool_resources": given.get("tool_resources") or {},
    }
    stored = Stored(body)
    for message in given.get("messages") or []:
        _add_message(stored, message)
    return stored


def new_assistant(id_: str, given: Json, created_at: int) -> Stored:
    """Return an assistant as ``POST /assistants`` makes it: the model is required."""
    if not given.get("model"):
        raise missing("model")
    body: Json = {"id": id_, "object": "assistant", "created_at": created_at, "model": given["model"]}
    body |= {name: given.get(name) for name in ASSISTANT_FIELDS}
    body |= {"tools": given.get("tools") or [], "metadata": given.get("metadata") or {}}
    return Stored(body | {"response_format": given.get("response_format", "auto")})


def new_run(id_: str, given: Json, created_at: int) -> Stored:
    """Return a run as ``POST /threads/{id}/runs`` makes it: it stays in progress until it is cancelled."""
    body = {
        "id": id_,
        "object": "thread.run",
        "created_at": created_at,
        "thread_id": given["thread_id"],
        "status": "in_progress",
        "assistant_id": given.get("assistant_id"),
        "metadata": given.get("metadata") or {},
    }
    return Stored(body)


THREADS = Collection(
    "thread",
    "No thread found with id '{id}'.",
    "thread.deleted",
    partial(alnum_ids, "thread_"),
    new_thread,
    updates=("metadata", "tool_resources"),
    needs="",
)
ASSISTANTS = Collection(
    "assistant",
    "No assistant found with id '{id}'.",
    "assistant.deleted",
    partial(alnum_ids, "asst_"),
    new_assistant,
    updates=(*ASSISTANT_FIELDS, "model", "tools", "metadata", "response_format"),
    needs="",
)
RUNS = Collection("run", "No run found with id '{id}'.", "", partial(alnum_ids, "run_"), new_run)
# Its unknown id is assumed, after the thread's.
MESSAGES = Inside(THREADS, "message", "No message found with id '{id}'.", "thread.message.deleted")


def create_message(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /threads/{id}/messages``."""
    given = read(request)
    return answer(_add_message(THREADS.find(project, ids[0]), given), "created", executed=True)


def create_run(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /threads/{id}/runs``."""
    given = read(request)
    THREADS.find(project, ids[0])
    return answer(RUNS.add(project, given | {"thread_id": ids[0]}).body, "created", executed=True)


def list_runs(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``GET /threads/{id}/runs``."""
    THREADS.find(project, ids[0])
    own = {id_: run.body for id_, run in project.kept["run"].items() if run.body["thread_id"] == ids[0]}
    return USUAL.page(request, own, own.__getitem__, RUNS.missing)


def cancel_run(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /threads/{id}/runs/{run}/cancel``."""
    run = RUNS.find(project, ids[1])
    run.body["status"] = "cancelled"
    return answer(run.body, "updated", executed=True)


def _add_message(stored: Stored, given: object) -> Json:
    if not isinstance(given, dict):
        raise mistyped("messages", "an array of objects")
    role, content = given.get("role"), given.get("content")
    if role not in {"user", "assistant"}:
        message = f"Invalid value: '{role}'. Supported values are: 'user' and 'assistant'."
        raise refusal(400, message, param="role", code="invalid_value")
    if isinstance(content, str):
        content = [{"type": "text", "text": {"value": content, "annotations": []}}]
    [id_] = alnum_ids("msg_", 1)
    stored.children[id_] = {
        "id": id_,
        "object": "thread.message",
        "created_at": now(),
        "thread_id": stored.body["id"],
        "assistant_id": None,
        "run_id": None,
        "role": role,
        "content": content or [],
        "attachments": given.get("attachments") or [],
        "metadata": given.get("metadata") or {},
        "status": "completed",
    }
    return stored.children[id_]
