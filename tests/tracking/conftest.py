"""A provider of fixed answers, and a registry."""

from collections.abc import Iterator

import pytest

import lapse
from lapse.registry import notices as registry_notices
from lapse.tracking import notices
from support.canned import Canned


@pytest.fixture(scope="session")
def canned_server() -> Iterator[Canned]:
    with Canned() as server:
        yield server


@pytest.fixture
def canned(canned_server: Canned) -> Canned:
    canned_server.reset()
    return canned_server


@pytest.fixture
def registry(redis_url: str) -> Iterator[lapse.Registry]:
    with lapse.Registry(redis_url, provider="openai", timeout=5) as made:
        yield made


@pytest.fixture(autouse=True)
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say once a test what is said once a process."""
    monkeypatch.setattr(notices, "_said", set())
    monkeypatch.setattr(registry_notices, "_said", set())
    monkeypatch.setattr(notices, "_counts", type(notices._counts)())
