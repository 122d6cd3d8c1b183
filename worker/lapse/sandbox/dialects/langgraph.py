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
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lapse.sandbox.state import Json, Project, Stored, World
from lapse.sandbox.wire import (
    ApiCall,
    ApiDialect,
    ApiError,
    ApiRequest,
    ApiResponse,
    Headers,
    Routes,
    Run,
    answer,
    encode,
)

GRAPH = "sandbox"
SYSTEM = str(uuid.uuid5(uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), GRAPH))
"""Id of the assistant that the server makes for the graph."""
LARGEST = 1000
USUAL = 10
FOREVER = float("inf")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_EMPTY_ID = re.compile("(?<=/)(?=/|$)")
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


def uuids(count: int) -> list[str]:
    """Return fresh UUIDs."""
    return [str(uuid.uuid4()) for _ in range(count)]


def new_run(thread_id: str, until: float) -> Stored:
    """Return a run that works until a time in seconds since 1970."""
    return Stored({"run_id": uuids(1)[0], "thread_id": thread_id, "created_at": _iso(time.time()), "until": until})


def _create_thread(request: ApiRequest, project: Project, _ids: tuple[str, ...]) -> ApiResponse:
    given = _read(request)
    stored = new_thread(given.get("thread_id") or uuids(1)[0], given, time.time())
    project.kept["thread"][stored.body["thread_id"]] = stored
    return answer(stored.body, "created", executed=True)


