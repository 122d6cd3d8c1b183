"""No case without a test, no test id without a test, no promise without a case."""

import ast
from pathlib import Path

from faults import report
from faults.catalogue import CASES, PROMISES

TESTS = Path(__file__).parents[1]


def test_every_case_is_there() -> None:
    assert list(CASES) == [f"T{number}" for number in [*range(1, 44), 52]]
    assert {case for cases in PROMISES.values() for case in cases} == CASES.keys()


def test_every_test_that_a_case_names_exists() -> None:
    missing = [test for _what, tests in CASES.values() for test in tests if not _exists(test)]

    assert missing == []
    assert all(tests for _what, tests in CASES.values())


def test_the_document_has_the_table_that_the_kept_figures_make() -> None:
    assert report.shown() == report.table(report.kept())


def test_the_kept_figures_are_of_a_whole_and_good_run() -> None:
    assert list(report.missing(report.kept())) == []


def test_a_figure_that_somebody_typed_is_found() -> None:
    real = report.kept()
    test = "faults/full_crash.py::test_killed_children_and_workers_lose_nothing_of_ten_thousand[1]"
    typed = {**real, test: {**real[test], "ids": real[test]["ids"] * 100}}

    assert list(report.differences(real)) == []
    assert [line for line in report.differences(typed) if " ids, this run had " in line]


def test_a_run_that_was_not_whole_or_not_good_is_found() -> None:
    real = report.kept()
    test = "faults/full_chaos.py::test_everything_breaks_at_random[22]"

    assert list(report.missing({name: one for name, one in real.items() if "full_chaos" not in name}))
    assert list(report.missing({**real, test: {**real[test], "violations": 1}}))
    assert list(report.missing({**real, test: {**real[test], "passed": False}}))


def _exists(test: str) -> bool:
    module, _, path = test.partition("::")
    name = path.rpartition("::")[2]
    tree = ast.walk(ast.parse((TESTS / module).read_text(encoding="utf-8")))
    names = [one.name for one in tree if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(found.startswith("test_") and name in {found, "*"} for found in names)
