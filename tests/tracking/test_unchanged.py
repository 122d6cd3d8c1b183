"""The OpenAI client's own calls, with and without tracking: every answer the same, to the byte."""

from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import openai
import pytest

import lapse
from support.canned import Canned

KINDS = ("thread", "assistant", "conversation", "file", "vector_store", "container", "response", "chat_completion")
MESSAGE = [{"role": "user", "content": "hello"}]


def facts(response: Any) -> tuple[Any, ...]:
    """Return all that an HTTP response shows to an application that has read it."""
    headers = {name: value for name, value in response.headers.items() if name not in {"date", "server"}}
    try:
        content = response.content
    except (httpx.StreamError, httpx2.StreamError) as error:
        content = type(error).__name__
    return (
        response.status_code,
        headers,
        content,
        response.num_bytes_downloaded,
        response.is_stream_consumed,
        response.is_closed,
        response.encoding,
    )


def parsed(model: Any) -> Any:
    return model.model_dump(mode="json") if hasattr(model, "model_dump") else model


def creates(client: Any) -> dict[str, Callable[[], Any]]:
    beta = client.beta
    return {
        "thread": lambda: beta.threads.create(messages=MESSAGE),
        "assistant": lambda: beta.assistants.create(model="m", name="a"),
        "conversation": lambda: client.conversations.create(metadata={"a": "b"}),
        "file": lambda: client.files.create(file=("a.txt", b"hello"), purpose="assistants"),
        "upload": lambda: client.uploads.create(bytes=5, filename="a", mime_type="text/plain", purpose="assistants"),
        "completed upload": lambda: client.uploads.complete("upload_1", part_ids=["part_1"]),
        "vector store": lambda: client.vector_stores.create(name="v", file_ids=["file_1"]),
        "store's file": lambda: client.vector_stores.files.create("vs_1", file_id="file_1"),
        "store's files": lambda: client.vector_stores.file_batches.create("vs_1", file_ids=["file_1"]),
        "container": lambda: client.containers.create(name="c"),
        "response": lambda: client.responses.create(model="m", input="hi", conversation="conv_1"),
        "response not stored": lambda: client.responses.create(model="m", input="hi", store=False),
        "completion": lambda: client.chat.completions.create(model="m", messages=MESSAGE, store=True),
        "completion not stored": lambda: client.chat.completions.create(model="m", messages=MESSAGE),
        "message": lambda: beta.threads.messages.create("thread_1", role="user", content="x"),
        "run": lambda: beta.threads.runs.create("thread_1", assistant_id="asst_1"),
        "thread and run": lambda: beta.threads.create_and_run(assistant_id="asst_1"),
        "items": lambda: client.conversations.items.create("conv_1", items=MESSAGE),
        "batch": lambda: client.batches.create(
            completion_window="24h", endpoint="/v1/responses", input_file_id="file_1"
        ),
        "embedding": lambda: client.embeddings.create(model="m", input="x", encoding_format="float"),
    }


def others(client: Any) -> dict[str, Callable[[], Any]]:
    beta = client.beta
    return {
        "get thread": lambda: beta.threads.retrieve("thread_1"),
        "get assistant": lambda: beta.assistants.retrieve("asst_1"),
        "get conversation": lambda: client.conversations.retrieve("conv_1"),
        "get file": lambda: client.files.retrieve("file_1"),
        "get vector store": lambda: client.vector_stores.retrieve("vs_1"),
        "get container": lambda: client.containers.retrieve("cntr_1"),
        "get response": lambda: client.responses.retrieve("resp_1"),
        "get completion": lambda: client.chat.completions.retrieve("chatcmpl_1"),
        "get batch": lambda: client.batches.retrieve("batch_1"),
        "update thread": lambda: beta.threads.update("thread_1", metadata={"a": "b"}),
        "update assistant": lambda: beta.assistants.update("asst_1", name="b"),
        "update conversation": lambda: client.conversations.update("conv_1", metadata={"a": "b"}),
        "update vector store": lambda: client.vector_stores.update("vs_1", name="w"),
        "update completion": lambda: client.chat.completions.update("chatcmpl_1", metadata={"a": "b"}),
        "list assistants": beta.assistants.list,
        "list files": client.files.list,
        "list vector stores": client.vector_stores.list,
        "list containers": client.containers.list,
        "list completions": client.chat.completions.list,
        "list items": lambda: client.conversations.items.list("conv_1"),
        "list messages": lambda: beta.threads.messages.list("thread_1"),
        "cancel response": lambda: client.responses.cancel("resp_1"),
        "delete thread": lambda: beta.threads.delete("thread_1"),
        "delete assistant": lambda: beta.assistants.delete("asst_1"),
        "delete conversation": lambda: client.conversations.delete("conv_1"),
        "delete item": lambda: client.conversations.items.delete("item_1", conversation_id="conv_1"),
        "delete file": lambda: client.files.delete("file_1"),
        "delete vector store": lambda: client.vector_stores.delete("vs_1"),
        "delete container": lambda: client.containers.delete("cntr_1"),
        "delete response": lambda: client.responses.delete("resp_1"),
        "delete completion": lambda: client.chat.completions.delete("chatcmpl_1"),
    }


