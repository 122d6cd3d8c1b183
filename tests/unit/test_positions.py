"""Where each key of a TOML text stands; a text that breaks off is known as far as it goes."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lapse.policy.positions import Positions

SHIPPED = Path(__file__).parents[2] / "config" / "retention.toml"
EVERYTHING = '''\
# a comment = "no key"
title = "a # b = c"
dotted.key."with.dot" = 1
literal = 'C:\\n[x]'

[policies.chat]   # the table
keep = [ # none
  { name = "a", metadata = { pin = "}" } },
  { name = """b
]""" },
]
long = """
[policies.none]
x = 1 \\"""
"""
raw = \'\'\'
y = 2
\'\'\'
at = 1979-05-27T07:32:00Z
numbers = [1, [2, 3], {a = 4}]

[policies."a b"]
ttl = "1d"

[[rows]]
id = 1
[rows.inner]
x = 1
[[rows]]
id = 2
[rows.inner]
x = 2
[rows.inner.deep]
y = 3

[ spaced . table ]
z = 1
'''


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return every path of a parsed document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, one in inside for path in [(*at, key), *paths(one, (*at, key))]]


@pytest.mark.parametrize("text", [EVERYTHING, SHIPPED.read_text(encoding="utf-8")], ids=["everything", "shipped"])
def test_every_key_that_toml_reads_has_a_place(text: str) -> None:
    positions = Positions(text)

    assert [] == [path for path in paths(tomllib.loads(text)) if not positions.written(path)]


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        (("title",), "title ="),
        (("dotted", "key"), "dotted.key"),
        (("dotted", "key", "with.dot"), "dotted.key"),
        (("policies", "chat"), "[policies.chat]"),
        (("policies", "chat", "keep"), "keep = ["),
        (("policies", "chat", "keep", 0, "name"), '  { name = "a"'),
        (("policies", "chat", "keep", 0, "metadata", "pin"), '  { name = "a"'),
        (("policies", "chat", "keep", 1), '  { name = """b'),
        (("policies", "chat", "long"), "long ="),
        (("policies", "chat", "raw"), "raw ="),
        (("policies", "chat", "at"), "at ="),
        (("policies", "chat", "numbers", 1, 1), "numbers ="),
        (("policies", "chat", "numbers", 2, "a"), "numbers ="),
        (("policies", "a b", "ttl"), 'ttl = "1d"'),
        (("rows", 0, "id"), "id = 1"),
        (("rows", 1, "id"), "id = 2"),
        (("rows", 1, "inner", "x"), "x = 2"),
        (("rows", 1, "inner", "deep", "y"), "y = 3"),
        (("spaced", "table", "z"), "z = 1"),
    ],
)
def test_a_key_stands_where_it_is_written(path: tuple[str | int, ...], begins: str) -> None:
    line = Positions(EVERYTHING).line(path)

    assert EVERYTHING.splitlines()[line - 1].startswith(begins)


@pytest.mark.parametrize(
    ("path", "begins"),
    [(("policies", "chat", "ttl"), "[policies.chat]"), (("policies", "chat", "keep", 0, "x"), "  { name"), ((), "#")],
)
def test_a_key_that_is_not_written_is_missing_in_the_table_around_it(path: tuple[str | int, ...], begins: str) -> None:
    positions = Positions(EVERYTHING)

    assert not positions.written(path)
    assert EVERYTHING.splitlines()[positions.line(path) - 1].startswith(begins)


@pytest.mark.parametrize("end", range(len(EVERYTHING)))
def test_a_text_that_breaks_off_anywhere_is_known_that_far(end: int) -> None:
    """Whatever is known of the beginning is where the whole text has it, but for the key that is torn itself."""
    whole, torn = Positions(EVERYTHING), Positions(EVERYTHING[:end])
    lines = EVERYTHING[:end].count("\n") + 1

    for path in paths(tomllib.loads(EVERYTHING)):
        if torn.written(path) and path != torn.last:
            assert whole.line(path) == torn.line(path) <= lines


def test_the_last_key_of_a_torn_text_is_the_one_to_blame() -> None:
    assert ("policies", "chat", "ttl") == Positions('[policies.chat]\nkind = "x"\nttl = "30').last


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("[a]\nx = 1\nx = 2\n", ("a", "x")),
        ("[a]\n[b]\n[a]\n", ("a",)),
        ("[a.b]\n[a]\n", None),
        ("a.b = 1\na.c = 2\n", None),
        ("[[a]]\n[[a]]\n", None),
    ],
)
def test_what_is_written_twice(text: str, repeated: tuple[str, ...] | None) -> None:
    assert repeated == Positions(text).repeated


def test_a_table_that_a_deeper_one_implied_stands_where_it_is_written_itself() -> None:
    assert 3 == Positions("[a.b]\nx = 1\n[a]\n").line(("a",))


@pytest.mark.parametrize(
    "text", ["", "\n", "a", "a b", "[", "[[", "= 1", 'a = "', "a = [1,", "a = {b", '"\\q" = 1', "[a", "a."]
)
def test_no_text_is_too_broken(text: str) -> None:
    assert 1 == Positions(text).line(("a",))


def test_a_text_nested_too_deep_is_known_as_far_as_it_could_be_read() -> None:
    positions = Positions("first = 1\nx = " + "[" * 20_000)

    assert (1, 2) == (positions.line(("first",)), positions.line(("x",)))


def test_windows_line_ends() -> None:
    text = re.sub("\n", "\r\n", '[a]\nx = 1\n\n[b]\ny = "z"\n')

    assert (2, 5) == (Positions(text).line(("a", "x")), Positions(text).line(("b", "y")))
