"""Files, vector stores, responses, containers and chat completions under the provider's own client library."""

import time

import openai
import pytest

from lapse.sandbox import Sandbox

DAY = 86_400


def test_files_live_and_die(client: openai.OpenAI, sandbox: Sandbox) -> None:
    made = client.files.create(
        file=("notes.txt", b"hello"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    read = client.files.retrieve(made.id)
    deleted = client.files.delete(made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.delete(made.id)

    assert ("notes.txt", 5, "assistants") == (read.filename, read.bytes, read.purpose)
    assert read.expires_at == read.created_at + 3600
    assert {"id": made.id, "object": "file", "deleted": True} == deleted.model_dump()
    assert f"No such File object: {made.id}" in str(caught.value)
    assert "id" == caught.value.param
    assert set() == sandbox.alive("file")


def test_a_page_of_files_holds_ten_thousand(client: openai.OpenAI, sandbox: Sandbox) -> None:
    ids = sandbox.seed("file", 150)

    assert ids == [each.id for each in client.files.list(order="asc").data]
    assert ids[::-1] == [each.id for each in client.files.list(limit=10_000).data]
    with pytest.raises(openai.BadRequestError, match="above maximum"):
        client.files.list(limit=10_001)


def test_vector_stores_leave_their_files(client: openai.OpenAI, sandbox: Sandbox) -> None:
    files = sandbox.seed("file", 3)
    made = client.vector_stores.create(name="kb", file_ids=files[:2], metadata={"a": "b"})
    client.vector_stores.files.create(made.id, file_id=files[2])
    listed = [each.id for each in client.vector_stores.files.list(made.id, order="asc", limit=2)]
    detached = client.vector_stores.files.delete(files[0], vector_store_id=made.id)
    with pytest.raises(openai.NotFoundError, match=f"No file found with id '{files[0]}' in vector store '{made.id}'"):
        client.vector_stores.files.delete(files[0], vector_store_id=made.id)
    read = client.vector_stores.retrieve(made.id)
    deleted = client.vector_stores.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=f"No vector store found with id '{made.id}'"):
        client.vector_stores.retrieve(made.id)

    assert files == listed
    assert {"id": files[0], "object": "vector_store.file.deleted", "deleted": True} == detached.model_dump()
    assert (2, "kb") == (read.file_counts.total, read.name)
    assert {"id": made.id, "object": "vector_store.deleted", "deleted": True} == deleted.model_dump()
    assert set(files) == sandbox.alive("file")


def test_a_file_deleted_without_detaching_it_goes_on_being_counted(client: openai.OpenAI, sandbox: Sandbox) -> None:
    [file_id] = sandbox.seed("file")
    store = client.vector_stores.create(file_ids=[file_id])
    client.files.delete(file_id)

    assert [] == list(client.vector_stores.files.list(store.id))
    assert 1 == client.vector_stores.retrieve(store.id).file_counts.total


def test_an_expired_vector_store_stays_listed(client: openai.OpenAI, sandbox: Sandbox) -> None:
    after = {"anchor": "last_active_at", "days": 7}
    [old] = sandbox.seed("vector_store", created_at=int(time.time()) - 8 * DAY, expires_after=after)
    [young] = sandbox.seed("vector_store", created_at=int(time.time()) - 6 * DAY, expires_after=after)

    assert {old: "expired", young: "completed"} == {each.id: each.status for each in client.vector_stores.list()}


def test_responses_live_and_die(client: openai.OpenAI, sandbox: Sandbox) -> None:
    made = client.responses.create(model="m", input="hello", metadata={"a": "b"})
    read = client.responses.retrieve(made.id)
    raw = client.responses.with_raw_response.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{made.id}' not found."):
        client.responses.delete(made.id)

    assert ("completed", {"a": "b"}) == (read.status, read.metadata)
    assert {"id": made.id, "object": "response", "deleted": True} == raw.http_response.json()
    assert set() == sandbox.alive("response")


def test_a_background_response_runs_until_it_is_cancelled(client: openai.OpenAI, sandbox: Sandbox) -> None:
    made = client.responses.create(model="m", input="hello", background=True)
    [plain] = sandbox.seed("response")

    assert "in_progress" == made.status
    assert "cancelled" == client.responses.cancel(made.id).status
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        client.responses.cancel(plain)


def test_a_deleted_container_lingers_in_the_list(client: openai.OpenAI, sandbox: Sandbox) -> None:
    made = client.containers.create(name="c")
    raw = client.containers.with_raw_response.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=f"Container with id '{made.id}' not found."):
        client.containers.retrieve(made.id)

    assert {"id": made.id, "object": "container.deleted", "deleted": True} == raw.http_response.json()
    assert [made.id] == [each.id for each in client.containers.list()]
    assert set() == sandbox.alive("container")


def test_reading_a_container_keeps_it_alive_and_an_expired_one_stays_listed(
    client: openai.OpenAI, sandbox: Sandbox
) -> None:
    at = int(time.time())
    [idle] = sandbox.seed("container", created_at=at - 600)
    [old] = sandbox.seed("container", created_at=at - 3600)

    assert (client.containers.retrieve(idle).last_active_at or 0) >= at
    assert at - 3600 == client.containers.retrieve(old).last_active_at
    assert {idle: "running", old: "expired"} == {each.id: each.status for each in client.containers.list()}


def test_stored_chat_completions_are_listed_oldest_first(client: openai.OpenAI, sandbox: Sandbox) -> None:
    ids = sandbox.seed("chat_completion", 2, created_at=1_700_000_000)
    made = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], store=True, metadata={"a": "b"}
    )
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "not stored"}])

    assert [*ids, made.id] == [each.id for each in client.chat.completions.list()]
    assert [made.id, *ids[::-1]] == [each.id for each in client.chat.completions.list(order="desc")]
    assert 1_700_000_000 == client.chat.completions.retrieve(ids[0]).created
    assert {"a": "c"} == client.chat.completions.update(made.id, metadata={"a": "c"}).metadata
    deleted = client.chat.completions.delete(made.id)
    assert {"id": made.id, "object": "chat.completion.deleted", "deleted": True} == deleted.model_dump()
    assert set(ids) == sandbox.alive("chat_completion")


# The library says so of every call to threads.
@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
def test_a_run_goes_on_until_it_is_cancelled(client: openai.OpenAI, sandbox: Sandbox) -> None:
    [thread] = sandbox.seed("thread")
    run = client.beta.threads.runs.create(thread, assistant_id="asst_1")
    [seen] = client.beta.threads.runs.list(thread)
    cancelled = client.beta.threads.runs.cancel(run.id, thread_id=thread)

    assert (run.id, "in_progress", "cancelled") == (seen.id, seen.status, cancelled.status)
