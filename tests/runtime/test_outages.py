"""A broker that refuses is a broker that is away: the worker waits, and goes on when it takes writes again."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse.sandbox.redis_server import EmbeddedRedis, server_binary
from support.deployment import Deployment, Process, policy

Wait = Callable[..., None]


@contextmanager
def full_disk(admin: Any, server: EmbeddedRedis) -> Iterator[None]:
    """Let snapshots fail: every write is answered MISCONF."""
    doomed = server.directory / "doomed"
    doomed.mkdir()
    admin.config_set("save", "3600 1")
    admin.config_set("dir", str(doomed))
    doomed.rmdir()
    admin.execute_command("BGSAVE")
    yield
    doomed.mkdir()
    admin.config_set("dir", str(doomed))
    admin.config_set("save", "")
    admin.execute_command("BGSAVE")


@contextmanager
def no_replicas(admin: Any, _server: EmbeddedRedis) -> Iterator[None]:
    """Ask for a replica that is not there: every write is answered NOREPLICAS."""
    admin.config_set("min-replicas-to-write", 1)
    yield
    admin.config_set("min-replicas-to-write", 0)


@contextmanager
def no_rights(admin: Any, _server: EmbeddedRedis) -> Iterator[None]:
    """Take the user's rights to write away: BRPOP is answered NOPERM."""
    admin.execute_command("ACL", "SETUSER", "default", "-brpop", "-del")
    yield
    admin.execute_command("ACL", "SETUSER", "default", "+brpop", "+del")


@contextmanager
def another_type(admin: Any, _server: EmbeddedRedis) -> Iterator[None]:
    """Let the queue be no list: BRPOP is answered WRONGTYPE."""
    admin.delete("lapse:{broker}:lapse")
    admin.set("lapse:{broker}:lapse", "x")
    yield
    admin.delete("lapse:{broker}:lapse")


REFUSALS = {"full disk": full_disk, "no replicas": no_replicas, "no rights": no_rights, "another type": another_type}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    options = ("--enable-protected-configs", "yes") if _has_protected_configs() else ()
    with EmbeddedRedis(*options, directory=folder) as made:
        yield made


def _has_protected_configs() -> bool:
    return "valkey" in Path(server_binary()).name or shutil.which("redis-server") is not None


def refused(program: Process) -> list[dict[str, Any]]:
    """Return what a program said about connecting."""
    return [line for line in program.events() if "rying" in str(line["event"])]


@pytest.mark.parametrize("refusing", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_broker_that_refuses_is_waited_for_and_then_gone_on_with(
    deployment: Deployment, server: EmbeddedRedis, wait_until: Wait, refusing: Any, pool: str
) -> None:
    """Also by a worker that is started meanwhile."""
    deployment.configure(policy())
    environ = {"CELERY_BROKER_URL": server.url}
    beat = deployment.beat(environ=environ)
    worker = deployment.worker(f"--pool={pool}", environ=environ)
    wait_until(lambda: worker.events("sweep.finished"), what="a sweep")
    with redis.Redis.from_url(server.url) as admin:
        with refusing(admin, server):
            wait_until(lambda: refused(worker), what="a word about it")
            later = deployment.start("worker", "--concurrency=1", environ=environ)
            wait_until(lambda: refused(later), 30, what="a word of the worker started meanwhile")
            seen = len(worker.events("sweep.finished"))
            ids = deployment.seed(10)
        assert (True, True, True) == (beat.alive(), worker.alive(), later.alive())
        assert len(worker.events("sweep.finished")) <= seen + 1

        wait_until(lambda: not deployment.alive() & set(ids), 60, what="10 deletions after it")

    for program in (worker, later):
        assert "Unrecoverable error" not in program.stderr
        assert program.stop()[0] == 0


def test_a_worker_of_its_own_redis_that_refuses_says_so_without_a_flood(
    deployment: Deployment, server: EmbeddedRedis, wait_until: Wait
) -> None:
    deployment.configure(policy())
    environ = {"CELERY_BROKER_URL": server.url}
    worker = deployment.worker(environ=environ)
    with redis.Redis.from_url(server.url) as admin, no_replicas(admin, server):
        wait_until(lambda: len(refused(worker)) >= 3, 30, what="three attempts")
        lines = [json.loads(line) for line in worker.stderr.splitlines() if line.startswith("{")]
        assert len(lines) < 40
        assert "Traceback" not in worker.stderr
        os.kill(worker.pid, 0)
