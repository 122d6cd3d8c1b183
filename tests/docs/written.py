"""What lapse writes down, as its source has it: log events with levels and fields, and the events of audit records."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "worker" / "lapse"
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
APART = "apart"
"""Logs an event for its caller, as an error."""
AT = ("provider", "kind", "policy")

_RECORDERS = {"record", "audit", "_tell"}
"""Methods that write a record of the event they are given second, or first."""
_LUA = re.compile(r"\b(?:audit|act|audit_line|line)\(\s*(?:'(\w+)'|(\w+)),")
_LUA_NAMES = re.compile(r"local event(?:_of)? = \(?\{([^}]*)\}")


@dataclass(slots=True)
class Event:
    """What the source says of one log event; ``open``: some of its fields are named elsewhere."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    open: bool = False


def log_events() -> dict[str, Event]:
    """Return every event that is logged by structlog.

    Raises:
        AssertionError: a call does not say its event as it stands: no list of events could have it.

    """
    found: defaultdict[str, Event] = defaultdict(Event)
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loggers = set(_loggers(tree))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            level = _level(node, loggers)
            if level is None or _in_apart(tree, node):
                continue
            name = node.args[0]
            assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: an event is said as it stands"
            _add(found[str(name.value)], node, level)
    return dict(found)


def audit_events() -> set[str]:
    """Return the event of every audit record that is written, by a script or by Python."""
    found: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.lua")):
        text = "\n".join(line.partition("--")[0] for line in path.read_text(encoding="utf-8").splitlines())
        for said, name in _LUA.findall(re.sub(r"local function \w+\([^)]*\)", "", text)):
            found |= {said} if said else set()
            found |= _named_in_lua(text) if name in {"did", "event"} else set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _called(node) in _RECORDERS:
                found |= set(_first_texts(node))
    return found


def _loggers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "structlog.get_logger" in ast.unparse(node.value):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _level(node: ast.Call, loggers: set[str]) -> str | None:
    made = node.func
    if isinstance(made, ast.Name) and made.id == APART:
        return "error"
    if not isinstance(made, ast.Attribute) or made.attr not in LEVELS:
        return None
    source = ast.unparse(made.value)
    return LEVELS[made.attr] if source in loggers or source.startswith("structlog.get_logger") else None


def _in_apart(tree: ast.AST, node: ast.Call) -> bool:
    functions = (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name == APART)
    return any(node is inner for one in functions for inner in ast.walk(one))


def _add(event: Event, node: ast.Call, level: str) -> None:
    event.levels.add(level)
    if isinstance(node.func, ast.Name):
        event.fields.add("error")
    for keyword in node.keywords:
        if keyword.arg == "exc_info":
            continue
        if keyword.arg:
            event.fields.add(keyword.arg)
        elif ast.unparse(keyword.value).startswith("named("):
            event.fields.update(AT)
        else:
            event.open = True


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _first_texts(node: ast.Call) -> Iterator[str]:
    for argument in node.args[:3]:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value
            return


def _named_in_lua(text: str) -> set[str]:
    return {said for table in _LUA_NAMES.findall(text) for said in re.findall(r"'(\w+)'", table)}
