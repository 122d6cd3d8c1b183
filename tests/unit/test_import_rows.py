"""The rows of a table of ids: what each says, and why one says nothing that can be registered."""

import json
from typing import Any

import pytest

from lapse.cli.operate.rows import facts_of, labels, moment, rows, times
from lapse.errors import InvalidResource

LONG_AGO = 1_760_000_000


def test_blank_lines_are_no_rows_wherever_they_are() -> None:
    assert list(rows([])) == list(rows(["\n", "  \n"])) == []
    table = list(rows(["\n", "id,kind\n", "\n", "t1,thread\n", " \n", "t2,\n"]))
    assert [(row.line, dict(row.given), row.why) for row in table] == [
        (4, {"id": "t1", "kind": "thread"}, ""),
        (6, {"id": "t2"}, ""),
    ]
    assert [row.line for row in rows(["\n", '{"id": "t1"}\n', "\n", '{"id": "t2"}'])] == [2, 4]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"id": "t"', "no JSON: "),
        ("[1]", "no JSON object"),
        ('{"id": "t", "when": 1}', "there is no column 'when'"),
        ('{"id": "t", "kind": ["thread"], "labels": {"a": "b"}}', "kind: give text or a number"),
        ('{"id": "t", "labels": {"a": "b"}}', ""),
    ],
)
def test_a_line_of_json_says_what_is_wrong_with_it(line: str, why: str) -> None:
    _first, row = rows(['{"id": "first"}\n', line])

    assert (row.line, row.why[: len(why) or None]) == (2, why)


@pytest.mark.parametrize(
    ("line", "why"),
    [("t,x", "2 fields below 1 names"), ('"t', "no CSV: "), ('"t"', "")],
    ids=["too much", "an open quote", "a quoted id"],
)
def test_a_line_of_a_table_says_what_is_wrong_with_it(line: str, why: str) -> None:
    (row,) = rows(["ID \n", line])

    assert (row.line, row.why[: len(why) or None]) == (2, why)


@pytest.mark.parametrize(("header", "why"), [("id,when", "no column 'when'"), ("kind", "no column id")])
def test_a_header_names_what_it_does_not_know(header: str, why: str) -> None:
    with pytest.raises(InvalidResource, match=why):
        list(rows([header, "x"]))


def test_times_are_milliseconds_and_in_their_order() -> None:
    assert times("2026-03-01", None) == (1_772_323_200_000, None)
    assert times(None, LONG_AGO + 0.5) == (None, LONG_AGO * 1000 + 500)
    with pytest.raises(InvalidResource, match="before created_at"):
        times(LONG_AGO, LONG_AGO - 1)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"id": "t"}, None),
        ({"subject": "user:42"}, {"subject": "user:42"}),
        ({"labels": "a=b"}, {"labels": {"a": "b"}}),
    ],
)
def test_facts(given: dict[str, Any], stored: object) -> None:
    assert facts_of(given) == ("" if stored is None else json.dumps(stored, separators=(",", ":")))


@pytest.mark.parametrize(
    ("given", "why"), [("yesterday", "is no time"), ("2026-03-01T10:00", "has no time zone"), ("2026-13-01", "no time")]
)
def test_what_is_no_time(given: str, why: str) -> None:
    with pytest.raises(InvalidResource, match=why):
        moment(given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (LONG_AGO, LONG_AGO),
        (f" {LONG_AGO}", LONG_AGO),
        (" 2026-03-01 ", 1_772_323_200),
        ("2026-03-01T01:00+01:00", 1_772_323_200),
    ],
)
def test_a_time(given: str | int, seconds: float) -> None:
    assert moment(given) == seconds


@pytest.mark.parametrize(
    ("given", "comes_to"),
    [('{"a": "b"}', {"a": "b"}), ("a=b; c=d=e;", {"a": "b", "c": "d=e"}), ({"a": "b"}, {"a": "b"})],
    ids=["JSON text", "pairs", "an object"],
)
def test_labels(given: object, comes_to: object) -> None:
    assert labels(given) == comes_to


@pytest.mark.parametrize("given", ["{", "a;b=c"])
def test_labels_that_are_none(given: str) -> None:
    with pytest.raises(InvalidResource, match="labels"):
        labels(given)


def test_a_field_may_have_line_breaks() -> None:
    found = list(rows(["id,subject\n", '"thread_1","a\n', 'b"\n', "\n", "thread_2,\n"]))

    assert [(row.line, dict(row.given)) for row in found] == [
        (3, {"id": "thread_1", "subject": "a\nb"}),
        (5, {"id": "thread_2"}),
    ]
