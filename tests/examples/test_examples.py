"""Every example does what it says, with the genuine packages, against the stand-in."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lapse
from lapse.sandbox import Sandbox

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = 60

Run = Callable[[str], Any]

CREDENTIAL = """
from azure.core.credentials import AccessToken

class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken("sk-example-0123456789", 2**31)

    def close(self):
        pass
"""
"""In place of one of Azure's, which would ask Azure."""


@pytest.fixture
def registry(redis_url: str) -> Iterator[lapse.Registry]:
    with lapse.Registry(redis_url, provider="openai", timeout=5) as made:
        yield made


def record(registry: lapse.Registry, kind: str, id_: str, provider: str = "openai") -> Any:
    found = registry.get(kind, id_, provider=provider)
    assert found is not None, f"{kind} {id_} is not registered"
    return found


def cells(notebook: str) -> list[str]:
    """Return the code of a notebook, cell by cell."""
    return ["".join(cell["source"]) for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]


def test_each_is_short_has_a_test_and_stands_in_the_document() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    files = [path for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}]
    texts = {path: path.read_text() for path in files}
    code = {path: text if path.suffix == ".py" else "\n".join(cells(text)) for path, text in texts.items()}
    document = (EXAMPLES.parent / "docs" / "tracking.md").read_text()

    assert 11 == len(files)
    assert {path.stem for path in files} <= tests
    assert [] == [path.name for path, text in code.items() if len(text.splitlines()) > LINES]
    assert [] == [path.name for path in files if f"(../examples/{path.name})" not in document]


def test_script(run: Run, registry: lapse.Registry, sandbox: Sandbox) -> None:
    (kept,) = run("import script; script.main()")

    assert (set(), {kept}) == (sandbox.alive("file"), sandbox.alive("conversation"))
    assert "scripts" == record(registry, "conversation", kept).policy


def test_flask_app(run: Run, registry: lapse.Registry) -> None:
    asked = """
from flask_app import app
client = app.test_client()
assert client.post("/chats").status_code == 401
chats = [client.post("/chats", headers={"X-User": str(user)}).json["id"] for user in (42, 43)]
answer = client.post(f"/chats/{chats[0]}", json={"text": "Hello"}, headers={"X-User": "42"}).json
assert client.delete(f"/chats/{chats[1]}", headers={"X-User": "43"}).json == {"deleted": True}
say([*chats, answer["id"]])
"""
    check_web("flask", run(asked), registry)


def test_fastapi_app(run: Run, registry: lapse.Registry) -> None:
    asked = """
import asyncio, httpx
from fastapi_app import app

async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        assert (await client.post("/chats")).status_code == 422
        asked = [client.post("/chats", headers={"X-User": str(user)}) for user in (42, 43)]
        chats = [answer.json()["id"] for answer in await asyncio.gather(*asked)]
        answer = await client.post(f"/chats/{chats[0]}", params={"text": "Hello"}, headers={"X-User": "42"})
        deleted = await client.delete(f"/chats/{chats[1]}", headers={"X-User": "43"})
        assert deleted.json() == {"deleted": True}
        say([*chats, answer.json()["id"]])

asyncio.run(main())
"""
    check_web("fastapi", run(asked), registry)


def check_web(app: str, ids: list[str], registry: lapse.Registry) -> None:
    first, second, answer = ids
    chat, said = record(registry, "conversation", first), record(registry, "response", answer)

    assert ("user:42", {"app": app}) == (chat.subject, chat.labels) == (said.subject, said.labels)
    assert [first] == [use.id for use in said.uses]
    assert chat.last_active_at > chat.created_at
    assert None is registry.get("conversation", second)


def test_django_app(run: Run, registry: lapse.Registry) -> None:
    asked = """
import django_app
from django.test import Client
client = Client()
chats = [client.post("/chats", headers={"X-User": str(user)}).json()["id"] for user in (42, 43)]
assert client.get(f"/chats/{chats[0]}").json() == {"items": 0}
assert client.delete(f"/chats/{chats[1]}").json() == {"deleted": True}
say(chats)
"""
    first, second = run(asked)
    chat = record(registry, "conversation", first)

    assert ("user:42", {"app": "django"}) == (chat.subject, chat.labels)
    assert chat.last_active_at > chat.created_at
    assert None is registry.get("conversation", second)


def test_celery_app(run: Run, registry: lapse.Registry, sandbox: Sandbox) -> None:
    asked = """
from celery_app import forget_user, index
kept, gone = (index.apply((user, ["one", "two"])).get() for user in (42, 43))
assert forget_user.apply((gone,)).get()
say([kept, gone])
"""
    kept, gone = run(asked)
    store = record(registry, "vector_store", kept)

    assert ("user:42", {"task": "index"}) == (store.subject, store.labels)
    assert 4 == len(sandbox.alive("file"))
    users = [[one.id for one in record(registry, "file", use.id).used_by] for use in store.uses]
    assert [[kept], [kept]] == users
    assert None is registry.get("vector_store", gone)


def test_openai_agents_session(run: Run, registry: lapse.Registry, sandbox: Sandbox) -> None:
    kept, items, cleared, _ = run("import asyncio, openai_agents_session as one; asyncio.run(one.main())")

    assert "1" == items
    assert {kept} == sandbox.alive("conversation")
    assert "user:42" == record(registry, "conversation", kept).subject
    assert None is registry.get("conversation", cleared)


def test_langgraph_threads(run: Run, registry: lapse.Registry, sandbox: Sandbox) -> None:
    (kept,) = run("import asyncio, langgraph_threads; asyncio.run(langgraph_threads.main())")
    thread = record(registry, "thread", kept, "langgraph")

    assert {kept} == sandbox.alive("thread", dialect="langgraph")
    assert "user:42" == thread.subject
    assert thread.last_active_at > thread.created_at


def test_azure_ai_projects(run: Run, registry: lapse.Registry) -> None:
    conversation, answer = run(CREDENTIAL + "import azure_ai_projects; azure_ai_projects.main(Credential())")

    assert "user:42" == record(registry, "conversation", conversation, "foundry").subject
    assert [conversation] == [use.id for use in record(registry, "response", answer, "foundry").uses]


def test_azure_ai_agents(run: Run, registry: lapse.Registry) -> None:
    thread, agent = run(CREDENTIAL + "import azure_ai_agents; azure_ai_agents.main(Credential())")

    assert [agent] == [use.id for use in record(registry, "thread", thread, "foundry").uses]
    assert "agents" == record(registry, "assistant", agent, "foundry").policy


def test_langchain_chat(run: Run, registry: lapse.Registry) -> None:
    stored, passing = run("import langchain_chat; langchain_chat.main()")

    assert "user:42" == record(registry, "chat_completion", stored).subject
    assert None is registry.get("chat_completion", passing)


def test_lifecycle(run: Run, sandbox: Sandbox) -> None:
    """The cells of the notebook, one after the other in one namespace, as a kernel runs them."""
    sandbox.seed("assistant", 120)
    code = cells((EXAMPLES / "lifecycle.ipynb").read_text())
    run(f"import warnings; warnings.simplefilter('ignore')\nfor cell in {code!r}: exec(cell, globals())\nsay(0)")

    assert set() == sandbox.alive("assistant") | sandbox.alive("thread")
