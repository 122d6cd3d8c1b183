"""Times in words: no distance that only a wrong clock explains is ever printed as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapse import moments

NOW = 1_795_934_400_000  # 2026-11-29 06:40 UTC
DAY = 86_400_000


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "never"),
        (-5, "never"),
        (1, "1970-01-01 00:00:00 UTC"),
        (NOW, "now"),
        (NOW + 999, "now"),
        (NOW - 3000, "3s ago"),
        (NOW + 3000, "in 3s"),
        (NOW - 2 * DAY, "2d ago"),
        (NOW + 9 * 365 * DAY, "in 3285d"),
        (NOW + 31 * 365 * DAY, "2057-11-21 06:40:00 UTC"),
        (NOW * 1000, "at no date"),
        (float("inf"), "at no date"),
    ],
)
def test_a_time_is_told(at: float, text: str) -> None:
    assert text == moments.told(at, NOW)


def test_a_date_and_its_distance_are_told_once() -> None:
    assert "2026-11-29 06:39:57 UTC (3s ago)" == moments.both(NOW - 3000, NOW)
    assert "1970-01-01 00:00:00 UTC" == moments.both(1, NOW)
    assert "never" == moments.both(0, NOW)


def test_what_is_over_is_tried_with_the_next_request() -> None:
    assert "in 9s" == moments.next_try(NOW + 9000, NOW)
    assert "with the next request" == moments.next_try(NOW, NOW) == moments.next_try(0, NOW)


@given(st.integers(-(10**15), 10**16), st.integers(0, 2**42))
def test_no_distance_is_longer_than_ten_years_and_none_of_the_future_is_ago(at: int, now: int) -> None:
    text = moments.told(at, now)

    days = (
        int(text.removeprefix("in ").partition("d")[0]) if text.removeprefix("in ")[:1].isdigit() and "d" in text else 0
    )
    assert days <= 3650
    assert not (text.endswith("ago") and at > now)
