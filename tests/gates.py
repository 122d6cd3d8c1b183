"""The limits that no linter knows, run by ``make lint``: sizes, names, versions, reasons, and what must not leak.

Prints each offence as ``file:line: what, and the limit``, and exits 1 if there is one.
"""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import rooms

MODULE_LINES = 400
TEST_MODULE_LINES = 600  # a test module is a list of cases: it is read by name, not from top to bottom
FUNCTION_LINES = 40
NESTING = 3
POSITIONAL = 6
RAN_ON = {"3.11", "3.13", "3.14"}
"""Python versions that the whole suite passed on; a classifier may name no other."""

SKIPPED = re.compile(r"\.(?!ci$|gitignore$|github$).*|__pycache__|dist|build|node_modules|bench-results\.json")
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
SOURCE_ROOTS = ("worker", "config", "deploy")
HIDDEN_TESTS = {"skip", "skipif", "skipIf", "skipTest", "skipUnless", "xfail", "importorskip"}

PATTERNS = {"tests/gates.py", "tests/packaging/test_gates.py"}
"""Where what must not leak is written down."""

_MACHINES = re.compile(r"(?:/home|/Users|/root)/[\w.-]+|\b[A-Za-z]:\\+Users\\")
_INDEXES = re.compile(
    r"(?i)\b(?:extra-|default-)?index[-_]url\b|trusted[-_]host|find[-_]links|https?://[^\s/]+/(?:[^\s/]+/)*simple\b"
    r"|files\.pythonhosted\.org|registry\.npmjs"
)
_COMMENT_CODES = re.compile(
    r"#\s*(?:ruff:\s*|flake8:\s*)?(noqa)\b(:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?( - \S.*)?", re.IGNORECASE
)
_NO_COVER = re.compile(r"#\s*pragma:\s*no\s*(?:cover|branch)")
_IGNORED_RULE = re.compile(r'^\s*"[A-Z]+\d*",')
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, order=True)
class Offence:
    """Where a limit is passed, and which."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def files(root: Path) -> Iterator[Path]:
    """Return every file of the project, and nothing that tools make."""
    for path in sorted(root.iterdir()):
        if SKIPPED.fullmatch(path.name):
            continue
        if path.is_dir():
            yield from files(path)
        elif path.is_file():
            yield path


def check(root: Path) -> list[Offence]:
    """Return every offence in the project below ``root``."""
    found = list(_versions(root))
    package = root / "worker" / "lapse"
    found += [Offence(f"worker/lapse/{name}", line, what) for name, line, what in rooms.offences(package)]
    for path in files(root):
        name = path.relative_to(root).as_posix()
        found += [Offence(name, line, what) for line, what in _named(name)]
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [Offence(name, line, what) for line, what in _text(root, name, text)]
        if path.suffix == ".py":
            found += [Offence(name, line, what) for line, what in _python(name, text)]
    return sorted(found)


def _named(name: str) -> Iterator[tuple[int, str]]:
    path = Path(name)
    if path.suffix == ".py" and (NAMELESS & {path.stem, *path.parent.parts}):
        yield 1, "a name that says nothing of what is in it: call it after what it does"
    if path.name == "__init__.py" and path.parts[0] in SOURCE_ROOTS and path.parts[:2] != ("worker", "lapse"):
        yield 1, f"{path.parts[0]}/ is no package: delete __init__.py"


def _text(root: Path, name: str, text: str) -> Iterator[tuple[int, str]]:
    here = str(root) if len(root.parts) > 2 else None
    for number, line in enumerate(text.splitlines(), 1):
        if name not in PATTERNS:
            if _MACHINES.search(line) or (here and re.search(rf"{re.escape(here)}(?![\w.-])", line)):
                yield number, "a path of somebody's machine"
            if _INDEXES.search(line):
                yield number, "where packages come from is the environment's affair"
        if name == "pyproject.toml" and _IGNORED_RULE.match(line) and "#" not in line and _in_ruff(text, number):
            yield number, "an ignored rule without its reason"


def _in_ruff(text: str, number: int) -> bool:
    tables = [line for line in text.splitlines()[:number] if line.startswith("[")]
    return bool(tables) and tables[-1].startswith("[tool.ruff")


def _versions(root: Path) -> Iterator[Offence]:
    pyproject = root / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    said = _line_of(pyproject, "version =")
    changes = root / "CHANGELOG.md"
    released = re.search(r"^## \[?(\d[^\]\s]*)", changes.read_text(encoding="utf-8"), re.MULTILINE)
    if not released or released[1] != project["version"]:
        top = released[1] if released else "nothing"
        yield Offence("pyproject.toml", said, f"version {project['version']}, and CHANGELOG.md begins with {top}")
    for classifier in project["classifiers"]:
        version = re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier)
        if version and version[1] not in RAN_ON:
            line = _line_of(pyproject, classifier)
            yield Offence("pyproject.toml", line, f"Python {version[1]}: the suite did not run on it")


def _line_of(path: Path, part: str) -> int:
    return next(n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if part in line)


def _python(name: str, text: str) -> Iterator[tuple[int, str]]:
    lines = len(text.splitlines())
    test = name.startswith("tests/")
    limit = TEST_MODULE_LINES if test else MODULE_LINES
    if lines > limit:
        yield limit + 1, f"{lines} lines, at most {limit} in a module"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], what) for what in _comment(token.string))
    tree = ast.parse(text, name)
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            yield from _function(node)
        elif test:
            yield from _hidden(node)


def _comment(line: str) -> Iterator[str]:
    code = _COMMENT_CODES.search(line)
    if code and not (code[2] and code[3]):
        yield "a silenced rule without its code and reason: # noqa: CODE - why"
    if _NO_COVER.search(line):
        yield "code that no test reaches is tested or deleted"


def _function(node: _Function) -> Iterator[tuple[int, str]]:
    length = lines_of(node)
    if length > FUNCTION_LINES:
        yield node.lineno, f"{node.name}: {length} lines without its docstring, at most {FUNCTION_LINES}"
    depth = depth_of(node)
    if depth > NESTING:
        yield node.lineno, f"{node.name}: blocks nested {depth} deep, at most {NESTING}"
    positional = [one for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in {"self", "cls"}]
    if len(positional) > POSITIONAL:
        yield node.lineno, f"{node.name}: {len(positional)} positional parameters, at most {POSITIONAL}"


def lines_of(node: _Function) -> int:
    """Return the lines of a function from ``def`` to its end, its docstring left out."""
    first = node.body[0]
    said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if said else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


def depth_of(node: ast.AST) -> int:
    """Return how deep blocks are nested in a function; ``elif`` stands beside its ``if``, a function begins anew."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function | ast.ClassDef | ast.Lambda):
            continue
        elif_ = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, depth_of(child) + (isinstance(child, _BLOCKS) and not elif_))
    return deepest


def _hidden(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Attribute) and node.attr in HIDDEN_TESTS:
        yield node.lineno, f"{node.attr}: a test runs, or is deleted; what needs other tools has its own target"
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if any(module.split(".")[-1] == "mock" for module in modules):
            yield node.lineno, "a mock: real sockets and a real Redis are at hand"


def main() -> int:
    """Say every offence; return the exit code."""
    found = check(Path(__file__).resolve().parents[1])
    sys.stdout.writelines(f"{offence}\n" for offence in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
