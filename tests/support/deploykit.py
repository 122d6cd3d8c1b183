"""The files of deploy/ as values: the Dockerfile's instructions, the compose file's services, the units' settings."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LOCKS = sorted((DEPLOY / "requirements").glob("*.txt"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


class Instruction(NamedTuple):
    """One instruction of a Dockerfile."""

    word: str
    rest: str


def stages() -> dict[str, list[Instruction]]:
    """Return the Dockerfile's stages by their names, each beginning with its FROM."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found: dict[str, list[Instruction]] = {}
    stage: list[Instruction] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            stage = found[rest.rpartition(" AS ")[2]] = []
        stage.append(Instruction(word, rest))
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
