"""What a real Prometheus makes of the shipped dashboards, rules and alerts, with every state provoked.

Not collected by a plain run, as its name does not begin with test_: ``make test-tools`` names the file. It needs
``prometheus`` and ``promtool`` and fails without them.
"""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from support.promql import filled
from tools.prometheus import PROMETHEUS, Labels, program
from tools.stage import DAY, Stage, staged

GRAFANA = PROMETHEUS.parent / "grafana"
SOON = 90.0
Expected = list[tuple[Labels, object]]
STUCK = pytest.approx(2 * DAY, abs=900)
SOME = "more than nothing"
NOW = "now"

CHAT, STATES = {"policy": "chat"}, {"chat": 0, "looks": 1, "resting": 2, "jumped": 3}
LAGS: Expected = [({}, SOME)]
PANELS: dict[tuple[str, str], list[Expected]] = {
    ("stat", "Oldest overdue"): [[({}, STUCK)]],
    ("stat", "Gone within a day"): [[({}, pytest.approx(1, abs=0.01))]],
    ("stat", "Deleted, 30 days"): [[({}, pytest.approx(12, rel=0.1))]],
    ("stat", "Due clears in"): [[({}, SOME)]],
    ("stat", "Halted"): [[({}, 1)]],
    ("stat", "Not enforcing"): [[({}, 2)]],
    ("stat", "Quarantined"): [[({}, 2)]],
    ("stat", "Unmanaged"): [[({}, 3)]],
    ("table", "Policy by policy: is what is due gone?"): [
        [({"policy": "stuck"}, STUCK), (CHAT, 0)],
        [({"policy": name}, value) for name, value in STATES.items()],
        [({"policy": "slow"}, 8), ({"policy": "looks"}, 4)],
        [(CHAT, pytest.approx(9, rel=0.1)), ({"policy": "slow"}, pytest.approx(2, rel=0.1))],
        [(CHAT, pytest.approx(1, abs=0.01))],
        [(CHAT, 1), ({"policy": "(unmanaged)"}, 3)],
        [({"policy": "odd"}, 2), (CHAT, 0)],
        [(CHAT, SOME)],
    ],
    ("timeseries", "Oldest overdue"): [[({"policy": "stuck"}, STUCK)]],
    ("timeseries", "From due to gone"): [LAGS, LAGS, LAGS],
    ("timeseries", "Deletions a minute"): [[(CHAT, SOME), ({"policy": "slow"}, SOME)]],
    ("timeseries", "Due, and what would be deleted"): [
        [({"policy": "looks"}, 4)],
        [({"policy": "looks"}, 4), ({"policy": "jumped"}, 6), ({"policy": "resting"}, 5)],
    ],
    ("state-timeline", "What each policy does"): [[({"policy": name}, value) for name, value in STATES.items()]],
    ("timeseries", "Time to clear what is due"): [[({"provider": "openai"}, SOME)]],
    ("stat", "Open requests"): [[({}, 1)]],
    ("stat", "Next one is due in"): [[({}, pytest.approx(3 * DAY, abs=900))]],
    ("stat", "First one waits since"): [[({}, pytest.approx(27 * DAY, abs=900))]],
    ("timeseries", "Requests by state"): [[({"state": "open"}, 1), ({"state": "complete"}, 2)]],
    ("timeseries", "Requests by answer"): [
        [({"status": status}, SOME) for status in ("200", "404", "429", "500")]
        + [({"status": "401"}, None), ({"status": "422"}, None)]
    ],
    ("timeseries", "Errors"): [[({"provider": "busy"}, 1), ({"provider": "openai"}, SOME)]],
    ("timeseries", "Latency"): [[({"provider": "busy"}, SOME)], [({"provider": "openai", "op": "delete"}, SOME)]],
    ("timeseries", "Requests against the budget"): [[({"provider": "openai"}, SOME), ({"provider": "busy"}, SOME)]],
    ("timeseries", "Waiting for the budget"): [[({"provider": "openai", "kind": "thread"}, SOME)]],
    ("state-timeline", "Circuit breaker"): [[({"provider": "refused"}, 1), ({"provider": "openai"}, 0)]],
    ("stat", "Registry"): [[({}, 1)]],
    ("stat", "Registry begun"): [[({}, NOW)]],
    ("stat", "Clock"): [[({}, None)]],
    ("stat", "Beat's last wake-up"): [[({}, None)]],
    ("stat", "Last wake-up that came back"): [[({}, None)]],
    ("stat", "Policy file"): [[({}, 1)]],
    ("timeseries", "Registered"): [[({"policy": "kept", "kind": "conversation"}, 10), ({"policy": "(unmanaged)"}, 3)]],
    ("timeseries", "Held and protected"): [[({"provider": "openai", "kind": "thread"}, 1)], [(CHAT, 1)]],
    ("timeseries", "Unmanaged"): [[({"provider": "openai", "kind": "thread"}, 3)]],
    ("timeseries", "Quarantined"): [[({"policy": "odd"}, 2)]],
    ("timeseries", "Orphans by what the last complete listing found"): [
        [({"policy": "idle", "kind": "assistant", "state": "candidate"}, 3)]
    ],
    ("timeseries", "Audit records waiting"): [[({"provider": "openai", "kind": "thread"}, SOME)]],
    ("timeseries", "Sweeps a minute by how they ended"): [
        [({"result": result}, SOME) for result in ("completed", "observed", "paused", "halted", "limited", "breaker")]
    ],
    ("timeseries", "Answers a minute by what they meant"): [
        [({"outcome": outcome}, SOME) for outcome in ("deleted", "already_gone", "error", "invalid")]
    ],
    ("timeseries", "Left behind by cascades"): [[({"kind": "vector_store", "reason": "foreign"}, 2)]],
    ("timeseries", "Protected and set aside"): [[(CHAT, 1)], [({"policy": "odd"}, 2)]],
    ("timeseries", "Guards and crashes"): [
        [({"policy": "jumped", "guard": "cutoff_jumped"}, pytest.approx(1, rel=0.1))],
        [(CHAT, 0)],
    ],
    ("timeseries", "Limited"): [[({"policy": "slow"}, 1), (CHAT, 0)]],
    ("timeseries", "Since the last sweep that ended well"): [[(CHAT, SOME)]],
}

