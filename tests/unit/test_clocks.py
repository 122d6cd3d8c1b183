"""Which code may read this machine's wall clock: none that decides a deletion. Redis TIME does, on every host alike."""

import ast
from pathlib import Path

import lapse

PACKAGE = Path(lapse.__file__).parent
NO_DECISION = {
    "registry/codec.py": "refuses times that an application gives in milliseconds",
    "policy/reload.py": "whether a policy file has been left alone long enough to be whole; a clock ahead says nothing",
    "policy/loader.py": "which sunsets are over: a request more or less, never a deletion",
    "providers/provider.py": "as policy/loading.py",
    "guards/integrity/clocks.py": "whether Redis TIME is far from every other clock: it halts, and makes nothing due",
    "registry/pools/credentials/renewing.py": "when a token ends, and so a connection is replaced",
    "metrics/server.py": "a stamp on a page",
    "runtime/beat.py": "whether beat's clock was set back: it sends more messages, and decides nothing",
}
"""Modules of the worker half, and what they ask it for. The command line, the demo and the stand-in are apart."""
APART = {"cli", "demo", "sandbox", "doctor"}


def wall_clock(path: Path) -> list[int]:
    """Return the lines that read it."""
    read = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}:
                read.append(node.lineno)
    return read


def test_nothing_that_decides_a_deletion_reads_the_wall_clock() -> None:
    """A worker whose clock is a day or ten years off deletes what every other worker would."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in APART and name.as_posix() not in NO_DECISION and (lines := wall_clock(path)):
            found[name.as_posix()] = lines

    assert {} == found
