"""The stand-in's /langgraph, and lapse, at LangGraph's own server: ``langgraph dev`` of langgraph-cli[inmem].

Not collected by a plain run, as its name does not begin with test_: ``make test-servers`` names the file. It needs the
``langgraph`` program and fails without it; the server needs no key and no network. Every step is taken at both servers;
where they differ, DIFFERENCES says how.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse import Registry
from lapse.providers.kinds import KINDS
from lapse.providers.outcomes import Outcome
from lapse.providers.provider import Provider
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import free_port
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.precheck import Target
from servers.others import SERVERS, Client, account, free, program, running, worker

INSTALL = f"python3 -m venv {SERVERS}/langgraph && {SERVERS}/langgraph/bin/pip install 'langgraph-cli[inmem]==0.4.40'"
GRAPH = "sandbox"
UNKNOWN = "01a20661-1242-76a4-a2ed-5f1c1d0e9a55"
SELECT = {"limit": 3, "offset": 0, "sort_by": "created_at", "sort_order": "asc"}
APPLICATION = {
    "langgraph.json": json.dumps({"dependencies": ["."], "graphs": {GRAPH: "./graph.py:graph"}}),
    "graph.py": """
import asyncio
from typing import TypedDict
from langgraph.graph import StateGraph

class State(TypedDict):
    seconds: float

async def work(state: State) -> State:
    await asyncio.sleep(state["seconds"])
    return state

graph = StateGraph(State).add_node("work", work).set_entry_point("work").set_finish_point("work").compile()
""",
}

# Name of the step, method, path, body. {thread}, {run}, {system} and {assistant} are ids that the server made.
STEPS: tuple[tuple[str, str, str, Any], ...] = (
    ("create", "POST", "/threads", {"metadata": {"a": "b"}}),
    ("read", "GET", "/threads/{thread}", None),
    ("search", "POST", "/threads/search", {**SELECT, "select": ["thread_id", "metadata", "status"]}),
    ("search all fields", "POST", "/threads/search", SELECT),
    ("search beyond", "POST", "/threads/search", {"limit": 5, "offset": 100}),
    ("search by id", "POST", "/threads/search", {"ids": [UNKNOWN]}),
    ("search too many", "POST", "/threads/search", {"limit": 1001}),
    ("search none", "POST", "/threads/search", {"limit": 0}),
    ("search by nothing", "POST", "/threads/search", {"sort_by": "bogus"}),
    ("search with nothing", "POST", "/threads/search", None),
    ("count", "POST", "/threads/count", {}),
    ("run", "POST", "/threads/{thread}/runs", {"assistant_id": GRAPH, "input": {"seconds": 600}}),
    ("read busy", "GET", "/threads/{thread}", None),
    ("delete busy", "DELETE", "/threads/{thread}", None),
    ("delete again", "DELETE", "/threads/{thread}", None),
    ("read deleted", "GET", "/threads/{thread}", None),
    ("runs of deleted", "GET", "/threads/{thread}/runs", None),
    ("delete unknown", "DELETE", f"/threads/{UNKNOWN}", None),
    ("delete no uuid", "DELETE", "/threads/thread_x", None),
    ("read no uuid", "GET", "/threads/thread_x", None),
    ("system", "POST", "/assistants/search", {**SELECT, "select": ["assistant_id", "name", "metadata"]}),
    ("assistant", "POST", "/assistants", {"graph_id": GRAPH, "name": "mine", "metadata": {"owner": "x"}}),
    ("assistant of no graph", "POST", "/assistants", {"graph_id": "bogus"}),
    ("read assistant", "GET", "/assistants/{assistant}", None),
    ("versions", "POST", "/assistants/{assistant}/versions", {}),
    ("count assistants", "POST", "/assistants/count", {}),
    ("delete assistant", "DELETE", "/assistants/{assistant}", None),
    ("delete assistant again", "DELETE", "/assistants/{assistant}", None),
    ("read deleted assistant", "GET", "/assistants/{assistant}", None),
    ("versions of deleted", "POST", "/assistants/{assistant}/versions", {}),
    ("delete system", "DELETE", "/assistants/{system}", None),
    ("assistant no uuid", "DELETE", "/assistants/asst_x", None),
    ("unknown route", "DELETE", f"/threadz/{UNKNOWN}", None),
    ("wrong method", "DELETE", "/threads/search", None),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: its status, and what its body says once what changes from run to run is taken out of it."""

    status: int
    says: Any


