"""The heartbeat file: who wrote it, when, and what a supervisor makes of it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lapse.runtime import heartbeat
from lapse.runtime.heartbeat import Heartbeat


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"LAPSE_RUNTIME_DIR": str(tmp_path / "run")}


def aged(environ: dict[str, str], seconds: float, stale: float = 120) -> heartbeat.Pulse:
    path = heartbeat.folder(environ) / "worker.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"at": time.monotonic() - seconds, "stale_after": stale}))
    return heartbeat.read("worker", environ)


def test_a_loop_that_turned_is_alive_until_it_has_ended(environ: dict[str, str]) -> None:
    written = Heartbeat("worker", environ)
    assert written.turned()
    assert heartbeat.read("worker", environ).ok
    assert not heartbeat.read("beat", environ).ok
    written.ended()
    assert (False, True) == (heartbeat.read("worker", environ).ok, written.error is None)
    assert "no worker runs here" in heartbeat.read("worker", environ).detail


def test_a_file_read_right_after_it_was_written_is_not_of_a_time_ahead(environ: dict[str, str]) -> None:
    for _ in range(100):
        assert Heartbeat("worker", environ).turned()
        assert heartbeat.read("worker", environ).ok


def test_a_loop_that_stands_still_is_not(environ: dict[str, str]) -> None:
    assert (True, "its loop turned 100 s ago") == aged(environ, 100)
    assert not aged(environ, 121).ok
    assert aged(environ, 121, stale=300).ok


def test_a_file_that_a_crash_left_behind_says_nothing_after_a_restart_of_the_machine(environ: dict[str, str]) -> None:
    assert (False, True) == (aged(environ, -1000).ok, "before this machine" in aged(environ, -1000).detail)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"at": "now", "stale_after": 1}', '{"at": 1'])
def test_a_file_that_is_none_is_no_sign_of_life(environ: dict[str, str], text: str) -> None:
    aged(environ, 0)
    (heartbeat.folder(environ) / "worker.json").write_text(text)
    assert (False, True) == (
        heartbeat.read("worker", environ).ok,
        "cannot be read" in heartbeat.read("worker", environ).detail,
    )


def test_a_place_that_cannot_be_written_is_said_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    written = Heartbeat("worker", {"LAPSE_RUNTIME_DIR": str(tmp_path / "file")})
    assert not written.turned()
    assert written.error
    assert "set LAPSE_RUNTIME_DIR" in written.error
    written.ended()


def test_a_link_that_somebody_put_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "theirs")
    assert not Heartbeat("worker", {"LAPSE_RUNTIME_DIR": str(tmp_path / "run")}).turned()
    assert [] == list((tmp_path / "theirs").iterdir())


def test_a_busy_loop_writes_once_a_second(environ: dict[str, str]) -> None:
    written = Heartbeat("worker", environ)
    assert written.turned()
    written.path.unlink()
    assert written.turned()
    assert not written.path.exists()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LAPSE_RUNTIME_DIR": "/a", "RUNTIME_DIRECTORY": "/b", "XDG_RUNTIME_DIR": "/c"}, "/a"),
        ({"RUNTIME_DIRECTORY": "/b:/b2", "XDG_RUNTIME_DIR": "/c"}, "/b"),
        ({"XDG_RUNTIME_DIR": "/c"}, "/c/lapse"),
        ({"TMPDIR": "/d"}, "/d/lapse-"),
    ],
)
def test_where_it_is(environ: dict[str, str], expected: str) -> None:
    assert str(heartbeat.folder(environ)).startswith(expected)


def test_the_probe_loads_nothing_of_the_job(environ: dict[str, str]) -> None:
    """A supervisor asks every few seconds: a probe must not cost what a worker costs."""
    Heartbeat("worker", environ).turned()
    code = "import sys; from lapse.cli.main import run; code = run(['health', '--worker']); print(code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    said, modules = done.stdout.splitlines()
    assert said.startswith("ok   worker: its loop turned")
    assert "0" == modules.split()[0]
    heavy = {
        "celery",
        "kombu",
        "openai",
        "pydantic",
        "aiohttp",
        "prometheus_client",
        "lapse.policy",
        "lapse.ledger.partition",
    }
    assert set() == heavy & set(modules.split())
