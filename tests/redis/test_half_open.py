"""Connections whose peer is gone without a word: one call finds out, and no other has to."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from faults.proxy import Proxy
from lapse import Answer, AsyncRegistry, Registry, RegistryUnavailable

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
        assert CONNECTIONS == between.freeze()

        with pytest.raises(RegistryUnavailable):
            await registry.touch("thread", "thread_0")
        assert [Answer.UNKNOWN] * CONNECTIONS == await touches()
