"""Writes the dashboards beside this file. Run it after a change here or beside it: a test compares.

overview.json answers whether what is due is gone, and if not, why; policy.json asks the same of one policy.
"""

import json
import sys
from pathlib import Path

from boards import dashboard
from erasures import ERASURES
from panels import laid_out, row
from promise import ANSWERS, BY_POLICY, DELETIONS, DUE, FORECAST, LAG, OF_ONE, OVERDUE, STATE
from surroundings import PROVIDER, REGISTRY, SURROUNDINGS, SWEEPS

OVERVIEW = dashboard(
    "lapse-overview",
    "lapse: overview",
    "What applications left behind at AI providers, and whether it is gone when its policy says so.",
    ("One policy", "/d/lapse-policy"),
    laid_out(
        [
            (1, 24, [row("Is what is due gone?")]),
            (4, 3, ANSWERS),
            (9, 24, [BY_POLICY]),
            (8, 12, [OVERDUE, LAG, DELETIONS, DUE, STATE, FORECAST]),
            (1, 24, [row("Requests to erase a subject")]),
            (6, 6, ERASURES),
            (1, 24, [row("Providers")]),
            (8, 8, PROVIDER),
            (1, 24, [row("Registry")]),
            (4, 4, SURROUNDINGS),
            (8, 8, REGISTRY),
            (1, 24, [row("Sweeps")]),
            (8, 8, SWEEPS),
        ]
    ),
    "now-24h",
)
POLICY_BOARD = dashboard(
    "lapse-policy",
    "lapse: policy",
    "One policy: what it covers, what it does, and whether what is due is gone.",
    ("Overview", "/d/lapse-overview"),
    laid_out(
        [
            (4, 3, ANSWERS),
            (5, 24, [STATE]),
            (8, 12, [OVERDUE, LAG, DELETIONS, DUE, *SWEEPS, *OF_ONE]),
            (8, 12, [REGISTRY[0], REGISTRY[4]]),
        ]
    ),
    "now-7d",
)


def written() -> dict[str, str]:
    """Return file name -> content of every dashboard."""
    boards = {"overview.json": OVERVIEW, "policy.json": POLICY_BOARD}
    return {name: json.dumps(board, indent=2) + "\n" for name, board in boards.items()}


if __name__ == "__main__":
    for file, content in written().items():
        (Path(__file__).parent / file).write_text(content, encoding="utf-8")
        sys.stdout.write(f"wrote {file}\n")
