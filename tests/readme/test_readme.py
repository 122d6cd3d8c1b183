"""Nothing stands in the README that was not run: its example, its ten minutes, its tables, its links."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lapse.metrics.catalog import TABLE
from lapse.policy.schema import Policy
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import die_with_parent
from support import shown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SCRIPTS = Path(sys.executable).parent
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [re.sub(r"^   ", "", text, flags=re.MULTILINE) for name, text in BLOCKS if name == language]


def commands() -> Iterator[list[str]]:
    for block in blocks("console"):
        yield from (line[2:].split() for line in block.splitlines() if line.startswith("$ "))


@pytest.fixture
def environ(redis_url: str, sandbox: Sandbox) -> dict[str, str]:
    """Return what a newcomer has exported, with the stand-in for the provider."""
    return {
        "PATH": f"{SCRIPTS}:/usr/bin:/bin",
        "LAPSE_REGISTRY__URL": redis_url,
        "OPENAI_API_KEY": "sk-readme-0123456789",
        "OPENAI_BASE_URL": sandbox.url,
        "LAPSE_PROVIDERS__OPENAI__BASE_URL": sandbox.url,
        "LAPSE_PROVIDERS__OPENAI__RATE": "unlimited",
        "LAPSE_REGISTRY__ALLOW_VOLATILE": "true",
        "LAPSE_SCHEDULE__SWEEP": "1s",
        "NO_COLOR": "1",
    }


def test_the_examples_run(redis_url: str, sandbox: Sandbox) -> None:
    tracked, by_hand = blocks("python")[:2]
    environ = os.environ | {"REDIS_URL": redis_url, "OPENAI_API_KEY": "sk-readme", "OPENAI_BASE_URL": sandbox.url}
    checks = """
found = registry.get("conversation", conversation.id)
assert (found.policy, found.subject) == ("chat", "user:42"), found
record = registry.get("conversation", "conv_68a1")
assert record.governed_by == "expires_at" and record.subject == "user:42", record
assert registry.get("assistant", "asst_1") is None
assert registry.get("conversation", "conv_68a2").uses[0].id == "asst_1"
"""
    assert len([line for line in tracked.splitlines() if line.strip()]) <= 6
    subprocess.run([sys.executable, "-c", tracked + by_hand + checks], env=environ, check=True, timeout=30)


def test_ten_minutes(
    environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Replay the section as it stands: observe, look, enforce, gone."""

    def run(*command: str) -> str:
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    told = [command for command in commands() if command[0] == "lapse" and command[1] != "sandbox"]
    assert [["lapse", "init"], ["lapse", "check-config"], ["lapse", "ls", "conversations"], ["lapse", "plan"]] == told[
        :4
    ]
    assert ["lapse", "status"] == told[4]

    run("lapse", "init")
    assert "30d" in run("lapse", "check-config")
    line = blocks("python")[2]
    begin, end = (
        "import lapse\nfrom openai import OpenAI\n",
        "\nprint(client.conversations.retrieve(client.conversations.create().id).id)",
    )
    id_ = run(sys.executable, "-c", begin + line + end).splitlines()[0]
    run("lapse", "expire", "conversation", id_)
    worker = [sys.executable, str(SCRIPTS / "celery"), "-A", "lapse.app", "worker", "--beat"]
    log = (tmp_path / "worker.log").open("wb")
    with log, subprocess.Popen(die_with_parent(*worker), env=environ, cwd=tmp_path, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: "observing" in run("lapse", "status").lower(), what="the worker was seen observing")
            assert id_ in run("lapse", "ls", "conversations")
            assert id_ in run("lapse", "plan")
            assert {id_} == sandbox.alive("conversation")

            config = tmp_path / "config" / "retention.toml"
            config.write_text(config.read_text().replace('# mode = "enforce"', 'mode = "enforce"', 1))

            wait_until(lambda: not sandbox.alive("conversation"), 30, what="the conversation was deleted")
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_every_command_shown_exists() -> None:
    code = [*blocks("console"), *re.findall(r"`([^`\n]+)`", README)]
    shown = set(re.findall(r"\blapse ([a-z][a-z-]+)", "\n".join(code)))
    known = subprocess.run([SCRIPTS / "lapse", "--help"], capture_output=True, text=True, check=True).stdout

    assert {"init", "plan", "approve", "resume", "metrics", "sandbox"} <= shown
    assert [] == [name for name in sorted(shown) if not re.search(rf"^  {name}\b", known, re.MULTILINE)]


def test_make_targets_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {command[1] for command in commands() if command[0] == "make"} <= targets
    assert set(re.findall(r"`make ([a-z-]+)`", README)) <= targets


def test_the_metrics_table_is_what_is_served() -> None:
    rows = [f"| `{one.name}` | {one.type} | {', '.join(one.labels) or 'none'} | {one.help} |" for one in TABLE]

    assert [] == [row for row in rows if row not in README]
    assert len(rows) == len(re.findall(r"^\| `lapse_", README, re.MULTILINE))


def test_the_policy_table_names_keys_that_exist() -> None:
    table = README.split("## Policies")[1].split("## ")[0]
    named = {key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in re.findall(r"`([a-z_]+)", row)}

    assert named <= set(Policy.model_fields)
    assert set(Policy.model_fields) - named <= {"expires_after", "cascade", "cancel"}


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert links
    assert [] == [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]


def test_no_index_is_named_to_install_from() -> None:
    assert "pip install lapse" not in README
    assert "pip install 'lapse" not in README


def test_every_command_shown_can_be_given() -> None:
    lines = [" ".join(command) for command in commands()]
    ours = [line for line in lines if shown.is_ours(line)]

    assert ours
    for line in ours:
        shown.check(shown.words(line))
