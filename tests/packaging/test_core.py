"""The unit tests, run from the sdist against the wheel; they reach every branch of the pure core."""

import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from support.distributions import Built, Environment

pytestmark = pytest.mark.timeout(600)  # the first to run takes every unit test, under coverage

PURE = (
    "providers/not_found",
    "registry/notices",
    "providers/response",
    "registry/codec",
    "registry/commands",
    "durations",
    "policy/enforced",
    "errors",
    "ledger/erasure/request",
    "registry/facts",
    "guards/enforcement",
    "registry/keys",
    "registry/kind_names",
    "guards/integrity/continuity",
    "registry/model",
    "moments",
    "cli/transfer/format",
    "cli/receipts/canonical",
    "cli/receipts/document",
    "cli/receipts/keys",
    "cli/receipts/page",
    "cli/receipts/sealing",
    "providers/outcomes",
    "providers/renaming",
    "providers/route",
    "registry/scripts",
    "runtime/sentinels",
    "registry/pools/address",
    "registry/pools/declared",
    "registry/pools/routing",
    "registry/pools/unpacking",
    "registry/spool/identity",
    "registry/spool/statements",
    "providers/request_counters",
    "policy/preconditions",
    "cli/operate/rows",
    "tracking/account",
    "tracking/context",
    "tracking/reading",
    "tracking/apis/endpoints",
    "tracking/apis/openai",
    "tracking/apis/langgraph",
    "tracking/stamps",
    "tracking/statements",
    "tracking/touches",
)
PURE_FOLDERS = ("providers/kinds", "policy")


@dataclass(frozen=True, slots=True)
class UnitRun:
    """One run of tests/unit where no source tree is: how it ended, and what it reached, by file of the wheel."""

    done: CompletedProcess[str]
    reached: Mapping[Path, Any]


@pytest.fixture(scope="session")
def unit_run(built: Built, full: Environment, tmp_path_factory: pytest.TempPathFactory) -> UnitRun:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built.sdist) as sdist:
        sdist.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    shutil.rmtree(tree / "worker")
    done = full.run("python", "-m", "coverage", "run", "-m", "pytest", "tests/unit", cwd=tree, seconds=400)
    full.run("python", "-m", "coverage", "json", "-o", "reached.json", cwd=tree)
    files = json.loads((tree / "reached.json").read_text())["files"]
    return UnitRun(done, {(tree / name).resolve(): report for name, report in files.items()})


def test_the_unit_tests_pass_on_the_wheel(unit_run: UnitRun) -> None:
    assert unit_run.done.returncode == 0, unit_run.done.stdout[-3000:] + unit_run.done.stderr[-1000:]
    assert " passed in " in unit_run.done.stdout


def test_what_they_ran_was_the_wheel(unit_run: UnitRun, full: Environment) -> None:
    package = (full.site / "lapse").resolve()

    assert package / "registry/keys.py" in unit_run.reached
    assert [] == [path for path in unit_run.reached if not path.is_relative_to(package)]


def pure(package: Path) -> list[Path]:
    folders = [path for folder in PURE_FOLDERS for path in (package / folder).rglob("*.py")]
    return [package / f"{name}.py" for name in PURE] + sorted(folders)


def test_the_pure_core_has_no_branch_that_no_unit_test_takes(unit_run: UnitRun, full: Environment) -> None:
    package = (full.site / "lapse").resolve()
    missed = []
    for path in pure(package):
        report = unit_run.reached[path]
        lines, branches = report["missing_lines"], report["missing_branches"]
        if lines or branches:
            missed.append(f"{path.relative_to(package)}: lines {lines}, branches {branches}")

    assert not missed, "no unit test takes\n" + "\n".join(missed)
    assert len(pure(package)) > len(PURE)
