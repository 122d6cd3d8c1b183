"""What a supervisor asks a worker and a beat, while their Redis is there, away, and back."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.deployment import HEAD, Deployment, policy

Wait = Callable[..., None]
SCRIPT = Path(sys.executable).with_name("lapse")
SELDOM = HEAD.replace('sweep = "1s"', 'sweep = "25s"')
BACK_WITHIN = 15.0
"""Seconds from the return of Redis until something is deleted."""


@pytest.fixture
def environ(deployment: Deployment, tmp_path: Path) -> dict[str, str]:
    return {"LAPSE_RUNTIME_DIR": str(tmp_path / "run")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with EmbeddedRedis(directory=folder, persistent=True) as made:
        yield made


@pytest.fixture
def redis_url(server: EmbeddedRedis) -> str:
    """Return the registry's and the broker's Redis: one that may go away."""
    return server.url


def probe(deployment: Deployment, environ: dict[str, str], *arguments: str) -> bool:
    """Return whether ``lapse health`` says that all is well."""
    command = [str(SCRIPT), "health", *arguments]
    done = subprocess.run(command, env=deployment.environ | environ, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 4}, done.stderr
    return done.returncode == 0


def answers(deployment: Deployment, environ: dict[str, str], role: str) -> tuple[bool, bool]:
    """Return what liveness and readiness say."""
    return probe(deployment, environ, "--live", role), probe(deployment, environ, role)


def test_a_worker_and_a_beat_whose_redis_is_away_are_alive_and_not_ready(
    deployment: Deployment, environ: dict[str, str], wait_until: Wait
) -> None:
    """From their start on: their config is read, and they wait."""
    deployment.configure(policy())
    environ |= {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    for role in ("worker", "beat"):
        process = deployment.start(role, environ=environ)
        wait_until(lambda role=role: probe(deployment, environ, "--live", f"--{role}"), 30, what=f"a live {role}")
        assert (True, False) == answers(deployment, environ, f"--{role}")
        assert process.alive()
        assert 0 == process.stop()[0]


def test_a_config_that_is_refused_is_never_alive(deployment: Deployment, environ: dict[str, str]) -> None:
    deployment.configure(policy(provider='"opnai"'))

    assert 2 == deployment.start("worker", environ=environ).wait(30)
    assert not probe(deployment, environ, "--live")


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_redis_away_and_back_kills_nothing_and_deletes_within_seconds(
    deployment: Deployment, server: EmbeddedRedis, environ: dict[str, str], wait_until: Wait, pool: str
) -> None:
    """What beat could not send it sends when it can, not when the next is due, 25 s after that."""
    deployment.configure(policy(), head=SELDOM)
    worker = deployment.worker(f"--pool={pool}", environ=environ)
    beat = deployment.beat(environ=environ)
    for role in ("--worker", "--beat"):
        wait_until(
            lambda role=role: answers(deployment, environ, role) == (True, True), 30, what=f"a {role} that is ready"
        )
    wait_until(lambda: worker.events("sweep.finished"), 30, what="the first sweep")
    ids = deployment.seed(3)

    server.stop()
    for role in ("--worker", "--beat"):
        wait_until(
            lambda role=role: answers(deployment, environ, role) == (True, False), 90, what=f"a {role} that waits"
        )
    assert [True, True] == [process.alive() for process in (worker, beat)]

    server.start()
    returned = time.monotonic()
    wait_until(lambda: not deployment.alive() & set(ids), 60, what="3 deletions")
    assert time.monotonic() - returned <= BACK_WITHIN
    for role in ("--worker", "--beat"):
        wait_until(lambda role=role: answers(deployment, environ, role) == (True, True), 30, what=f"{role} is ready")
    assert [0, 0] == [process.stop()[0] for process in (worker, beat)]
