"""Write what the reference has from elsewhere: every table of the policy file, and what ``--json`` prints.

``make reference`` writes them where they stand; ``python docs/reference/write.py FOLDER`` writes them below a folder.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lapse.policy.schema import schema

REFERENCE = Path(__file__).parent
SCHEMA = REFERENCE / "json.schema.json"
LINES = "x-lines"

POLICY_FILE = """\
# The policy file

Every table and key, as `lapse schema` has them: `lapse schema > retention.schema.json` gives the same to an editor.
Each can be overridden by the environment: `LAPSE_POLICIES__CHAT__MODE=enforce`, two underscores for each table.
"""
JSON = """\
# What `--json` prints

Each command that prints has `--json`, and prints on stdout what stands here. Messages stay on stderr, and so does an
error. What says *a line* is one JSON object a line. On a terminal a document is indented.
[json.schema.json](json.schema.json) says the same as a JSON Schema, a property for each command: a member that it does
not name is none that this version prints. A later version may add members.

Beside these, `schema` prints the policy file's JSON Schema, `export` and `audit export` print JSON lines, and
`receipt issue` a receipt, without being asked.
"""


def pages() -> dict[str, str]:
    """Return every page that is written here, by its path below ``docs/``."""
    return {
        "reference/policy-file.md": "\n".join([POLICY_FILE, *_tables(schema())]),
        "reference/json.md": "\n".join([JSON, *_commands(json.loads(SCHEMA.read_text(encoding="utf-8")))]),
    }


def _tables(whole: dict[str, Any]) -> Iterator[str]:
    for name, one in whole["properties"].items():
        several = [*one.get("patternProperties", {}).values()]
        table = whole["definitions"][(several[0] if several else one)["$ref"].rpartition("/")[2]]
        yield f"## `[{name}{'.NAME' if several else ''}]`\n\n{table['description']}\n"
        for key, said in table["properties"].items():
            yield f"`{key}`\n: {' '.join(said.get('description', 'See below.').split())}{_default(said)}\n"


def _default(said: dict[str, Any]) -> str:
    return f" Default: `{_toml(said['default'])}`." if said.get("default") not in (None, [], {}) else ""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_toml(one)}' for name, one in value.items())} }}"
    return json.dumps(value)


def _commands(whole: dict[str, Any]) -> Iterator[str]:
    for command, one in whole["properties"].items():
        yield f"## `{command}`\n\n{one['description']}\n"
        yield "\n".join(_document(one, whole["$defs"])) + "\n"


def _document(said: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a command prints: the members of its object, or of each of the shapes that it may have."""
    for number, one in enumerate(_shapes(said, defs)):
        if number:
            yield f"\nor{_about(one)}:\n"
        yield from _members(one, defs, "")


def _about(one: Mapping[str, Any]) -> str:
    text = one.get("description", "").rstrip(".")
    return f", {text[:1].lower()}{text[1:]}" if text else ""


def _shapes(said: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the shapes of a document, without their references and choices."""
    one = _resolved(said, defs)
    for choice in (*one.get("anyOf", ()), *one.get("oneOf", ()), *one.get("allOf", ())):
        yield from _shapes(choice, defs)
    if "type" in one:
        yield one


def _resolved(said: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" not in said:
        return dict(said)
    named = _resolved(defs[said["$ref"].rpartition("/")[2]], defs)
    return named | {name: value for name, value in said.items() if name != "$ref"}


def _members(one: Mapping[str, Any], defs: Mapping[str, Any], margin: str) -> Iterator[str]:
    if one["type"] == "array":
        yield from _inner(one["items"], defs, margin)
        return
    for name, said in one.get("properties", {}).items():
        optional = "" if name in one.get("required", ()) else ", may be left out"
        yield f"{margin}- `{name}`: {_kind(said, defs)}{optional}{_description(said, defs)}"
        yield from _inner(said, defs, f"{margin}  ")
    more = one.get("additionalProperties")
    if isinstance(more, Mapping):
        yield f"{margin}- *a name*: {_kind(more, defs)}{_description(more, defs)}"
        yield from _inner(more, defs, f"{margin}  ")


def _inner(said: Mapping[str, Any], defs: Mapping[str, Any], margin: str) -> Iterator[str]:
    for one in _shapes(said, defs):
        if one["type"] == "array":
            yield from _inner(one["items"], defs, margin)
        elif one["type"] == "object":
            yield from _members(one, defs, margin)


def _kind(said: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    one = _resolved(said, defs)
    choices = [*one.get("anyOf", ()), *one.get("oneOf", ())]
    if choices:
        return " or ".join(dict.fromkeys(_kind(choice, defs) for choice in choices))
    if "allOf" in one:
        return _kind(one["allOf"][0], defs)
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if "const" in one:
        return f"`{one['const']}`"
    types = [one["type"]] if isinstance(one["type"], str) else one["type"]
    if types == ["array"]:
        return f"list of {_kind(one['items'], defs)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return " or ".join(words.get(name, name) for name in types)


def _description(said: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    text = _resolved(said, defs).get("description", "")
    return f". {text}" if text else ""


def main(folder: str = "") -> None:
    """Write every page below a folder, or where it stands."""
    for name, text in pages().items():
        path = Path(folder or REFERENCE.parent) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
