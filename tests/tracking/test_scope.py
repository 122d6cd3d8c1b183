"""A scope: what was created inside is due when it ends, or gone already."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
import redis

import lapse
from lapse.sandbox.server import Sandbox

POLICIES = {"conversation": "chat", "file": "chat", "vector_store": "chat"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as server:
        yield server


@pytest.fixture
def client(sandbox: Sandbox, registry: lapse.Registry) -> Iterator[Any]:
    made = openai.OpenAI(api_key="k", base_url=sandbox.url, max_retries=0)
    yield lapse.track(made, policies=POLICIES, registry=registry)
    made.close()


@pytest.fixture
async def awaiting(sandbox: Sandbox, registry: lapse.Registry) -> AsyncIterator[Any]:
    made = openai.AsyncOpenAI(api_key="k", base_url=sandbox.url, max_retries=0)
    yield lapse.track(made, policies=POLICIES, registry=registry)
    await made.close()


def due(registry: lapse.Registry, id_: str, kind: str = "conversation") -> bool:
    record = registry.get(kind, id_)
    assert record is not None
    return record.expires_at is not None and record.expires_at <= record.created_at + timedelta(minutes=1)  # type: ignore[operator]


def test_what_was_created_inside_is_due_when_it_ends(client: Any, registry: lapse.Registry) -> None:
    outside = client.conversations.create()
    with lapse.scope(client) as created:
        inside = client.conversations.create()
        client.conversations.retrieve(outside.id)
        record = registry.get("conversation", inside.id)
        assert record is not None
        assert record.expires_at - record.created_at == timedelta(hours=1)  # type: ignore[operator]
        assert list(created) == [("conversation", inside.id)]

    assert due(registry, inside.id)
    assert not due(registry, outside.id)


def test_after_an_exception_too(client: Any, registry: lapse.Registry) -> None:
    made = []
    with pytest.raises(KeyError), lapse.scope(client):  # noqa: PT012 - what is created before it
        made.append(client.conversations.create())
        raise KeyError

    assert due(registry, made[0].id)


def test_one_that_is_kept_lives_by_its_policy(client: Any, registry: lapse.Registry) -> None:
    with lapse.scope(client) as created:
        kept, other = client.conversations.create(), client.conversations.create()
        created.keep("conversation", kept.id)
        created.keep("conversation", "conv_of_nobody")
        assert len(created) == 1

    record = registry.get("conversation", kept.id)
    assert record is not None
    assert record.expires_at is None
    assert due(registry, other.id)


def test_what_is_waited_for_is_deleted_by_the_client_itself(
    client: Any, registry: lapse.Registry, sandbox: Sandbox, raw: redis.Redis
) -> None:
    with lapse.scope(client, wait=True):
        file = client.files.create(file=b"x", purpose="batch")
        store = client.vector_stores.create(file_ids=[file.id])
        conversation = client.conversations.create(items=[{"role": "user", "content": "x", "type": "message"}])
        gone = client.conversations.create()
        client.conversations.delete(gone.id)

    assert not sandbox.alive("file") | sandbox.alive("vector_store") | sandbox.alive("conversation")
    deletes = [one["path"].rsplit("/", 1)[1] for one in sandbox.requests() if one["method"] == "DELETE"]
    assert deletes[0] == gone.id
    assert deletes[2:] == [conversation.id, store.id, file.id], "an item first, then the newest"
    for kind, id_ in (("file", file.id), ("vector_store", store.id), ("conversation", conversation.id)):
        assert registry.get(kind, id_) is None


def test_what_is_held_or_used_from_outside_is_not_deleted(
    client: Any, registry: lapse.Registry, sandbox: Sandbox
) -> None:
    with lapse.scope(client, wait=True):
        held = client.conversations.create()
        registry.hold("conversation", held.id, reason="case 7")
        used = client.files.create(file=b"x", purpose="batch")
        registry.register("vector_store", "vs_outside", "chat", uses=[("file", used.id)])

    assert (sandbox.alive("conversation"), sandbox.alive("file")) == ({held.id}, {used.id})
    assert [one for one in sandbox.requests() if one["method"] == "DELETE"] == []


def test_without_a_registry_nothing_is_deleted(sandbox: Sandbox) -> None:
    away = lapse.Registry("redis://127.0.0.1:1/0", provider="openai")
    with openai.OpenAI(api_key="k", base_url=sandbox.url) as client:
        lapse.track(client, policies=POLICIES, registry=away)
        with lapse.scope(client, wait=True):
            made = client.conversations.create()

    assert sandbox.alive("conversation") == {made.id}


def test_what_was_there_before_gets_no_expiry_when_it_is_learned(sandbox: Sandbox, registry: lapse.Registry) -> None:
    (old,) = sandbox.seed("conversation", 1)
    with openai.OpenAI(api_key="k", base_url=sandbox.url) as client:
        lapse.track(client, policies=POLICIES, registry=registry, learn="use")
        with lapse.context(subject="user:42"), lapse.scope(client, wait=True) as created:
            client.conversations.retrieve(old)
            assert len(created) == 0

    record = registry.get("conversation", old)
    assert record is not None
    assert (record.expires_at, record.subject) == (None, None)
    assert sandbox.alive("conversation") == {old}


def test_what_cannot_be_deleted_is_left_to_the_worker(
    client: Any, registry: lapse.Registry, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    with lapse.scope(client, wait=True):
        made = client.conversations.create()
        sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500}])

    assert due(registry, made.id)
    assert "the worker deletes it" in caplog.text


def test_the_time_to_wait_ends(client: Any, registry: lapse.Registry, sandbox: Sandbox) -> None:
    with lapse.scope(client, wait=True, timeout=0.001):
        made = [client.files.create(file=b"x", purpose="batch") for _ in range(3)]
        sandbox.latency(0.05)
    sandbox.latency(0)

    assert 2 <= len([one for one in made if registry.get("file", one.id)])
    assert all(due(registry, one.id, "file") for one in made if registry.get("file", one.id))


def test_the_inner_scope_owns(client: Any, registry: lapse.Registry) -> None:
    with lapse.scope(client) as outer:
        with lapse.scope(client) as inner:
            made = client.conversations.create()
            assert (len(outer), len(inner)) == (0, 1)
        assert due(registry, made.id)


def test_a_thread_joins_by_being_run_in_it(client: Any, registry: lapse.Registry) -> None:
    made: list[Any] = []
    with lapse.scope(client) as created:
        threads = [
            threading.Thread(target=created.run, args=(lambda: made.append(client.conversations.create()),)),
            threading.Thread(target=lambda: made.append(client.conversations.create())),
        ]
        for thread in threads:
            thread.start()
            thread.join()

    assert [due(registry, one.id) for one in made] == [True, False]


def test_a_policy_that_only_observes_is_said_once(
    client: Any, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    raw.hset("lapse:{openai:conversation}:chat:rules", "mode", "observe")
    with lapse.scope(client):
        client.conversations.create()
        client.conversations.create()

    assert len([one for one in caplog.records if "only observes" in one.message]) == 1


async def test_an_asynchronous_scope(awaiting: Any, registry: lapse.Registry, sandbox: Sandbox) -> None:
    async with lapse.scope(awaiting) as created:
        left = await awaiting.conversations.create()
        kept = await awaiting.conversations.create()
        created.keep("conversation", kept.id)
    async with lapse.scope(awaiting, wait=True):
        gone = await awaiting.conversations.create(items=[{"role": "user", "content": "x", "type": "message"}])
        file = await awaiting.files.create(file=b"x", purpose="batch")
        sandbox.faults([{"method": "DELETE", "path": "/v1/files/*", "effect": "error", "status": 500}])

    assert due(registry, left.id)
    assert not due(registry, kept.id)
    assert sandbox.alive("conversation") == {left.id, kept.id}
    assert registry.get("conversation", gone.id) is None
    assert due(registry, file.id, "file")


async def test_clients_that_have_no_such_scope_are_refused(awaiting: Any, sandbox: Sandbox, client: Any) -> None:
    with (
        openai.OpenAI(api_key="k", base_url=sandbox.url) as plain,
        pytest.raises(lapse.ConfigError, match="not tracked"),
    ):
        lapse.scope(plain)
    with pytest.raises(lapse.ConfigError, match="async with"), lapse.scope(awaiting):
        pass
    for given in ({"within": "soon"}, {"within": 0}, {"timeout": 0}):
        with pytest.raises(lapse.InvalidResource):
            lapse.scope(client, **given)


def test_what_an_asynchronous_client_creates_in_a_synchronous_scope_expires_by_itself(
    client: Any, sandbox: Sandbox, registry: lapse.Registry, caplog: pytest.LogCaptureFixture
) -> None:
    async def create() -> Any:
        async with openai.AsyncOpenAI(api_key="k", base_url=sandbox.url) as awaiting:
            lapse.track(awaiting, policies=POLICIES, registry=registry)
            return await awaiting.conversations.create()

    with lapse.scope(client):
        made = asyncio.run(create())

    record = registry.get("conversation", made.id)
    assert record is not None
    assert record.expires_at is not None
    assert "expires by itself" in caplog.text


KILLED = """
import os, signal, sys, lapse, openai
client = lapse.track(openai.OpenAI(api_key="k", base_url=sys.argv[1]), policies={"conversation": "chat"},
                     registry=lapse.Registry(sys.argv[2], provider="openai"))
