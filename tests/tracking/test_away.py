"""A tracked client whose Redis is away: what it creates, uses and deletes is said to the registry afterwards."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

import lapse
from lapse.registry.spool import spool as spools
from lapse.sandbox.redis_server import EmbeddedRedis
from lapse.sandbox.server import Sandbox


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(persistent=True) as one:
        yield one


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "app.spool"
    monkeypatch.setattr(spools, "ASKED_AGAIN", 0.1)
    monkeypatch.setenv("LAPSE_SPOOL", str(path))
    return path


@pytest.fixture
def client(server: EmbeddedRedis, spool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client that is tracked without a word of where, or of what to do when that is away."""
    monkeypatch.setenv("LAPSE_REGISTRY__URL", server.url)
    with Sandbox() as provider, openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as made:
        yield lapse.track(made, policies={"conversation": "chat"}, provider="openai")


def test_what_is_created_used_and_deleted_meanwhile_is_said_afterwards(
    server: EmbeddedRedis, client: Any, spool: Path, wait_until: Callable[..., None]
) -> None:
    before = client.conversations.create()
    server.stop()
    with lapse.context(subject="user:1"):
        created, deleted = client.conversations.create(), client.conversations.create()
    client.conversations.retrieve(before.id)
    client.conversations.delete(deleted.id)
    with lapse.scope(client) as scope:
        kept, due = client.conversations.create(), client.conversations.create()
        scope.keep("conversation", kept.id)
    named = {"before": before, "created": created, "kept": kept, "due": due}
    assert spool.exists()

    server.start()
    with lapse.Registry(server.url, provider="openai", timeout=5, on_error="spool") as registry:
        assert registry.spool
        wait_until(lambda: registry.spool.pending == 0, what="the end of the spool")
        seen = {name: record_of(registry, one) for name, one in named.items()}
        assert registry.get("conversation", deleted.id) is None
    assert seen["created"].subject == "user:1"
    assert seen["before"].last_active_at > seen["before"].created_at
    assert seen["kept"].expires_at is None
    assert seen["due"].expires_at < seen["due"].created_at + timedelta(minutes=1)


def record_of(registry: lapse.Registry, one: Any) -> Any:
    found = registry.get("conversation", one.id)
    assert found
    return found
