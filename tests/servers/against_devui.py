"""The stand-in, and lapse, at a server that others wrote: Agent Framework DevUI, which has the Conversations API.

Not collected by a plain run, as its name does not begin with test_: ``make test-servers`` names the file. It needs the
``devui`` program and fails without it. Every step is taken at both servers; where they differ, DIFFERENCES says how.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from lapse import Registry
from lapse.providers.outcomes import Outcome
from lapse.providers.provider import Provider
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import free_port
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.precheck import Target
from servers.others import BIN, Client, account, free, program, running, worker

INSTALL = f"{Path(sys.executable).parent}/python -m pip install agent-framework-devui==1.0.0b261022"
KEY = "sk-calibration-0123456789"
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
UNKNOWN = "conv_" + "0" * 48
FRAME = ["data", "first_id", "has_more", "last_id", "object"]

# Name of the step, method, path, body. {conversation} and {item} are ids that the server made.
STEPS: tuple[tuple[str, str, str, Any], ...] = (
    ("create", "POST", "/conversations", {"metadata": {"a": "b"}}),
    ("add items", "POST", "/conversations/{conversation}/items", {"items": [USER, USER]}),
    ("list items", "GET", "/conversations/{conversation}/items", None),
    ("list one item", "GET", "/conversations/{conversation}/items?limit=1&order=asc", None),
    ("read", "GET", "/conversations/{conversation}", None),
    ("update", "POST", "/conversations/{conversation}", {"metadata": {"c": "d"}}),
    ("delete item", "DELETE", "/conversations/{conversation}/items/{item}", None),
    ("delete", "DELETE", "/conversations/{conversation}", None),
    ("delete again", "DELETE", "/conversations/{conversation}", None),
    ("read deleted", "GET", "/conversations/{conversation}", None),
    ("items of deleted", "GET", "/conversations/{conversation}/items", None),
    ("delete unknown", "DELETE", f"/conversations/{UNKNOWN}", None),
    ("delete wrong prefix", "DELETE", "/conversations/thread_x", None),
    ("unknown route", "DELETE", "/threadz/thread_x", None),
    ("create with nothing", "POST", "/conversations", None),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: its status, and what its body says once what changes from run to run is taken out of it."""

    status: int
    says: Any


def listing(count: int, keys: list[str], *, more: bool | None) -> Seen:
    return Seen(200, {"object": "list", "count": count, "has_more": more, "keys": keys})


# Step -> the stand-in, which speaks as OpenAI does, and DevUI.
DIFFERENCES: dict[str, tuple[Seen, Seen]] = {
    "add items": (listing(2, FRAME, more=False), listing(2, ["data", "object"], more=None)),
    "list items": (
        listing(2, FRAME, more=False),
        listing(2, ["data", "has_more", "metadata", "object"], more=False),
    ),
    "list one item": (
        listing(1, FRAME, more=True),
        listing(1, ["data", "has_more", "metadata", "object"], more=True),
    ),
    "delete item": (
        Seen(200, {"id": "CONVERSATION", "object": "conversation", "created_at": "int", "metadata": {"c": "d"}}),
        Seen(501, {"detail": "Deletion of non-checkpoint items not implemented"}),
    ),
    "delete again": (
        Seen(404, "Conversation with id 'CONVERSATION' not found."),
        Seen(404, {"detail": "Conversation CONVERSATION not found"}),
    ),
    "read deleted": (
        Seen(404, "Conversation with id 'CONVERSATION' not found."),
        Seen(404, {"detail": "Conversation not found"}),
    ),
    "items of deleted": (
        Seen(404, "Conversation with id 'CONVERSATION' not found."),
        Seen(404, {"detail": "Conversation CONVERSATION not found"}),
    ),
    "delete unknown": (
        Seen(404, f"Conversation with id '{UNKNOWN}' not found."),
        Seen(404, {"detail": f"Conversation {UNKNOWN} not found"}),
    ),
    "delete wrong prefix": (
        Seen(400, "Invalid 'conversation_id': 'thread_x'. Expected an ID that begins with 'conv'."),
        Seen(404, {"detail": "Conversation thread_x not found"}),
    ),
    "unknown route": (
        Seen(404, "Invalid URL (DELETE /v1/threadz/thread_x)"),
        Seen(404, {"detail": "Not Found"}),
    ),
    "create with nothing": (
        Seen(200, {"id": "str", "object": "conversation", "created_at": "int", "metadata": {}}),
        Seen(500, "Failed to create conversation: Expecting value: line 1 column 1 (char 0)"),
    ),
}


