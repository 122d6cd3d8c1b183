"""The stand-in as LangGraph's Agent Server; tests/servers holds the same steps against a real one."""

import json
from typing import Any

import pytest

from lapse.sandbox import Sandbox
from sandbox.asking import Asker, Reply

UNKNOWN = "01a20661-1242-76a4-a2ed-5f1c1d0e9a55"
BASE = "/langgraph"


@pytest.fixture
def ids(sandbox: Sandbox) -> list[str]:
    """Return 12 threads, each made a second after the one before."""
    return [sandbox.seed("thread", dialect="langgraph", created_at=1_790_000_000 + at)[0] for at in range(12)]


async def search(ask: Asker, kind: str = "threads", **asked: Any) -> Reply:
    return await ask("POST", f"{BASE}/{kind}/search", asked)


async def shown(ask: Asker, **asked: Any) -> list[str]:
    return [each["thread_id"] for each in (await search(ask, **asked)).json]


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("DELETE", f"threads/{UNKNOWN}", 404, f"Thread with ID {UNKNOWN} not found"),
        ("GET", f"threads/{UNKNOWN}", 404, f"Thread with ID {UNKNOWN} not found"),
        ("DELETE", f"assistants/{UNKNOWN}", 404, f"Assistant with ID {UNKNOWN} not found"),
        ("GET", f"assistants/{UNKNOWN}", 404, "Not Found"),
        ("POST", f"assistants/{UNKNOWN}/versions", 404, f"Assistant {UNKNOWN} not found"),
        ("DELETE", "threads/thread_x", 422, "Invalid thread ID: must be a UUID"),
        ("GET", "assistants/asst_x", 422, "Invalid assistant ID: must be a UUID"),
        ("GET", f"threads/{UNKNOWN}/runs", 404, f"Thread with ID {UNKNOWN} not found"),
        ("POST", f"threads/{UNKNOWN}/runs", 404, f"Thread with ID {UNKNOWN} not found"),
        ("POST", f"threads/{UNKNOWN}/runs/{UNKNOWN}/cancel", 404, f"Run with ID {UNKNOWN} not found"),
        ("DELETE", f"threadz/{UNKNOWN}", 404, "Not Found"),
        ("DELETE", "threads/", 405, "Method Not Allowed"),
        ("DELETE", "threads/search", 422, "Invalid thread ID: must be a UUID"),
    ],
)
async def test_what_is_not_there(ask: Asker, method: str, path: str, status: int, detail: str) -> None:
    reply = await ask(method, f"{BASE}/{path}", {} if method == "POST" else None)

    assert (status, {"detail": detail}) == (reply.status, reply.json)


