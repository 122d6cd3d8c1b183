"""The script itself: what it needs, what it says when that is missing, and how errors become exit codes."""

import subprocess
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest

from lapse.cli.main import SECTIONS
from support.commandline import SCRIPT, Desk, Result


def test_importing_the_entry_point_loads_nothing_of_the_worker_half() -> None:
    code = "import lapse.cli, sys; print([m for m in ('click', 'rich', 'pydantic', 'openai') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == shown.stdout.strip()


def test_without_the_worker_half_the_script_says_how_to_install_it(tmp_path: Path) -> None:
    """Only lapse and redis can be imported, as after ``pip install lapse``."""
    for name in ("redis", "lapse"):
        (tmp_path / name).symlink_to(Path(str(find_spec(name).origin)).parent)  # type: ignore[union-attr]
    metadata = Path(str(distribution("lapse").locate_file("")))
    for found in metadata.glob("lapse-*.dist-info"):
        (tmp_path / found.name).symlink_to(found)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lapse.cli import main; sys.exit(main())"
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code, "status"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (2, "") == (shown.returncode, shown.stdout)
    assert "pip install '.[worker]'" in shown.stderr
    assert "click" in shown.stderr
    assert "pip install lapse" not in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["register", "-"], '{"kind": "thread", "id": "thread_1", "policy": "chat"}\n'),
        (["status", "--jsn"], ""),
        (["ls", "threads", "--provider", "nowhere"], ""),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_the_installed_script_does_what_the_forked_one_of_these_tests_does(
    desk: Desk, arguments: list[str], given: str
) -> None:
    script = subprocess.run(
        [SCRIPT, *arguments],
        cwd=desk.directory,
        env=desk.environ,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert Result(script.returncode, script.stdout, script.stderr) == desk.run(*arguments, given=given)


def test_help_lists_every_command_in_sections(desk: Desk) -> None:
    shown = desk.good("--help").out
    for title, commands in SECTIONS.items():
        assert f"\n{title}:\n" in shown
        for name, (_module, short) in commands.items():
            assert f"  {name} " in shown
            assert short.split(".")[0][:40] in shown


def test_the_script_knows_its_version(desk: Desk) -> None:
    assert f"lapse {distribution('lapse').version}\n" == desk.good("--version").out


def test_no_command_is_a_usage_error_and_shows_the_help(desk: Desk) -> None:
    shown = desk.run()
    assert 2 == shown.code
    assert "check-config" in shown.out


def test_a_misspelled_command_is_answered_with_the_nearest_one(desk: Desk) -> None:
    shown = desk.run("stauts")
    assert (2, "") == (shown.code, shown.out)
    assert "did you mean status?" in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "treads"), "did you mean 'thread'?"),
        (("touch", "thread", "a/b"), "use 1 to 1024 characters"),
        (("expire", "thread", "thread_1", "--at", "tomorrow"), "is no time"),
        (("expire", "thread", "thread_1", "--at", "2026-12-24T18:00"), "has no time zone"),
        (("hold", "thread", "thread_1"), "--reason"),
        (("register", "thread", "thread_1"), "--policy NAME"),
        (("register", "thread", "thread_1", "--policy", "chat", "--expires-in", "7"), "has no unit"),
        (("register", "thread", "thread_1", "--policy", "chat", "--uses", "asst_1"), "KIND:ID"),
        (("register", "thread", "thread_1", "--policy", "chat", "--label", "x"), "KEY=VALUE"),
        (("quarantine", "retry", "threads"), "some ids, or --all"),
        (("quarantine", "undo", "threads"), "some ids, or --since TIME"),
        (("ls", "threads", "--state", "gone"), "'gone' is not one of"),
    ],
)
def test_wrong_arguments_are_one_message_and_code_2(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    shown = desk.run(*arguments)
    assert (2, "") == (shown.code, shown.out)
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_no_policy_file_names_both_places_to_look(desk: Desk) -> None:
    desk.config.unlink()
    shown = desk.run("status")
    assert 2 == shown.code
    assert "LAPSE_CONFIG" in shown.err
    assert "config/retention.toml" in shown.err


def test_config_and_its_variable_name_another_file(desk: Desk) -> None:
    desk.config.rename(desk.directory / "other.toml")
    by_option = desk.good("check-config", "--config", "other.toml").out
    assert by_option == desk.good("check-config", LAPSE_CONFIG="other.toml").out
    assert "openai/thread/chat: deletes threads 7d after creation; observing" in by_option


def test_an_unreachable_registry_is_temporary_and_its_password_stays_hidden(desk: Desk) -> None:
    url = "redis://:planted-secret@127.0.0.1:1/0"
    for command in (("status",), ("touch", "thread", "thread_1"), ("pause",), ("ls", "threads")):
        shown = desk.run(*command, REDIS_URL=url)
        assert 4 == shown.code, shown
        assert "the registry did not answer" in shown.err
        assert "start Redis, or correct the registry's URL" in shown.err
        assert "planted-secret" not in shown.err + shown.out
        assert "Traceback" not in shown.err


@pytest.mark.parametrize("user", ["lapse-worker:planted-secret@", "nobody:planted-secret@"])
def test_a_refused_password_is_told_from_a_registry_that_is_away(desk: Desk, user: str) -> None:
    url = desk.environ["REDIS_URL"].rpartition("@")[2].removeprefix("redis://")
    for command in (("status",), ("touch", "thread", "thread_1"), ("ls", "threads"), ("pause",)):
        shown = desk.run(*command, REDIS_URL=f"redis://{user}{url}")
        assert 4 == shown.code, shown
        assert "the registry refused the user or password" in shown.err
        assert "planted-secret" not in shown.err + shown.out


def test_what_nobody_expected_is_code_1_with_a_traceback(desk: Desk) -> None:
    desk.raw.hset("lapse:published", "config", "no JSON, key sk-planted0123456789")
    shown = desk.run("status", "--json")
    assert 1 == shown.code
    assert "Traceback" in shown.err
    assert "unexpected" in shown.err.splitlines()[-1]


def test_a_reader_that_goes_away_is_no_error(desk: Desk) -> None:
    desk.seed(3000)
    command = f"{SCRIPT} ls threads --limit 3000 | head -n 1; echo ${{PIPESTATUS[0]}}"
    shown = subprocess.run(
        ["bash", "-c", command], cwd=desk.directory, env=desk.environ, capture_output=True, text=True, check=True
    )
    first, code = shown.stdout.splitlines()
    assert first.startswith("thread_")
    assert ("0", "") == (code, shown.stderr)
