"""Writes the JSON Schemas beside this file out of models that were generated of the Prometheus Operator's CRDs.

As a program: ``convert.py V1.PY``, where V1.PY is ``cloudcoil/models/prometheus_operator/v1.py`` of the wheel that
README.md names. It is read, and not run: it needs a newer Python and cloudcoil. Unknown properties are refused, which
the API server prunes in silence.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

KINDS = ("PodMonitor", "ServiceMonitor", "PrometheusRule")
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}, "labels": TEXTS, "annotations": TEXTS},
}
PLAIN: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "AwareDatetime": {"type": "string"},
    "ObjectMeta": METADATA,
    "Any": {},
}
BOUNDS = {
    "pattern": "pattern",
    "ge": "minimum",
    "le": "maximum",
    "min_length": "minLength",
    "max_length": "maxLength",
}


class Models:
    """The classes of a module of pydantic models, by name."""

    def __init__(self, text: str) -> None:
        self.classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}

    def schema(self, name: str) -> dict[str, Any]:
        """Return the schema of a class, with all that it refers to in place."""
        node = self.classes[name]
        for base in node.bases:
            if isinstance(base, ast.Subscript) and ast.unparse(base.value) == "RootModel":
                return self.type(base.slice)
        properties: dict[str, Any] = {}
        required: list[str] = []
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and not ast.unparse(field.annotation).startswith("ClassVar"):
                key, schema = self.field(field)
                properties[key] = schema
                if field.value is None:
                    required.append(key)
        made = {"type": "object", "additionalProperties": False, "properties": properties}
        return made | ({"required": required} if required else {})

    def field(self, field: ast.AnnAssign) -> tuple[str, dict[str, Any]]:
        """Return the name and the schema of a field."""
        assert isinstance(field.target, ast.Name)
        key, note, said = field.target.id, field.annotation, {}
        if isinstance(note, ast.Subscript) and ast.unparse(note.value) == "Annotated":
            assert isinstance(note.slice, ast.Tuple)
            note, *given = note.slice.elts
            said = {one.arg: ast.literal_eval(one.value) for call in given for one in call.keywords}  # type: ignore[attr-defined]
        made = self.type(note)
        list_ = made.get("type") == "array"
        bounds = BOUNDS | ({"min_length": "minItems", "max_length": "maxItems"} if list_ else {})
        if said.get("pattern", "").startswith("^(?i)"):  # Go's way to say it
            said["pattern"] = "(?i)^" + said["pattern"].removeprefix("^(?i)")
        return said.pop("alias", key), made | {bounds[name]: value for name, value in said.items()}

    def type(self, note: ast.expr) -> dict[str, Any]:
        """Return the schema of an annotation; that it may be None says only that it may be left out."""
        match note:
            case ast.BinOp():
                options = [one for one in _options(note) if ast.unparse(one) != "None"]
                made = [self.type(one) for one in options]
                return made[0] if len(made) == 1 else {"anyOf": made}
            case ast.Name(id=name):
                return dict(PLAIN[name]) if name in PLAIN else self.schema(name)
            case ast.Subscript(value=ast.Name(id="list"), slice=inner):
                return {"type": "array", "items": self.type(inner)}
            case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, inner])):
                return {"type": "object", "additionalProperties": self.type(inner)}
            case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
                values = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return {"enum": [ast.literal_eval(one) for one in values]}
        raise ValueError(f"line {note.lineno}: {ast.unparse(note)} is nothing that this knows")


def _options(note: ast.expr) -> list[ast.expr]:
    return [*_options(note.left), *_options(note.right)] if isinstance(note, ast.BinOp) else [note]


def main() -> None:
    """Write one file a kind."""
    models = Models(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for kind in KINDS:
        made = models.schema(kind)
        made["properties"] |= {"apiVersion": {"const": "monitoring.coreos.com/v1"}, "kind": {"const": kind}}
        made["required"] = ["apiVersion", "kind", "metadata", "spec"]
        path = Path(__file__).with_name(f"{kind}.json")
        path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        sys.stdout.write(f"wrote {path.name}\n")


if __name__ == "__main__":
    main()
