"""The site is built of the documents, and a warning is an error: no link among them leads nowhere."""

import subprocess
import sys
from pathlib import Path

from docs.blocks import DOCS


def test_the_documents_make_a_site_without_a_warning(tmp_path: Path) -> None:
    build = ("-b", "html", "-c", DOCS, "-d", tmp_path / "trees", "--fail-on-warning", "--keep-going", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *build, DOCS.parent, tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert (tmp_path / "site" / "docs" / "start.html").exists()