async def test_a_thread_lives_until_its_204(ask: Asker, sandbox: Sandbox) -> None:
    made = (await ask("POST", f"{BASE}/threads", {"metadata": {"n": 1}})).json
    path = f"{BASE}/threads/{made['thread_id']}"

    assert ("idle", {"n": 1}) == (made["status"], made["metadata"])
    assert made["created_at"].endswith("+00:00")
    assert made == (await ask("GET", path)).json
    gone = await ask("DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    assert (await ask("DELETE", path)).status == 404
    assert sandbox.alive("thread", dialect="langgraph") == set()


async def test_a_search_pages_by_offset(ask: Asker, ids: list[str]) -> None:
    assert ids[::-1][:10] == await shown(ask)
    assert ids[2:5] == await shown(ask, limit=3, offset=2, sort_by="created_at", sort_order="asc")
    assert await shown(ask, offset=100) == []
    assert sorted(ids[3:5]) == sorted(await shown(ask, ids=ids[3:5]))
    reply = await search(ask, limit=5, select=["thread_id", "status"])
    assert {frozenset(each) for each in reply.json} == {frozenset({"thread_id", "status"})}
    assert (reply.headers["x-pagination-total"], reply.headers["x-pagination-next"]) == ("6", "5")
    assert (await ask("POST", f"{BASE}/threads/count", {})).json == 12


@pytest.mark.parametrize(
    "asked", [{"limit": 0}, {"limit": 1001}, {"sort_by": "x"}, {"metadata": 5}, b"{bad", b"[]", b""]
)
async def test_a_search_that_makes_no_sense_is_422(ask: Asker, asked: object) -> None:
    assert (await ask("POST", f"{BASE}/threads/search", asked)).status == 422


async def test_a_busy_thread_goes_at_once_and_its_run_works_on(ask: Asker, sandbox: Sandbox) -> None:
    (thread,) = sandbox.seed("thread", dialect="langgraph", status="busy")
    path = f"{BASE}/threads/{thread}"
    (run,) = (await ask("GET", f"{path}/runs")).json

    assert ("busy", "running") == ((await ask("GET", path)).json["status"], run["status"])
    assert [thread] == await shown(ask, status="busy")
    assert (await ask("DELETE", path)).status == 204
    assert sandbox.alive("run", dialect="langgraph") == {run["run_id"]}


async def test_a_run_ends_by_itself_or_is_cancelled(ask: Asker, sandbox: Sandbox) -> None:
    (thread,) = sandbox.seed("thread", dialect="langgraph")
    path = f"{BASE}/threads/{thread}"

    done = (await ask("POST", f"{path}/runs", {"assistant_id": "sandbox", "input": {}})).json
    assert ("pending", "idle") == (done["status"], (await ask("GET", path)).json["status"])
    run = (await ask("POST", f"{path}/runs", {"assistant_id": "sandbox", "input": {"seconds": 3600}})).json
    assert ("pending", "busy") == (run["status"], (await ask("GET", path)).json["status"])
    assert ["success", "running"] == [each["status"] for each in (await ask("GET", f"{path}/runs")).json]
    assert (await ask("POST", f"{path}/runs/{run['run_id']}/cancel", {})).status == 200
    assert (await ask("GET", path)).json["status"] == "idle"
    assert sandbox.alive("run", dialect="langgraph") == set()


async def test_the_server_makes_an_assistant_for_its_graph(ask: Asker, sandbox: Sandbox) -> None:
    (system,) = (await search(ask, "assistants")).json
    path = f"{BASE}/assistants/{system['assistant_id']}"

    assert {"created_by": "system"} == system["metadata"]
    (version,) = (await ask("POST", f"{path}/versions", {})).json
    assert (system["metadata"], system["name"]) == (version["metadata"], version["name"])
    assert (await ask("DELETE", path)).status == 204
    assert sandbox.alive("assistant", dialect="langgraph") == set()
    sandbox.reset()
    assert sandbox.alive("assistant", dialect="langgraph") == {system["assistant_id"]}


async def test_assistants_are_made_for_a_graph_that_is_there(ask: Asker) -> None:
    refused = await ask("POST", f"{BASE}/assistants", {"graph_id": "x"})
    made = (await ask("POST", f"{BASE}/assistants", {"graph_id": "sandbox", "name": "mine"})).json

    assert (refused.status, refused.json["detail"]) == (404, "Graph 'x' not found. Expected one of: ['sandbox']")
    assert made == (await ask("GET", f"{BASE}/assistants/{made['assistant_id']}")).json
    assert (await ask("POST", f"{BASE}/assistants/count", {})).json == 2


async def test_a_key_is_asked_for_where_keys_are_set(ask: Asker) -> None:
    with Sandbox(keys={"lg-1": "one", "lg-2": "two"}) as server:
        server.seed("thread", dialect="langgraph", project="one")
        server.seed("thread", 2, dialect="langgraph", project="two")
        asker = Asker(server.root, ask._session)
        replies = [await asker("POST", f"{BASE}/threads/count", {}, api_key=key) for key in ("", "lg-3", "lg-1")]

    assert [403, 401, 200] == [reply.status for reply in replies]
    assert replies[2].json == 1


async def test_faults_and_the_log_work_as_for_the_others(ask: Asker, sandbox: Sandbox, ids: list[str]) -> None:
    sandbox.faults(
        [
            {"path": "/langgraph/*", "method": "DELETE", "first": 1, "effect": "error", "status": 503},
            {"path": "/langgraph/*", "method": "DELETE", "first": 1, "effect": "reset", "execute": True},
            {"path": "*/search", "page": 2, "effect": "list_loop"},
            {"path": "*/search", "page": 3, "effect": "list_empty"},
        ]
    )
    failed = await ask("DELETE", f"{BASE}/threads/{ids[0]}")
    with pytest.raises(OSError, match="reset"):
        await ask("DELETE", f"{BASE}/threads/{ids[0]}")
    pages = [await shown(ask, limit=5, offset=offset, sort_order="asc") for offset in (0, 4, 9)]

    assert (failed.status, failed.json) == (503, {"detail": "Service Unavailable"})
    assert ids[0] not in sandbox.alive("thread", dialect="langgraph")
    assert [ids[1:6], ids[1:6], []] == pages
    assert [("DELETE", "thread", 503, False), ("DELETE", "thread", 0, True)] == [
        (record["method"], record["kind"], record["status"], record["executed"]) for record in sandbox.requests()[:2]
    ]


async def test_the_worlds_of_the_dialects_are_apart(ask: Asker, sandbox: Sandbox, ids: list[str]) -> None:
    sandbox.seed("thread", 2)

    assert (2, 12) == (len(sandbox.alive("thread")), len(sandbox.alive("thread", dialect="langgraph")))
    listed = await ask("GET", "/sandbox/objects?kind=thread&dialect=langgraph")
    assert set(ids) == set(json.loads(listed.body)["ids"])
    assert (await ask("GET", "/sandbox/objects?kind=thread&dialect=x")).status == 400
