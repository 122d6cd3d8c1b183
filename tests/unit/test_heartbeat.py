"""The heartbeat file: who wrote it, when, and what a supervisor makes of it."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lapse_health
from lapse.cli.exit_codes import Code
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


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_that_a_loop_turns_where_it_asks(
    environ: dict[str, str], tmp_path: Path, *, abstract: bool
) -> None:
    path = f"@lapse-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path.replace("@", "\0"))
        told.settimeout(5)
        written = Heartbeat("worker", {**environ, "NOTIFY_SOCKET": path})
        for connected, status in ((True, "connected"), (False, "waits for the broker")):
            written.turned(connected=connected)
            assert f"READY=1\nWATCHDOG=1\nSTATUS={status}".encode() == told.recv(1000)


@pytest.mark.parametrize("path", ["", "vsock:2:1234", "/nowhere/notify"])
def test_a_systemd_that_cannot_be_told_stops_nothing(environ: dict[str, str], path: str) -> None:
    assert Heartbeat("worker", {**environ, "NOTIFY_SOCKET": path}).turned()


def test_a_loop_that_cannot_write_its_file_tells_systemd_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(5)
        environ = {"LAPSE_RUNTIME_DIR": str(tmp_path / "file"), "NOTIFY_SOCKET": str(tmp_path / "notify")}
        assert not Heartbeat("worker", environ).turned()
        assert b"WATCHDOG=1" in told.recv(1000)


def test_whoever_may_enter_the_folder_may_read_the_file_whatever_the_umask(environ: dict[str, str]) -> None:
    before = os.umask(0o077)
    try:
        assert Heartbeat("worker", environ).turned()
    finally:
        os.umask(before)
    assert 0o644 == (heartbeat.folder(environ) / "worker.json").stat().st_mode & 0o777


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


def test_a_loop_without_a_connection_is_alive_and_not_ready(environ: dict[str, str]) -> None:
    written = Heartbeat("worker", environ)
    assert written.turned(connected=False)
    ready, live = heartbeat.read("worker", environ), heartbeat.read("worker", environ, live=True)
    assert (False, True) == (ready.ok, live.ok)
    assert {True} == {one.detail.endswith(" ago, without a connection to the broker") for one in (ready, live)}


def test_a_connection_that_is_made_or_lost_is_shown_at_once(environ: dict[str, str]) -> None:
    written, seen = Heartbeat("worker", environ), []
    for connected in (False, True, False):
        assert written.turned(connected=connected)
        seen.append(heartbeat.read("worker", environ).ok)
    assert [False, True, False] == seen


def test_a_loop_that_stands_still_is_not_alive_with_or_without_a_connection(environ: dict[str, str]) -> None:
    for connected in (True, False):
        path = heartbeat.folder(environ) / "worker.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(lapse_health.written(time.monotonic() - 121, 120.0, connected=connected))
        assert not heartbeat.read("worker", environ, live=True).ok


def test_a_file_is_json(environ: dict[str, str]) -> None:
    """As anything but the probe reads it."""
    Heartbeat("worker", environ).turned()
    said = json.loads((heartbeat.folder(environ) / "worker.json").read_text())
    assert {"at", "stale_after", "pid", "connected"} == set(said)
    assert (120.0, os.getpid(), True) == (said["stale_after"], said["pid"], said["connected"])


@pytest.mark.parametrize(
    ("arguments", "role"),
    [("--worker", "worker"), ("--live", "worker"), ("--live --worker", "worker"), ("--beat --live", "beat")],
)
def test_the_probe_loads_one_module_and_neither_click_nor_redis(
    environ: dict[str, str], arguments: str, role: str
) -> None:
    """A supervisor asks every few seconds: a probe must not cost what a worker costs."""
    Heartbeat(role, environ).turned()
    environ["PYTHONUTF8"] = "1"  # else a module more, for another encoding of stdout
    code = f"""
import sys
before = set(sys.modules)
sys.argv = ["lapse", "health", *{arguments.split()!r}]
from lapse_health import main
code = main()
print(code, *sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    said, loaded = done.stdout.splitlines()
    assert said.startswith(f"ok   {role}: its loop turned ")
    assert "0 lapse_health" == loaded


def test_all_other_questions_go_to_the_command_line(environ: dict[str, str]) -> None:
    Heartbeat("worker", environ).turned()
    script = [sys.executable, "-c", "from lapse_health import main; raise SystemExit(main())", "health"]
    shown = subprocess.run([*script, "--live", "--json"], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["worker"]["ok"] is True
    wrong = subprocess.run([*script, "--alive"], env=environ, capture_output=True, text=True, check=False)
    assert (2, True) == (wrong.returncode, "--live" in wrong.stderr)


def test_a_process_that_is_not_there_fails_its_probe_with_the_code_of_something_silent(environ: dict[str, str]) -> None:
    script = [sys.executable, "-c", "from lapse_health import main; raise SystemExit(main())", "health", "--live"]
    done = subprocess.run(script, env=environ, capture_output=True, text=True, check=False)
    assert (int(Code.TEMPORARY), True) == (done.returncode, "no worker runs here" in done.stdout)
