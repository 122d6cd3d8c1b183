"""Fixtures that start real servers. The environment's own Redis, keys and settings are never used."""

import functools
import importlib.metadata
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator

import hypothesis
import pytest
import redis
import structlog

from lapse.log import _CHATTY
from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support import acl, counted, slots
from support.clusters import EVERYWHERE, info, until

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no counterexample
hypothesis.settings.load_profile("untimed")
pytest.register_assert_rewrite("faults")  # its modules assert as tests do
# A run in the background was told to ignore Ctrl-C, and so would be every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

_USER = os.environ.get("LAPSE_TEST_USER")
"""Which shipped user registries and workers of the tests are; unset: the server's default user."""

_FOREIGN = ("LAPSE_", "OPENAI_", "REDIS_", "CELERY_", "AZURE_")


_LONG = {"packaging", "runtime", "faults", "examples", "demo", "docs", "readme", "deploy", "security"}
"""Rooms whose tests start programs and wait for them: last, one of them would go on alone for minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that what is short fills the end on every core."""
    items.sort(key=lambda item: item.path.parent.name not in _LONG)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Count from here on for this test."""
    counted.begun()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down what a test came to."""
    report = yield
    counted.reported(report)
    return report


@pytest.fixture(autouse=True, scope="session")
def known_versions() -> Iterator[None]:
    """Read once what version of redis-py this is, which it asks for with every connection that it makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.metadata.version", functools.cache(importlib.metadata.version))
        yield


@pytest.fixture(autouse=True, scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take out of the environment whatever could point a test at something real."""
    for key in [key for key in os.environ if key.startswith(_FOREIGN) and not key.startswith("LAPSE_TEST_")]:
        del os.environ[key]
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ["LAPSE_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Put the process' logging back as it was: a command that a test runs in it sets it up for itself."""
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(threading, "excepthook", threading.excepthook)
        yield
    logging.disable(logging.NOTSET)
    if (root.handlers, root.level) == (handlers, level):
        return
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
    for name in ("lapse", *_CHATTY):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def one_slot() -> Iterator[None]:
    """With ``LAPSE_TEST_SLOTS=1``, fail a test in which a command named keys of two hash slots."""
    yield
    if slots.EVERYWHERE:
        assert [] == slots.EVERYWHERE.found()


@pytest.fixture(scope="session")
def redis_server(
    clean_environment: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EmbeddedRedis]:
    """Return one real server for the whole run; tests that stop or fill a server start their own."""
    mode = ("--cluster-enabled", "yes", "--cluster-port", str(free_port())) if EVERYWHERE else ()
    with EmbeddedRedis(*acl.options(tmp_path_factory.mktemp("users")), *mode) as server:
        if EVERYWHERE:
            with redis.Redis.from_url(server.url) as admin:
                admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                until(lambda: info(admin)["cluster_state"] == "ok", "the node serves every hash slot")
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> Iterator[str]:
    """Return the URL of an empty registry."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield acl.as_user(redis_server.url, _USER) if _USER else redis_server.url
        client.flushall()


@pytest.fixture
def raw(redis_server: EmbeddedRedis, redis_url: str) -> Iterator[redis.Redis]:
    """Return a plain client to look at what is stored."""
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
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
