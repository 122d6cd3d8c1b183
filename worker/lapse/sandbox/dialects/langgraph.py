"""LangGraph's dialect under /langgraph: threads with runs, and assistants, as langgraph-api 0.16.7 serves them.

Checks are made in this order: key, route, form of the id, object; what the two servers answer differently is asserted
in tests/servers. Assumed is only what a wrong key is answered with: the server that was looked at asks for none.
Runs do no work: one that was given ``{"input": {"seconds": 6}}`` keeps its thread busy for so long. Deleting the thread
does not end it, as there: ``run`` objects are the runs that still work, whether their thread exists or not.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from lapse.sandbox.bodies import BadRequest
from lapse.sandbox.state import Project, Stored, World
from lapse.sandbox.wire import ApiCall, Headers, Json, Request, Response, encode

GRAPH = "sandbox"
SYSTEM = str(uuid.uuid5(uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), GRAPH))
"""Id of the assistant that the server makes for the graph."""
LARGEST = 1000
USUAL = 10
FOREVER = float("inf")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SORTS = {
    "thread": ("thread_id", "status", "created_at", "updated_at", "state_updated_at"),
    "assistant": ("assistant_id", "created_at", "updated_at", "name", "graph_id"),
}
USUAL_DETAILS = {
    401: "Invalid API key",
    403: "Missing authentication headers",
    409: "Conflict",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class GraphProject(Project):
    """The objects of one deployment, with the assistant that the server makes for its graph."""

    def __init__(self) -> None:
        super().__init__()
        system = {"name": GRAPH, "metadata": {"created_by": "system"}}
        self.kept["assistant"][SYSTEM] = new_assistant(SYSTEM, system, time.time())

    def alive(self, kind: str) -> Iterable[str]:
        """Return the ids that exist of a kind; of runs, those that still work."""
        if kind == "run":
            return [id_ for id_, run in self.kept["run"].items() if run.body["until"] > time.time()]
        return super().alive(kind)


def new_thread(id_: str, given: Mapping[str, Any], created_at: float) -> Stored:
    """Return a thread as ``POST /threads`` makes it."""
    made = _iso(created_at)
    body = {
        "thread_id": id_,
        "created_at": made,
        "updated_at": made,
        "state_updated_at": made,
        "metadata": given.get("metadata") or {},
        "status": given.get("status") or "idle",
        "config": {},
        "values": None,
    }
    return Stored(body)


def new_assistant(id_: str, given: Mapping[str, Any], created_at: float) -> Stored:
    """Return an assistant as ``POST /assistants`` makes it."""
    made = _iso(created_at)
    body = {
        "assistant_id": id_,
        "graph_id": GRAPH,
        "config": {},
        "context": {},
        "metadata": given.get("metadata") or {},
        "name": given.get("name") or "Untitled",
        "created_at": made,
        "updated_at": made,
        "version": 1,
        "description": None,
    }
    return Stored(body)


def uuids(_prefix: str, count: int) -> list[str]:
    """Return fresh UUIDs."""
    return [str(uuid.uuid4()) for _ in range(count)]


class _Route(NamedTuple):
    kind: str
    run: Callable[[Request, Project, tuple[str, ...]], Response]
    listing: bool = False


class LangGraph:
    """The dialect of LangGraph's Agent Server."""

    name = "langgraph"
    prefix = "/langgraph"
    holds: type[Project] = GraphProject

    def route(self, request: Request) -> ApiCall:
        """Return the call a request stands for; an unknown route is answered ``Not Found``."""
        segments = request.path[len(self.prefix) + 1 :].split("/")
        fixed = f"{request.method} {'/'.join(segments)}" in _ROUTES
        ids = () if fixed else tuple(unquote(each) for each in segments[1::2])
        pattern = "/".join(segments if fixed else ["*" if at % 2 else word for at, word in enumerate(segments)])
        found = _ROUTES.get(f"{request.method} {pattern}")
        if found is None or not all(ids):
            known = any(route.endswith(f" {pattern}") for route in _ROUTES)
            return ApiCall("", (), False, _no_method if known else _no_route)
        return ApiCall(found.kind, ids, found.listing, found.run)

    def refuse(self, request: Request, call: ApiCall, world: World) -> Response | None:
        """Return the refusal of a request without a known key or an id of the right form."""
        if self.project(request, world) is None:
            return (
                _detail(401, USUAL_DETAILS[401]) if request.header(b"x-api-key") else _detail(403, USUAL_DETAILS[403])
            )
        for id_, what in zip(call.ids, (call.kind if len(call.ids) == 1 else "thread", "run"), strict=False):
            if not _UUID.fullmatch(id_):
                return _detail(422, f"Invalid {what} ID: must be a UUID")
        return None

    def project(self, request: Request, world: World) -> Project | None:
        """Return the project of the request's key; a server that has none asks for none."""
        key = request.header(b"x-api-key") or (b"" if world.locked else b"any")
        return world.opened_by(b"Bearer " + key)

    def headers(self, _request_id: str, _milliseconds: int) -> Headers:
        """Return no header: the server sends none of its own."""
        return ()

    def error(
        self, status: int, message: str | None = None, *, code: str | None = None, kind: str | None = None
    ) -> bytes:
        """Return ``{"detail": ...}``; there are no codes and types."""
        del code, kind
        return encode({"detail": message or USUAL_DETAILS.get(status, f"Status {status}")}).encode()


