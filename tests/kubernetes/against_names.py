"""Names that a release, a namespace or a Secret may have: ``make test-deploy`` runs this."""

import json
import re
from typing import Any

import pytest

from kubernetes.rendering import CHART, NEWEST, Object, check, chosen, helm, objects

LONG = "l" * 53
"""As long as Helm lets the name of a release be."""

LABEL = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
HASH = len("-5d4f8c7b9d")
"""What the controller of a StatefulSet puts behind its name, for a label of each pod."""


def release(name: str, namespace: str, values: dict[str, Any]) -> list[Object]:
    """Return the objects of a release; what Kubernetes would refuse is an AssertionError."""
    text = json.dumps(chosen("everything") | values)
    done = helm("template", name, CHART, "--namespace", namespace, "--values", "-", text=text)
    assert 0 == done.returncode, done.stderr
    found = objects(done.stdout)
    for one in found:
        check(one, NEWEST)
    return found


def labels(one: Any) -> dict[str, str]:
    """Return every label that an object has or looks for."""
    if isinstance(one, list):
        return {key: value for inner in one for key, value in labels(inner).items()}
    if not isinstance(one, dict):
        return {}
    mine = {name: value for key in ("labels", "matchLabels") for name, value in one.get(key, {}).items()}
    return mine | labels([value for key, value in one.items() if key not in {"labels", "data"}])


@pytest.mark.parametrize("override", [{"nameOverride": ""}, {"fullnameOverride": f"{LONG}{LONG}"}], ids=str)
@pytest.mark.parametrize("name", ["prod", "my.release", "on", "a.0", LONG])
def test_any_name_of_a_release_makes_names_that_kubernetes_takes(name: str, override: dict[str, str]) -> None:
    found = release(name, "20261", override)
    for one in found:
        assert "20261" == one["metadata"].get("namespace", "20261")
        if one["kind"] == "Service":
            assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"])
        if one["kind"] == "StatefulSet":
            assert len(one["metadata"]["name"]) + HASH <= 63
        rule = "rules" in str(one.get("spec", {}).get("groups"))
        assert rule or all(LABEL.fullmatch(value) for value in labels(one).values()), one["metadata"]["name"]


def test_a_name_that_begins_with_no_letter_is_refused() -> None:
    done = helm("template", "2024", CHART, "--values", "-", text=json.dumps(chosen("minimal")))
    assert "fullnameOverride: 2024-lapse begins with no letter" in done.stderr


@pytest.mark.parametrize(
    "values", [{"nameOverride": f"{'a' * 49}.b"}, {"image": {"repository": "r/l", "tag": f"_{'a' * 62}-"}}]
)
def test_what_is_cut_for_a_label_ends_as_a_label_may(values: dict[str, Any]) -> None:
    assert all(LABEL.fullmatch(value) for one in release("prod", "ns", values) for value in labels(one).values())


def test_names_that_look_like_numbers_stay_names() -> None:
    values = {
        "registry": {"existingSecret": "1", "urlKey": "1e3"},
        "broker": {"existingSecret": "0x1", "urlKey": "on"},
        "providerKeys": {"existingSecret": "2", "as": "files"},
        "audit": {"existingSecret": "3", "key": "4"},
        "ca": {"existingConfigMap": "5", "key": "6"},
        "policy": {"existingConfigMap": "7", "key": "8"},
        "serviceAccount": {"name": "9"},
        "persistence": {"size": "1", "storageClass": "10"},
        "priorityClassName": "11",
    }
    release("prod", "ns", values)
    release("prod", "ns", values | {"providerKeys": {"existingSecret": "2"}})


def test_a_policy_file_is_in_its_config_map_to_the_byte() -> None:
    text = "    # indented\n\n[providers.openai]\ntype = 'openai'\t\n  # {{ .Values.image }}\n\n\n"
    found = release("prod", "ns", {"policy": {"key": "1", "content": text}})
    (policy,) = [one for one in found if "1" in one.get("data", {})]
    assert {"1": text} == policy["data"]
