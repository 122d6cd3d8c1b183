"""groff's own opinion of the man pages: ``make test-tools`` runs this, and fails where groff is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.blocks import DOCS

GROFF = shutil.which("groff")
PAGES = sorted((DOCS / "man").glob("man?/*"))


def test_groff_is_here() -> None:
    assert GROFF, "groff is missing: apt-get install groff-base"
    assert len(PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_is_formatted_without_a_warning(page: Path) -> None:
    """As ``man`` does it, at 80 columns."""
    done = subprocess.run(
        [str(GROFF), "-ww", "-man", "-t", "-Tutf8", "-rLL=80n", page],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert "lapse-retention.toml(5)" in done.stdout or page.suffix == ".5"
