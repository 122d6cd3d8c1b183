"""Nothing stands in the README that was not run: its example, its commands, its links; and it stays short."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lapse.sandbox import Sandbox
from support import shown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SCRIPTS = Path(sys.executable).parent
BLOCKS = re.findall(r"^```(\w+) ([^\n]*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, _tag, text in BLOCKS if name == language]


def commands() -> Iterator[list[str]]:
    for block in blocks("console"):
        yield from (line[2:].split() for line in block.splitlines() if line.startswith("$ "))


def test_it_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 150


def test_what_it_shows_runs(redis_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    (tracked,) = blocks("python")
    environ = {
        "PATH": f"{SCRIPTS}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "REDIS_URL": redis_url,
        "OPENAI_API_KEY": "sk-readme",
        "OPENAI_BASE_URL": sandbox.url,
    }
    check = """
from lapse import Registry
found = Registry(provider="openai").get("conversation", conversation.id)
assert (found.policy, found.subject) == ("chat", "user:42"), found
"""
    assert len([line for line in tracked.splitlines() if line.strip()]) <= 6
    subprocess.run([sys.executable, "-c", tracked + check], env=environ, check=True, timeout=30, cwd=tmp_path)
    for command in commands():
        if command[0] == "lapse":
            subprocess.run(command, env=environ, cwd=tmp_path, check=True, timeout=60, capture_output=True)


def test_what_is_run_elsewhere_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    elsewhere = {word for _name, tag, _text in BLOCKS if tag.startswith("elsewhere ") for word in tag.split()[1:]}

    assert {tag.split()[0] for _name, tag, _text in BLOCKS} == {"run", "elsewhere"}
    assert {"demo", "test"} == elsewhere
    assert elsewhere <= targets
    assert {command[1] for command in commands() if command[0] == "make"} <= targets
    assert set(re.findall(r"`make ([a-z-]+)`", README)) <= targets


def test_every_command_shown_exists() -> None:
    code = [*blocks("console"), *re.findall(r"`([^`\n]+)`", README)]
    named = set(re.findall(r"\blapse ([a-z][a-z-]+)", "\n".join(code)))
    known = subprocess.run([SCRIPTS / "lapse", "--help"], capture_output=True, text=True, check=True).stdout

    assert {"init", "check-config"} <= named
    assert [] == [name for name in sorted(named) if not re.search(rf"^  {name}\b", known, re.MULTILINE)]
    for line in (" ".join(command) for command in commands()):
        if shown.is_ours(line):
            shown.check(shown.words(line))


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert links
    assert [] == [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]


def test_no_index_is_named_to_install_from() -> None:
    assert "pip install lapse" not in README
    assert "pip install 'lapse" not in README
