"""What both dashboards have: variables, annotations, links."""

from panels import SOURCE, Json, link
from queries import CONFIG_IN_USE, VARIABLES, gauge

RUNBOOKS = "https://example.org/lapse/deploy/runbooks"


def variable(name: str, others: tuple[str, ...]) -> Json:
    """Return a variable that offers the values of one label, as far as the variables before it choose."""
    chosen = ", ".join(f'{other}=~"${other}"' for other in others)
    query = (
        f"label_values(lapse_registered{{{chosen}}}, {name})" if others else f"label_values(lapse_registered, {name})"
    )
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


def annotation(name: str, expression: str, colour: str, title: str, text: str) -> Json:
    """Return marks on every graph for as long as the query gives something."""
    return {
        "name": name,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "datasource": SOURCE,
        "target": {"refId": "Anno", "expr": expression, "interval": "60s"},
        "titleFormat": title,
        "textFormat": text,
    }


ANNOTATIONS = [
    annotation(
        "Halts",
        gauge("lapse_halted"),
        "red",
        "halted: {{reason}}",
        "{{policy}} {{kind}} {{provider}} {{deployment}}: lapse status",
    ),
    annotation(
        "Config reloads",
        f"{gauge('lapse_config_info')} unless {gauge('lapse_config_info')[:-1]} offset 2m)",
        "blue",
        "policy file in use",
        "{{hash}} {{deployment}}",
    ),
    annotation(
        "Config refused",
        f"1 + ({CONFIG_IN_USE} == 0)",
        "orange",
        "policy file refused",
        "{{deployment}}: the last valid one is in use: lapse check-config",
    ),
]


def dashboard(uid: str, title: str, says: str, other: tuple[str, str], panels: list[Json], since: str) -> Json:
    """Return a dashboard with the variables and annotations that both have."""
    return {
        "uid": uid,
        "title": title,
        "description": says,
        "tags": ["lapse"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "timezone": "browser",
        "links": [
            link(other[0], other[1], here=True),
            link("Runbooks", "$runbooks", "What each alert means; the variable runbooks says where they are"),
        ],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {"text": "default", "value": "default"},
                },
                *(variable(name, VARIABLES[:i]) for i, name in enumerate(VARIABLES)),
                {"name": "runbooks", "type": "constant", "query": RUNBOOKS, "hide": 2},
            ]
        },
        "annotations": {"list": ANNOTATIONS},
        "panels": panels,
    }
