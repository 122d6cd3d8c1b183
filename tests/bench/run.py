"""``make bench``: speed and memory as ratios taken in one run. Exits 0 whether or not a target is met."""

import argparse
import json
import sys
from pathlib import Path

from bench import (
    deletions,
    hosts,
    idle,
    imports,
    orphans,
    plans,
    probes,
    registrations,
    scrapes,
    spooling,
    subjects,
    tracking,
    unbound,
)
from bench.figures import Figure, shown

RESULTS = Path(__file__).parents[2] / "bench-results.json"
PARTS = {
    "registrations": registrations.measure,
    "deletions": deletions.measure,
    "scrapes": scrapes.measure,
    "orphans": orphans.measure,
    "tracking": tracking.measure,
    "imports": imports.measure,
    "plans": plans.measure,
    "spooling": spooling.measure,
    "subjects": subjects.measure,
    "idle": idle.measure,
    "probes": probes.measure,
    "hosts": hosts.measure,
    "unbound": unbound.measure,
}


def main() -> None:
    """Measure, print a table, and write the same to bench-results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement, at least 1")
    parser.add_argument("--only", choices=PARTS, help="one part")
    chosen = parser.parse_args()
    figures: list[Figure] = []
    for name, measure in PARTS.items():
        if chosen.only in {None, name}:
            sys.stderr.write(f"measuring {name}\n")
            figures += measure(chosen.rounds)
    width = max(len(figure.name) for figure in figures)
    sys.stdout.write(f"{'figure':{width}}  {'median':>9}  {'min - max':>19}  target    met\n")
    for figure in figures:
        spread = f"{shown(min(figure.rounds))} - {shown(max(figure.rounds))}"
        target = f"{figure.target[0]} {figure.target[1]:g}" if figure.target else ""
        met = {True: "yes", False: "NO", None: ""}[figure.ok]
        sys.stdout.write(f"{figure.name:{width}}  {shown(figure.value):>9}  {spread:>19}  {target:8}  {met}\n")
    results = [figure.as_json() for figure in figures]
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
