"""The dashboards against Grafana's own types: ``make test-tools`` runs it, with Node.js and what npm installed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
SCHEMA = GRAFANA / "schema"
COMPILE = (
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--target",
    "es2022",
    "--module",
    "esnext",
    "--moduleResolution",
    "bundler",
)
INSTALL = f"npm install --prefix {SCHEMA.relative_to(Path(__file__).parents[2])}"


def refused(folder: Path, text: str) -> str:
    """Return what the TypeScript compiler says of a dashboard; empty if nothing."""
    compiler = SCHEMA / "node_modules" / ".bin" / "tsc"
    assert compiler.exists(), f"{compiler} is not there: {INSTALL}"
    shutil.copy(SCHEMA / "board.ts", folder)
    (folder / "node_modules").symlink_to(SCHEMA / "node_modules")
    program = f"import type {{ Board }} from './board';\nexport const board = {text.strip()} satisfies Board;\n"
    (folder / "dashboard.ts").write_text(program)
    done = subprocess.run(
        [compiler, *COMPILE, "dashboard.ts"], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("path", sorted(GRAFANA.glob("*.json")), ids=lambda path: path.name)
def test_a_dashboard_is_what_grafana_takes(tmp_path: Path, path: Path) -> None:
    assert "" == refused(tmp_path, path.read_text())


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("panels", 1, "gridPos", "w"), "3"),
        (("templating", "list", 1, "type"), "querry"),
        (("panels", 1, "fieldConfig", "defaults", "thresholds", "mode"), "relative"),
        (("uidd",), "lapse"),
    ],
)
def test_what_grafana_would_not_take_is_refused(tmp_path: Path, place: tuple[str | int, ...], wrong: object) -> None:
    board = json.loads((GRAFANA / "overview.json").read_text())
    at = board
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = wrong

    assert "dashboard.ts" in refused(tmp_path, json.dumps(board))
