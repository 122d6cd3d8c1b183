"""Writes what of the chart is made of something else: values.schema.json and README.md, and its copies below files/.

Run it after a change of values.yaml, of valuetypes.py, or of the rules and dashboards: a test compares. ``--helm PATH``
writes the plain manifests of ../kubernetes too.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from valuetypes import OPEN, TYPES

DEPLOY = Path(__file__).resolve().parents[1]
CHART = DEPLOY / "helm" / "lapse"
COPIED = ("prometheus/alerts.yaml", "prometheus/recording_rules.yaml", "grafana/overview.json", "grafana/policy.json")
MANIFESTS = DEPLOY / "kubernetes" / "lapse.yaml"
HEAD = """\
# lapse without Helm: what the chart is with the values of values.yaml. Made by deploy/helm/chartfiles.py --helm PATH.
# Put in your image, and your policy file; make the Secrets lapse-registry (url) and lapse-provider (OPENAI_API_KEY).
# Where one Prometheus sees more than one lapse, put in what alerts call this one: LAPSE_REGISTRY__DEPLOYMENT.
"""
MARK = "<!-- values -->"
LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_]+):(?: (?P<rest>.*))?$")
PLAIN: dict[type, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    str: {"type": "string"},
}


class Value(NamedTuple):
    """One key of values.yaml: where it stands, what is said of it, and its default."""

    path: tuple[str, ...]
    said: str
    default: Any


def values(text: str) -> list[Value]:
    """Return every key of a values file; one that is described as a whole has no parts of its own.

    Raises:
        ValueError: a key has no comment.

    """
    tree = yaml.safe_load(text)
    found: list[Value] = []
    said: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("#"):
            said.append(bare.lstrip("# "))
        elif not bare:
            said = []
        elif matched := LINE.match(line):
            path = [*path[: len(matched["indent"]) // 2], matched["key"]]
            if any(one.path == tuple(path[: len(one.path)]) for one in found):
                continue
            default = _at(tree, path)
            if said:
                found.append(Value(tuple(path), " ".join(said), default))
            elif not isinstance(default, dict):
                raise ValueError(f"values.yaml: {'.'.join(path)} has no comment")
            said = []
    return found


def schema(found: list[Value]) -> dict[str, Any]:
    """Return the JSON Schema: closed, but for global, maps of free names, and Kubernetes' own objects."""
    root: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart lapse",
        **_table(),
    }
    for one in found:
        table = root
        for name in one.path[:-1]:
            table = table["properties"].setdefault(name, _table())
        table["properties"][one.path[-1]] = {"description": one.said, **_type(one)}
    root["required"] = ["image"]
    root["properties"]["image"]["required"] = ["repository"]
    return root


def readme(text: str, found: list[Value]) -> str:
    """Return a README whose last part is the table of values."""
    head = text.split(MARK, maxsplit=1)[0]
    rows = [f"| `{'.'.join(one.path)}` | {one.said} | {_shown(one.default)} |" for one in found]
    return "\n".join([f"{head}{MARK}", "", "| value | what it is | default |", "|---|---|---|", *rows, ""])


def written() -> dict[Path, str]:
    """Return path -> content of every file that this writes."""
    found = values((CHART / "values.yaml").read_text(encoding="utf-8"))
    files = {CHART / "files" / Path(name).name: (DEPLOY / name).read_text(encoding="utf-8") for name in COPIED}
    return {
        CHART / "values.schema.json": json.dumps(schema(found), indent=2) + "\n",
        CHART / "README.md": readme((CHART / "README.md").read_text(encoding="utf-8"), found),
        **files,
    }


def manifests(helm: Path) -> str:
    """Return the plain manifests, without what only Helm wants."""
    values = MANIFESTS.with_name("values.yaml")
    command: list[str | Path] = [helm, "template", "lapse", CHART, "--no-hooks", "--values", values]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = (line.rstrip() for line in text.splitlines())
    kept = [
        line
        for line in lines
        if not re.match(r" *(# Source:|helm\.sh/chart:|namespace: .default.$|app\.\S+/managed-by:)", line)
    ]
    return HEAD + re.sub(r"\n+---\n", "\n---\n", "\n".join(kept).rstrip()) + "\n"


def _table() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _type(one: Value) -> dict[str, Any]:
    name = ".".join(one.path)
    if name in TYPES:
        return TYPES[name]
    if isinstance(one.default, dict):
        return OPEN
    return PLAIN[type(one.default)]


def _at(tree: Any, path: list[str]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _shown(default: Any) -> str:
    if isinstance(default, str) and "\n" in default:
        return "see values.yaml"
    if default in ("", {}, []) and not isinstance(default, bool | int):
        return ""
    return f"`{json.dumps(default) if not isinstance(default, str) else default}`"


def main(arguments: list[str]) -> None:
    """Write all of it."""
    for path, content in written().items():
        _write(path, content)
    if arguments[:1] == ["--helm"]:  # by the schema that stands there now
        _write(MANIFESTS, manifests(Path(arguments[1])))


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    sys.stdout.write(f"wrote {path.relative_to(DEPLOY)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
