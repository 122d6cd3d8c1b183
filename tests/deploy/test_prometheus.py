"""Rules and alerts parse, double nothing, say what to do, and are tested; each alert's runbook holds."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import promql_parser
import pytest
import yaml

from lapse.cli.main import lapse as program
from lapse.durations import parse
from lapse.metrics.catalog import GUARDS, TABLE
from lapse.metrics.server import TIMEOUT
from support.promql import asked, doubled, mixed

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RUNBOOKS = {path.stem: path.read_text() for path in sorted((DEPLOY / "runbooks").glob("Lapse*.md"))}


def rules(name: str) -> list[dict[str, Any]]:
    read: Any = yaml.safe_load((PROMETHEUS / name).read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def cases() -> Iterator[dict[str, Any]]:
    for path in sorted(PROMETHEUS.glob("*_test.yaml")):
        yield from yaml.safe_load(path.read_text())["tests"]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yaml")}
RECORDED = {rule["record"]: rule for rule in rules("recording_rules.yaml")}
METRICS = {one.name for one in TABLE}
ABOUT_LAG_AND_SUCCESS = {"LapsePromiseBroken", "LapseOverdueGrowing", "LapseNoSuccessfulSweep"}
INFO = {"LapseObserving": "14d", "LapsePaused": "24h", "LapseUnmanaged": "1h"}


@pytest.mark.parametrize("rule", [*ALERTS.values(), *RECORDED.values()], ids=[*ALERTS, *RECORDED])
def test_a_rule_parses_and_shows_what_one_exporter_says(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])

    assert [] == doubled(rule["expr"])
    assert [] == mixed(rule["expr"])
    assert asked(rule["expr"]) <= METRICS | set(RECORDED)
    assert not re.search(r"\bor\s+vector\b", rule["expr"])


@pytest.mark.parametrize(
    "expression",
    [
        "lapse_due > 0",
        "sum by (kind) (lapse_due)",
        "max by (instance, kind) (lapse_due)",
        "max without (kind) (lapse_due)",
        "max(lapse_due) / rate(lapse_due[5m])",
    ],
)
def test_what_two_exporters_would_double_is_seen(expression: str) -> None:
    assert ["lapse_due"] == doubled(expression)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_names_the_deployment(name: str) -> None:
    assert ALERTS[name]["annotations"]["summary"].endswith("{{ with $labels.deployment }} ({{ . }}){{ end }}")


@pytest.mark.parametrize(
    "expression",
    ["max(lapse_due)", "sum by (kind) (max by (deployment, kind) (lapse_due))", "x and on (kind) y", "x / on (kind) y"],
)
def test_what_would_show_several_deployments_as_one_is_seen(expression: str) -> None:
    assert mixed(expression)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_its_runbook_is(name: str) -> None:
    alert = ALERTS[name]

    assert alert["labels"] == {"severity": "info" if name in INFO else alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in {"info", "warning", "critical"}
    assert f"{{{{ $externalLabels.lapse_runbooks }}}}/{name}.md" == alert["annotations"]["runbook_url"]
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    assert alert["for"] == INFO.get(name, alert["for"])


@pytest.mark.parametrize("name", sorted(ABOUT_LAG_AND_SUCCESS))
def test_lag_and_success_matter_where_a_policy_enforces(name: str) -> None:
    assert (
        ALERTS[name]["expr"]
        .rstrip()
        .endswith(
            "and on (deployment, provider, kind, policy)\n"
            "max by (deployment, provider, kind, policy) (lapse_enforcing) == 1"
        )
    )


def test_every_alert_is_shown_to_fire_and_not_to_fire() -> None:
    shown: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for test in cases():
        for case in test.get("alert_rule_test", []):
            shown[case["alertname"]].add(bool(case["exp_alerts"]))

    assert [] == [name for name, ways in shown.items() if ways != {True, False}]


def test_the_example_loads_both_rule_files() -> None:
    example: Any = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())

    assert {path.name for path in PROMETHEUS.glob("*.yaml")} >= set(example["rule_files"])
    assert {"alerts.yaml", "recording_rules.yaml"} == set(example["rule_files"])
    assert "lapse_runbooks" in example["global"]["external_labels"]


def test_a_registry_that_hangs_is_down_before_prometheus_gives_up() -> None:
    for path in (PROMETHEUS / "prometheus.yml", DEPLOY / "demo" / "prometheus" / "prometheus.yml"):
        interval = yaml.safe_load(path.read_text())["global"]["scrape_interval"]
        assert TIMEOUT <= parse(interval) / 2


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert set(ALERTS) == set(RUNBOOKS)


@pytest.mark.parametrize("name", RUNBOOKS)
def test_a_runbook_says_meaning_impact_diagnosis_and_mitigation(name: str) -> None:
    text = RUNBOOKS[name]

    assert text.startswith(f"# {name}\n")
    assert ["Meaning", "Impact", "Diagnosis", "Mitigation"] == re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert "```console\n$ " in text
    assert set(re.findall(r"\blapse_[a-z_]+\b", text)) <= METRICS | {"lapse_runbooks"}


@pytest.mark.parametrize("name", RUNBOOKS)
def test_every_command_of_a_runbook_exists_with_these_options(name: str) -> None:
    for command in commands(RUNBOOKS[name]):
        words = shlex.split(command)[1:]
        found: click.Command | None = program
        while words and isinstance(found, click.Group):
            found = found.get_command(click.Context(found), words.pop(0))
        assert found, command
        found.make_parser(click.Context(found)).parse_args(words)


def commands(text: str) -> Iterator[str]:
    shown = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    for line in "\n".join(shown).splitlines():
        if line.startswith("$ lapse "):
            yield re.sub(r"\s[|>].*$", "", line[2:])
    yield from re.findall(r"`(lapse [a-z][^`]*)`", text)


def test_every_guard_is_answered_in_the_runbook_of_halts() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", RUNBOOKS["LapseHalted"], re.MULTILINE))

    assert set(GUARDS) == rows
