"""A rig of its own for each test; one provider process for all of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.rig import Rig, rig_on
from support.sandbox_process import SandboxProcess


@pytest.fixture(scope="session")
def provider_process(clean_environment: None) -> Iterator[SandboxProcess]:
    """Return one running provider; tests use ``rig.provider``."""
    with SandboxProcess() as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path, provider_process: SandboxProcess, wait_until: Callable[..., None]) -> Iterator[Rig]:
    """Return a rig with an empty provider without faults."""
    provider_process.reset()
    with rig_on(tmp_path, provider_process, wait_until) as made:
        yield made