def _read_thread(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    return answer(_thread(project, _find(project, "thread", ids[0])), "read")


def _create_run(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    given = _read(request)
    thread = _find(project, "thread", ids[0])
    named = given.get("assistant_id")
    assistant = SYSTEM if named == GRAPH else str(named).lower()
    if assistant not in project.kept["assistant"]:
        raise _detail(404, "Assistant not found")
    about = {"graph_id": GRAPH, "assistant_id": assistant}
    thread.body |= {"metadata": thread.body["metadata"] | about, "config": {"configurable": {}}}
    seconds = float((given.get("input") or {}).get("seconds") or 0)
    run = new_run(ids[0].lower(), time.time() + seconds)
    project.kept["run"][run.body["run_id"]] = run
    return answer(_run(run) | {"status": "pending"}, "created", executed=True)


def _list_runs(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    _find(project, "thread", ids[0])
    runs = [_run(run) for run in project.kept["run"].values() if run.body["thread_id"] == ids[0].lower()]
    return answer(runs, "listed")


def _cancel_run(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    run = _find(project, "run", ids[1])
    if ids[0].lower() not in project.kept["thread"]:
        raise _unknown("run", ids[1])
    run.body["until"] = 0.0
    return answer({}, "updated", executed=True)


def _create_assistant(request: ApiRequest, project: Project, _ids: tuple[str, ...]) -> ApiResponse:
    given = _read(request)
    if given.get("graph_id") != GRAPH:
        raise _detail(404, f"Graph '{given.get('graph_id')}' not found. Expected one of: ['{GRAPH}']")
    stored = new_assistant(given.get("assistant_id") or uuids(1)[0], given, time.time())
    project.kept["assistant"][stored.body["assistant_id"]] = stored
    return answer(stored.body, "created", executed=True)


def _read_assistant(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    return answer(_find(project, "assistant", ids[0], "Not Found").body, "read")


def _versions(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    body = _find(project, "assistant", ids[0], f"Assistant {ids[0]} not found").body
    return answer([{name: value for name, value in body.items() if name != "updated_at"}], "listed")


def _delete(kind: str) -> Run:
    """Answer at once, to the system's own assistant as to any, and to a thread busy or not: its runs go on."""

    def delete(_request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
        if project.kept[kind].pop(ids[0].lower(), None) is None:
            raise _unknown(kind, ids[0])
        done = ApiResponse(204, b"", "deleted", None)
        done.executed = True
        return done

    return delete


def _search(kind: str) -> Run:
    def search(request: ApiRequest, project: Project, _ids: tuple[str, ...]) -> ApiResponse:
        asked = _read(request)
        limit, offset, by = asked.get("limit", USUAL), asked.get("offset", 0), asked.get("sort_by") or "created_at"
        if limit > LARGEST:
            raise _detail(422, f"{limit} is greater than the maximum of {LARGEST}")
        if limit < 1:
            raise _detail(422, f"{limit} is less than the minimum of 1")
        if by not in _SORTS[kind]:
            raise _detail(422, f'"{by}" is not one of {", ".join(_SORTS[kind])}')
        found = sorted(_matching(kind, project, asked), key=lambda body: str(body[by]))
        if asked.get("sort_order") != "asc":
            found.reverse()
        shown, after = found[offset : offset + limit], offset + limit
        if fields := asked.get("select"):
            shown = [{name: body[name] for name in fields} for body in shown]
        page = answer(shown, "listed")
        page.headers["x-pagination-total"] = str(min(len(found), after + 1))
        if after < len(found):
            page.headers["x-pagination-next"] = str(after)
        return page

    return search


def _count(kind: str) -> Run:
    return lambda request, project, _ids: answer(len(_matching(kind, project, _read(request))), "read")


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


def _find(project: Project, kind: str, id_: str, unknown: str | None = None) -> Stored:
    stored = project.kept[kind].get(id_.lower())
    if stored is None:
        raise _detail(404, unknown, "unknown") if unknown else _unknown(kind, id_)
    return stored


def _read(request: ApiRequest) -> Json:
    try:
        body = json.loads(request.content)
    except ValueError:
        raise _detail(422, "Invalid JSON in request body") from None
    if not isinstance(body, dict) or not isinstance(body.get("metadata") or {}, dict):
        raise _detail(422, f"{json.dumps(body)} is not of type 'object'")
    return body


def _unknown(kind: str, id_: str) -> ApiError:
    return _detail(404, f"{kind.capitalize()} with ID {id_} not found", "unknown")


def _detail(status: int, text: str, word: str = "refused") -> ApiError:
    return ApiError(ApiResponse(status, encode({"detail": text}).encode(), word))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


class LangGraph(ApiDialect):
    """The dialect of LangGraph's Agent Server."""

    name = "langgraph"
    prefix = "/langgraph"
    holds = GraphProject
    routes = Routes(
        {
            "POST /threads": ApiCall("thread", _create_thread),
            "POST /threads/search": ApiCall("thread", _search("thread"), listing=True),
            "POST /threads/count": ApiCall("thread", _count("thread")),
            "GET /threads/{id}": ApiCall("thread", _read_thread),
            "DELETE /threads/{id}": ApiCall("thread", _delete("thread")),
            "GET /threads/{id}/runs": ApiCall("run", _list_runs),
            "POST /threads/{id}/runs": ApiCall("run", _create_run),
            "POST /threads/{id}/runs/{run}/cancel": ApiCall("run", _cancel_run),
            "POST /assistants": ApiCall("assistant", _create_assistant),
            "POST /assistants/search": ApiCall("assistant", _search("assistant"), listing=True),
            "POST /assistants/count": ApiCall("assistant", _count("assistant")),
            "GET /assistants/{id}": ApiCall("assistant", _read_assistant),
            "POST /assistants/{id}/versions": ApiCall("assistant", _versions),
            "DELETE /assistants/{id}": ApiCall("assistant", _delete("assistant")),
        }
    )

    def no_route(self, request: ApiRequest) -> ApiResponse:
        """Return ``Not Found``, or that another method is asked for."""
        path = _EMPTY_ID.sub("-", request.path[len(self.prefix) :])
        if any(self.routes.find(method, path) for method in ("GET", "POST", "DELETE")):
            return _detail(405, "Method Not Allowed", "no_route").answer
        return _detail(404, "Not Found", "no_route").answer

    def check(self, request: ApiRequest, call: ApiCall, world: World) -> Project:
        """Refuse a request without a known key or an id of the right form; a server that has no key asks for none."""
        key = request.header("x-api-key")
        project = world.opened_by(f"Bearer {key or ('' if world.locked else 'any')}")
        if project is None:
            status = 401 if key else 403
            raise _detail(status, USUAL_DETAILS[status])
        for id_, what in zip(call.ids, (call.kind if len(call.ids) == 1 else "thread", "run"), strict=False):
            if not _UUID.fullmatch(id_):
                raise _detail(422, f"Invalid {what} ID: must be a UUID")
        return project

    def headers(self, _request_id: str, _milliseconds: int) -> Headers:
        """Return no header: the server sends none of its own."""
        return ()

    def error(self, status: int, message: str | None, code: str | None, kind: str | None) -> bytes:
        """Return ``{"detail": ...}``; there are no codes and types."""
        del code, kind
        return encode({"detail": message or USUAL_DETAILS.get(status, f"Status {status}")}).encode()
