"""An operator's desk for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import Desk
from lapse.sandbox import Sandbox
from sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]


@pytest.fixture
def desk(tmp_path: Path, redis_url: str, sandbox: Sandbox) -> Iterator[Desk]:
    made = Desk(tmp_path, redis_url, sandbox)
    yield made
    made.close()
