"""The panels that the dashboards are made of, as Grafana's JSON."""

import re
from typing import Any

from queries import VARIABLES

Json = dict[str, Any]
Target = tuple[str, str]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
COLOURS = ("green", "orange", "red")
NEUTRAL = "text"
RUNBOOK = re.compile(r"\bLapse[A-Z]\w+")
"""How a description names the alerts whose runbooks answer what a panel shows."""

DAY, HOUR = 86400, 3600


NOTHING_YET: Json = {"type": "special", "options": {"match": "nan", "result": {"text": "nothing was due", "index": 0}}}
STATES: Json = {
    "type": "value",
    "options": {
        "0": {"text": "enforcing", "color": "green", "index": 0},
        "1": {"text": "observing", "color": "blue", "index": 1},
        "2": {"text": "paused", "color": "orange", "index": 2},
        "3": {"text": "HALTED", "color": "red", "index": 3},
    },
}


def steps(*bounds: float, colours: tuple[str, ...] = COLOURS) -> Json:
    """Return thresholds: one colour more than bounds, the first for what lies below them all."""
    points: list[Json] = [{"color": colours[0], "value": None}]
    if bounds:
        points += [
            {"color": colour, "value": bound} for bound, colour in zip(bounds, colours[-len(bounds) :], strict=True)
        ]
    return {"mode": "absolute", "steps": points}


NO_THRESHOLD = steps(colours=(NEUTRAL,))


def link(title: str, url: str, tooltip: str = "", *, here: bool = False) -> Json:
    """Return a link; ``here``: to another dashboard, which takes the time and the variables along."""
    return {
        "title": title,
        "url": url,
        "type": "link",
        "icon": "dashboard" if here else "doc",
        "tooltip": tooltip,
        "tags": [],
        "asDropdown": False,
        "keepTime": here,
        "includeVars": here,
        "targetBlank": not here,
    }


def _panel(kind: str, title: str, says: str, queries: list[Target], *, instant: bool = False) -> Json:
    form = {"instant": True, "range": False} if instant else {}
    runbooks = [link(f"Runbook {name}", f"$runbooks/{name}.md") for name in RUNBOOK.findall(says)]
    return {
        "type": kind,
        "title": title,
        "description": says,
        **({"links": runbooks} if runbooks else {}),
        "datasource": SOURCE,
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expression, "legendFormat": legend, **form}
            for i, (expression, legend) in enumerate(queries)
        ],
    }


def stat(
    title: str, says: str, query: str, *, unit: str = "short", thresholds: Json = NO_THRESHOLD, **more: object
) -> Json:
    """Return one number, coloured by its thresholds; one for each deployment, named, where there are several."""
    return {
        **_panel("stat", title, says, [(query, "{{deployment}}")], instant=True),
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": thresholds, "color": {"mode": "thresholds"}, **more},
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if thresholds != NO_THRESHOLD else "none",
            "graphMode": "none",
            "textMode": "auto",
            "justifyMode": "center",
        },
    }


def graph(
    title: str,
    says: str,
    queries: list[Target],
    *,
    unit: str = "short",
    stack: bool = False,
    limit: float | None = None,
) -> Json:
    """Return lines over time; ``limit`` draws a red line."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 30 if stack else 8, "showPoints": "never", "spanNulls": False}
    custom |= {"stacking": {"mode": "normal" if stack else "none", "group": "A"}}
    defaults: Json = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    if limit is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        defaults["thresholds"] = steps(limit, colours=("transparent", "red"))
    return {
        **_panel("timeseries", title, says, queries),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["lastNotNull", "max"],
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def timeline(title: str, says: str, queries: list[Target], mapping: Json) -> Json:
    """Return coloured bands over time, one for each series."""
    return {
        **_panel("state-timeline", title, says, queries),
        "fieldConfig": {
            "defaults": {
                "mappings": [mapping],
                "color": {"mode": "thresholds"},
                "custom": {"fillOpacity": 80, "lineWidth": 0},
                "thresholds": steps(),
            },
            "overrides": [],
        },
        "options": {
            "mergeValues": True,
            "showValue": "auto",
            "rowHeight": 0.8,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
            "tooltip": {"mode": "single"},
        },
    }


def table(title: str, says: str, columns: list[tuple[str, str, Json]], links: list[Json]) -> Json:
    """Return one row for each policy; each column is a query, its name, and how its values are shown."""
    panel = _panel("table", title, says, [(query, name) for name, query, _shown in columns], instant=True)
    for target in panel["targets"]:
        target["format"] = "table"
    names = {
        f"Value #{target['refId']}": name for target, (name, _q, _s) in zip(panel["targets"], columns, strict=True)
    }
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": key, "value": value} for key, value in shown.items()],
        }
        for name, _query, shown in columns
    ]
    linked = {"matcher": {"id": "byName", "options": "policy"}, "properties": [{"id": "links", "value": links}]}
    order = {name: place for place, name in enumerate((*reversed(VARIABLES), *names))}
    return {
        **panel,
        "fieldConfig": {
            "defaults": {"color": {"mode": "thresholds"}, "thresholds": NO_THRESHOLD, "custom": {"minWidth": 90}},
            "overrides": [linked, *overrides],
        },
        "options": {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": columns[0][0], "desc": True}]},
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": order},
            },
        ],
    }


def row(title: str) -> Json:
    """Return the heading of a row."""
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def laid_out(rows: list[tuple[int, int, list[Json]]]) -> list[Json]:
    """Place panels line by line; each line is (height, width of each panel, panels), and wraps when it is full."""
    placed: list[Json] = []
    top = 0
    for height, width, panels in rows:
        across = WIDTH // width
        for i, panel in enumerate(panels):
            at = {"x": i % across * width, "y": top + i // across * height, "w": width, "h": height}
            placed.append({"id": len(placed) + 1, "gridPos": at, **panel})
        top += height * -(-len(panels) // across)
    return placed
