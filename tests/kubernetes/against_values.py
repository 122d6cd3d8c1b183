"""Every key of values.yaml does something: ``make test-deploy`` runs this."""

import json
from collections.abc import Iterator
from typing import Any

import chartfiles
import pytest

from kubernetes.rendering import CHART, SETS, Object, changed, chosen, helm, objects, of

OF_PARENTS = {("global",), ("enabled",)}
KEYS = [one for one in chartfiles.values((CHART / "values.yaml").read_text()) if one.path not in OF_PARENTS]
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
OTHER: dict[str, Any] = {
    "image.digest": "sha256:" + "f" * 64,
    "imagePullSecrets": [{"name": "another"}],
    "registry.url": "redis://elsewhere/0",
    "registry.passwordKey": "another",
    "persistence.size": "7Gi",
    "persistence.accessModes": ["ReadWriteMany"],
    "podSecurityContext": {"runAsUser": 4711},
    "securityContext": {"privileged": False},
    "worker.resources": {"limits": {"memory": "3Gi"}},
    "beat.resources": {"limits": {"memory": "3Gi"}},
    "exporter.resources": {"limits": {"memory": "3Gi"}},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"topologyKey": "another"}],
    "extraEnv": [{"name": "ANOTHER", "value": "1"}],
    "extraEnvFrom": [{"secretRef": {"name": "another"}}],
    "extraVolumes": [{"name": "another", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "another", "mountPath": "/another"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "another"}}],
    "podDisruptionBudget.maxUnavailable": 2,
    "networkPolicy.redisPorts": [6390],
    "networkPolicy.redisTo": [{"podSelector": {}}],
    "networkPolicy.providerPorts": [8443],
    "networkPolicy.providerTo": [{"podSelector": {}}],
    "networkPolicy.metricsFrom": [{"podSelector": {}}],
    "networkPolicy.extraEgress": [{"ports": [{"port": 1, "protocol": "TCP"}]}],
    "prometheusRule.disabled": ["LapseHalted"],
    **{
        f"{kind}.{key}": value
        for kind in ("serviceMonitor", "podMonitor")
        for key, value in {
            "interval": "17s",
            "scrapeTimeout": "7s",
            "relabelings": [{"action": "labeldrop", "regex": "another"}],
            "metricRelabelings": [{"action": "labeldrop", "regex": "another"}],
        }.items()
    },
}
"""Another value than any set has, where the kind of value does not say one."""


def another(path: tuple[str, ...], default: Any) -> Any:
    """Return a value that differs from the default and from what every set has."""
    name = ".".join(path)
    if name in OTHER:
        return OTHER[name]
    known = SCHEMA
    for part in path:
        known = known["properties"][part]
    if "enum" in known:
        return next(value for value in known["enum"] if value != default)
    match default:
        case bool():
            return not default
        case int():
            return default + 3
        case str():
            return f"{default}another"
        case dict():
            return {"another": "one"}
    raise AssertionError(f"OTHER has to name a value for {name}")


def outcome(values: dict[str, Any]) -> list[Object]:
    """Return the objects that are rendered; none where the values are refused."""
    done = helm("template", "prod", CHART, "--namespace", "retention", "--values", "-", text=json.dumps(values))
    return objects(done.stdout) if done.returncode == 0 else []


def differing(path: tuple[str, ...], default: Any) -> Iterator[str]:
    """Yield the sets whose objects are others with this one key changed, alone and validly."""
    for name in SETS:
        before = chosen(name)
        value = another(path, default)
        at: Any = before
        for part in path:
            at = at.get(part) if isinstance(at, dict) else None
        after = changed(before, path, not at if isinstance(default, bool) and at is not None else value)
        told = outcome(after)
        if told and told != list(of(name)):
            yield name


@pytest.mark.parametrize("one", KEYS, ids=lambda one: ".".join(one.path))
def test_a_key_that_is_changed_alone_changes_what_is_rendered(one: chartfiles.Value) -> None:
    assert next(differing(one.path, one.default), None), f"{'.'.join(one.path)} changes nothing in any set"


def test_each_key_has_a_type_and_a_description() -> None:
    for one in KEYS:
        known = SCHEMA
        for part in one.path:
            known = known["properties"][part]
        assert known["description"] == one.said
        assert {"type", "anyOf"} & set(known), one.path


def test_the_schema_is_closed_but_for_global_free_maps_and_kubernetes_own_objects() -> None:
    free = {
        "global", "podSecurityContext", "securityContext", "worker.resources", "beat.resources", "exporter.resources",
        "affinity",
    }  # fmt: skip
    assert free == {path for path, known in tables(SCHEMA) if known.get("additionalProperties", True) is True}


def tables(known: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the schema of every table of values; what lists hold is Kubernetes' own."""
    if known.get("type") == "object":
        yield path, known
    for name, inner in known.get("properties", {}).items():
        yield from tables(inner, f"{path}.{name}".lstrip("."))
