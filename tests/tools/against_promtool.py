"""What promtool makes of the shipped alerts where one Prometheus scrapes two deployments: a healthy one hides nothing.

Not collected by a plain run: ``make test-tools`` names the file. It needs ``promtool`` and fails without it.
"""

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.prometheus import PROMETHEUS, program

LONG = 60 * 24 * 31
HEALTHY = {
    "lapse_audit_pending": f"0x{LONG}",
    "lapse_beat_interval_seconds": f"60x{LONG}",
    "lapse_beat_last_tick_timestamp_seconds": f"0+60x{LONG}",
    "lapse_breaker_open": f"0x{LONG}",
    "lapse_config_last_reload_successful": f"1x{LONG}",
    "lapse_deletions_total": f"0+1x{LONG}",
    "lapse_due": f"0x{LONG}",
    "lapse_enforcing": f"1x{LONG}",
    "lapse_erasure_due_timestamp_seconds": f"{30 * 86400}+60x{LONG}",
    "lapse_expect_gone": f"1x{LONG}",
    "lapse_halted": f"0x{LONG}",
    "lapse_last_success_timestamp_seconds": f"0+60x{LONG}",
    "lapse_limited": f"0x{LONG}",
    "lapse_oldest_overdue_seconds": f"0x{LONG}",
    "lapse_paused": f"0x{LONG}",
    "lapse_quarantined": f"0x{LONG}",
    "lapse_registered": f"50000x{LONG}",
    "lapse_registry_time_seconds": f"0+60x{LONG}",
    "lapse_registry_up": f"1x{LONG}",
    "lapse_requests_total": f"0+6000x{LONG}",
    "lapse_settled_total": f"0+1000x{LONG}",
    "lapse_sweep_interval_seconds": f"60x{LONG}",
    "lapse_unmanaged": f"0x{LONG}",
    "lapse_worker_last_tick_timestamp_seconds": f"0+60x{LONG}",
}
"""Each metric of the alerts as a deployment shows it in which all is well, from minute to minute."""

OF_ALL = (
    "lapse_registry_up",
    "lapse_beat_interval_seconds",
    "lapse_beat_last_tick_timestamp_seconds",
    "lapse_worker_last_tick_timestamp_seconds",
    "lapse_config_last_reload_successful",
)
"""Those that every deployment has, once."""

FAULTY = re.compile(r'outcome="already_gone"|status="(401|403|429)"')
"""Counters that do not move where all is well."""

READ: dict[str, Any] = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
ALERTS = [rule["alert"] for group in READ["groups"] for rule in group["rules"]]
FILES = ("alerts_test.yaml", "alerts_days_test.yaml")


def firing() -> dict[str, list[dict[str, Any]]]:
    """Return alert -> the shipped tests in which it fires."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ALERTS}
    for file in FILES:
        for test in yaml.safe_load((PROMETHEUS / file).read_text())["tests"]:
            for name in {case["alertname"] for case in test.get("alert_rule_test", []) if case["exp_alerts"]}:
                found[name].append(test)
    return found


FIRING = firing()


def labelled(series: str, deployment: str) -> str:
    """Return a series of one deployment."""
    name, _, labels = series.rstrip("}").partition("{")
    own = f'deployment="{deployment}"'
    return f"{name}{{{', '.join(filter(None, (own, labels)))}}}"


def twins(test: dict[str, Any]) -> list[dict[str, str]]:
    """Return the series of a healthy deployment beside those of a test."""
    every = {name: HEALTHY[name] for name in OF_ALL}
    for one in test["input_series"]:
        series = one["series"]
        if series.startswith("lapse_enforcing{"):
            for name in ("lapse_last_success_timestamp_seconds", "lapse_sweep_interval_seconds"):
                every[series.replace("lapse_enforcing", name)] = HEALTHY[name]
        every[series] = f"0x{LONG}" if FAULTY.search(series) else HEALTHY[series.partition("{")[0]]
    return [{"series": labelled(series, "staging"), "values": values} for series, values in every.items()]


def beside_staging(test: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a test of one alert with production broken as it is there, and a staging in which all is well."""
    made = copy.deepcopy(test)
    made["input_series"] = [
        {"series": labelled(one["series"], "production"), "values": one["values"]} for one in test["input_series"]
    ] + twins(test)
    made["alert_rule_test"] = [case for case in made["alert_rule_test"] if case["alertname"] == name]
    for case in made["alert_rule_test"]:
        for alert in case["exp_alerts"]:
            alert["exp_labels"]["deployment"] = "production"
            alert["exp_annotations"]["summary"] += " (production)"
    made.pop("promql_expr_test", None)
    return made


@pytest.mark.parametrize("name", ALERTS)
def test_a_healthy_staging_hides_nothing_of_production(name: str, tmp_path: Path) -> None:
    assert FIRING[name]
    intervals = {test["interval"] for test in FIRING[name]}
    for interval in sorted(intervals):
        tests = [beside_staging(test, name) for test in FIRING[name] if test["interval"] == interval]
        file = tmp_path / f"{interval}.yaml"
        rules = [str(PROMETHEUS / each) for each in ("recording_rules.yaml", "alerts.yaml")]
        file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": interval, "tests": tests}))
        done = subprocess.run([program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr


def test_a_deployment_that_is_not_scraped_any_more_is_named_beside_one_that_is(tmp_path: Path) -> None:
    series = [
        {"series": 'lapse_registry_up{deployment="production"}', "values": "1x10 _x2000"},
        {"series": 'lapse_registry_up{deployment="unknown"}', "values": "0x3 _x2000"},
        {"series": 'lapse_registry_up{deployment="staging"}', "values": "1x2000"},
    ]
    expected = {"exp_labels": {"severity": "critical", "deployment": "production"}}
    rule = next(rule for group in READ["groups"] for rule in group["rules"] if rule["alert"] == "LapseExporterDown")
    expected["exp_annotations"] = {
        "summary": "lapse metrics is not scraped (production)",
        "description": rule["annotations"]["description"],
        "runbook_url": "/LapseExporterDown.md",
    }
    cases = [
        {"alertname": "LapseExporterDown", "eval_time": "14m", "exp_alerts": []},
        {"alertname": "LapseExporterDown", "eval_time": "30m", "exp_alerts": [expected]},
        {"alertname": "LapseExporterDown", "eval_time": "26h", "exp_alerts": []},
    ]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": cases}
    file = tmp_path / "down.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(PROMETHEUS / "alerts.yaml")], "evaluation_interval": "1m", "tests": [test]})
    )

    done = subprocess.run([program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
