"""The mixin by Jsonnet is our files, and with a selector every series has it: ``make test-deploy`` runs this."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _gojsonnet
import promql_parser
import pytest
import yaml

from support.deploykit import DEPLOY
from support.promql import filled

MIXIN = DEPLOY / "mixin" / "mixin.libsonnet"
SHOWN = "{alerts: m.prometheusAlerts, rules: m.prometheusRules, dashboards: m.grafanaDashboards}"


def mixin(config: str = "{}") -> dict[str, Any]:
    """Return what the mixin is with this config."""
    snippet = f"local m = (import '{MIXIN}') + {{_config+:: {config}}}; {SHOWN}"
    made: Any = json.loads(_gojsonnet.evaluate_snippet("mixin.jsonnet", snippet))
    return dict(made)


def ours() -> dict[str, Any]:
    """Return the same of our files."""
    prometheus, grafana = DEPLOY / "prometheus", DEPLOY / "grafana"
    return {
        "alerts": yaml.safe_load((prometheus / "alerts.yaml").read_text()),
        "rules": yaml.safe_load((prometheus / "recording_rules.yaml").read_text()),
        "dashboards": {
            f"lapse-{name}.json": json.loads((grafana / f"{name}.json").read_text()) for name in ("overview", "policy")
        },
    }


def test_the_mixin_is_our_files() -> None:
    assert ours() == mixin()


def queries(value: Any) -> Iterator[str]:
    """Yield every query of rules and panels."""
    if isinstance(value, list):
        for one in value:
            yield from queries(one)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr":
                yield inner
            yield from queries(inner)


def selectors(query: str) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """Yield the name of each series that a query asks for, and its matchers."""
    waiting: list[Any] = [promql_parser.parse(query)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield str(node.name), {(one.name, one.value) for one in node.matchers.matchers}
        for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "args", "param"):
            inner = getattr(node, name, None)
            waiting += inner if isinstance(inner, list) else [inner] if inner is not None else []


@pytest.mark.parametrize("part", ["alerts", "rules", "dashboards"])
def test_a_selector_reaches_every_series_of_the_exporter_and_no_recorded_one(part: str) -> None:
    plain, found = ours()[part], mixin("{lapseSelector: 'job=\"lapse-prod\"'}")[part]
    asked = [one for query in queries(found) for one in selectors(filled(query))]
    assert asked
    for name, matchers in asked:
        assert (("job", "lapse-prod") in matchers) == name.startswith("lapse_"), name
    without = json.dumps(found).replace('{job=\\"lapse-prod\\"}', "").replace('job=\\"lapse-prod\\", ', "")
    assert plain == json.loads(without)


def test_runbooks_are_where_the_config_says() -> None:
    found = mixin("{runbookURLPattern: 'https://wiki/%s'}")["alerts"]["groups"]
    alerts = [one for group in found for one in group["rules"]]
    assert {f"https://wiki/{one['alert']}" for one in alerts} == {one["annotations"]["runbook_url"] for one in alerts}


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("https://wiki/lapse/%s.md", "https://wiki/lapse"),
        ("https://wiki/%s", "https://example.org/lapse/deploy/runbooks"),
    ],
)
def test_dashboards_lead_to_the_folder_of_the_pattern(pattern: str, folder: str) -> None:
    for board in mixin(f"{{runbookURLPattern: '{pattern}'}}")["dashboards"].values():
        assert [folder] == [one["query"] for one in board["templating"]["list"] if one["name"] == "runbooks"]


def test_the_vendored_folder_is_enough(tmp_path: Path) -> None:
    """Nothing outside deploy/ is imported."""
    imported = [line for line in MIXIN.read_text().splitlines() if "import" in line and "'" in line]
    assert 4 == len(imported)
    assert all("'../prometheus/" in line or "'../grafana/" in line for line in imported)
