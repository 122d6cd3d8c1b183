"""The table of promises in docs/promises.md, made of what the tests counted; nobody types a figure of it.

``python -m faults.report tests`` names the tests of the catalogue, for pytest; with ``LAPSE_TEST_RESULTS=FILE`` they
write down what they came to, and those that run later, or again, add to it. ``write FILE`` keeps these figures in
results.json and the table; ``compare FILE`` says where a run differs from the table.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from faults.catalogue import CASES, PROMISES
from support.counted import COUNTS

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "promises.md"
KEPT = Path(__file__).with_name("results.json")
BEGIN, END = "<!-- promises: made by `make promises` -->\n", "<!-- end of promises -->\n"
ALIKE = 3
"""How much more, or less, a run may have counted than the table says: what is in flight at a fault is chance."""

Results = Mapping[str, Mapping[str, Any]]


def read(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what each test came to, the last time it ran."""
    return {line.pop("test"): line for line in map(json.loads, lines)}


def of(case: str, results: Results) -> dict[str, Mapping[str, Any]]:
    """Return the results of the tests that a case names."""
    named = set(CASES[case][1])
    return {
        test: result
        for test, result in results.items()
        if test.partition("[")[0] in named or f"{test.partition('::')[0]}::*" in named
    }


def missing(results: Results) -> Iterator[str]:
    """Yield what keeps a run from being a whole and good one."""
    for case, (_what, tests) in CASES.items():
        ran = of(case, results)
        for test in tests:
            module, _, name = test.partition("::")
            if not any(one.partition("[")[0] == test or (name == "*" and one.startswith(module)) for one in ran):
                yield f"{case}: {test} did not run"
        yield from (f"{case}: {test} failed" for test, result in ran.items() if not result["passed"])
        yield from (f"{case}: {test} had violations" for test, result in ran.items() if result["violations"])


def rows(results: Results) -> dict[str, Counter[str]]:
    """Return the figures of each promise."""
    made = {}
    for promise, cases in PROMISES.items():
        tests = {test: result for case in cases for test, result in of(case, results).items()}
        made[promise] = Counter(tests=len(tests))
        for result in tests.values():
            made[promise].update({name: result[name] for name in COUNTS})
    return made


def table(results: Results) -> str:
    """Return the table as Markdown."""
    lines = [f"| promise | shown by | tests | {' | '.join(COUNTS)} |", f"|---|---|{'---:|' * (len(COUNTS) + 1)}"]
    for promise, figures in rows(results).items():
        shown = " | ".join(f"{figures[name]:,}" for name in ("tests", *COUNTS))
        lines.append(f"| {promise} | {', '.join(_links(promise))} | {shown} |")
    return "\n".join(lines) + "\n"


def _links(promise: str) -> list[str]:
    modules = sorted({test.partition("::")[0] for case in PROMISES[promise] for test in CASES[case][1]})
    return [f"[{module.removesuffix('.py')}](../tests/{module})" for module in modules]


def shown() -> str:
    """Return the table as the document has it."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def kept() -> dict[str, dict[str, Any]]:
    """Return the figures that the table was made of."""
    return {
        test: dict(zip(("passed", *COUNTS), row, strict=True)) for test, row in json.loads(KEPT.read_text()).items()
    }


def write(results: Results) -> None:
    """Keep the figures of a whole run, and put them into the document."""
    named = {test: result for case in CASES for test, result in of(case, results).items()}
    lines = [
        f"{json.dumps(test)}: {json.dumps([one[name] for name in ('passed', *COUNTS)])}"
        for test, one in sorted(named.items())
    ]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + table(named) + END + rest.partition(END)[2], encoding="utf-8")


def differences(results: Results) -> Iterator[str]:
    """Yield where a run is not what the document says."""
    if shown() != table(kept()):
        yield "docs/promises.md: the table is not what tests/faults/results.json makes of it"
    said, came = rows(kept()), rows(results)
    for promise in PROMISES:
        for name in ("tests", *COUNTS):
            one, other = said[promise][name], came[promise][name]
            exact = name in {"tests", "violations"}
            if one != other if exact else max(one, other) > ALIKE * min(one, other):
                yield f"{promise}: docs/promises.md says {one:,} {name}, this run had {other:,}"


def main(arguments: list[str]) -> int:
    """Run one of the three commands; 0 if all is well."""
    if arguments == ["tests"]:
        named = {test.removesuffix("::*") for _what, tests in CASES.values() for test in tests}
        sys.stdout.write("\n".join(f"tests/{test}" for test in sorted(named)) + "\n")
        return 0
    command, file = arguments
    results = read(Path(file).read_text(encoding="utf-8").splitlines())
    wrong = list(missing(results))
    if command == "write" and not wrong:
        write(results)
    elif command == "compare":
        wrong += differences(results)
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
