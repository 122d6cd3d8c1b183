"""The files of deploy/ as values: the Dockerfile's instructions, the compose file's services, the units' settings."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


class Instruction(NamedTuple):
    """One instruction of a Dockerfile."""

    word: str
    rest: str


def stages() -> list[list[Instruction]]:
    """Return the Dockerfile's stages, each beginning with its FROM."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: list[list[Instruction]] = []
    for line in lines:
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            found.append([])
        found[-1].append(Instruction(word, rest))
    return found


def compose() -> dict[str, Any]:
    """Return the compose file."""
    read: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return dict(read)


def unit(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit; one may stand several times."""
    settings = defaultdict(list)
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings[name].append(value)
    return settings
