"""The committed dashboards are the generated ones; each of their queries means something to Prometheus and to lapse."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import redis

from lapse.metrics.catalog import TABLE
from lapse.metrics.collector import exposition
from lapse.policy.reload import ConfigFile
from support.promql import asked, doubled, filled, mixed
from support.world import World

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = DEPLOY / "grafana"
BOARDS = {path.name: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*.json"))}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
QUERIES = [
    *((f"{name}: {panel['title']}", target["expr"]) for name, panel in PANELS for target in panel["targets"]),
    *(
        (f"{name}: {one['name']}", one["target"]["expr"])
        for name, board in BOARDS.items()
        for one in board["annotations"]["list"]
    ),
]
CONFIG = """
[providers.openai]
type = "openai"
base_url = "{url}"
api_key_env = "KEY"
[policies.chat]
kind = "thread"
ttl = "7d"
anchor = "created_at"
mode = "enforce"
"""
RARE = {
    "lapse_orphans",
    "lapse_expect_gone",
    "lapse_children_left_total",
    "lapse_erasure_due_timestamp_seconds",
    "lapse_beat_last_tick_timestamp_seconds",
    "lapse_worker_last_tick_timestamp_seconds",
    "lapse_registry_epoch_timestamp_seconds",
}
"""What a registry without beat, orphans and a worker does not have; `make test-tools` provokes them."""


def test_the_committed_dashboards_are_the_generated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GRAFANA))
    written: dict[str, str] = importlib.import_module("generate").written()

    assert set(BOARDS) == set(written)
    for name, content in written.items():
        assert content == (GRAFANA / name).read_text(), "run .venv/bin/python deploy/grafana/generate.py"


def test_the_first_screen_says_whether_what_is_due_is_gone() -> None:
    first = [panel["title"] for panel in BOARDS["overview.json"]["panels"] if panel["gridPos"]["y"] < 14]

    assert ["Is what is due gone?", "Oldest overdue", "Gone within a day", "Deleted, 30 days"] == first[:4]
    assert {"Halted", "Not enforcing", "Quarantined", "Unmanaged"} <= set(first)


@pytest.mark.parametrize(("where", "expression"), QUERIES)
def test_a_query_parses_and_shows_what_one_exporter_says(where: str, expression: str) -> None:
    promql_parser.parse(filled(expression))

    assert [] == doubled(expression), where
    assert [] == mixed(expression), where
    assert not re.search(r"\bor\s+vector\b", expression), where


def test_every_panel_says_what_it_shows_in_which_unit() -> None:
    for where, panel in PANELS:
        assert len(panel["description"]) > 20, f"{where}: {panel['title']}"
        defaults = panel["fieldConfig"]["defaults"]
        overrides = panel["fieldConfig"]["overrides"]
        assert defaults.get("unit") or defaults.get("mappings") or overrides, panel["title"]
        if panel["type"] != "table":
            assert all("{{deployment}}" in target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_every_runbook_that_a_panel_names_is_linked_and_there() -> None:
    for _where, panel in PANELS:
        named = re.findall(r"\bLapse[A-Z]\w+", panel["description"])
        assert [f"$runbooks/{name}.md" for name in named] == [one["url"] for one in panel.get("links", [])]
        assert [] == [name for name in named if not (DEPLOY / "runbooks" / f"{name}.md").exists()]


def test_panels_lie_side_by_side_and_never_over_one_another() -> None:
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


async def test_every_metric_of_the_dashboards_is_in_a_scrape(world: World, tmp_path: Path) -> None:
    world.seed(3)
    await world.sweep()
    await world.context().control.halt(world.rule.partition, "no_witness", "test")
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url))
    with redis.Redis.from_url(world.url, decode_responses=True) as client:
        text: Any = exposition(client, ConfigFile(path, {}))[1].decode()
    scraped = set(re.findall(r"^(lapse_[a-z_]+?)(?:_bucket|_sum|_count)?[{ ]", text, re.MULTILINE))

    metrics = {name for _title, expression in QUERIES for name in asked(expression)}

    assert metrics
    assert metrics - RARE <= scraped
    assert metrics <= {described.name for described in TABLE}
