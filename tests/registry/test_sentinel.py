"""A registry whose primary Sentinels name: three real ones, and a primary that ends."""

import time
from collections.abc import Callable, Iterator

import pytest

from lapse import AsyncRegistry, Registry
from lapse.errors import RegistryUnavailable
from lapse.registry.aio import Carrier
from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.clusters import sentinels


@pytest.fixture(scope="module")
def watched(
    clean_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[EmbeddedRedis]]]:
    with sentinels(tmp_path_factory.mktemp("sentinels")) as made:
        yield made


async def test_a_registry_goes_to_the_primary_and_to_the_next_one(
    watched: tuple[str, list[EmbeddedRedis]], wait_until: Callable[..., None]
) -> None:
    url, servers = watched
    with Registry(url, provider="openai", timeout=1) as registry:
        assert registry.register("thread", "t1", "chat").new
        async with AsyncRegistry(url, provider="openai", timeout=1) as calls:
            assert not (await calls.register("thread", "t1", "chat")).new
            wait_until(lambda: replicated(servers), what="the replica is in step")
            servers[0].stop(kill=True)
            with pytest.raises(RegistryUnavailable):
                registry.register("thread", "t2", "chat")

            wait_until(lambda: registered(registry), what="a registration at the next primary")
            assert await calls.get("thread", "t1") is not None
    carrier = Carrier(url, 1)
    assert [b"master"] == [reply[0] for reply in await carrier.run([("ROLE",)])]
    await carrier.aclose()


def replicated(servers: list[EmbeddedRedis]) -> bool:
    with Registry(servers[1].url, provider="openai", timeout=1) as replica:
        return replica.get("thread", "t1") is not None


def registered(registry: Registry) -> bool:
    try:
        return registry.register("thread", "t2", "chat").governed_by == "unmanaged"
    except RegistryUnavailable:
        return False


def test_sentinels_that_do_not_answer_or_know_no_such_primary_are_named(
    watched: tuple[str, list[EmbeddedRedis]],
) -> None:
    url, _ = watched
    began = time.monotonic()
    for wrong, why in (
        (f"redis+sentinel://127.0.0.1:{free_port()}/mymaster", "name no primary 'mymaster': none answers"),
        (url.replace("mymaster", "another"), "name no primary 'another': none knows it"),
    ):
        with Registry(wrong, provider="openai", timeout=1) as registry, pytest.raises(RegistryUnavailable, match=why):
            registry.register("thread", "t1", "chat")
    assert time.monotonic() - began < 3