PROVOKED: dict[str, Labels] = {
    "LapseHalted": {"policy": "jumped", "reason": "cutoff_jumped"},
    "LapsePromiseBroken": {"policy": "stuck"},
    "LapseNoSuccessfulSweep": {"policy": "locked"},
    "LapseAbsentRatioHigh": {"policy": "gone"},
    "LapseQuarantineNotEmpty": {"policy": "odd"},
    "LapseLimitReached": {"policy": "slow"},
    "LapseProviderAuthFailed": {"provider": "refused"},
    "LapseBreakerOpen": {"provider": "refused"},
    "LapseRateLimited": {"provider": "busy"},
    "LapseObserving": {"policy": "looks"},
    "LapsePaused": {"policy": "resting"},
    "LapseUnmanaged": {"kind": "thread"},
    "LapseErasureOverdue": {},
}
"""Alerts whose condition the stage brings about as they are shipped; only ``for`` keeps them pending."""

SHORTENED: dict[str, tuple[Labels, dict[str, str]]] = {
    "LapseOverdueGrowing": ({"policy": "stuck"}, {"offset 30m": "offset 5s"}),
    "LapseDeletionSpike": ({"policy": "chat"}, {"> 100": "> 1", "offset 7d": "offset 5s"}),
    "LapseAuditPending": ({"kind": "thread"}, {"> 1000": "> 10", "[15m]": "[5s]"}),
    "LapseClockSkew": ({}, {"> 60": ">= 0"}),
}
"""Alerts about days or a thousand records: their windows and bounds shortened, and nothing else."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage"), wait) as made:
        made.provoke()
        yield made


def wait(condition: Callable[[], object], within: float = SOON, *, what: str = "the condition") -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {within} s"
        time.sleep(0.2)


def panels() -> Iterator[Any]:
    seen = set()
    for path in sorted(GRAFANA.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            at = (panel["type"], panel["title"])
            if panel["type"] != "row" and at not in seen:
                seen.add(at)
                yield pytest.param(panel, id=f"{panel['type']} {panel['title']}")


@pytest.mark.parametrize("panel", list(panels()))
def test_a_panel_shows_what_was_provoked(stage: Stage, panel: dict[str, Any]) -> None:
    expected = PANELS[panel["type"], panel["title"]]
    assert len(expected) == len(panel["targets"])

    for target, values in zip(panel["targets"], expected, strict=True):
        query = filled(target["expr"])
        for labels, value in values:
            wait(
                partial(shows, stage, query, labels, value),
                what=f"{query}\nshows {labels} {value}; it showed {stage.prometheus.query(query)} at first, and",
            )
        assert not [found for found, _value in stage.prometheus.query(query) if {"instance", "job"} & set(found)]


def shows(stage: Stage, query: str, labels: Labels, value: object) -> bool:
    for found, number in stage.prometheus.query(query):
        if labels.items() <= found.items() and _is(number, value):
            return True
    return False


def _is(number: float, value: object) -> bool:
    if value is None:
        return True
    if value == SOME:
        return number > 0
    if value == NOW:
        return abs(number / 1000 - time.time()) < 600
    return bool(number == value)


@pytest.mark.parametrize("name", PROVOKED)
def test_an_alert_sees_what_was_provoked(stage: Stage, name: str) -> None:
    wait(lambda: _alerts(stage, name, PROVOKED[name]), 150, what=f"{name} is pending or firing")


def _alerts(stage: Stage, name: str, labels: Labels) -> list[Any]:
    found = [one for one in stage.prometheus.rules()[name]["alerts"] if labels.items() <= one["labels"].items()]
    for one in found:
        assert one["annotations"]["runbook_url"].endswith(f"/deploy/runbooks/{name}.md")
        assert "<" not in one["annotations"]["summary"] + one["annotations"]["description"]
    return found


@pytest.mark.parametrize("name", SHORTENED)
def test_an_alert_about_days_sees_it_in_seconds(stage: Stage, name: str) -> None:
    labels, replaced = SHORTENED[name]
    expression = _expression(name)
    for long, short in replaced.items():
        assert long in expression
        expression = expression.replace(long, short)

    wait(lambda: shows(stage, expression, labels, None), what=expression)


def _expression(name: str) -> str:
    read: Any = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
    return next(str(rule["expr"]) for group in read["groups"] for rule in group["rules"] if rule["alert"] == name)


def test_the_service_level_is_recorded(stage: Stage) -> None:
    for query, labels, value in (
        ("policy:lapse_gone_within_1d:ratio_increase30d", CHAT, pytest.approx(1, abs=0.01)),
        ("policy:lapse_overdue_within_1d:bool", CHAT, 1),
        ("policy:lapse_overdue_within_1d:bool", {"policy": "stuck"}, 0),
        ("policy:lapse_overdue_within_1d:avg30d", {"policy": "stuck"}, pytest.approx(0, abs=0.5)),
    ):
        wait(partial(shows, stage, query, labels, value), what=f"{query} {labels}")


def test_prometheus_evaluates_every_rule(stage: Stage) -> None:
    rules = stage.prometheus.rules()

    assert 26 == len(rules)
    assert [] == [name for name, rule in rules.items() if rule["health"] == "err"]


def test_a_lost_registration_is_seen(stage: Stage) -> None:
    """Ids that leave the registry without being deleted: the alert's windows shortened from an hour to seconds."""
    registry = stage.lapse.registry
    kept = stage.lapse.provider.alive("conversation")
    for id_ in kept:
        registry.forget("conversation", id_)
    expression = _expression("LapseRegistryShrunk").replace("1h", "20s").replace("> 100", "> 9")

    wait(lambda: shows(stage, expression, {"kind": "conversation"}, 0), what=expression)


