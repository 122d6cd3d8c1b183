"""What judged histories came to, in figures: one line of JSON a test, in the file that LAPSE_TEST_RESULTS names."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from oracle.history import History, Violation

COUNTS = ("ids", "deletions", "kills", "faults", "violations")

_counts: Counter[str] = Counter()
_failed: set[str] = set()


def judged(history: History, found: Sequence[Violation | str], *, kills: int = 0, faults: int = 0) -> None:
    """Count a history that the oracle has judged.

    Args:
        history: What happened.
        found: What is wrong with it.
        kills: Processes that were killed.
        faults: Connections that were broken, servers that were stopped. Answers of the provider that were missing or
            no success are counted here besides.

    """
    named = {one.resource for one in history.calls if one.verb == "register" and one.acknowledged is not None}
    bad = sum(one.status == 0 or one.status >= 400 for one in history.requests)
    _counts.update(
        ids=len(named),
        deletions=len({one.path for one in history.requests if one.confirmed}),
        kills=kills,
        faults=faults + bad,
        violations=len(found),
    )


def begun() -> None:
    """Begin to count for a test."""
    _counts.clear()


def reported(report: pytest.TestReport) -> None:
    """Take one phase of a test; at its end, write the line."""
    if report.failed:
        _failed.add(report.nodeid)
    file = os.environ.get("LAPSE_TEST_RESULTS")
    if report.when != "teardown" or not file:
        return
    line = {
        "test": report.nodeid.removeprefix("tests/"),
        "passed": report.nodeid not in _failed,
        **{name: _counts[name] for name in COUNTS},
    }
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
