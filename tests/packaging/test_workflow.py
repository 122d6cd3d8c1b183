"""The workflow for GitHub does what the Makefile does, on every Python that the project says it runs on."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
JOBS: dict[str, Any] = WORKFLOW["jobs"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_matrix_has_every_python_of_the_classifiers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text) for text in project["classifiers"]]

    assert {found[1] for found in named if found} <= set(JOBS["test"]["strategy"]["matrix"]["python"])


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_a_limit_and_runs_what_the_makefile_has(job: str) -> None:
    steps = [step["run"] for step in JOBS[job]["steps"] if "run" in step]
    targets = [target for step in steps for target in re.findall(r"\bmake ([\w-]+)", step)]

    assert JOBS[job]["timeout-minutes"] <= 60
    assert targets or steps == ["bash .ci/run"]
    assert [] == [target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)]


def test_nothing_in_it_may_write_to_the_repository() -> None:
    steps = [step for job in JOBS.values() for step in job["steps"] if "uses" in step]

    assert {"contents": "read"} == WORKFLOW["permissions"]
    assert all("permissions" not in job for job in JOBS.values())
    assert [False] == list({step["with"]["persist-credentials"] for step in steps if "checkout" in step["uses"]})


def test_every_tool_that_the_images_need_is_installed() -> None:
    tools = re.search(r"^IMAGE_TOOLS := (.*)$", MAKEFILE, re.MULTILINE)
    installed = " ".join(step.get("run", "") for step in JOBS["images"]["steps"]).split()

    assert tools
    assert set(tools[1].split()) <= set(installed)
