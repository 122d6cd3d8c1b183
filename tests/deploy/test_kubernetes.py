"""The chart and the manifests without helm: what is generated is current, and names what lapse knows."""

import re
from pathlib import Path
from typing import Any

import chartfiles
import pytest
import yaml

from lapse.policy import load
from support import shown
from support.deploykit import DEPLOY

MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all(chartfiles.MANIFESTS.read_text()))
PODS = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in MANIFESTS if "template" in one.get("spec", {})
}
TEMPLATES = "".join(path.read_text() for path in sorted((chartfiles.CHART / "templates").rglob("*.*")))


def test_what_the_chart_is_made_of_is_current() -> None:
    for path, content in chartfiles.written().items():
        assert content == path.read_text(), f"{path.name}: run .venv/bin/python deploy/helm/chartfiles.py"


def test_a_key_without_a_comment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.b has no comment"):
        chartfiles.values("a:\n  b: 1\n")


def test_every_value_that_a_template_reads_is_there_and_the_other_way_round() -> None:
    known = {".".join(one.path) for one in chartfiles.values((chartfiles.CHART / "values.yaml").read_text())}
    read = set(re.findall(r"(?:\.|\$|\$values\.|\.root\.)Values\.([a-zA-Z.]+)", TEMPLATES))
    assert all(
        any(name == one or one.startswith(f"{name}.") or name.startswith(f"{one}.") for one in known) for name in read
    )
    roots = {name.partition(".")[0] for name in re.findall(r"[vV]alues\.([a-zA-Z.]+)", TEMPLATES)}
    assert {one.partition(".")[0] for one in known} - roots == {"global", "enabled"}


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """Return the policy file of the ConfigMap."""
    (policy,) = [one for one in MANIFESTS if one["kind"] == "ConfigMap"]
    path = tmp_path / "retention.toml"
    path.write_text(policy["data"]["retention.toml"])
    return path


def test_the_policy_of_the_chart_observes_and_is_valid(shipped: Path) -> None:
    config = load(shipped, {})
    assert [False] == [rule.enforce for rule in config.rules]


def test_programs_and_probes_are_commands_of_lapse() -> None:
    assert {"lapse-worker", "lapse-beat", "lapse-exporter"} == set(PODS)
    for pod in PODS.values():
        (container,) = pod["containers"]
        commands = [container["command"]]
        commands += [
            one["exec"]["command"] for name, one in container.items() if name.endswith("Probe") and "exec" in one
        ]
        for command in commands:
            shown.check([word for word in command if word != "-q"])


def test_variables_are_settings_that_lapse_knows(shipped: Path) -> None:
    """Each variable that a template sets, in a policy file that has nothing of it."""
    names = set(re.findall(r"name: (LAPSE_[A-Z_]+)", TEMPLATES))
    assert {"LAPSE_CONFIG", "LAPSE_RUNTIME_DIR", "LAPSE_STATE_DIR"} == {name for name in names if "__" not in name}
    values = {name: f"/{name}" for name in names if "__" in name}
    values |= {"LAPSE_AUDIT__SINK": "file:/a.jsonl", "LAPSE_REGISTRY__DEPLOYMENT": "prod"}
    config = load(shipped, values | {"LAPSE_REGISTRY__URL": "redis://h/0"})
    assert "prod" == config.registry.deployment
    assert "/LAPSE_AUDIT__KEY_FILE" == str(config.audit.key_file)


def test_where_the_image_writes_into_memory_a_pod_has_a_volume() -> None:
    """Its root is read-only: what the image calls a folder in memory is none unless it is mounted."""
    image = re.findall(r"\b([A-Z_]+)=/var/lapse-run\b", (DEPLOY / "Dockerfile").read_text())
    assert {"LAPSE_RUNTIME_DIR", "TMPDIR"} == set(image)
    for pod in PODS.values():
        (container,) = pod["containers"]
        places = {one["name"]: one.get("value") for one in container["env"]}
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"] if not one.get("readOnly")}
        in_memory = {one["name"] for one in pod["volumes"] if "emptyDir" in one}
        assert {mounts[places[name]] for name in image} <= in_memory


def test_a_plan_of_a_million_ids_can_be_applied_in_a_worker_s_pod() -> None:
    (runtime,) = [one["emptyDir"] for one in PODS["lapse-worker"]["volumes"] if one["name"] == "runtime"]
    row = '["conv_68f0a1b2c3d4e5f60718293a4b5c6d7e8f",1767225600000,"ttl"]\n'
    assert len(row) * 10**6 < int(runtime["sizeLimit"].removesuffix("Mi")) * 2**20


def test_versions_are_those_of_the_distribution() -> None:
    chart: dict[str, Any] = yaml.safe_load((chartfiles.CHART / "Chart.yaml").read_text())
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project
