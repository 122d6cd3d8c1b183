"""The Dockerfile against hadolint: ``make test-tools`` runs this with the package it needs."""

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from support.deploykit import DEPLOY

HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


def findings(text: str) -> set[str]:
    """Return the rules that a Dockerfile breaks, of every level."""
    command = [str(HADOLINT), "--no-fail", "--format", "json", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    said: Any = json.loads(done.stdout)
    return {one["code"] for one in said}


def test_hadolint_finds_nothing() -> None:
    assert set() == findings((DEPLOY / "Dockerfile").read_text())


def test_hadolint_would_find_something() -> None:
    assert {"DL3006", "DL3008"} <= findings("FROM debian\nRUN apt-get update && apt-get install curl\n")
