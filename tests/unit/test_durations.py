"""Durations: what is accepted is exact to the millisecond, and everything else is refused."""

import re
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lapse import durations

UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
NUMBERS = st.tuples(st.integers(0, 10**12 - 1), st.sampled_from(["", ".5", ".25", ".125", ".001", ".000", ".07"]))


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, Fraction]:
    """Return a text of the grammar and the milliseconds it stands for, in rational arithmetic."""
    units = draw(st.lists(st.sampled_from(list(UNITS)), min_size=1, max_size=6, unique=True))
    parts, millis = [], Fraction(0)
    for unit in sorted(units, key=list(UNITS).index):
        whole, fraction = draw(NUMBERS)
        parts.append(f"{whole}{fraction}{unit}")
        millis += Fraction(f"{whole}{fraction}") * UNITS[unit]
    return draw(st.sampled_from(["", " "])).join(parts), millis


@given(spellings())
@settings(max_examples=500)
@example(("100w 1ms", Fraction(60_480_000_001)))
def test_a_spelling_is_exact_or_refused(spelling: tuple[str, Fraction]) -> None:
    text, millis = spelling
    fine = all(
        (Fraction(number) * UNITS[unit]).denominator == 1 for number, unit in re.findall(r"([\d.]+)([a-z]+)", text)
    )

    if fine and 0 < millis <= durations.LONGEST * 1000:
        assert int(millis) == round(durations.parse(text) * 1000)
        assert durations.parse(text) == int(millis) / 1000
    else:
        with pytest.raises(ValueError, match=r"finer|no time|longer"):
            durations.parse(text)


@given(st.text(max_size=12) | st.from_regex(r"[0-9.\-+eE_ ]{1,6}[a-zA-Z ]{0,3}", fullmatch=True))
@settings(max_examples=1000)
@example("\u0663d")
@example("1e3s")
@example("1_000s")
@example("30d\n")
@example("30D")
@example("1d1d")
@example("1h1d")
@example("30 d")
@example("30 days")
@example("+1d")
@example("1d,2h")
@example(".5h")
@example("1.h")
@example("0.0005s")
@example("9999999999999d")
@example("infd")
@example("nan")
def test_any_other_text_is_refused_and_never_breaks_anything(text: str) -> None:
    whole = re.fullmatch(r" ?".join(rf"(?:([0-9]{{1,12}}(?:\.[0-9]{{1,3}})?){unit})?" for unit in UNITS), text)

    try:
        seconds = durations.parse(text)
    except ValueError:
        return
    assert whole
    assert 0 < seconds <= durations.LONGEST


@pytest.mark.parametrize(
    "value",
    [30, -1, 0, 1.5, float("nan"), float("inf"), 2**53, 10**30, True, None, [], {}, b"30d", "30", "-30", "0", "1.5"],
    ids=repr,
)
def test_what_has_no_unit_is_told_so(value: object) -> None:
    with pytest.raises(ValueError, match="has no unit: write a duration such as"):
        durations.parse(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is blank"),
        ("  ", "is blank"),
        ("0d", "no time at all"),
        ("0s 0ms", "no time at all"),
        ("-1d", "not a duration"),
        ("101w 200y", "not a duration"),
        ("1.0001d", "not a duration"),
        ("0.5ms", "finer than one millisecond"),
        ("36501d", "longer than 100 years"),
        (" 30d", "not a duration"),
        ("x" * 500, "not a duration"),
    ],
)
def test_each_mistake_has_its_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        durations.parse(text)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.0005001, "1ms"),
        (0.09, "90ms"),
        (0.9996, "1s"),
        (1.4, "1s"),
        (59.6, "1m"),
        (60, "1m"),
        (90, "1m 30s"),
        (3600, "1h"),
        (86_399.9, "1d"),
        (187_200, "2d 4h"),
        (2_592_000, "30d"),
        (86_401, "1d 1s"),
        (-5400, "-1h 30m"),
        (90_061, "1d 1h"),
    ],
)
def test_a_person_reads_the_two_largest_units(seconds: float, text: str) -> None:
    assert text == durations.show(seconds)


@given(st.integers(0, 5000), st.sampled_from("dhm"), st.integers(0, 23))
def test_what_is_shown_means_the_same(count: int, unit: str, hours: int) -> None:
    seconds = (count * UNITS[unit] + hours * UNITS["h"]) / 1000
    shown = durations.show(seconds)

    assert shown == "0s" if not seconds else durations.parse(shown) == pytest.approx(seconds, abs=3600)
    if len(shown.split()) < 2:
        assert not seconds or durations.parse(shown) == seconds


@given(spellings())
def test_the_schemas_pattern_is_the_parsers(spelling: tuple[str, Fraction]) -> None:
    assert re.search(durations.PATTERN, spelling[0])