def answering(client: Any, *ways: str) -> dict[str, Any]:
    """Return copies of a client whose provider answers in certain ways."""
    return {how: client.with_options(default_headers={"x-answer": how}) for how in ways}


def special(client: Any) -> dict[str, Callable[[], Any]]:
    """Return calls that end otherwise, or whose answers are read in other ways."""
    ways = answering(client, "404", "429", "500", "retry", "text", "cut", "gzip", "chunked", "reset")

    def raw_bytes() -> Any:
        with client.conversations.with_streaming_response.create() as response:
            inside = response.http_response
            return [b"".join(inside.iter_raw(3)), inside.num_bytes_downloaded, inside.is_stream_consumed]

    def unread() -> Any:
        with client.conversations.with_streaming_response.create() as response:
            return response.status_code

    return {
        "not found": lambda: ways["404"].conversations.retrieve("conv_1"),
        "not found delete": lambda: ways["404"].conversations.delete("conv_1"),
        **{how: one.conversations.create for how, one in ways.items() if how != "404"},
        "raw": lambda: client.conversations.with_raw_response.create().text,
        "raw bytes": raw_bytes,
        "unread": unread,
        "pages": lambda: [parsed(one) for one in client.files.list(limit=2)],
    }


def streams(client: Any) -> dict[str, Callable[[], Any]]:
    """Return calls whose answers are streams of events."""
    beta = client.beta
    cut = answering(client, "cut")["cut"]

    def streamed(events: Any) -> list[Any]:
        return [parsed(event) for event in events]

    def left() -> Any:
        with client.responses.create(model="m", input="hi", stream=True) as stream:
            return parsed(next(iter(stream)))

    def helper() -> Any:
        with client.responses.stream(model="m", input="hi") as stream:
            return [event.type for event in stream]

    return {
        "stream": lambda: streamed(client.responses.create(model="m", input="hi", stream=True)),
        "stream cut": lambda: streamed(cut.responses.create(model="m", input="hi", stream=True)),
        "stream left": left,
        "stream helper": helper,
        "completion's stream": lambda: streamed(
            client.chat.completions.create(model="m", messages=MESSAGE, store=True, stream=True)
        ),
        "run's stream": lambda: streamed(beta.threads.runs.create("thread_1", assistant_id="asst_1", stream=True)),
        "thread and run's stream": lambda: streamed(beta.threads.create_and_run(assistant_id="asst_1", stream=True)),
    }


def everything(client: Any) -> list[tuple[str, Any, list[Any]]]:
    """Return what each call comes to: its answer, and the HTTP responses that it read."""
    done, seen = [], []
    send = client._client.send

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append(send(*args, **kwargs))
        return seen[-1]

    client._client.send = noting
    for name, call in {**creates(client), **others(client), **special(client), **streams(client)}.items():
        seen.clear()
        try:
            answer = parsed(call())
        except (openai.APIError, httpx.HTTPError, httpx2.HTTPError) as error:
            answer = (type(error).__name__, str(error))
        done.append((name, answer, [facts(response) for response in seen]))
    client.close()
    return done


