"""Tracking in an event loop, of other SDKs, and of plain HTTP clients."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import httpx2
import langgraph_sdk
import openai
import pytest
from azure.ai.agents import AgentsClient
from azure.ai.agents.aio import AgentsClient as AsyncAgentsClient
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import SansIOHTTPPolicy

import lapse
from support.canned import Canned


@pytest.fixture
async def client(canned: Canned, registry: lapse.Registry) -> AsyncIterator[Any]:
    made = openai.AsyncOpenAI(api_key="k", base_url=canned.url, max_retries=0)
    yield lapse.track(made, policies={"conversation": "chat", "response": "chat"}, registry=registry, stamp=True)
    await made.close()


async def test_an_asynchronous_client_gets_a_registry_that_awaits(client: Any, registry: lapse.Registry) -> None:
    with lapse.context(subject="user:42"):
        made = await asyncio.gather(*(client.conversations.create() for _ in range(20)))
    async with lapse.context(subject="user:43"):
        other = await client.conversations.create()

    assert {registry.get("conversation", one.id).subject for one in made} == {"user:42"}  # type: ignore[union-attr]
    assert registry.get("conversation", other.id).subject == "user:43"  # type: ignore[union-attr]
    await client.conversations.delete(other.id)
    assert registry.get("conversation", other.id) is None


async def test_tasks_are_in_the_context_that_they_were_made_in(client: Any, registry: lapse.Registry) -> None:
    async def one(user: str) -> str:
        with lapse.context(subject=user):
            await asyncio.sleep(0)
            made = await client.conversations.create()
            return str(made.id)

    ids = await asyncio.gather(*(one(f"user:{n}") for n in range(8)))

    assert [registry.get("conversation", id_).subject for id_ in ids] == [f"user:{n}" for n in range(8)]  # type: ignore[union-attr]


async def test_a_stream_says_its_id_before_its_event_passes(client: Any, registry: lapse.Registry) -> None:
    async with await client.responses.create(model="m", input="hi", stream=True) as stream:
        async for event in stream:
            assert registry.get("response", event.response.id) is not None


async def test_a_registry_that_is_away_stops_no_request(canned: Canned, caplog: pytest.LogCaptureFixture) -> None:
    away = lapse.AsyncRegistry("redis://127.0.0.1:1/0", provider="openai")
    async with openai.AsyncOpenAI(api_key="k", base_url=canned.url) as client:
        lapse.track(client, policies={"conversation": "chat"}, registry=away, stamp=True)
        made = await client.conversations.create()

    assert made.id in caplog.text


async def test_langgraph_s_client(canned: Canned, registry: lapse.Registry) -> None:
    client = langgraph_sdk.get_client(url=canned.url, api_key="k")
    lapse.track(client, policies={"thread": "chat"}, registry=registry)
    lapse.track(client, policies={"thread": "chat"}, registry=registry)

    await client.runs.create("thread_9", "asst_1", if_not_exists="create")
    await client.runs.create("thread_8", "asst_1")

    assert registry.get("thread", "thread_9") is not None
    assert registry.get("thread", "thread_8") is None
    await client.http.client.aclose()


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_plain_http_client(canned: Canned, registry: lapse.Registry, module: Any) -> None:
    with module.Client(base_url=canned.url, headers={"authorization": "Bearer k"}) as http:
        assert lapse.track_http(http, policies={"thread": "chat"}, registry=registry) is http
        mine = http.post("/threads", json={}).json()["id"]
        other = http.post("/threads", json={}, headers={"authorization": "Bearer other"}).json()["id"]

    assert registry.get("thread", mine) is not None
    assert registry.get("thread", other) is None


def test_one_http_client_may_serve_accounts_that_a_function_names(canned: Canned, registry: lapse.Registry) -> None:
    names = {"Bearer a": "first", "Bearer b": "second"}
    with httpx2.Client(base_url=canned.url) as http:
        lapse.track_http(
            http,
            policies={"thread": "chat"},
            registry=registry,
            provider=lambda request: names.get(request.headers["authorization"]),
        )
        ids = {
            key: http.post("/threads", json={}, headers={"authorization": f"Bearer {key}"}).json()["id"]
            for key in "abc"
        }

    assert registry.get("thread", ids["a"], provider="first") is not None
    assert registry.get("thread", ids["b"], provider="second") is not None
    assert not any(registry.get("thread", ids["c"], provider=name) for name in ("first", "second", "openai"))


@pytest.mark.parametrize(
    ("given", "says"),
    [({}, "which addresses"), ({"api": "other"}, "api='other'"), ({"base_url": "/v1"}, "which addresses")],
)
def test_a_plain_http_client_needs_an_address(registry: lapse.Registry, given: dict[str, Any], says: str) -> None:
    with httpx2.Client() as http, pytest.raises(lapse.ConfigError, match=says):
        lapse.track_http(http, policies={"thread": "chat"}, registry=registry, **given)
    with pytest.raises(lapse.ConfigError, match="no HTTP client of httpx"):
        lapse.track_http(object(), policies={"thread": "chat"}, registry=registry)


class Token:
    def get_token(self, *_: Any, **__: Any) -> AccessToken:
        return AccessToken("t", 2**31)


def test_azure_s_client(canned: Canned, registry: lapse.Registry) -> None:
    policy = lapse.azure_policy(canned.url, policies={"thread": "chat", "assistant": "chat"}, registry=registry)
    with AgentsClient(
        canned.url, Token(), per_call_policies=[policy], authentication_policy=SansIOHTTPPolicy()
    ) as client:
        packed = client.threads.create(headers={"x-answer": "gzip"})
        assert registry.get("thread", packed.id) is not None
        thread = client.threads.create()
        agent = client.create_agent(model="m", name="a")
        client.runs.create(thread.id, agent_id=agent.id)
        assert registry.get("assistant", agent.id) is not None
        record = registry.get("thread", thread.id)
        assert record is not None
        assert [use.id for use in record.uses] == [agent.id]
        client.threads.delete(thread.id)

    assert registry.get("thread", thread.id) is None


async def test_azure_s_asynchronous_client(canned: Canned, registry: lapse.Registry) -> None:
    policy = lapse.azure_policy(canned.url, policies={"thread": "chat"}, registry=registry)
    async with AsyncAgentsClient(
        canned.url,
        cast("Any", Token()),
        per_call_policies=[policy],
        authentication_policy=SansIOHTTPPolicy(),
    ) as client:
        thread = await client.threads.create()

    assert registry.get("thread", thread.id) is not None
