"""Connections whose peer is gone without a word, or is the primary no more: one call finds out, no other has to."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from faults.proxy import Blind, Proxy
from lapse import Answer, AsyncRegistry, Registry, RegistryUnavailable
from lapse.sandbox.redis_server import EmbeddedRedis

CONNECTIONS = 8
TIMEOUT = 0.5


@pytest.fixture
def between(redis_url: str) -> Iterator[Proxy]:
    """Return a proxy to the registry, slow enough for calls to overlap."""
    with Proxy(urlsplit(redis_url).port or 0) as proxy:
        proxy.latency = 0.02
        yield proxy


def test_a_call_that_timed_out_closes_what_waits_in_the_pool(between: Proxy) -> None:
    with Registry(f"redis://127.0.0.1:{between.port}/0", provider="openai", timeout=TIMEOUT) as registry:

        def touch(number: int) -> Answer:
            return registry.touch("thread", f"thread_{number}")

        def touches() -> list[Answer]:
            with ThreadPoolExecutor(CONNECTIONS) as threads:
                return list(threads.map(touch, range(CONNECTIONS)))

        touches()
        assert between.freeze() > 1

        with pytest.raises(RegistryUnavailable):
            touch(0)
        assert [Answer.UNKNOWN] * CONNECTIONS == touches()


async def test_an_asyncio_call_that_timed_out_does_so_too(between: Proxy) -> None:
    url = f"redis://127.0.0.1:{between.port}/0"
    async with AsyncRegistry(url, provider="openai", timeout=TIMEOUT) as registry:

        async def touches() -> list[Answer]:
            return await asyncio.gather(*(registry.touch("thread", f"thread_{n}") for n in range(CONNECTIONS)))

        await touches()
        assert between.freeze() > 1

        with pytest.raises(RegistryUnavailable):
            await registry.touch("thread", "thread_0")
        assert [Answer.UNKNOWN] * CONNECTIONS == await touches()


@pytest.fixture(params=[False, True], ids=["an application", "a process of Celery's"])
def failing_over(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Return a registry's URL, and what makes another server its primary; the old one answers who is connected."""
    if request.param:  # as lapse.app has it
        monkeypatch.setitem(redis.connection.DefaultParser.EXCEPTION_CLASSES, "READONLY", redis.ConnectionError)
    with EmbeddedRedis() as old, EmbeddedRedis() as new, Proxy(old.port) as proxy:
        proxy.latency = 0.02

        def fail_over() -> None:
            with redis.Redis.from_url(old.url) as asked:
                asked.replicaof("127.0.0.1", new.port)
            proxy.lead_to(new.port)

        yield f"redis://127.0.0.1:{proxy.port}/0", fail_over
        new.stop(kill=True)  # asked to end, it would wait for its replica


def test_calls_go_on_at_the_new_primary(failing_over: tuple[str, Callable[[], None]]) -> None:
    url, fail_over = failing_over
    with Registry(url, provider="openai", timeout=5) as registry:

        def register(number: int) -> bool:
            return registry.register("thread", f"thread_{number}", "chat").new

        def registers() -> list[bool]:
            with ThreadPoolExecutor(CONNECTIONS) as threads:
                return list(threads.map(register, range(CONNECTIONS)))

        registers()
        fail_over()

        assert [True] * CONNECTIONS == registers()


async def test_asyncio_calls_go_on_at_the_new_primary(failing_over: tuple[str, Callable[[], None]]) -> None:
    url, fail_over = failing_over
    async with AsyncRegistry(url, provider="openai", timeout=5) as registry:

        async def registers() -> list[bool]:
            made = await asyncio.gather(
                *(registry.register("thread", f"thread_{n}", "chat") for n in range(CONNECTIONS))
            )
            return [one.new for one in made]

        await registers()
        fail_over()

        assert [True] * CONNECTIONS == await registers()


class Losing(Blind):
    """Ends the connection instead of passing on an answer, once for each entry of ``lost``."""

    def __init__(self, lost: list[str]) -> None:
        self._lost = lost

    def answered(self, data: bytes) -> None:
        if self._lost:
            raise ConnectionResetError(self._lost.pop(), data)


def test_what_was_carried_out_and_not_answered_is_not_said_again(
    make_registry: Any, redis_url: str, raw: redis.Redis
) -> None:
    """Said again, it would be answered "unknown": there is no hold any more."""
    lost: list[str] = []
    with Proxy(urlsplit(redis_url).port or 0, watch=lambda: Losing(lost)) as proxy:
        registry = make_registry(f"redis://127.0.0.1:{proxy.port}/0")
        registry.unhold("thread", "thread_1")  # the server knows the script
        registry.hold("thread", "thread_1", reason="case 7")
        lost.append("the answer to unhold")

        with pytest.raises(RegistryUnavailable):
            registry.unhold("thread", "thread_1")

        assert (False, []) == (raw.hexists("lapse:{openai:thread}:holds", "thread_1"), lost)