# Assistants and threads: the SDK's own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=["OpenAI", "AzureOpenAI", "httpx"])
def make(request: pytest.FixtureRequest, canned: Canned) -> Callable[[], Any]:
    """Return a way to make a client: OpenAI's, Azure's, or one on an older HTTP library. Its provider begins anew."""

    def made() -> Any:
        canned.reset()
        if request.param == "AzureOpenAI":
            return openai.AzureOpenAI(api_key="k", base_url=canned.url, api_version="2026-01-01", max_retries=1)
        http = httpx.Client() if request.param == "httpx" else None
        return openai.OpenAI(api_key="k", base_url=canned.url, max_retries=1, http_client=http)  # type: ignore[arg-type]

    return made


def test_every_answer_is_the_same_to_the_byte(
    make: Callable[[], Any], registry: lapse.Registry, canned: Canned
) -> None:
    expected = everything(make())
    asked = list(canned.requests)
    client = make()
    assert lapse.track(client, policies=dict.fromkeys(KINDS, "chat"), registry=registry, learn="use") is client

    found = everything(client)

    assert len(found) > 60
    for before, after in zip(expected, found, strict=True):
        assert after == before
    assert [request[:2] for request in canned.requests] == [request[:2] for request in asked]
    assert registry.get("thread", "thread_0001") is not None


def special_async(client: Any) -> dict[str, Callable[[], Any]]:
    """Return ``special`` for an asynchronous client, where it reads otherwise."""
    ways = answering(client, "404", "retry", "cut", "gzip", "reset")

    async def streamed(how: Any) -> Any:
        return [parsed(event) async for event in await how.responses.create(model="m", input="hi", stream=True)]

    async def helper() -> Any:
        async with client.responses.stream(model="m", input="hi") as stream:
            return [event.type async for event in stream]

    async def raw_bytes() -> Any:
        async with client.conversations.with_streaming_response.create() as response:
            inside = response.http_response
            return [b"".join([part async for part in inside.aiter_raw(3)]), inside.num_bytes_downloaded]

    async def unread() -> Any:
        async with client.conversations.with_streaming_response.create() as response:
            return response.status_code

    async def pages() -> Any:
        return [parsed(one) async for one in client.files.list(limit=2)]

    return {
        "not found": lambda: ways["404"].conversations.delete("conv_1"),
        **{how: one.conversations.create for how, one in ways.items() if how != "404"},
        "raw bytes": raw_bytes,
        "unread": unread,
        "pages": pages,
        "stream": lambda: streamed(client),
        "stream cut": lambda: streamed(ways["cut"]),
        "stream helper": helper,
    }


async def everything_async(client: Any) -> list[tuple[str, Any, list[Any]]]:
    """Return what each call of an asynchronous client comes to; see ``everything``."""
    done, seen = [], []
    send = client._client.send

    async def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append(await send(*args, **kwargs))
        return seen[-1]

    client._client.send = noting
    lists = {name for name in others(client) if name.startswith("list")}
    calls = {name: call for name, call in {**creates(client), **others(client)}.items() if name not in lists}
    for name, call in {**calls, **special_async(client)}.items():
        seen.clear()
        try:
            answer = parsed(await call())
        except (openai.APIError, httpx.HTTPError, httpx2.HTTPError) as error:
            answer = (type(error).__name__, str(error))
        done.append((name, answer, [facts(response) for response in seen]))
    await client.close()
    return done


@pytest.mark.parametrize("name", ["AsyncOpenAI", "AsyncAzureOpenAI"])
async def test_every_answer_of_an_asynchronous_client_is_the_same(
    registry: lapse.Registry, canned: Canned, name: str
) -> None:
    def made() -> Any:
        canned.reset()
        more = {"api_version": "2026-01-01"} if "Azure" in name else {}
        return getattr(openai, name)(api_key="k", base_url=canned.url, max_retries=1, **more)

    expected = await everything_async(made())
    client = lapse.track(made(), policies=dict.fromkeys(KINDS, "chat"), registry=registry, learn="use")

    found = await everything_async(client)

    assert len(found) > 50
    for before, after in zip(expected, found, strict=True):
        assert after == before
    assert registry.get("thread", "thread_0001") is not None
