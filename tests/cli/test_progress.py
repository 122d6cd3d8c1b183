"""How far a long command has come: a bar on a terminal, lines elsewhere, and neither in what is data."""

import re
import threading
from pathlib import Path

import pytest

from lapse.cli import progress
from lapse.cli.main import run
from support.commandline import CHAT, ENFORCED, Desk

SLOW = '"600/m"'
"""Ten requests a second, after the ten that a full budget allows at once."""
UNLIMITED = '"unlimited"'
MANY = 30
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WORDS = {
    "applying": rf"applying .*[1-9][0-9]* of {MANY} ids, [0-9]+ %, [0-9.]+/s, [0-9]+s left",
    "purging": rf"purging .*[1-9][0-9]* of {MANY} threads, [0-9]+ %, [0-9.]+/s, [0-9]+s left",
}


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(total: int, *moves: tuple[float, int], things: str = "ids") -> str:
    """Return what is told after these moves, each so many seconds after the one before."""
    clock = Clock()
    moved = progress.Progress(total, things, clock)
    for seconds, done in moves:
        clock.now += seconds
        moved(done)
    return moved.told()


@pytest.mark.parametrize(
    ("total", "moves", "told"),
    [
        (5000, [], "0 of 5,000 ids, 0 %"),
        (5000, [(20, 1200)], "1,200 of 5,000 ids, 24 %, 60/s, 1m 4s left"),
        (5000, [(10, 10), (10, 5000)], "5,000 of 5,000 ids, 100 %, 250/s"),
        (10, [(3, 5)], "5 of 10 ids, 50 %, 1.6/s, 3s left"),
        (10, [(59, 1)], "1 of 10 ids, 10 %, 1/min, 8m 51s left"),
        (0, [(10, 70_000)], "70,000 ids, 7,000/s"),
        (10, [(1, 20)], "20 of 10 ids, 100 %, 20/s"),
    ],
)
def test_what_is_told(total: int, moves: list[tuple[float, int]], told: str) -> None:
    assert told == shown(total, *moves)


def test_a_rate_is_of_the_last_minute() -> None:
    fast = [(1.0, 1000 * done) for done in range(1, 11)]
    slow = [(10.0, 10_000 + done) for done in range(1, 13)]
    assert "10,012 of 20,000 ids, 50 %, 6/min, 1d 3h left" == shown(20_000, *fast, *slow)


def test_what_stands_still_says_for_how_long() -> None:
    assert "7 of 10 ids, 70 %, nothing for 1m 12s" == shown(10, (1, 7), (72, 7))
    assert "0 of 10 ids, 0 %, nothing for 1m" == shown(10, (60, 0))


def test_a_total_in_bytes_is_told_in_things() -> None:
    clock = Clock()
    moved = progress.Progress(4_000_000, "rows", clock)
    clock.now += 10
    moved(1_000_000, 20_000)
    assert "20,000 rows, 25 %, 2,000/s, 30s left" == moved.told()


def planned(desk: Desk, rate: str = SLOW) -> None:
    desk.configure(ENFORCED, rate=rate)
    desk.seed(MANY)
    desk.good("plan", "threads", "-o", "plan.json")


LONG = [("applying", ("apply", "plan.json")), ("purging", ("purge", "threads"))]


@pytest.mark.parametrize(("what", "command"), LONG)
def test_a_terminal_gets_a_bar_and_stdout_what_came_of_it(desk: Desk, what: str, command: tuple[str, ...]) -> None:
    planned(desk)
    out = desk.directory / "out"
    terminal = desk.terminal(*command, "--confirm=openai", width=80, out=out)
    drawn = [line for line in re.split(r"[\r\n]", CONTROL.sub("", terminal.out)) if line.startswith(what)]
    assert any(re.fullmatch(WORDS[what], line.rstrip()) for line in drawn), drawn
    assert [] == [line for line in drawn if len(line) > 80 or "…" in line]
    assert f"{MANY} deleted" in out.read_text()
    assert what not in out.read_text()


@pytest.mark.parametrize(("what", "command"), LONG)
def test_json_has_no_bar_beside_it(desk: Desk, what: str, command: tuple[str, ...]) -> None:
    planned(desk, UNLIMITED)  # a bar is drawn at the beginning, however soon it goes
    terminal = desk.terminal(*command, "--confirm=openai", "--json", out=desk.directory / "out")
    assert what not in terminal.out


def inside(desk: Desk, monkeypatch: pytest.MonkeyPatch, *command: str, every: float = 0.05) -> int:
    """Run a command in this process, with less than ten seconds between two lines."""
    monkeypatch.setattr(progress, "EVERY", every)
    for name, value in desk.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(desk.directory)
    return run(command)


@pytest.mark.parametrize(("what", "command"), LONG)
def test_elsewhere_there_is_a_line_now_and_then(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    what: str,
    command: tuple[str, ...],
) -> None:
    planned(desk)
    assert 0 == inside(desk, monkeypatch, *command, "--confirm=openai")
    out, err = capfd.readouterr()
    assert re.search("^" + WORDS[what].replace(" .*", ": "), err, re.MULTILINE), err
    assert what not in out
    assert "lapse-progress" not in {thread.name for thread in threading.enumerate()}


def test_elsewhere_json_has_no_line_beside_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    planned(desk)
    assert 0 == inside(desk, monkeypatch, "apply", "plan.json", "--confirm=openai", "--json")
    assert "applying" not in "".join(capfd.readouterr())


def test_a_command_that_ends_at_once_writes_no_line(desk: Desk) -> None:
    planned(desk, UNLIMITED)
    assert "planning" not in desk.good("plan", "threads", "-o", "again.json").err


def rows(directory: Path, number: int) -> Path:
    file = directory / "rows.csv"
    file.write_text("id,kind,policy\n" + "".join(f"thread_{n},thread,chat\n" for n in range(number)))
    return file


def test_an_import_tells_rows_and_how_much_of_the_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rows(desk.directory, 20_000)
    assert 0 == inside(desk, monkeypatch, "import", "rows.csv", every=0.01)
    out, err = capfd.readouterr()
    assert re.search(r"^importing: [0-9]{1,2},000 rows, [0-9]+ %, [0-9,.]+/s, [0-9]+s left$", err, re.MULTILINE), err
    assert "importing" not in out


def test_a_plan_that_is_written_tells_ids(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    desk.configure(CHAT)
    rows(desk.directory, 20_000)
    desk.good("import", "rows.csv")
    desk.configure(CHAT.replace("7d", "1ms"))
    assert 0 == inside(desk, monkeypatch, "plan", "threads", "-o", "plan.json", every=0.01)
    out, err = capfd.readouterr()
    assert re.search(r"^planning: [0-9,]+ of 20,000 ids, [0-9]+ %", err, re.MULTILINE), err
    assert "planning" not in out


def test_a_bar_fits_a_narrow_terminal(desk: Desk) -> None:
    rows(desk.directory, 20_000)
    drawn = re.split(r"[\r\n]", CONTROL.sub("", desk.terminal("import", "rows.csv", width=80).out))
    assert any(line.startswith("importing") for line in drawn)
    assert [] == [line for line in drawn if line.startswith("importing") and len(line) > 80]


def test_a_terminal_that_can_draw_nothing_gets_lines(desk: Desk) -> None:
    planned(desk, UNLIMITED)
    terminal = desk.terminal("apply", "plan.json", "--confirm=openai", TERM="dumb")
    assert "━" not in terminal.out
    assert f"{MANY} deleted" in terminal.out
