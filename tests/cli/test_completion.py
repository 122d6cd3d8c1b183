"""Completion in a shell: commands without their imports, kinds, options."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("lapse")


def completed(*typed: str) -> list[str]:
    words = " ".join(["lapse", *typed])
    environ = {"PATH": f"{SCRIPT.parent}:/usr/bin:/bin", "_LAPSE_COMPLETE": "bash_complete"}
    environ |= {"COMP_WORDS": words, "COMP_CWORD": str(len(typed))}
    done = subprocess.run([SCRIPT], env=environ, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("st",), {"status"}),
        (("p",), {"plan", "pause", "purge"}),
        (("quarantine", "re"), {"retry"}),
        (("ls", "conv"), {"conversations"}),
        (("plan", "--po"), {"--policy"}),
    ],
)
def test_what_begins_so(typed: tuple[str, ...], expected: set[str]) -> None:
    found = set(completed(*typed))
    assert found <= expected | {"conversation_items"}
    assert found & expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    environ = {"PATH": f"{SCRIPT.parent}:/usr/bin:/bin", "_LAPSE_COMPLETE": f"{shell}_source"}
    done = subprocess.run([SCRIPT], env=environ, capture_output=True, text=True, check=True)
    assert f"_LAPSE_COMPLETE={shell}_complete" in done.stdout


def test_the_line_of_the_readme_makes_bash_complete() -> None:
    line = 'eval "$(_LAPSE_COMPLETE=bash_source lapse)"; complete -p lapse'
    environ = {"PATH": f"{SCRIPT.parent}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", line], env=environ, capture_output=True, text=True, check=True)
    assert "_lapse_completion lapse" in done.stdout
