"""--watch: status and plan again and again, on a terminal in place of what it showed, until Ctrl-C."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lapse.sandbox.redis_server import EmbeddedRedis
from support.commandline import CHAT, ENFORCED, SCRIPT, Desk

CLEARED = b"\x1b[2J"


class Screen:
    """A terminal on which a command runs, and all that it was sent."""

    def __init__(self, terminal: int, process: subprocess.Popen[bytes]) -> None:
        self.terminal = terminal
        self.process = process
        self.shown = b""

    def until(self, text: bytes, times: int = 1) -> bytes:
        """Read until a text was sent so often, and return all that was sent."""
        deadline = time.monotonic() + 60
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.terminal], [], [], 1)[0]:
                self.shown += os.read(self.terminal, 65536)
        return self.shown

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def on_screen(desk: Desk, *arguments: str) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    environ = {**desk.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(
        [SCRIPT, *arguments], cwd=desk.directory, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        try:
            yield Screen(ours, process)
        finally:
            process.kill()
            os.close(ours)


def test_a_terminal_is_cleared_and_shows_what_is_so_now(desk: Desk) -> None:
    desk.seed(1)
    with on_screen(desk, "status", "--watch=0.2") as screen:
        assert b"every 0.2 s; Ctrl-C ends it" in screen.until(b"openai/thread/chat")
        desk.seed(4321 - 1)
        shown = screen.until(b"4,321")
        last = shown.rpartition(CLEARED)[2]
        assert b"4,321" in last
        assert b"every 0.2 s; Ctrl-C ends it" in last
        assert 130 == screen.interrupt()


def test_an_edit_of_the_policy_file_shows_at_the_next_look(desk: Desk) -> None:
    desk.seed(2)
    with on_screen(desk, "plan", "threads", "--watch=0.2") as screen:
        screen.until(b"openai/thread/chat (observing): 2 of 2 due")
        desk.configure(ENFORCED.replace("7d", "90d"))
        screen.until(b"openai/thread/chat (enforcing): nothing of 2 is due")
        assert 130 == screen.interrupt()


def test_an_error_of_a_later_look_stands_in_its_place_and_ends_nothing(desk: Desk) -> None:
    with on_screen(desk, "status", "--watch=0.2") as screen:
        screen.until(b"openai/thread/chat")
        desk.configure(CHAT.replace("7d", "7 dogs"))
        last = screen.until(b"7 dogs").rpartition(CLEARED)[2]
        assert b"openai/thread/chat" not in last
        looks = screen.shown.count(CLEARED)
        desk.configure(CHAT)
        screen.until(CLEARED, looks + 3)
        assert b"openai/thread/chat" in screen.until(b"namespace lapse", looks).rpartition(b"7 dogs")[2]
        assert 130 == screen.interrupt()


@pytest.mark.parametrize("command", [("status",), ("plan", "threads")])
def test_a_redis_that_goes_and_comes_back_is_seen_to(desk: Desk, command: tuple[str, ...]) -> None:
    with EmbeddedRedis() as server:
        desk.environ["REDIS_URL"] = server.url
        with on_screen(desk, *command, "--watch=0.2") as screen:
            screen.until(b"openai/thread/chat")
            server.stop()
            last = screen.until(b"lapse: the registry").rpartition(CLEARED)[2]
            assert b"openai/thread/chat" not in last
            server.start()
            screen.until(b"openai/thread/chat", screen.shown.count(b"openai/thread/chat") + 1)
            assert 130 == screen.interrupt()


def test_json_on_a_terminal_is_cleared_too(desk: Desk) -> None:
    with on_screen(desk, "status", "--watch=0.2", "--json") as screen:
        shown = screen.until(b'"partitions"', 3)
        assert shown.count(CLEARED) >= 2
        assert b'"partitions"' in shown.split(CLEARED)[1]


@pytest.mark.parametrize("command", [("status",), ("plan", "threads")])
def test_a_pipe_gets_one_look_after_another(desk: Desk, command: tuple[str, ...]) -> None:
    desk.seed(1)
    once = desk.good(*command).lines
    with desk.start(*command, "--watch=0.1") as process:
        assert process.stdout
        looks = [[process.stdout.readline().rstrip("\n") for _ in [*once, ""]] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (130, "lapse: interrupted") == (process.returncode, errors.strip())
    assert [once[0].split(" ")[0]] * 3 == [look[0].split(" ")[0] for look in looks]
    assert [""] * 3 == [look[-1] for look in looks]


def test_a_pipe_gets_one_document_a_line(desk: Desk) -> None:
    with desk.start("status", "--watch=0.1", "--json") as process:
        assert process.stdout
        times = [json.loads(process.stdout.readline())["now"] for _ in range(3)]
    assert sorted(set(times)) == times


def test_a_reader_that_goes_ends_it(desk: Desk) -> None:
    with desk.start("status", "--watch=0.1") as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert 0 == process.wait(60)


def test_the_first_look_fails_as_it_does_alone(desk: Desk) -> None:
    desk.config.unlink()
    shown = desk.run("status", "--watch=0.1")
    assert (2, "") == (shown.code, shown.out)


def test_looks_leave_no_connection_behind(desk: Desk) -> None:
    before = len(desk.raw.client_list())
    with desk.start("plan", "--watch=0.1", "--json") as process:
        assert process.stdout
        for _ in range(20):
            process.stdout.readline()
        assert len(desk.raw.client_list()) - before <= 6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("plan", "--watch", "threads"), "'threads' is no number of seconds: give --watch last, or --watch=5"),
        (("status", "--watch=0"), "from 0.1 to 86400 seconds"),
        (("status", "--watch=nan"), "from 0.1 to 86400 seconds"),
        (("plan", "-o", "plan.json", "--watch"), "-o writes one plan: leave --watch out"),
    ],
)
def test_what_cannot_be_watched_is_refused(desk: Desk, given: tuple[str, ...], said: str) -> None:
    shown = desk.run(*given)
    assert 2 == shown.code
    assert said in shown.err
    assert not (desk.directory / "plan.json").exists()
