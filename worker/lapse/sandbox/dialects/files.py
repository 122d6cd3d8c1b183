"""Files, and vector stores with the files in them.

Deleting a vector store leaves its files; deleting a file takes it out of every vector store. A store whose file was
deleted without taking it out first goes on counting it (github.com/openai/openai-dotnet/issues/540).
"""

from email import message_from_bytes
from email.message import Message

from lapse.sandbox.bodies import read, refuse
from lapse.sandbox.dialects.collections import Collection
from lapse.sandbox.paging import Window, page, window
from lapse.sandbox.state import Project, Stored, alnum_ids, hex_ids, now
from lapse.sandbox.wire import Json, Request, Response, answer, refusal

DAY = 86_400
MOST_LISTED = 10_000


def new_file(id_: str, given: Json, created_at: int | None = None) -> Stored:
    """Return a file as ``POST /files`` makes it; ``given`` has purpose, filename, bytes, and perhaps expires_at."""
    made = now() if created_at is None else created_at
    body = {
        "id": id_,
        "object": "file",
        "bytes": given.get("bytes", 0),
        "created_at": made,
        "expires_at": given.get("expires_at"),
        "filename": given.get("filename") or "file.txt",
        "purpose": given.get("purpose") or "assistants",
        "status": "processed",
        "status_details": None,
    }
    return Stored(body)


def new_vector_store(id_: str, given: Json, created_at: int | None = None) -> Stored:
    """Return a vector store as ``POST /vector_stores`` makes it."""
    made = now() if created_at is None else created_at
    active = given.get("last_active_at") or made
    after = given.get("expires_after")
    body = {
        "id": id_,
        "object": "vector_store",
        "created_at": made,
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
    make=lambda given: new_file(alnum_ids("file-", 1, 22)[0], given),
    updates=(),
    largest=MOST_LISTED,
    usual=MOST_LISTED,
    param="id",
)
VECTOR_STORES = Collection(
    "vector_store",
    "No vector store found with id '{id}'.",
    "vector_store.deleted",
    make=lambda given: new_vector_store(hex_ids("vs_", 1, 32)[0], given),
    show=show_vector_store,
    updates=("name", "metadata", "expires_after"),
)


def upload(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    """``POST /files``: a form with the file and its purpose."""
    form = _form(request)
    if "purpose" not in form:
        raise refuse("'purpose' is a required property", "purpose", None)
    given: Json = {"purpose": form["purpose"].get_payload(), "filename": form["file"].get_filename()}
    given["bytes"] = len(form["file"].get_payload(decode=True) or b"")
    if seconds := form.get("expires_after[seconds]"):
        given["expires_at"] = now() + int(str(seconds.get_payload()))
    stored = FILES.make(given)
    project.kept["file"][stored.body["id"]] = stored
    return answer(stored.body, "created", executed=True)


def attach(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /vector_stores/{id}/files``."""
    stored = project.kept["vector_store"].get(ids[0])
    if stored is None:
        return VECTOR_STORES.missing(ids[0])
    file_id = read(request).get("file_id")
    if file_id not in project.kept["file"]:
        return FILES.missing(str(file_id))
    return answer(_attach(stored, file_id), "created", executed=True)


def list_attached(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /vector_stores/{id}/files``: without those whose file was deleted."""
    stored = project.kept["vector_store"].get(ids[0])
    if stored is None:
        return VECTOR_STORES.missing(ids[0])
    asked = window(request)
    there = {id_: body for id_, body in stored.children.items() if id_ in project.kept["file"]}
    missing = lambda id_: _not_attached(id_, ids[0])  # noqa: E731 - a cursor is answered like an id
    return page(there, there.__getitem__, asked, missing) if isinstance(asked, Window) else asked


def detach(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``DELETE /vector_stores/{id}/files/{file}``: the file itself stays."""
    stored = project.kept["vector_store"].get(ids[0])
    if stored is None:
        return VECTOR_STORES.missing(ids[0])
    if stored.children.pop(ids[1], None) is None:
        return _not_attached(ids[1], ids[0])
    return answer({"id": ids[1], "object": "vector_store.file.deleted", "deleted": True}, "deleted", executed=True)


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


def _not_attached(file_id: str, store_id: str) -> Response:
    return refusal(404, f"No file found with id '{file_id}' in vector store '{store_id}'.", "unknown")


def _form(request: Request) -> dict[str, Message]:
    head = b"Content-Type: " + request.header(b"content-type") + b"\r\n\r\n"
    parts = message_from_bytes(head + request.body).get_payload()
    if not isinstance(parts, list):
        raise refuse("We could not parse your multipart form.", None, None)
    named = [part for part in parts if isinstance(part, Message)]
    return {str(part.get_param("name", header="content-disposition")): part for part in named}