with lapse.scope(client, within="5s", wait=True):
    print(client.conversations.create().id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_nothing(sandbox: Sandbox, registry: lapse.Registry, redis_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, sandbox.url, redis_url], capture_output=True, text=True, check=False
    )

    record = registry.get("conversation", done.stdout.strip())
    assert record is not None
    assert record.expires_at - record.created_at == timedelta(seconds=5)  # type: ignore[operator]


TEST = """
def test_it(lapse_scope):
    import lapse, openai, os
    client = lapse.track(openai.OpenAI(api_key="k", base_url=os.environ["AT"]), policies={"file": "chat"},
                         registry=lapse.Registry(os.environ["REGISTRY"], provider="openai"))
    created = lapse_scope(client, wait=True)
    client.files.create(file=b"x", purpose="batch")
    assert len(created) == 1
"""


def test_the_fixture_of_pytest(sandbox: Sandbox, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(TEST)
    environ = {"AT": sandbox.url, "REGISTRY": redis_url, "PATH": "/usr/bin:/bin"}
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"]
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert len([one for one in sandbox.requests() if one["method"] == "DELETE"]) == 1
    assert sandbox.alive("file") == set()


def test_the_fixture_s_module_loads_nothing() -> None:
    code = "import sys, pytest_lapse; print(sorted({'lapse', 'redis', 'openai'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
