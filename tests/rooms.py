"""The tree of the package, held: how many entries a folder has, and which room may import which.

A room is a folder of ``worker/lapse``, or a module that lies beside them. What is imported lies below what imports it:
the table is written from the ground up, and a room may name only those before it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ENTRIES = 18
FLOORS = 10

GROUND = {"errors", "durations", "log"}
"""Import nothing of lapse."""

MAY = {
    "registry": {"errors", "durations"},
    "moments": {"durations", "registry"},
    "tracking": {"errors", "registry"},
    "providers": {"errors", "log", "registry"},
    "policy": {"errors", "durations", "registry", "providers"},
    "ledger": {"errors", "moments", "registry", "providers", "policy"},
    "guards": {"errors", "durations", "registry", "providers", "policy", "ledger"},
    "audit": {"errors", "registry"},
    "sweep": {"errors", "durations", "registry", "providers", "policy", "ledger", "guards"},
    "metrics": {"errors", "log", "moments", "registry", "providers", "policy", "ledger", "guards"},
    "runtime": {"errors", "log", "registry", "providers", "policy", "ledger", "guards", "audit", "sweep"},
    "app": {"errors", "log", "registry", "providers", "runtime"},
    "sandbox": {"errors", "durations"},
    "cli": {
        "errors", "durations", "log", "moments", "registry", "providers", "policy", "ledger", "guards", "audit",
        "sweep", "metrics", "runtime", "sandbox",
    },
}  # fmt: skip

GIVEN_UP = {
    "crew", "hands", "flow", "means", "heeding", "purse", "wire", "tally", "census", "witness", "onlooker", "memory",
    "terms", "belonging", "shrinkage", "looking", "looks", "seal", "answers", "advice", "wording", "performing",
    "beginning", "examining",
}  # fmt: skip
"""Words that the field has another one for; the stand-in's bytes on the wire are ``sandbox/wire``."""


def offences(package: Path) -> Iterator[tuple[str, int, str]]:
    """Return (path below the package, line, what) of everything that is out of place."""
    for folder in [package, *sorted(path for path in package.rglob("*") if path.is_dir())]:
        if folder.name == "__pycache__":
            continue
        entries = [path for path in folder.iterdir() if _counts(path)]
        if len(entries) > ENTRIES:
            yield _below(package, folder), 1, f"{len(entries)} entries, at most {ENTRIES} in a folder"
    classes: dict[str, str] = {}
    for path in sorted(package.rglob("*.py")):
        name = _below(package, path)
        for class_ in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(class_, ast.ClassDef) and (other := classes.setdefault(class_.name, name)) != name:
                yield name, class_.lineno, f"class {class_.name}: {other} has one of that name"
        if path.stem in GIVEN_UP and name != "sandbox/wire.py":
            yield name, 1, f"{path.stem}: the field has another word for it"
        for line, room in _imported(package, path):
            own = _room(name)
            if room != own and own not in {"", "__init__"} and room not in MAY.get(own, set()):
                yield name, line, f"{own} may not import {room}: see MAY in tests/rooms.py"


def floors() -> int:
    """Return how many floors the table has."""
    height = dict.fromkeys(GROUND, 1)
    for room, below in MAY.items():
        height[room] = 1 + max(height[one] for one in below)
    return max(height.values())


def _imported(package: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Return (line, room) of every import of the package, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lapse":
            inside = (node.module or "").split(".")[1:]
            names = inside[:1] or [alias.name for alias in node.names]
            yield from (
                (node.lineno, name) for name in names if (package / name).is_dir() or (package / f"{name}.py").is_file()
            )
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, one.name.split(".")[1]) for one in node.names if one.name.startswith("lapse."))


def _room(name: str) -> str:
    return name.split("/", maxsplit=1)[0].removesuffix(".py")


def _counts(path: Path) -> bool:
    return path.name not in {"__pycache__", "py.typed"} and (path.is_dir() or path.suffix in {".py", ".lua", ".toml"})


def _below(package: Path, path: Path) -> str:
    return path.relative_to(package).as_posix()
