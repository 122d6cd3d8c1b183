"""The Assistants shape: threads with messages, and assistants; bodies as OpenAI's beta v2 had them.

Texts that no public source shows are marked "assumed".
"""

from lapse.sandbox.bodies import read, refuse
from lapse.sandbox.paging import Window, page, window
from lapse.sandbox.state import Project, Stored, alnum_ids, now
from lapse.sandbox.wire import Json, Request, Response, answer, refusal

ASSISTANT_FIELDS = (
    "name",
    "description",
    "instructions",
    "tool_resources",
    "temperature",
    "top_p",
    "reasoning_effort",
)


def unknown_thread(id_: str) -> Response:
    """Return the provider's answer to a thread id it does not know."""
    return refusal(404, f"No thread found with id '{id_}'.", "unknown")


def unknown_assistant(id_: str) -> Response:
    """Return the provider's answer to an assistant id it does not know."""
    return refusal(404, f"No assistant found with id '{id_}'.", "unknown")


def unknown_message(id_: str) -> Response:
    """Return the answer to a message id that its thread does not have (assumed, after the thread's)."""
    return refusal(404, f"No message found with id '{id_}'.", "unknown")


def unknown_run(id_: str) -> Response:
    """Return the provider's answer to a run id it does not know."""
    return refusal(404, f"No run found with id '{id_}'.", "unknown")


def new_thread(
    id_: str, metadata: Json | None = None, tool_resources: Json | None = None, created_at: int | None = None
) -> Stored:
    """Return a thread as ``POST /threads`` makes it."""
    made = now() if created_at is None else created_at
    body = {
        "id": id_,
        "object": "thread",
        "created_at": made,
        "metadata": metadata or {},
        "tool_resources": tool_resources or {},
    }
    return Stored(body)


def new_assistant(id_: str, given: Json, created_at: int | None = None) -> Stored:
    """Return an assistant as ``POST /assistants`` makes it; ``given`` is the request's body."""
    made = now() if created_at is None else created_at
    body: Json = {"id": id_, "object": "assistant", "created_at": made, "model": given["model"]}
    body |= {name: given.get(name) for name in ASSISTANT_FIELDS}
    body |= {"tools": given.get("tools") or [], "metadata": given.get("metadata") or {}}
    return Stored(body | {"response_format": given.get("response_format", "auto")})


