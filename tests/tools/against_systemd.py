"""systemd's own opinion of the units: ``make test-tools`` runs this, and fails where systemd-analyze is missing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.deploykit import UNITS

ANALYZE = shutil.which("systemd-analyze")
EXPOSURE = 1.5
"""What a unit may at most leave open, on systemd's scale from 0 to 10."""


def test_systemd_is_here() -> None:
    assert ANALYZE, "systemd-analyze is missing: apt-get install systemd"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    """With this environment's programs in the place of /opt/lapse/bin: systemd looks whether they can be run."""
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("/opt/lapse/bin", str(Path(sys.executable).parent)))
    done = subprocess.run([str(ANALYZE), "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout + done.stderr)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_it_hardly_exposed(path: Path) -> None:
    command = [str(ANALYZE), "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert score
    assert float(score[1]) <= EXPOSURE
