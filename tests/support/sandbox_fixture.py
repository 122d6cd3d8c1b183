"""The provider stand-in as a fixture: one server for the whole run, empty for each test."""

from collections.abc import Iterator

import pytest

from lapse.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[Sandbox]:
    """Return one running stand-in; tests use ``sandbox``."""
    with Sandbox() as server:
        yield server


@pytest.fixture
def sandbox(sandbox_server: Sandbox) -> Iterator[Sandbox]:
    """Return a stand-in without objects, faults, latency or requests; its base URL is ``sandbox.url``."""
    sandbox_server.reset()
    yield sandbox_server
    sandbox_server.reset()
