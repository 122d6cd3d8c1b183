"""Each gate of ``make lint`` meets a tree that offends it once."""

from pathlib import Path
from textwrap import dedent

import pytest

import gates
import rooms

PYPROJECT = """\
[project]
name = "x"
version = "1.2.0"
classifiers = ["Programming Language :: Python :: 3", "Programming Language :: Python :: 3.11"]

[tool.ruff.lint]
ignore = [
    "D203", # a reason
]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a project without an offence."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.0] - 2026-01-01\n\n## [1.1.0] - 2025-01-01\n")
    write(tmp_path, "worker/lapse/__init__.py", "")
    write(tmp_path, "worker/lapse/due.py", "def due() -> int:\n    return 1\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def found(root: Path) -> list[str]:
    return [str(offence) for offence in gates.check(root)]


def test_a_clean_tree_has_no_offence(tree: Path) -> None:
    write(tree, ".venv/lib/utils.py", "# noqa")
    write(tree, "worker/lapse/__pycache__/due.py", "# noqa")

    assert [] == found(tree)


SILENCED = "worker/lapse/a.py:1: a silenced rule without its code and reason: # noqa: CODE - why"
MACHINE = "README.md:2: a path of somebody's machine"
ORIGIN = "README.md:2: where packages come from is the environment's affair"
HIDDEN = "a test runs, or is deleted; what needs other tools has its own target"
NAMELESS = "a name that says nothing of what is in it: call it after what it does"
OFFENCES = {
    "utils": ("worker/lapse/utils.py", "", f"worker/lapse/utils.py:1: {NAMELESS}"),
    "helpers": ("tests/helpers/due.py", "", f"tests/helpers/due.py:1: {NAMELESS}"),
    "package": (
        "deploy/grafana/__init__.py",
        "",
        "deploy/grafana/__init__.py:1: deploy/ is no package: delete __init__.py",
    ),
    "root": ("worker/__init__.py", "", "worker/__init__.py:1: worker/ is no package: delete __init__.py"),
    "bare": ("worker/lapse/a.py", "import os  # noqa\n", SILENCED),
    "code": ("worker/lapse/a.py", "import os  # noqa: F401\n", SILENCED),
    "why": ("worker/lapse/a.py", "import os  # noqa - for later\n", SILENCED),
    "home": ("README.md", "a\ncd /home/ann/lapse\n", MACHINE),
    "mac": ("README.md", "a\ncd /Users/ann/lapse\n", MACHINE),
    "windows": ("README.md", "a\ncd C:\\Users\\ann\n", MACHINE),
    "index": ("README.md", "a\npip install --index-url https://packages.example/\n", ORIGIN),
    "mirror": ("README.md", "a\nhttps://packages.example/pypi/simple/lapse\n", ORIGIN),
    "skip": ("tests/a.py", "import pytest\n\npytest.skip()\n", f"tests/a.py:3: skip: {HIDDEN}"),
    "xfail": ("tests/a.py", "import pytest\n\nx = pytest.mark.xfail\n", f"tests/a.py:3: xfail: {HIDDEN}"),
    "mock": (
        "tests/a.py",
        "from unittest import mock\n",
        "tests/a.py:1: a mock: real sockets and a real Redis are at hand",
    ),
    "uncovered": (
        "worker/lapse/a.py",
        "x = 1  # pragma: no cover\n",
        "worker/lapse/a.py:1: code that no test reaches is tested or deleted",
    ),
    "positional": (
        "worker/lapse/a.py",
        "def many(a, b, c, d, e, f, g, *, h, i): ...\n",
        "worker/lapse/a.py:1: many: 7 positional parameters, at most 6",
    ),
}


@pytest.mark.parametrize("case", OFFENCES)
def test_an_offence_is_told_with_its_place(tree: Path, case: str) -> None:
    name, text, said = OFFENCES[case]
    write(tree, name, text)

    assert [said] == found(tree)


def test_this_checkout_is_a_path_of_somebodys_machine(tree: Path) -> None:
    write(tree, "README.md", f"a\n{tree}/worker\n")

    assert [MACHINE] == found(tree)


def test_long_modules(tree: Path) -> None:
    write(tree, "worker/lapse/a.py", "x = 1\n" * 400)
    write(tree, "worker/lapse/b.py", "x = 1\n" * 401)
    write(tree, "tests/a.py", "x = 1\n" * 600)
    write(tree, "tests/b.py", "x = 1\n" * 601)

    assert [
        "tests/b.py:601: 601 lines, at most 600 in a module",
        "worker/lapse/b.py:401: 401 lines, at most 400 in a module",
    ] == found(tree)


def test_long_functions(tree: Path) -> None:
    """A docstring is not counted, whatever its length."""
    long = '    """Say.\n\n    More.\n    """\n'
    write(tree, "worker/lapse/a.py", "def fits():\n" + long + "    x = 1\n" * 39)
    write(tree, "worker/lapse/b.py", "async def longer():\n" + long + "    x = 1\n" * 40)

    assert ["worker/lapse/b.py:1: longer: 41 lines without its docstring, at most 40"] == found(tree)


def test_deep_functions(tree: Path) -> None:
    """An elif is no deeper than its if, and a function in a function begins anew."""
    text = """\
        def fits(a):
            if a == 1:
                pass
            elif a == 2:
                pass
            elif a == 3:
                for b in a:
                    with b:
                        def inner():
                            if a:
                                return 1
                        return inner

        async def deep(a):
            async with a:
                try:
                    pass
                finally:
                    match a:
                        case 1:
                            while a:
                                pass
    """
    write(tree, "worker/lapse/a.py", text)

    assert ["worker/lapse/a.py:14: deep: blocks nested 4 deep, at most 3"] == found(tree)


def test_the_version_is_the_newest_change(tree: Path) -> None:
    write(tree, "CHANGELOG.md", "## [1.3.0] - Unreleased\n\n## [1.2.0] - 2026-01-01\n")

    assert ["pyproject.toml:3: version 1.2.0, and CHANGELOG.md begins with 1.3.0"] == found(tree)


def test_an_empty_changelog_begins_with_nothing(tree: Path) -> None:
    write(tree, "CHANGELOG.md", "")

    assert ["pyproject.toml:3: version 1.2.0, and CHANGELOG.md begins with nothing"] == found(tree)


def test_a_classifier_names_a_python_that_the_suite_ran_on(tree: Path) -> None:
    write(tree, "pyproject.toml", PYPROJECT.replace(":: 3.11", ":: 3.99"))

    assert ["pyproject.toml:4: Python 3.99: the suite did not run on it"] == found(tree)


def test_an_ignored_rule_has_its_reason(tree: Path) -> None:
    write(tree, "pyproject.toml", PYPROJECT.replace(" # a reason", ""))

    assert ["pyproject.toml:8: an ignored rule without its reason"] == found(tree)


def test_what_is_imported_lies_below(tree: Path) -> None:
    write(tree, "worker/lapse/ledger/claim.py", "from lapse.registry import keys\nfrom lapse.sweep.orphans import x\n")
    write(tree, "worker/lapse/registry/keys.py", "def late() -> None:\n    from lapse import policy\n")
    write(tree, "worker/lapse/sweep/__init__.py", "")
    write(tree, "worker/lapse/policy/__init__.py", "")

    assert [
        "worker/lapse/ledger/claim.py:2: ledger may not import sweep: see MAY in tests/rooms.py",
        "worker/lapse/registry/keys.py:2: registry may not import policy: see MAY in tests/rooms.py",
    ] == found(tree)


def test_a_folder_of_too_many_entries(tree: Path) -> None:
    for number in range(rooms.ENTRIES + 1):
        write(tree, f"worker/lapse/guards/guard_{number}.py", "")

    assert ["worker/lapse/guards:1: 19 entries, at most 18 in a folder"] == found(tree)


def test_two_classes_of_one_name(tree: Path) -> None:
    write(tree, "worker/lapse/ledger/claim.py", "class Claim:\n    pass\n")
    write(tree, "worker/lapse/sweep/claim.py", "class Claim:\n    pass\n")

    assert ["worker/lapse/sweep/claim.py:1: class Claim: ledger/claim.py has one of that name"] == found(tree)


def test_a_word_that_was_given_up(tree: Path) -> None:
    write(tree, "worker/lapse/sweep/crew.py", "")
    write(tree, "worker/lapse/sandbox/wire.py", "")

    assert ["worker/lapse/sweep/crew.py:1: crew: the field has another word for it"] == found(tree)


def test_the_table_of_rooms_is_written_from_the_ground_up() -> None:
    known = set(rooms.GROUND)
    for room, below in rooms.MAY.items():
        assert below <= known, room
        known.add(room)
    assert rooms.FLOORS >= rooms.floors()
