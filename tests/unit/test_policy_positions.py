"""The line of every key, in every way TOML has to write one."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapse.policy.positions import Path, Positions

# The value of each key is the line that it stands on.
TEXT = '''# a comment with = and [brackets]
plain = 2
"quoted \\"key\\"" = 3
'literal "key"' = 4
dotted.deep = 5
 dotted . other = 6
[table] # [not.this]
text = """
[not.a.table]
not_a_key = 1
\\"""" # "
after = 12
literal = \'\'\'
x = 1\'\'\'\'\'
after_literal = 15
[table."sub.table"]
array = [ # comment ]
  18, 18, # , ]
  [19], "]", { inner = 19, other.deep = 19 },
  { one = [
    21 ] }
]
date = 1979-05-27 07:32:00 # 23
next = 24
empty = [ ]
none = {}
last_of_table = 27
[[many]]
name = 29
[[many]]
name = 31
[many.inner]
name = 33
[[many.nested]]
name = 35
[[many.nested]]
name = 37
[later.implied]
name = 39
[later]
name = 41'''


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, int]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    elif isinstance(value, int):
        yield path, value


NUMBERED = list(leaves(tomllib.loads(TEXT)))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_key_is_found_on_its_line(newline: str) -> None:
    found = Positions(TEXT.replace("\n", newline))

    assert len(NUMBERED) > 20
    assert {path: line for path, line in NUMBERED if isinstance(path[-1], str)} == {
        path: found.line(path) for path, _ in NUMBERED if isinstance(path[-1], str)
    }
    assert [18, 18, 19, 19, 19, 20] == [found.line(("table", "sub.table", "array", index)) for index in range(6)]
    assert 21 == found.line(("table", "sub.table", "array", 5, "one", 0))
    assert [8, 12, 13, 15] == [found.line(("table", key)) for key in ("text", "after", "literal", "after_literal")]
    assert [28, 30, 32, 34, 36] == [
        found.line(path)
        for path in (("many", 0), ("many", 1), ("many", 1, "inner"), ("many", 1, "nested", 0), ("many", 1, "nested", 1))
    ]


def test_a_table_is_where_its_header_is_and_not_where_it_is_implied() -> None:
    found = Positions(TEXT)

    assert [40, 38] == [found.line(("later",)), found.line(("later", "implied"))]
    assert found.repeated is None


def test_a_key_that_is_not_written_is_where_its_table_is() -> None:
    found = Positions(TEXT)

    assert [7, 30, 1] == [found.line(("table", "no")), found.line(("many", 1, "no", "no")), found.line(("no",))]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a = 1\na = 2", ("a",)),
        ("[a]\n[b]\n[a]", ("a",)),
        ("[a]\nb = 1\n[a.b]", ("a", "b")),
        ("a.b = 1\na.b = 2", ("a", "b")),
        ("a = { x = 1, x = 2 }", ("a", "x")),
        ("[a.b]\n[a]\n[a]", ("a",)),
    ],
)
def test_what_is_written_twice_is_noticed(text: str, path: Path) -> None:
    assert path == Positions(text).repeated


@given(st.integers(0, len(TEXT)), st.text(alphabet="\"'[]{}=.,\\\n# a1", max_size=8))
@settings(max_examples=500)
def test_no_broken_text_breaks_the_search(cut: int, rest: str) -> None:
    found = Positions(TEXT[:cut] + rest)

    assert 1 <= found.line(found.last) <= TEXT[:cut].count("\n") + rest.count("\n") + 1
    for path, line in NUMBERED:
        if isinstance(path[-1], str) and path[0] == "plain" and cut > 45:
            assert line == found.line(path)


@given(st.integers(0, 5), st.sampled_from(["", "# x", "  ", "# [policies.x]", "# a = '''"]))
def test_lines_above_move_all_keys_down(count: int, line: str) -> None:
    moved = Positions(f"{line}\n" * count + TEXT)

    assert all(moved.line(path) == at + count for path, at in NUMBERED if isinstance(path[-1], str))


def test_nesting_without_end_is_survived() -> None:
    assert 1 == Positions("a = " + "[" * 100_000).line(("a",))


@pytest.mark.parametrize(
    "text", ["a", "a b", '"\\q" = 1', "a =", "a = [1", "a = {", "a = { b", "[", "[[", "a = ,", "="]
)
def test_texts_that_break_off_give_what_they_have(text: str) -> None:
    assert 1 == Positions(text).line(("a",))
