"""The committed dashboard is the generated one, and each of its queries means something to Prometheus and to lapse."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import redis

from lapse.metrics import exposition
from lapse.series import TABLE
from lapse.settings import ConfigFile
from world import World

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
OVERVIEW = json.loads((GRAFANA / "overview.json").read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in OVERVIEW["panels"] for target in panel["targets"]]
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


def filled(expression: str) -> str:
    """Return a query as Grafana sends it."""
    expression = re.sub(r"\$(provider|kind|policy)\b", ".*", expression)
    return expression.replace("$__rate_interval", "5m")


def metrics_of(expression: str) -> Iterator[str]:
    yield from re.findall(r"\b(lapse_[a-z_]+)\{", expression)


def test_the_committed_dashboard_is_the_generated_one() -> None:
    written: Any = runpy.run_path(str(GRAFANA / "generate.py"))["written"]

    for name, content in written().items():
        assert content == (GRAFANA / name).read_text(), "run python deploy/grafana/generate.py"


def test_there_are_six_panels() -> None:
    assert ["Due", "Oldest overdue", "Deletions by policy", "Outcomes", "Halted or observing", "Registered"] == [
        panel["title"] for panel in OVERVIEW["panels"]
    ]


@pytest.mark.parametrize(("title", "expression"), QUERIES)
def test_a_query_parses_and_aggregates_the_exporters_away(title: str, expression: str) -> None:
    parsed = promql_parser.parse(filled(expression))

    assert isinstance(parsed, promql_parser.AggregateExpr), title
    assert "instance" not in expression


async def test_every_metric_of_the_dashboard_is_in_a_scrape(world: World, tmp_path: Path) -> None:
    world.seed(3)
    await world.sweep()
    await world.means().control.halt(world.rule.partition, "no_witness", "test")
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url))
    with redis.Redis.from_url(world.url, decode_responses=True) as client:
        _type, text = exposition(client, ConfigFile(path, {}))
    scraped = set(re.findall(r"^(lapse_[a-z_]+?)(?:_bucket|_sum|_count)?\{", text.decode(), re.MULTILINE))

    asked = {name for _title, expression in QUERIES for name in metrics_of(expression)}

    assert asked
    assert asked <= scraped
    assert asked <= {described.name for described in TABLE}
