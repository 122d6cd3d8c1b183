"""The stand-in under the provider's own client library."""

import openai
import pytest

from lapse.sandbox import Sandbox

# The library says so of every call to threads and assistants.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The Assistants API is deprecated:DeprecationWarning", "ignore:deprecated:DeprecationWarning"
)


def test_threads_live_and_die(client: openai.OpenAI, sandbox: Sandbox) -> None:
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "hello"}], metadata={"a": "b"})
    read = client.beta.threads.retrieve(thread.id)
    client.beta.threads.update(thread.id, metadata={"a": "c"})
    [message] = client.beta.threads.messages.list(thread.id)
    deleted = client.beta.threads.delete(thread.id)

    assert thread == read
    assert (message.role, message.thread_id) == ("user", thread.id)
    assert {"id": thread.id, "object": "thread.deleted", "deleted": True} == deleted.model_dump()
    assert set() == sandbox.alive("thread") == sandbox.alive("message")


def test_a_thread_cannot_be_deleted_twice(client: openai.OpenAI, sandbox: Sandbox) -> None:
    [id_] = sandbox.seed("thread")
    client.beta.threads.delete(id_)
    with pytest.raises(openai.NotFoundError) as caught:
        client.beta.threads.delete(id_)

    assert f"Error code: 404 - No thread found with id '{id_}'." == str(caught.value)
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize(("count", "limit"), [(0, 20), (1, 1), (20, 20), (21, 20), (45, 7), (101, 100)])
def test_every_assistant_is_listed_once(client: openai.OpenAI, sandbox: Sandbox, count: int, limit: int) -> None:
    ids = sandbox.seed("assistant", count)

    newest_first = [each.id for each in client.beta.assistants.list(limit=limit)]
    oldest_first = [each.id for each in client.beta.assistants.list(limit=limit, order="asc")]

    assert ids[::-1] == newest_first
    assert ids == oldest_first


def test_assistants_live_and_die(client: openai.OpenAI, sandbox: Sandbox) -> None:
    made = client.beta.assistants.create(model="m", name="helper", metadata={"pin": "true"}, tools=[])
    client.beta.assistants.update(made.id, name="renamed")
    read = client.beta.assistants.retrieve(made.id)
    deleted = client.beta.assistants.delete(made.id)

    assert (read.name, read.metadata, read.model) == ("renamed", {"pin": "true"}, "m")
    assert {"id": made.id, "object": "assistant.deleted", "deleted": True} == deleted.model_dump()
    assert set() == sandbox.alive("assistant")


def test_items_outlive_their_conversation(client: openai.OpenAI, sandbox: Sandbox) -> None:
    """The provider says so; whoever promises erasure has to delete the items first."""
    conversation = client.conversations.create(items=[{"role": "user", "content": f"line {n}"} for n in range(3)])
    client.conversations.items.create(conversation.id, items=[{"role": "assistant", "content": "answer"}])
    items = list(client.conversations.items.list(conversation.id, limit=2, order="asc"))
    answer = client.conversations.items.delete(items[0].id or "", conversation_id=conversation.id)
    deleted = client.conversations.delete(conversation.id)

    assert len(items) == 4
    assert ("conversation", conversation.id) == (answer.object, answer.id)
    assert {"id": conversation.id, "object": "conversation.deleted", "deleted": True} == deleted.model_dump()
    assert {item.id for item in items[1:]} == sandbox.alive("conversation_item")
    assert set() == sandbox.alive("conversation")


def test_conversation_metadata_is_replaced(client: openai.OpenAI) -> None:
    made = client.conversations.create(metadata={"a": "1"})
    client.conversations.update(made.id, metadata={"b": "2"})

    assert client.conversations.retrieve(made.id).metadata == {"b": "2"}
