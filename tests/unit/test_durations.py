"""Durations: one parser, one formatter."""

import re
from typing import Any

import pytest

from lapse import durations

WEEK, DAY, HOUR = 604_800, 86_400, 3_600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("8h", 8 * HOUR),
        ("30d", 30 * DAY),
        ("2w", 2 * WEEK),
        ("1d 12h", 36 * HOUR),
        ("1d12h", 36 * HOUR),
        ("1w 1d 1h 1m 1s 1ms", WEEK + DAY + HOUR + 61.001),
        ("250ms", 0.25),
        ("1.5h", 1.5 * HOUR),
        ("0.001s", 0.001),
        ("0d 1s", 1),
        ("36500d", durations.LONGEST),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    assert seconds == durations.parse(text)
    assert re.fullmatch(durations.PATTERN, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("90", '"90" has no unit: write a duration such as "30d"'),
        ("-90", "has no unit"),
        ("1.5", "has no unit"),
        (90, "90 has no unit"),
        (None, "null has no unit"),
        (["1d"], "has no unit"),
        ("", "is blank"),
        ("  ", "is blank"),
        ("-1d", '"-1d" is not a duration'),
        ("1y", "is not a duration"),
        ("1h 1d", "is not a duration"),
        ("1d  1h", "is not a duration"),
        (" 1d", "is not a duration"),
        ("1d ", "is not a duration"),
        ("1d\n", "is not a duration"),
        ("1 d", "is not a duration"),
        ("1D", "is not a duration"),
        ("1,5h", "is not a duration"),
        ("1e3s", "is not a duration"),
        ("\u0661d", "is not a duration"),
        ("unlimited", "is not a duration"),
        ("0s", '"0s" is no time at all'),
        ("0d 0h", "is no time at all"),
        ("0.5ms", "is finer than one millisecond"),
        ("36500d 1ms", "is longer than 100 years"),
        ("999999999999w", "is longer than 100 years"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(text: Any, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        durations.parse(text)


def test_a_long_text_is_cut_in_its_error() -> None:
    with pytest.raises(ValueError, match="is not a duration") as refused:
        durations.parse("x" * 10_000)

    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.09, "90ms"),
        (0.9994, "999ms"),
        (1, "1s"),
        (59.6, "1m"),
        (90, "1m 30s"),
        (HOUR, "1h"),
        (2 * DAY + 4 * HOUR + 59, "2d 4h"),
        (DAY + 59, "1d 59s"),
        (30 * DAY, "30d"),
        (-90, "-1m 30s"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert text == durations.show(seconds)


@pytest.mark.parametrize("text", ["90ms", "1s", "1m 30s", "2d 4h", "30d"])
def test_what_is_shown_can_be_written(text: str) -> None:
    assert text == durations.show(durations.parse(text))
