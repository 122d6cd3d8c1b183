"""lapse spool: what waits is shown, sent, and named where Redis refused it; doctor says that it is there."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lapse import Answer, Registry
from lapse.cli.doctor import running
from lapse.guards.integrity.preflight import Level
from lapse.registry.spool import statements
from lapse.registry.spool.statements import Origin
from lapse.registry.spool.store import SpoolStore
from lapse.sandbox.redis_server import free_port
from support.commandline import ENFORCED, Desk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.spool"


def wait_there(path: Path, *ids: str, policy: str = "chat", namespace: str = "lapse") -> None:
    """Leave in a spool what an application said that met no Redis, and that ended since."""
    with Registry(f"redis://127.0.0.1:{free_port()}/0", provider="openai", on_error="spool", spool=path) as gone:
        commands = gone.protocol.commands
        origin = Origin(namespace, 0)
        with SpoolStore(path) as store:
            for id_ in ids:
                registration = commands.registration("thread", id_, policy)
                store.append(statements.of(commands.register(registration), origin, None))


def test_what_waits_is_shown_and_sent(desk: Desk, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAPSE_SPOOL", str(path))
    wait_there(path, "t1", "t2")
    wait_there(path, "t3", namespace="another")

    shown = json.loads(desk.good("spool", "status", "--json", LAPSE_SPOOL=str(path)).out)
    assert [(one["namespace"], one["waiting"]) for one in shown["waiting"]] == [("lapse", 2), ("another", 1)]
    assert desk.registry.get("thread", "t1") is None
    found = running.spool("lapse")
    assert (found.level, found.detail) == (Level.WARNING, f"{path}: 3 calls wait for Redis, 0 were refused")

    assert desk.good("spool", "flush", "--file", str(path)).out == "2 sent, 0 refused, 0 too old\n"
    assert desk.registry.get("thread", "t1")
    assert desk.registry.get("thread", "t2")
    shown = json.loads(desk.good("spool", "status", "--file", str(path), "--json").out)
    assert [one["namespace"] for one in shown["waiting"]] == ["another"]


def test_a_hold_that_is_over_when_it_is_sent_is_settled_with_the_others(
    desk: Desk, path: Path, wait_until: Callable[..., None]
) -> None:
    """It was ahead when it was said: it is no error, and keeps nothing and nobody waiting."""
    desk.configure(ENFORCED)
    held, other = desk.seed(2)
    desk.worker(sweeps=0)
    end = time.time() + 0.5
    with Registry(f"redis://127.0.0.1:{free_port()}/0", provider="openai", on_error="spool", spool=path) as gone:
        assert gone.hold("thread", held, reason="case 7", until=end) is Answer.SPOOLED
        assert gone.hold("thread", other, reason="case 8") is Answer.SPOOLED
        assert gone.unhold("thread", other) is Answer.SPOOLED
        assert gone.hold("thread", "later", reason="case 9") is Answer.SPOOLED
    wait_until(lambda: time.time() > end, what="the end of the hold")

    assert desk.good("spool", "flush", "--file", str(path)).out == "4 sent, 0 refused, 0 too old\n"
    assert desk.raw.hexists("lapse:{openai:thread}:holds", held)
    desk.worker()

    assert not desk.raw.hexists("lapse:{openai:thread}:holds", held)
    assert desk.raw.hexists("lapse:{openai:thread}:holds", "later")
    assert desk.sandbox.alive("thread") == set()


def test_what_redis_refused_is_named(desk: Desk, path: Path) -> None:
    desk.raw.sadd("lapse:{openai:thread}:policies", *(f"p{number}" for number in range(64)))
    wait_there(path, "t1", policy="one-too-many")
    wait_there(path, "t2", policy="p1")

    flushed = desk.run("spool", "flush", "--file", str(path))
    assert (flushed.code, flushed.out) == (5, "1 sent, 1 refused, 0 too old\n")
    shown = desk.good("spool", "status", "--file", str(path)).out
    assert "refused: register thread t1: " in shown
    assert "64 policy names" in shown


def test_a_worker_that_shares_the_file_sends_what_an_application_left(
    desk: Desk, path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setenv("LAPSE_SPOOL", str(path))
    wait_there(path, "t1")
    desk.worker()
    wait_until(lambda: desk.registry.get("thread", "t1"), what="t1 is registered")


def test_a_redis_that_is_away_and_a_spool_of_another_version_are_said(desk: Desk, path: Path) -> None:
    wait_there(path, "t1")
    away = desk.run("spool", "flush", "--file", str(path), REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert away.code == 4
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version=7")
    other = desk.run("spool", "status", "--file", str(path))
    assert other.code == 4
    assert "is of version 7, and this lapse reads 1" in other.err


def test_nothing_waits_where_there_is_no_spool(desk: Desk, path: Path) -> None:
    shown = desk.good("spool", "status", "--file", str(path), "--json").json
    assert shown == {"file": str(path), "waiting": [], "refused": []}
    assert not path.exists()
