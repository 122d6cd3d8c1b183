"""The chart as helm renders it, and what the API server would say of it."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from support.deploykit import ROOT

CHART = ROOT / "deploy" / "helm" / "lapse"
HELM = Path(os.environ.get("LAPSE_TEST_HELM") or Path(sys.prefix) / "deploy" / "helm")
SETS = {path.stem: path for path in sorted((Path(__file__).parent / "sets").glob("*.yaml"))}
OLDEST, NEWEST = "1.29", "1.37"
"""Versions of Kubernetes: the oldest that Chart.yaml takes, and the newest that there is a schema of."""

Refused: tuple[type[Exception], ...] = (
    jsonschema.ValidationError,
    kubernetes_validate.ValidationError,
    kubernetes_validate.SchemaNotFoundError,
    KeyError,
)
"""What says that an object is none, or that there is no schema of its kind."""

CRDS = {path.stem: path for path in (Path(__file__).parent / "crds").glob("*.json")}
Object = dict[str, Any]


def helm(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm; nothing is raised where it fails."""
    assert HELM.exists(), f"{HELM} is missing: make test-deploy fetches it"
    return subprocess.run([HELM, *arguments], input=text, capture_output=True, text=True, check=False)


def rendered(
    values: Mapping[str, Any], *, version: str = NEWEST, chart: Path = CHART, release: str = "prod", notes: bool = False
) -> str:
    """Return what a release with these values is, as text; with the notes, if asked."""
    command = ["install", "--dry-run=client"] if notes else ["template", "--kube-version", version]
    done = helm(*command, release, chart, "--namespace", "retention", "--values", "-", text=json.dumps(values))
    assert 0 == done.returncode, done.stderr
    return done.stdout


def refusal(values: Mapping[str, Any]) -> str:
    """Return why helm refuses these values."""
    done = helm("template", "prod", CHART, "--values", "-", text=json.dumps(values))
    assert 0 != done.returncode, "these values are rendered"
    return done.stderr


def chosen(name: str) -> dict[str, Any]:
    """Return one of the value sets."""
    said: Any = yaml.safe_load(SETS[name].read_text())
    return dict(said)


def changed(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return values with one of them changed."""
    made = copy.deepcopy(values)
    inner = made
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    return made


class Once(yaml.SafeLoader):
    """Reads YAML in which no key stands twice: of two, the API server may take either."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT002 - yaml's own
        keys = [key.value for key, _value in node.value]
        assert len(keys) == len(set(keys)), f"twice: {sorted(key for key in keys if keys.count(key) > 1)}"
        return super().construct_mapping(node, deep)


def objects(text: str) -> list[Object]:
    """Return the objects of what was rendered."""
    return [one for one in yaml.load_all(text, Once) if one]


@cache
def of(name: str, version: str = NEWEST) -> tuple[Object, ...]:
    """Return the objects of a value set."""
    return tuple(objects(rendered(chosen(name), version=version)))


def pods(found: tuple[Object, ...] | list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the component and the spec of every pod: of workloads, and of tests."""
    for one in found:
        if one["kind"] == "Pod":
            yield "doctor", one["spec"]
        elif "template" in one.get("spec", {}):
            template = one["spec"]["template"]
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def check(one: Object, version: str) -> None:
    """Hold an object against the schema of its kind; unknown properties are refused.

    Raises:
        Refused: it is no such object, or there is no schema of its kind.

    """
    if one["apiVersion"].startswith("monitoring.coreos.com/"):
        jsonschema.validate(one, json.loads(CRDS[one["kind"]].read_text()))
    else:
        kubernetes_validate.validate(one, version, strict=True)
