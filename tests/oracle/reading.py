r"""How a run's evidence is read: policy files, audit lines, proxy records, the exposition format. Nothing of lapse.

A proxy's record of one request is a JSON object, times in seconds since 1970, the answer's body as text:

    {"provider": "openai", "begun": 1.5, "ended": 1.6, "method": "DELETE", "path": "/v1/threads/thread_1",
     "status": 200, "body": "{\"id\": \"thread_1\", \"deleted\": true}"}

``status`` is 0 and ``ended`` null where no whole answer was passed on.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from oracle.history import Account, Policy, Request

OK, NO_CONTENT = 200, 204
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
COLLECTIONS = {
    "threads": "thread",
    "assistants": "assistant",
    "conversations": "conversation",
    "items": "item",
    "messages": "message",
    "responses": "response",
    "files": "file",
    "vector_stores": "vector_store",
    "containers": "container",
    "completions": "chat_completion",
    "agents": "agent",
    "sessions": "session",
}
"""Path segments whose next one is an id."""

_SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Asked(NamedTuple):
    """What a path names: an object, and if it is a child, of what."""

    kind: str
    id: str
    parent_kind: str = ""
    parent: str = ""


def asked(path: str) -> Asked | None:
    """Return the object that a path ends in, ``.../threads/ID`` or ``.../conversations/ID/items/ID``, or None."""
    parts = [unquote(part) for part in path.split("?", maxsplit=1)[0].split("/") if part]
    if len(parts) < 2 or parts[-2] not in COLLECTIONS:
        return None
    kind, id_ = COLLECTIONS[parts[-2]], parts[-1]
    if len(parts) > 3 and parts[-4] in COLLECTIONS:
        parent = COLLECTIONS[parts[-4]]
        return Asked(f"{parent}_{kind}", id_, parent, parts[-3])
    return Asked(kind, id_)


def request(record: Mapping[str, Any]) -> Request:
    """Return a proxy's record of one request, and whether its answer confirms a deletion."""
    said = {name: record[name] for name in ("provider", "begun", "ended", "method", "path", "status")}
    return Request(**said, confirmed=record["method"] == "DELETE" and _confirms(record))


def _confirms(record: Mapping[str, Any]) -> bool:
    if record["ended"] is None or record["status"] not in {OK, NO_CONTENT}:
        return False
    if record["status"] == NO_CONTENT:  # LangGraph's; OpenAI's and those like it say what they deleted
        return not record["path"].startswith(("/v1/", "/openai/", "/api/"))
    about = asked(record["path"])
    try:
        body = json.loads(record["body"])
    except ValueError:
        return False
    if about is None or not isinstance(body, dict):
        return False
    # A conversation answers for its item with itself.
    return body.get("id") == about.parent if "deleted" not in body else _deleted(body, about)


def _deleted(body: Mapping[str, Any], about: Asked) -> bool:
    return body["deleted"] is True and about.id in {body.get("id"), body.get("name")}


def audit(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the audit records of JSON lines."""
    return [json.loads(line) for line in lines if line.startswith("{")]


def metrics(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return (series name, labels) -> value of an exposition in Prometheus' text format."""
    found = {}
    for line in text.splitlines():
        if series := _SERIES.match(line):
            labels = frozenset((name, value) for name, value in _LABEL.findall(series[2] or ""))
            found[series[1], labels] = float(series[3])
    return found


def seconds(text: str) -> float:
    """Return the seconds of ``"90s"``, ``"1d 12h"`` or ``"60/m"``'s ``m``."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+) ?([a-z]+)", text))


def policies(text: str, since: float = 0.0) -> list[Policy]:
    """Return what a policy file says, one for each kind, in force from ``since``."""
    said = tomllib.loads(text)
    only = next(iter(said.get("providers", {})), "")
    limits = said.get("limits", {})
    return [
        _policy(name, kind, {"provider": only, **limits, **one}, since)
        for name, one in said.get("policies", {}).items()
        for kind in ([one["kind"]] if isinstance(one["kind"], str) else one["kind"])
    ]


def _policy(name: str, kind: str, said: Mapping[str, Any], since: float) -> Policy:
    def span(field: str) -> float | None:
        return seconds(said[field]) if field in said else None

    orphan, pace = said.get("orphan"), said.get("max_deletions", {"amount": 5000, "window": "1h"})
    return Policy(
        said["provider"],
        kind,
        name,
        span("ttl"),
        said.get("anchor"),
        span("max_age"),
        orphan=seconds(orphan["min_age"]) if orphan else None,
        enforce=said.get("mode") == "enforce",
        amount=None if pace == "unlimited" else pace["amount"],
        window=0.0 if pace == "unlimited" else seconds(pace["window"]),
        formerly=tuple(said.get("formerly", ())),
        newly=_newly(said.get("max_newly_due", {})),
        touches=said.get("touches") != "none",
        since=since,
    )


def _newly(said: Any) -> tuple[float, int] | None:
    return None if said == "unlimited" else (said.get("percent", 20), said.get("at_least", 100))


def accounts(text: str) -> Iterator[Account]:
    """Return the request budgets of a policy file: a bucket holds one second's worth, at least one."""
    for name, one in tomllib.loads(text).get("providers", {}).items():
        rate = one.get("rate", "60/m")
        if rate == "unlimited":
            yield Account(name)
        else:
            amount, unit = rate.split("/")
            each = float(amount) / _UNITS[unit]
            yield Account(name, each, max(1, math.ceil(each)))