def test_halts_and_reloads_are_marked(stage: Stage) -> None:
    marks = {
        one["name"]: one["target"]["expr"]
        for one in json.loads((GRAFANA / "overview.json").read_text())["annotations"]["list"]
    }
    stage.configure(
        "\n# another version\n"
        '[policies.later]\nprovider = "openai"\nkind = "conversation"\nttl = "1d"\nanchor = "created_at"\n'
    )

    wait(lambda: shows(stage, filled(marks["Config reloads"]).replace("2m", "20s"), {}, 1), what="a reload is marked")
    wait(lambda: shows(stage, filled(marks["Halts"]), {"policy": "jumped", "reason": "cutoff_jumped"}, 1))
    with stage.lapse.config.open("a") as file:
        file.write("\nttl = nonsense")
    wait(lambda: shows(stage, filled(marks["Config refused"]), {}, 1), what="a refused file is marked")
    wait(lambda: _alerts(stage, "LapseConfigReloadFailed", {}), what="LapseConfigReloadFailed")
    stage.configure()
    wait(
        lambda: shows(stage, "min by (deployment) (lapse_config_last_reload_successful)", {}, 1),
        what="the file is in use again",
    )


@pytest.mark.parametrize("name", ["alerts_test.yaml", "alerts_days_test.yaml"])
def test_promtool_sees_each_alert_fire_and_not_fire(name: str) -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", name], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_example() -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "config", "prometheus.yml"],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == checked.returncode, checked.stdout + checked.stderr


def test_promtool_finds_nothing_wrong_with_a_scrape(stage: Stage) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.ports[0]}/metrics", timeout=10) as reply:
        text = reply.read()

    checked = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)

    assert (0, b"") == (checked.returncode, checked.stdout + checked.stderr)


def test_every_alert_is_provoked_here() -> None:
    read: Any = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
    ends = {"LapseCanaryStale", "LapseBeatMissing", "LapseRegistryDown", "LapseExporterDown"}
    others = {"LapseConfigReloadFailed", "LapseRegistryShrunk"}

    assert set(PROVOKED) | set(SHORTENED) | ends | others == {
        rule["alert"] for group in read["groups"] for rule in group["rules"]
    }


def test_what_ends_is_seen(stage: Stage) -> None:
    """The last one: worker, beat, Redis and exporters end, one after the other."""
    assert stage.worker
    assert stage.beat
    stage.worker.stop()
    wait(lambda: _alerts(stage, "LapseCanaryStale", {}), what="LapseCanaryStale")
    stage.beat.stop()
    wait(lambda: _alerts(stage, "LapseBeatMissing", {}), what="LapseBeatMissing")
    stage.redis.stop(kill=True)
    wait(lambda: _alerts(stage, "LapseRegistryDown", {}), what="LapseRegistryDown")
    for exporter in stage.exporters:
        exporter.kill()
    wait(lambda: _alerts(stage, "LapseExporterDown", {}), what="LapseExporterDown")
