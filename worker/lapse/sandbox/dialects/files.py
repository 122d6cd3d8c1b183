"""Files, and vector stores with the files in them.

Deleting a vector store leaves its files; deleting a file takes it out of every vector store. A store whose file was
deleted without taking it out first goes on counting it (github.com/openai/openai-dotnet/issues/540).
"""

from email import message_from_bytes
from email.message import Message
from functools import partial

from lapse.sandbox.bodies import read
from lapse.sandbox.dialects.collections import Collection, Inside
from lapse.sandbox.paging import Window
from lapse.sandbox.state import Json, Project, Stored, alnum_ids, hex_ids, now
from lapse.sandbox.wire import ApiRequest, ApiResponse, answer, refusal

DAY = 86_400
MOST_LISTED = 10_000


def new_file(id_: str, given: Json, created_at: int) -> Stored:
    """Return a file as ``POST /files`` makes it; ``given`` has purpose, filename, bytes, and perhaps expires_at."""
    body = {
        "id": id_,
        "object": "file",
        "bytes": given.get("bytes", 0),
        "created_at": created_at,
        "expires_at": given.get("expires_at"),
        "filename": given.get("filename") or "file.txt",
        "purpose": given.get("purpose") or "assistants",
        "status": "processed",
        "status_details": None,
    }
    return Stored(body)


def new_vector_store(id_: str, given: Json, created_at: int) -> Stored:
    """Return a vector store as ``POST /vector_stores`` makes it."""
    active = given.get("last_active_at") or created_at
    after = given.get("expires_after")
    body = {
        "id": id_,
        "object": "vector_store",
        "created_at": created_at,
        "name": given.get("name") or "",
        "usage_bytes": 0,
        "status": "completed",
        "expires_after": after,
        "expires_at": active + after["days"] * DAY if after else None,
        "last_active_at": active,
        "metadata": given.get("metadata") or {},
    }
    stored = Stored(body)
    for file_id in given.get("file_ids") or []:
        _attach(stored, file_id)
    return stored


def show_vector_store(stored: Stored) -> Json:
    """Return a vector store as it stands now: past its expiry it is expired, and stays."""
    expired = stored.body["expires_at"] is not None and stored.body["expires_at"] <= now()
    total = len(stored.children)
    counts = {"in_progress": 0, "completed": total, "failed": 0, "cancelled": 0, "total": total}
    return stored.body | {"status": "expired" if expired else stored.body["status"], "file_counts": counts}


FILES = Collection(
    "file",
    "No such File object: {id}",
    "file",
    partial(alnum_ids, "file-", length=22),
    new_file,
    updates=(),
    window=Window(MOST_LISTED, MOST_LISTED),
    param="id",
)
VECTOR_STORES = Collection(
    "vector_store",
    "No vector store found with id '{id}'.",
    "vector_store.deleted",
    partial(hex_ids, "vs_", length=32),
    new_vector_store,
    show=show_vector_store,
    updates=("name", "metadata", "expires_after"),
)
# Deleted, the file itself stays; a list is without those whose file was deleted.
ATTACHED = Inside(
    VECTOR_STORES,
    "vector_store_file",
    "No file found with id '{id}' in vector store '{parent}'.",
    "vector_store.file.deleted",
    shown=lambda project, id_: id_ in project.kept["file"],
)


def upload(request: ApiRequest, project: Project, _ids: tuple[str, ...]) -> ApiResponse:
    """``POST /files``: a form with the file and its purpose."""
    form = _form(request)
    if "purpose" not in form:
        raise refusal(400, "'purpose' is a required property", param="purpose")
    given: Json = {"purpose": form["purpose"].get_payload(), "filename": form["file"].get_filename()}
    given["bytes"] = len(form["file"].get_payload(decode=True) or b"")
    if seconds := form.get("expires_after[seconds]"):
        given["expires_at"] = now() + int(str(seconds.get_payload()))
    return answer(FILES.add(project, given).body, "created", executed=True)


def attach(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /vector_stores/{id}/files``."""
    stored = VECTOR_STORES.find(project, ids[0])
    file_id = read(request).get("file_id")
    FILES.find(project, str(file_id))
    return answer(_attach(stored, str(file_id)), "created", executed=True)


def _attach(stored: Stored, file_id: str) -> Json:
    stored.children[file_id] = {
        "id": file_id,
        "object": "vector_store.file",
        "created_at": now(),
        "usage_bytes": 0,
        "status": "completed",
        "vector_store_id": stored.body["id"],
        "last_error": None,
        "attributes": {},
    }
    return stored.children[file_id]


def _form(request: ApiRequest) -> dict[str, Message]:
    head = f"Content-Type: {request.header('content-type')}\r\n\r\n".encode("latin-1")
    parts = message_from_bytes(head + request.content).get_payload()
    if not isinstance(parts, list):
        raise refusal(400, "We could not parse your multipart form.")
    named = [part for part in parts if isinstance(part, Message)]
    return {str(part.get_param("name", header="content-disposition")): part for part in named}