def _create_thread(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    given = _read(request)
    stored = new_thread(given.get("thread_id") or uuids("", 1)[0], given, time.time())
    project.kept["thread"][stored.body["thread_id"]] = stored
    return _show(stored.body, "created", executed=True)


def _read_thread(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    stored = project.kept["thread"].get(ids[0].lower())
    return (
        _missing("Thread with ID {} not found", ids[0]) if stored is None else _show(_thread(project, stored), "read")
    )


def _delete_thread(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """Answer at once, busy or not: the runs of a deleted thread go on."""
    if project.kept["thread"].pop(ids[0].lower(), None) is None:
        return _missing("Thread with ID {} not found", ids[0])
    return Response(204, b"", "deleted", executed=True, headers=())


def _create_run(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    given = _read(request)
    thread = project.kept["thread"].get(ids[0].lower())
    if thread is None:
        return _missing("Thread with ID {} not found", ids[0])
    if (assistant := _assistant(project, given.get("assistant_id"))) is None:
        return _detail(404, "Assistant not found")
    about = {"graph_id": GRAPH, "assistant_id": assistant}
    thread.body |= {"metadata": thread.body["metadata"] | about, "config": {"configurable": {}}}
    seconds = float((given.get("input") or {}).get("seconds") or 0)
    run = new_run(ids[0].lower(), time.time() + seconds)
    project.kept["run"][run.body["run_id"]] = run
    return _show(_run(run) | {"status": "pending"}, "created", executed=True)


def _assistant(project: Project, named: object) -> str | None:
    """Return the id of an assistant that is named by it, or by its graph."""
    wanted = SYSTEM if named == GRAPH else str(named).lower()
    return wanted if wanted in project.kept["assistant"] else None


def _list_runs(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    if ids[0].lower() not in project.kept["thread"]:
        return _missing("Thread with ID {} not found", ids[0])
    runs = [_run(run) for run in project.kept["run"].values() if run.body["thread_id"] == ids[0].lower()]
    return _show(runs, "listed")


def _cancel_run(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    run = project.kept["run"].get(ids[1].lower())
    if run is None or ids[0].lower() not in project.kept["thread"]:
        return _missing("Run with ID {} not found", ids[1])
    run.body["until"] = 0.0
    return _show({}, "updated", executed=True)


def _create_assistant(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    given = _read(request)
    if given.get("graph_id") != GRAPH:
        return _detail(404, f"Graph '{given.get('graph_id')}' not found. Expected one of: ['{GRAPH}']")
    stored = new_assistant(given.get("assistant_id") or uuids("", 1)[0], given, time.time())
    project.kept["assistant"][stored.body["assistant_id"]] = stored
    return _show(stored.body, "created", executed=True)


def _read_assistant(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    stored = project.kept["assistant"].get(ids[0].lower())
    return _missing("Not Found", ids[0]) if stored is None else _show(stored.body, "read")


def _versions(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    stored = project.kept["assistant"].get(ids[0].lower())
    if stored is None:
        return _missing("Assistant {} not found", ids[0])
    return _show([{name: value for name, value in stored.body.items() if name != "updated_at"}], "listed")


def _delete_assistant(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """Answer like any other for the system's own."""
    if project.kept["assistant"].pop(ids[0].lower(), None) is None:
        return _missing("Assistant with ID {} not found", ids[0])
    return Response(204, b"", "deleted", executed=True, headers=())


def _search(kind: str) -> Callable[[Request, Project, tuple[str, ...]], Response]:
    def search(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
        asked = _read(request)
        limit, offset, by = asked.get("limit", USUAL), asked.get("offset", 0), asked.get("sort_by") or "created_at"
        if limit > LARGEST:
            return _detail(422, f"{limit} is greater than the maximum of {LARGEST}")
        if limit < 1:
            return _detail(422, f"{limit} is less than the minimum of 1")
        if by not in _SORTS[kind]:
            return _detail(422, f'"{by}" is not one of {", ".join(_SORTS[kind])}')
        found = sorted(_matching(kind, project, asked), key=lambda body: str(body[by]))
        if asked.get("sort_order") != "asc":
            found.reverse()
        shown = found[offset : offset + limit]
        if fields := asked.get("select"):
            shown = [{name: body[name] for name in fields} for body in shown]
        more = ((b"x-pagination-next", b"%d" % (offset + limit)),) if offset + limit < len(found) else ()
        answer = _show(shown, "listed")
        total = (b"x-pagination-total", b"%d" % min(len(found), offset + limit + 1))
        return answer._replace(headers=(*answer.headers, total, *more))

    return search


def _count(kind: str) -> Callable[[Request, Project, tuple[str, ...]], Response]:
    def count(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
        return _show(len(_matching(kind, project, _read(request))), "read")

    return count


def new_run(thread_id: str, until: float) -> Stored:
    """Return a run that works until a time in seconds since 1970."""
    return Stored({"run_id": uuids("", 1)[0], "thread_id": thread_id, "created_at": _iso(time.time()), "until": until})


def _matching(kind: str, project: Project, asked: Json) -> list[Json]:
    bodies = [_thread(project, stored) if kind == "thread" else stored.body for stored in project.kept[kind].values()]
    wanted, status, ids = asked.get("metadata") or {}, asked.get("status"), asked.get("ids")
    return [
        body
        for body in bodies
        if wanted.items() <= body["metadata"].items()
        and (status is None or body["status"] == status)
        and (ids is None or body["thread_id"] in ids)
    ]


def _thread(project: Project, stored: Stored) -> Json:
    busy = any(
        run.body["thread_id"] == stored.body["thread_id"] and run.body["until"] > time.time()
        for run in project.kept["run"].values()
    )
    return stored.body | {"status": "busy"} if busy else stored.body


def _run(run: Stored) -> Json:
    shown = {key: value for key, value in run.body.items() if key != "until"}
    return shown | {"status": "running" if run.body["until"] > time.time() else "success"}


def _read(request: Request) -> Json:
    try:
        body = json.loads(request.body)
    except ValueError:
        raise BadRequest(_detail(422, "Invalid JSON in request body")) from None
    if not isinstance(body, dict) or not isinstance(body.get("metadata") or {}, dict):
        raise BadRequest(_detail(422, f"{json.dumps(body)} is not of type 'object'"))
    return body


def _show(body: Any, word: str, *, executed: bool = False) -> Response:
    return Response(200, encode(body).encode(), word, executed)


def _missing(text: str, id_: str) -> Response:
    return _detail(404, text.format(id_), "unknown")


def _detail(status: int, text: str, word: str = "refused") -> Response:
    return Response(status, encode({"detail": text}).encode(), word)


def _no_route(_request: Request, _project: Project, _ids: tuple[str, ...]) -> Response:
    return _detail(404, "Not Found", "no_route")


def _no_method(_request: Request, _project: Project, _ids: tuple[str, ...]) -> Response:
    return _detail(405, "Method Not Allowed", "no_route")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


_ROUTES = {
    "POST threads": _Route("thread", _create_thread),
    "POST threads/search": _Route("thread", _search("thread"), listing=True),
    "POST threads/count": _Route("thread", _count("thread")),
    "GET threads/*": _Route("thread", _read_thread),
    "DELETE threads/*": _Route("thread", _delete_thread),
    "GET threads/*/runs": _Route("run", _list_runs),
    "POST threads/*/runs": _Route("run", _create_run),
    "POST threads/*/runs/*/cancel": _Route("run", _cancel_run),
    "POST assistants": _Route("assistant", _create_assistant),
    "POST assistants/search": _Route("assistant", _search("assistant"), listing=True),
    "POST assistants/count": _Route("assistant", _count("assistant")),
    "GET assistants/*": _Route("assistant", _read_assistant),
    "POST assistants/*/versions": _Route("assistant", _versions),
    "DELETE assistants/*": _Route("assistant", _delete_assistant),
}
