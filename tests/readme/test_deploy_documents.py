"""Nothing stands in the documents of deploy/ that does not hold: commands, files, links, variables, config blocks."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lapse.policy import load
from support import shown

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(one for one in (ROOT / "deploy").rglob("*.md") if "node_modules" not in one.parts)
OTHERS = {
    "chmod",
    "chown",
    "date",
    "export",
    "groupadd",
    "mv",
    "docker",
    "podman",
    "podman-compose",
    "python3",
    "cp",
    "redis-cli",
    "set",
    "systemctl",
    "kubectl",
    "helm",
    "/opt/lapse/bin/pip",
}
"""Programs that are not lapse's: what they are given is looked at as far as it is in this tree."""

VARIABLES = {
    "LAPSE_RUNTIME_DIR",
    "LAPSE_STATE_DIR",
    "LAPSE_REGISTRY__URL",
    "LAPSE_REGISTRY__PASSWORD_FILE",
    "LAPSE_CONFIG",
    "LAPSE_PROVIDER",
    "OPENAI_API_KEY",
    "SSL_CERT_FILE",
    "RUNTIME_DIRECTORY",
    "CELERY_BROKER_URL",
    "LAPSE_REGISTRY__DEPLOYMENT",
}
SMALLEST = """
[providers.openai]
type = "openai"
api_key_env = "OPENAI_API_KEY"
[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "created_at"
"""

BENCH = "".join(path.read_text() for path in (ROOT / "tests" / "bench").glob("*.py"))

pytestmark = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def inline(text: str) -> Iterator[str]:
    """Yield the commands of lapse that stand in a sentence or a table."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from re.findall(r"`((?:lapse|celery) [a-z-][^`]*)`", prose)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_command_can_be_given(document: Path) -> None:
    text = document.read_text()
    for command in [*shown.console(text), *inline(text)]:
        words = shown.words(command)
        if shown.is_ours(command):
            shown.check(words)
        else:
            assert words[0] in OTHERS, command
            named = [word for word in words[1:] if word.startswith("deploy/")]
            assert all(list(ROOT.glob(word)) for word in named), command


def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", document.read_text())
    there = {f"#{re.sub(r'[^a-z -]', '', title.lower()).replace(' ', '-')}" for title in titles(document)}
    for link in links:
        if link.startswith("#"):
            assert link in there
        elif not link.startswith("https://"):
            assert (document.parent / link).exists(), link


def titles(document: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)


def test_every_config_block_is_valid(document: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(document.read_text(), "toml")):
        tables = tomllib.loads(block)
        path = tmp_path / f"{number}.toml"
        path.write_text(block + ("" if "policies" in tables else SMALLEST))
        assert load(path, {}).rules


def test_every_variable_is_one(document: Path) -> None:
    text = document.read_text()
    assert set(re.findall(r"\b(?:LAPSE|OPENAI|CELERY)_[A-Z_]+\b|\bSSL_CERT_FILE\b", text)) <= VARIABLES


def test_no_index_is_named_to_install_from(document: Path) -> None:
    assert "pip install lapse" not in document.read_text()


def test_every_figure_is_one_of_make_bench(document: Path) -> None:
    _before, _title, table = document.read_text().partition("| figure of `make bench` |")
    for row in table.split("\n\n")[0].splitlines()[2:]:
        assert f'"{row.split("|")[1].strip()}"' in BENCH, row
