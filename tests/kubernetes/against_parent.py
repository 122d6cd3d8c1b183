"""The chart below another one: ``make test-deploy`` runs this."""

import json
import shutil
from pathlib import Path

import pytest

from kubernetes.rendering import CHART, Object, chosen, objects, rendered


def test_a_parent_chart_renders_the_same(tmp_path: Path) -> None:
    """Below its name, with global values of the parent's."""
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "lapse")
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n")
    for name in ("minimal", "everything"):
        values = {"lapse": chosen(name), "global": {"theirs": {"deep": 1}}}
        alone = objects(rendered(chosen(name)))
        below = objects(rendered(values, chart=parent))
        assert named(alone) == named(below)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_parent_chart_has_this_one_on_a_condition(tmp_path: Path, enabled: bool) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "lapse")
    dependency = {"name": "lapse", "version": "0.1.0", "condition": "lapse.enabled"}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(json.dumps(chart))
    values = {"lapse": {**chosen("minimal"), "enabled": enabled}}
    assert enabled == bool(objects(rendered(values, chart=parent)))


def named(found: list[Object]) -> dict[tuple[str, str], Object]:
    return {(one["kind"], one["metadata"]["name"]): one for one in found}
