"""Writes the dashboards beside this file. Run it after a change here: a test compares.

Every query aggregates instance away, so that two exporters double nothing: counters are the registry's own, the
same from each of them.
"""

import json
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'provider=~"$provider", kind=~"$kind", policy=~"$policy"'
BY_POLICY = "provider, kind, policy"


def once(metric: str, by: str = BY_POLICY) -> str:
    """Return a gauge as one exporter shows it."""
    return f"max by ({by}) ({metric}{{{CHOSEN}}})"


def increase(metric: str, by: str) -> str:
    """Return a counter's increase as one exporter shows it."""
    return f"max by ({by}) (increase({metric}{{{CHOSEN}}}[$__rate_interval]))"


def panel(number: int, title: str, description: str, queries: list[tuple[str, str]], unit: str = "short") -> Json:
    """Return one panel; six of them stand in a grid of two columns."""
    x, y = (number % 2) * 12, (number // 2) * 8
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": 12, "h": 8},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(queries)
        ],
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


PANELS = [
    panel(
        0,
        "Due",
        "Ids past their policy, not held and not referenced. Falls with every sweep while a policy enforces.",
        [(once("lapse_due"), "{{policy}} {{kind}}")],
    ),
    panel(
        1,
        "Oldest overdue",
        "How late the oldest due id is; 0 while observing. The one number that says whether the promise is kept.",
        [(once("lapse_oldest_overdue_seconds"), "{{policy}} {{kind}}")],
        unit="s",
    ),
    panel(
        2,
        "Deletions by policy",
        "Deletions that the provider confirmed.",
        [(increase("lapse_deletions_total", BY_POLICY), "{{policy}} {{kind}}")],
    ),
    panel(
        3,
        "Outcomes",
        "What the provider's answers meant, every attempt.",
        [(f"sum by (outcome) ({increase('lapse_settled_total', BY_POLICY + ', outcome')})", "{{outcome}}")],
    ),
    panel(
        4,
        "Halted or observing",
        "A halt needs an operator: lapse status says why and what answers it. 0 enforcing: the policy only observes.",
        [
            (once("lapse_halted", BY_POLICY + ", reason"), "halted: {{policy}} {{kind}} {{reason}}"),
            (once("lapse_enforcing"), "enforcing: {{policy}} {{kind}}"),
        ],
    ),
    panel(
        5,
        "Registered",
        "Ids tracked; (unmanaged) ones are registered under names that the policy file does not know.",
        [(once("lapse_registered"), "{{policy}} {{kind}}")],
    ),
]


def variable(name: str) -> Json:
    """Return a variable that offers the values of one label."""
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values(lapse_registered, {name})", "refId": name},
        "definition": f"label_values(lapse_registered, {name})",
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


OVERVIEW: Json = {
    "uid": "lapse-overview",
    "title": "lapse: overview",
    "description": "What applications left behind at AI providers, and whether it is gone when its policy says so.",
    "tags": ["lapse"],
    "schemaVersion": 41,
    "version": 1,
    "editable": True,
    "graphTooltip": 1,
    "refresh": "30s",
    "time": {"from": "now-6h", "to": "now"},
    "timezone": "browser",
    "templating": {
        "list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
            *(variable(name) for name in ("provider", "kind", "policy")),
        ]
    },
    "annotations": {"list": []},
    "panels": PANELS,
}


def written() -> dict[str, str]:
    """Return file name -> content of every dashboard."""
    return {"overview.json": json.dumps(OVERVIEW, indent=2) + "\n"}


if __name__ == "__main__":
    for file, content in written().items():
        (Path(__file__).parent / file).write_text(content, encoding="utf-8")
        sys.stdout.write(f"wrote {file}\n")
