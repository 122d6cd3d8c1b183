"""A deployment of its own for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lapse.sandbox import Sandbox
from support.deployment import Deployment
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]


@pytest.fixture
def deployment(
    tmp_path: Path, redis_url: str, sandbox: Sandbox, wait_until: Callable[..., None]
) -> Iterator[Deployment]:
    made = Deployment(tmp_path, redis_url, sandbox, wait_until)
    yield made
    found = made.verdict()
    made.close()
    assert found == [], "\n".join(map(str, found))