# Step -> the stand-in and the server.
DIFFERENCES: dict[str, tuple[Seen, Seen]] = {}


def walk(client: Client) -> dict[str, Seen]:
    """Take every step."""
    names: dict[str, str] = {}
    seen: dict[str, Seen] = {}
    for name, method, path, body in STEPS:
        status, said = client.ask(method, path.format(**names), body)
        if name in {"create", "assistant"}:
            names |= {"thread": said["thread_id"]} if name == "create" else {"assistant": said["assistant_id"]}
        if name == "system":
            names["system"] = said[0]["assistant_id"]
        seen[name] = Seen(status, essence(said, {id_: name.upper() for name, id_ in names.items()}))
    return seen


def essence(said: Any, names: dict[str, str]) -> Any:
    """Return a body with ids named and times as the word that they are; of a run, what lapse could look at."""
    if isinstance(said, list):
        return [essence(each, names) for each in said]
    if not isinstance(said, dict):
        return said
    if "detail" in said:
        # The validator goes on to show its schema.
        text = str(said["detail"]).split("\n")[0].split(" is not one of ")[0]
        return {"detail": _renamed(text, names)}
    kept = {key: said[key] for key in said if "run_id" not in said or key in {"thread_id", "status"}}
    return {key: "TIME" if key.endswith("_at") else _renamed(value, names) for key, value in kept.items()}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    text = json.dumps(value)
    for id_, name in names.items():
        text = text.replace(id_, name)
    return json.loads(text)


@pytest.fixture(scope="module")
def langgraph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a server of this run's own, with one graph that waits."""
    home, port = tmp_path_factory.mktemp("langgraph"), free_port()
    for name, text in APPLICATION.items():
        (home / name).write_text(text)
    command = [program("langgraph", SERVERS / "langgraph" / "bin", install=INSTALL), "dev", "--no-browser"]
    quiet = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false"}
    client = Client(f"http://127.0.0.1:{port}")
    command += ["--no-reload", "--port", str(port), "--n-jobs-per-worker", "8"]
    with running(command, client, "/ok", home, **quiet) as server:
        yield server


@pytest.fixture(scope="module")
def walks(langgraph: Client) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """Return what the stand-in and the server answered to every step."""
    with Sandbox() as sandbox:
        return walk(Client(f"{sandbox.root}/langgraph")), walk(langgraph)


@pytest.mark.parametrize("step", [name for name, *_ in STEPS])
def test_both_answer_alike_or_as_is_known(walks: tuple[dict[str, Seen], dict[str, Seen]], step: str) -> None:
    ours, theirs = walks
    expected = DIFFERENCES.get(step, (ours[step], ours[step]))

    assert (ours[step], theirs[step]) == expected


def test_no_known_difference_is_none() -> None:
    assert DIFFERENCES.keys() <= {name for name, *_ in STEPS}
    assert all(ours != theirs for ours, theirs in DIFFERENCES.values())


@pytest.fixture
async def provider(langgraph: Client) -> Any:
    """Return lapse's own account at the server."""
    async with Provider(account("langgraph", "langgraph", langgraph.url), {"KEY": "lg-0123456789"}) as made:
        yield made


@pytest.fixture(scope="module")
def assistant(langgraph: Client, walks: object) -> str:
    """Return an assistant to run: the walk deleted the one that the server had made."""
    assert walks
    made: str = langgraph.ask("POST", "/assistants", {"graph_id": GRAPH})[1]["assistant_id"]
    return made


def begin(langgraph: Client, assistant: str, thread_id: str) -> str:
    """Begin a run that does not end by itself in time; return its id."""
    asked = {"assistant_id": assistant, "input": {"seconds": 600}}
    status, run = langgraph.ask("POST", f"/threads/{thread_id}/runs", asked)
    assert status == 200, run
    return str(run["run_id"])


def thread(langgraph: Client) -> str:
    made: str = langgraph.ask("POST", "/threads", {})[1]["thread_id"]
    return made


