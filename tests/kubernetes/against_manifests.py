"""The plain manifests are what the chart is: ``make test-deploy`` runs this."""

import chartfiles
import pytest
import yaml

from kubernetes.rendering import HELM, NEWEST, OLDEST, check


def test_the_committed_manifests_are_the_rendered_ones() -> None:
    said = f"run .venv/bin/python deploy/helm/chartfiles.py --helm {HELM}"
    assert chartfiles.manifests(HELM) == chartfiles.MANIFESTS.read_text(), said


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_one_that_the_cluster_takes(version: str) -> None:
    found = list(yaml.safe_load_all(chartfiles.MANIFESTS.read_text()))
    assert {"StatefulSet", "Deployment", "Service", "ConfigMap", "ServiceAccount", "NetworkPolicy"} < {
        one["kind"] for one in found
    }
    for one in found:
        check(one, version)
