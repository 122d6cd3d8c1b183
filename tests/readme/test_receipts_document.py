"""docs/receipts.md: its lines of Python verify what lapse signs and nothing else; its table names all there is."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lapse.cli.receipts import keys, sealing, signing
from support import shown
from support.erased import gone, receipt

DOCUMENT = (Path(__file__).parents[2] / "docs" / "receipts.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python elsewhere test\n(.*?)```", DOCUMENT, re.DOTALL)
SEED = bytes(range(32))
OURS = keys.fingerprint(signing.public_of(SEED))
MADE = receipt(*gone("t1", "t2", "<t3>")) | {"subject": "jos\u00e9 </script> \\u003c"}

Verify = Callable[..., int]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Return the exit code of the document's lines, run by an interpreter that cannot know of this tree."""

    def run(content: bytes, trusted: str = OURS) -> int:
        file = tmp_path / "receipt"
        file.write_bytes(content)
        command = [sys.executable, "-I", "-c", CODE, file, trusted]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=30).returncode

    return run


def test_it_is_twenty_lines_that_import_nothing_of_lapse() -> None:
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 20
    assert not re.search(r"\blapse\b", CODE)


@pytest.mark.parametrize("as_page", [False, True])
def test_its_lines_verify_what_was_signed_and_nothing_else(verify: Verify, as_page: bool) -> None:
    content = sealing.seal(MADE, SEED, as_page=as_page)
    assert 0 == verify(content)

    forged = sealing.seal(MADE, bytes(32), as_page=as_page)
    at = content.index(b'"signature"')
    for wrong in (
        content.replace(b"req_t1", b"req_t9", 1),
        content[: at + 20] + bytes([content[at + 20] ^ 1]) + content[at + 21 :],
        content + b"\n",
        forged,
    ):
        assert 1 == verify(wrong)
    assert 1 == verify(content, "sha256:" + 64 * "0")


def test_its_table_names_everything_that_a_receipt_says() -> None:
    document = sealing.verify(sealing.seal(MADE, SEED, as_page=True), {OURS})
    table = DOCUMENT.split("## What it says")[1].split("## ")[0]
    named = set(re.findall(r"`([a-z_]+)`", table))

    assert {*document, "signature"} <= named
    assert set(document["ids"][0]) - {"audit"} <= named
    assert set(document["request"]) <= named | {"id"}


def test_every_command_shown_can_be_given() -> None:
    ours = [line for line in shown.console(DOCUMENT) if shown.is_ours(line)]

    assert len(ours) >= 4
    for line in ours:
        shown.check(shown.words(line))
