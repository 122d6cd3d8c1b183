"""JSON that is read one way."""

import json

import pytest

from lapse.audit import strictjson

TWO_WAYS = [
    '{"id": "a", "id": "b"}',
    '{"x": {"id": 1, "\\u0069d": 2}}',
    "NaN",
    "[Infinity]",
    '{"x": -Infinity}',
    "1 2",
    "{}{}",
    "",
    "[" * 100_000,
    '{"x": 1e999}',
    "1" * 2000,
    '{"x": "\\ud800"}',
    '{"\\ud800": 1}',
    '["\\ud800"]',
    '"\\ud800"',
    "{'x': 1}",
    '{"x": 1,}',
    "\ufeff{}",
]


@pytest.mark.parametrize("text", TWO_WAYS, ids=range(len(TWO_WAYS)))
def test_what_two_readers_may_take_for_two_things_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"it|number"):
        strictjson.loads(text)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        strictjson.loads(b'{"x": "\xe4"}')


@pytest.mark.parametrize(
    "value", [{}, [], None, 1, -2.5, "é", {"a": {"b": [1, 2, {"a": "\U0001f600"}]}}, 10**300], ids=str
)
def test_everything_else_is_what_it_was(value: object) -> None:
    assert value == strictjson.loads(json.dumps(value))
    assert value == strictjson.loads(json.dumps(value, ensure_ascii=False).encode())
