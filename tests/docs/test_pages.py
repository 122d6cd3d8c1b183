"""Every page does what it says, from its first block to its last; every block says whether that is so."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from docs.blocks import DOCS, TAGS, Block, blocks, pages
from docs.session import Session
from lapse.sandbox import Sandbox
from support import shown

SCRIPTS = Path(sys.executable).parent
EVERY = [block for page in pages() for block in blocks(page)]
TARGETS = set(re.findall(r"^([a-z-]+):", (DOCS.parent / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
RUN = sorted({block.page for block in EVERY if block.tag == "run"})


BARE = {"PATH": f"{SCRIPTS}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "120"}
FIRST = DOCS / "start.md"
PARSED = {"console", "python", "toml", "json"}


@pytest.fixture
def environ(redis_url: str, sandbox: Sandbox) -> dict[str, str]:
    """Return what the reader of any page but the first has exported: a Redis, and the stand-in as the provider."""
    return BARE | {
        "LAPSE_REGISTRY__URL": redis_url,
        "LAPSE_REGISTRY__ALLOW_VOLATILE": "true",
        "OPENAI_API_KEY": "sk-reader-0123456789",
        "OPENAI_BASE_URL": sandbox.url,
        "LAPSE_PROVIDERS__OPENAI__BASE_URL": sandbox.url,
        "LAPSE_SCHEDULE__SWEEP": "1s",
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(DOCS)) for page in RUN])
def test_a_page_does_what_it_says(page: Path, environ: dict[str, str], tmp_path: Path) -> None:
    with Session(tmp_path, BARE if page == FIRST else environ) as session:
        for block in blocks(page):
            if block.tag == "run":
                session.play(block)


@pytest.mark.parametrize("block", EVERY, ids=[block.where for block in EVERY])
def test_a_block_says_what_becomes_of_it(block: Block) -> None:
    assert block.tag in TAGS, f"{block.where} is no block that somebody runs: write run, parse or elsewhere TARGET"
    if block.tag == "elsewhere":
        assert {*block.words} <= TARGETS
        assert block.words
    if block.tag == "parse":
        assert block.language in PARSED, f"{block.where}: what is {block.language} is run"
        if block.language == "python":
            compile(block.text, block.where, "exec")
        if block.language == "toml":
            tomllib.loads(block.text)
        if block.language == "json":
            assert [json.loads(line) for line in block.text.splitlines()]
    if block.language == "console":
        typed = list(shown.console(f"```console\n{block.text}```"))
        ours = [line for line in typed if shown.is_ours(line)]
        assert ours or block.tag != "parse" or all(line.startswith("export ") for line in typed)
        for line in ours:
            shown.check(shown.words(line))


def test_four_fifths_of_all_blocks_are_run() -> None:
    assert sum(block.tag == "run" for block in EVERY) >= 0.8 * len(EVERY)
