"""Fixtures that start real servers. The environment's own Redis, keys and settings are never used."""

import os
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from lapse.embedded import EmbeddedRedis

pytest.register_assert_rewrite("faults")  # its modules assert as tests do

_FOREIGN = ("LAPSE_", "OPENAI_", "REDIS_", "CELERY_", "AZURE_")


@pytest.fixture(autouse=True, scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take out of the environment whatever could point a test at something real."""
    for key in [key for key in os.environ if key.startswith(_FOREIGN) and key != "LAPSE_TEST_SERVER"]:
        del os.environ[key]
    os.environ["LAPSE_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def redis_server(clean_environment: None) -> Iterator[EmbeddedRedis]:  # noqa: ARG001 - order
    """Return one real server for the whole run; tests that stop or fill a server start their own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> Iterator[str]:
    """Return the URL of an empty registry."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield redis_server.url
        client.flushall()


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    """Return a plain client to look at what is stored."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Return a wait on a condition with a deadline in seconds."""

    def wait(condition: Callable[[], object], within: float = 20, *, what: str = "the condition") -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not hold within {within} s"
            time.sleep(0.02)

    return wait