def create_thread(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    """``POST /threads``, with messages if it brings some."""
    given = read(request)
    [id_] = alnum_ids("thread_", 1)
    stored = new_thread(id_, given.get("metadata"), given.get("tool_resources"))
    for message in given.get("messages") or []:
        _add_message(stored, message)
    project.kept["thread"][id_] = stored
    return answer(stored.body, "created", executed=True)


def read_thread(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /threads/{id}``."""
    stored = project.kept["thread"].get(ids[0])
    return unknown_thread(ids[0]) if stored is None else answer(stored.body, "read")


def update_thread(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /threads/{id}``: metadata and tool resources."""
    given = read(request)
    stored = project.kept["thread"].get(ids[0])
    if stored is None:
        return unknown_thread(ids[0])
    return _update(stored, given, ("metadata", "tool_resources"))


def delete_thread(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``DELETE /threads/{id}``: the messages in it go with it."""
    if project.kept["thread"].pop(ids[0], None) is None:
        return unknown_thread(ids[0])
    return answer({"id": ids[0], "object": "thread.deleted", "deleted": True}, "deleted", executed=True)


def create_message(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /threads/{id}/messages``."""
    given = read(request)
    stored = project.kept["thread"].get(ids[0])
    if stored is None:
        return unknown_thread(ids[0])
    return answer(_add_message(stored, given), "created", executed=True)


def list_messages(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /threads/{id}/messages``."""
    stored = project.kept["thread"].get(ids[0])
    if stored is None:
        return unknown_thread(ids[0])
    asked = window(request)
    return (
        page(stored.children, stored.children.__getitem__, asked, unknown_message)
        if isinstance(asked, Window)
        else asked
    )


def read_message(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /threads/{id}/messages/{message}``."""
    stored = project.kept["thread"].get(ids[0])
    if stored is None:
        return unknown_thread(ids[0])
    message = stored.children.get(ids[1])
    return unknown_message(ids[1]) if message is None else answer(message, "read")


def delete_message(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``DELETE /threads/{id}/messages/{message}``."""
    stored = project.kept["thread"].get(ids[0])
    if stored is None:
        return unknown_thread(ids[0])
    if stored.children.pop(ids[1], None) is None:
        return unknown_message(ids[1])
    return answer({"id": ids[1], "object": "thread.message.deleted", "deleted": True}, "deleted", executed=True)


def create_run(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /threads/{id}/runs``: it stays in progress until it is cancelled."""
    given = read(request)
    if ids[0] not in project.kept["thread"]:
        return unknown_thread(ids[0])
    [id_] = alnum_ids("run_", 1)
    body: Json = {
        "id": id_,
        "object": "thread.run",
        "created_at": now(),
        "thread_id": ids[0],
        "status": "in_progress",
        "assistant_id": given.get("assistant_id"),
        "metadata": given.get("metadata") or {},
    }
    project.kept["run"][id_] = Stored(body)
    return answer(body, "created", executed=True)


def list_runs(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /threads/{id}/runs``."""
    if ids[0] not in project.kept["thread"]:
        return unknown_thread(ids[0])
    asked = window(request)
    own = {id_: run.body for id_, run in project.kept["run"].items() if run.body["thread_id"] == ids[0]}
    return page(own, own.__getitem__, asked, unknown_run) if isinstance(asked, Window) else asked


def cancel_run(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /threads/{id}/runs/{run}/cancel``."""
    run = project.kept["run"].get(ids[1])
    if run is None:
        return unknown_run(ids[1])
    run.body["status"] = "cancelled"
    return answer(run.body, "updated", executed=True)


def create_assistant(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    """``POST /assistants``: the model is required."""
    given = read(request)
    if not given.get("model"):
        raise refuse("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    [id_] = alnum_ids("asst_", 1)
    stored = project.kept["assistant"][id_] = new_assistant(id_, given)
    return answer(stored.body, "created", executed=True)


def list_assistants(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    """``GET /assistants``."""
    asked = window(request)
    kept = project.kept["assistant"]
    return page(kept, lambda id_: kept[id_].body, asked, unknown_assistant) if isinstance(asked, Window) else asked


def read_assistant(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /assistants/{id}``."""
    stored = project.kept["assistant"].get(ids[0])
    return unknown_assistant(ids[0]) if stored is None else answer(stored.body, "read")


def update_assistant(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /assistants/{id}``."""
    given = read(request)
    stored = project.kept["assistant"].get(ids[0])
    if stored is None:
        return unknown_assistant(ids[0])
    return _update(stored, given, (*ASSISTANT_FIELDS, "model", "tools", "metadata", "response_format"))


def delete_assistant(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``DELETE /assistants/{id}``: its threads stay."""
    if project.kept["assistant"].pop(ids[0], None) is None:
        return unknown_assistant(ids[0])
    return answer({"id": ids[0], "object": "assistant.deleted", "deleted": True}, "deleted", executed=True)


def _update(stored: Stored, given: Json, fields: tuple[str, ...]) -> Response:
    stored.body |= {name: given[name] for name in fields if name in given}
    return answer(stored.body, "updated", executed=True)


def _add_message(stored: Stored, given: object) -> Json:
    if not isinstance(given, dict):
        raise refuse("Invalid type for 'messages': expected an array of objects.", "messages", "invalid_type")
    role, content = given.get("role"), given.get("content")
    if role not in {"user", "assistant"}:
        raise refuse(f"Invalid value: '{role}'. Supported values are: 'user' and 'assistant'.", "role", "invalid_value")
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