class Server:
    """One of the two, as a plain HTTP client sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, body: Any = None, *, key: str = KEY) -> tuple[int, str]:
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.netloc, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request(method, parts.path + path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            assert reply.headers["Content-Type"] == "application/json"
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def walk(self) -> dict[str, Seen]:
        """Take every step."""
        names: dict[str, str] = {}
        seen: dict[str, Seen] = {}
        for name, method, path, body in STEPS:
            status, text = self.ask(method, path.format(**names), body)
            if name == "create":
                names["conversation"] = json.loads(text)["id"]
            if name == "add items":
                names["item"] = json.loads(text)["data"][0]["id"]
            seen[name] = Seen(status, essence(json.loads(text.replace(names["conversation"], "CONVERSATION"))))
        return seen


def essence(body: dict[str, Any]) -> Any:
    """Return an error's message, a list's frame, or an object without its time and the id of another run."""
    if "error" in body:
        return body["error"]["message"]
    if body.get("object") == "list":
        return {"object": "list", "count": len(body["data"]), "has_more": body.get("has_more"), "keys": sorted(body)}
    shown = {key: type(value).__name__ if key == "created_at" else value for key, value in body.items()}
    return shown | ({} if shown.get("id", "CONVERSATION") == "CONVERSATION" else {"id": type(shown["id"]).__name__})


@pytest.fixture(scope="module")
def devui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a DevUI server of this run's own, with no agents in it."""
    home, port = tmp_path_factory.mktemp("devui"), free_port()
    command = [program("devui", BIN, install=INSTALL), "--headless", "--no-open", "--port", str(port), str(home)]
    server = Client(f"http://127.0.0.1:{port}/v1")
    with running(command, server, f"/conversations/{UNKNOWN}", home, DEVUI_AUTH_TOKEN=KEY):
        yield Server(server.url)


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Server]:
    """Return a stand-in that takes the same key, and no other."""
    with Sandbox(keys={KEY: "default"}) as server:
        yield Server(server.url)


@pytest.fixture(scope="module")
def walks(stand_in: Server, devui: Server) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """Return what the stand-in and DevUI answered to every step."""
    return stand_in.walk(), devui.walk()


@pytest.mark.parametrize("step", [name for name, *_ in STEPS])
def test_both_answer_alike_or_as_is_known(walks: tuple[dict[str, Seen], dict[str, Seen]], step: str) -> None:
    ours, theirs = walks
    expected = DIFFERENCES.get(step, (ours[step], ours[step]))

    assert (ours[step], theirs[step]) == expected


def test_no_known_difference_is_none() -> None:
    assert DIFFERENCES.keys() <= {name for name, *_ in STEPS}
    assert all(ours != theirs for ours, theirs in DIFFERENCES.values())


def test_both_refuse_a_wrong_key(stand_in: Server, devui: Server) -> None:
    answers = [each.ask("DELETE", f"/conversations/{UNKNOWN}", key="sk-wrong") for each in (stand_in, devui)]

    assert [status for status, _ in answers] == [401, 401]


async def test_lapse_deletes_a_conversation_once(devui: Server) -> None:
    """DevUI's words for a missing id are not OpenAI's: the account says how to recognise them."""
    made = json.loads(devui.ask("POST", "/conversations", {})[1])["id"]
    there = account("devui", "openai", devui.url, "Conversation {id} not found")
    provider = Provider(there, {"KEY": KEY})
    try:
        kind = provider.kinds["conversation"]
        verdicts = [await delete(Target(provider, kind, made, free)) for _ in range(2)]
    finally:
        await provider.aclose()

    assert [verdict.outcome for verdict in verdicts] == [Outcome.DELETED, Outcome.ALREADY_GONE]
    assert devui.ask("GET", f"/conversations/{made}")[0] == 404


CONFIG = """
[schedule]
sweep = "1s"
[sweep]
ramp = "off"
[registry]
allow_volatile = true
[providers.devui]
type = "openai"
base_url = "{url}"
api_key_env = "KEY"
rate = "unlimited"
not_found = ["Conversation {{id}} not found"]
[policies.chat]
kind = "conversation"
ttl = "1d"
anchor = "created_at"
mode = "enforce"
"""


def test_a_worker_deletes_what_is_due_there_and_leaves_the_rest(
    devui: Server, redis_url: str, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """The whole way: registered, claimed by a Celery worker, deleted by a server that others wrote."""
    made = [json.loads(devui.ask("POST", "/conversations", {})[1])["id"] for _ in range(40)]
    due, alive = made[:30], made[30:]
    with Registry(redis_url, provider="devui", timeout=5) as registry:
        for id_ in due:
            registry.register("conversation", id_, "chat", expires_in="1s")
        registry.register_many({"kind": "conversation", "id": id_, "policy": "chat"} for id_ in alive)
    with worker(CONFIG.format(url=devui.url), redis_url, tmp_path, KEY=KEY):

        def left() -> int:
            return sum(devui.ask("GET", f"/conversations/{id_}")[0] == 200 for id_ in due)

        wait_until(lambda: left() == 0, 40, what="everything due was gone")

    assert [200] * 10 == [devui.ask("GET", f"/conversations/{id_}")[0] for id_ in alive]
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        counters: Any = client.hgetall("lapse:{devui:conversation}:counters")
    assert "30" == counters["deletions|chat|conversation"]
