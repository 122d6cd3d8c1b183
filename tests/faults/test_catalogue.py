"""No case without a test, no test id without a test, no promise without a case."""

import ast
from pathlib import Path

from faults.catalogue import CASES, PROMISES

TESTS = Path(__file__).parents[1]


def test_every_case_is_there() -> None:
    assert list(CASES) == [f"T{number}" for number in [*range(1, 43), 52]]
    assert {case for cases in PROMISES.values() for case in cases} <= CASES.keys()


def test_every_test_that_a_case_names_exists() -> None:
    missing = [test for _what, tests in CASES.values() for test in tests if not _exists(test)]

    assert missing == []
    assert all(tests for _what, tests in CASES.values())


def _exists(test: str) -> bool:
    module, _, name = test.partition("::")
    tree = ast.walk(ast.parse((TESTS / module).read_text(encoding="utf-8")))
    names = [one.name for one in tree if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(found.startswith("test_") and name in {found, "*"} for found in names)