@pytest.mark.parametrize("kind", ["thread", "assistant"])
async def test_lapse_deletes_once(langgraph: Client, provider: Provider, kind: str) -> None:
    _, made = langgraph.ask("POST", f"/{kind}s", {"graph_id": GRAPH} if kind == "assistant" else {})
    table = provider.kinds[kind]
    object_id = made[table.id_field]

    verdicts = [await delete(Target(provider, table, object_id, free)) for _ in range(2)]

    assert [verdict.outcome for verdict in verdicts] == [Outcome.DELETED, Outcome.ALREADY_GONE]
    assert langgraph.ask("GET", f"/{kind}s/{object_id}")[0] == 404


async def test_lapse_leaves_what_works_alone_and_deletes_it_later(
    langgraph: Client, provider: Provider, assistant: str
) -> None:
    busy = thread(langgraph)
    run = begin(langgraph, assistant, busy)

    first = await delete(Target(provider, provider.kinds["thread"], busy, free))
    assert (first.outcome, first.detail) == (Outcome.CONFLICT, "its status is busy")
    assert langgraph.ask("GET", f"/threads/{busy}")[0] == 200

    assert langgraph.ask("POST", f"/threads/{busy}/runs/{run}/cancel?wait=true", {})[0] < 300
    second = await delete(Target(provider, provider.kinds["thread"], busy, free))
    assert second.outcome is Outcome.DELETED


async def test_a_system_assistant_is_kept(langgraph: Client, provider: Provider) -> None:
    """The walk deleted the server's own: here is another that says the same of itself."""
    _, made = langgraph.ask("POST", "/assistants", {"graph_id": GRAPH, "metadata": {"created_by": "system"}})

    verdict = await delete(Target(provider, provider.kinds["assistant"], made["assistant_id"], free))
    listing = await provider.listing(KINDS["langgraph"]["assistant"], free)

    assert verdict.outcome is Outcome.KEPT
    assert langgraph.ask("GET", f"/assistants/{made['assistant_id']}")[0] == 200
    assert made["assistant_id"] not in {item.id for item in listing.items}


async def test_lapse_lists_everything_while_others_delete(langgraph: Client, provider: Provider) -> None:
    made = [thread(langgraph) for _ in range(130)]
    small = KINDS["langgraph"]["thread"]

    async def others(requests: int = 1) -> None:
        del requests
        for id_ in [made.pop(0) for _ in range(min(8, len(made) - 60))]:
            langgraph.ask("DELETE", f"/threads/{id_}")

    listing = await provider.listing(replace(small, page_size=20), others)

    assert listing.complete
    found = [item.id for item in listing.items]
    assert set(made) <= set(found)
    assert len(found) == len(set(found))
    assert all(item.created_at for item in listing.items)


CONFIG = """
[schedule]
sweep = "1s"
[sweep]
ramp = "off"
[registry]
allow_volatile = true
[providers.langgraph]
type = "langgraph"
base_url = "{url}"
api_key_env = "KEY"
rate = "unlimited"
[policies.chat]
kind = "thread"
ttl = "1d"
anchor = "created_at"
mode = "enforce"
"""


def test_a_worker_deletes_what_is_due_there_and_leaves_the_rest(
    langgraph: Client, assistant: str, redis_url: str, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """The whole way: registered, claimed by a Celery worker, deleted by LangGraph's own server."""
    made = [thread(langgraph) for _ in range(40)]
    due, alive, busy = made[:30], made[30:39], made[39]
    begin(langgraph, assistant, busy)
    with Registry(redis_url, provider="langgraph", timeout=5) as registry:
        for id_ in [busy, *due]:
            registry.register("thread", id_, "chat", expires_in="1s")
        registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in alive)
    with worker(CONFIG.format(url=langgraph.url), redis_url, tmp_path, KEY="lg-0123456789"):

        def left() -> int:
            return sum(langgraph.ask("GET", f"/threads/{id_}")[0] == 200 for id_ in due)

        wait_until(lambda: left() == 0, 60, what="everything due was gone")

    assert [200] * 10 == [langgraph.ask("GET", f"/threads/{id_}")[0] for id_ in [busy, *alive]]
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        counters: Any = client.hgetall("lapse:{langgraph:thread}:counters")
    assert "30" == counters["deletions|chat|thread"]
    assert int(counters["settled|chat|conflict"]) >= 1
