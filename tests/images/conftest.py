"""Images are built once a run; each check tells at the end what stood in for what."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.contained import IMAGE, ContainerDeployment, contained
from images.engine import Podman
from lapse.sandbox import Sandbox
from support.deploykit import ROOT
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]
PYTHON = "docker.io/library/python:3.13-slim"
TOLD: dict[str, list[str]] = {}
"""What stood in for what, by check."""


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Return the engine."""
    return Podman(tmp_path_factory.mktemp("podman"))


@pytest.fixture
def stands_in(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what notes that something stood in for something else in this check."""
    return TOLD.setdefault(request.node.nodeid.rpartition("/")[2], []).append


@pytest.fixture(scope="session")
def bases(podman: Podman) -> dict[str, str]:
    """Return what stands in for each base image; empty where it is itself."""
    return {
        name: podman.base(name)
        for name in ("docker.io/library/python:3.13-slim", "docker.io/library/redis:7.4-bookworm")
    }


@pytest.fixture(scope="session")
def built(podman: Podman, bases: dict[str, str]) -> str:
    """Build the image as deploy/README.md says, and return its name."""
    podman.build("-f", "deploy/Dockerfile", "--tag", IMAGE, str(ROOT))
    return IMAGE


@pytest.fixture
def image(built: str, bases: dict[str, str], stands_in: Callable[[str], None]) -> str:
    """Return the image's name."""
    stands_in("podman with runc for Docker")
    for name, what in bases.items():
        if what:
            stands_in(f"{what} for {name}")
    return built


@pytest.fixture
def deployment(
    podman: Podman,
    image: str,
    tmp_path: Path,
    sandbox: Sandbox,
    wait_until: Callable[..., None],
    stands_in: Callable[[str], None],
) -> Iterator[ContainerDeployment]:
    """Return a deployment in containers."""
    stands_in("lapse sandbox for the provider")
    with contained(podman, tmp_path, sandbox, wait_until) as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what stood in for what."""
    if TOLD:
        terminalreporter.section("what stood in for what")
    for check, told in TOLD.items():
        terminalreporter.write_line(f"{check}: {'; '.join(told) or 'nothing'}")
