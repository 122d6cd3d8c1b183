"""Registries that Entra's tokens open, and these end: by redis-entraid, and a stand-in for Azure."""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from lapse import ConfigError, RedisEntraCredentials
from lapse.registry.pools.credentials.renewing import ends
from lapse.sandbox.redis_server import EmbeddedRedis
from support.issuing import USER, Azure
from support.rotating import token

SECONDS = 1.6


@pytest.fixture
def azure(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Azure]]:
    """Return a server's URL, and who issues tokens for it."""
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(server.url, decode_responses=True) as admin,
        Azure(admin, SECONDS) as made,
    ):
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield server.url, made


def test_connections_are_replaced_before_their_tokens_end(make_registry: Any, azure: tuple[str, Azure]) -> None:
    url, issuer = azure
    registry = make_registry(url, credential_provider=RedisEntraCredentials())
    until, number = time.monotonic() + 1.5 * SECONDS, 0
    while time.monotonic() < until:
        assert registry.register("thread", f"t{number}", "chat").new
        number += 1
        time.sleep(0.02)

    assert 2 <= len(issuer.issued)
    assert {"https://redis.azure.com"} == issuer.resources
    assert 0 == issuer.closed


def test_a_child_asks_for_itself(azure: tuple[str, Azure]) -> None:
    """redis-entraid's thread stays with the parent."""
    credentials = RedisEntraCredentials()
    credentials.get_credentials()
    theirs = credentials._own()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, b"own" if credentials._own() is not theirs and credentials._own() is not None else b"same")
        os._exit(0)
    os.waitpid(pid, 0)

    assert b"own" == os.read(reading, 10)
    assert theirs is credentials._own()
    os.close(reading)
    os.close(writing)


async def test_it_is_asked_for_on_a_thread_where_a_loop_runs(azure: tuple[str, Azure]) -> None:
    """By itself it waits, on a loop, for what that loop is to do."""
    credentials = RedisEntraCredentials()
    assert USER == credentials.get_credentials()[0] == (await credentials.get_credentials_async())[0]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis_entraid", None)
    with pytest.raises(ConfigError, match=r"pip install 'PATH/TO/lapse\[redis-entra\]'"):
        RedisEntraCredentials()


def test_only_a_token_says_when_it_ends() -> None:
    assert time.time() + 5 == pytest.approx(ends(token(5)), abs=1)
    for other in ("", "secret", "a.b.c", "a.e30.c", "a.W10.c", "a.\xff.c", "a.eyJleHAiOiAieCJ9.c"):
        assert float("inf") == ends(other), other
