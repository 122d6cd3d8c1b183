"""Durations: the only parser and the only formatter. No I/O."""

import json
import re

# Milliseconds, as the registry counts time; the order is the one in which units may follow each other.
_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
LONGEST = 100 * 365 * 86_400
"""Seconds. Longer ones are spelling mistakes, and later arithmetic on them would leave what a float holds exactly."""

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,3})?"
_PART = re.compile(rf"({_NUMBER})({'|'.join(sorted(_UNITS, key=len, reverse=True))})")
PATTERN = "^" + " ?".join(rf"({_NUMBER}{unit})?" for unit in _UNITS) + "$"
"""The same grammar as one regular expression, for the JSON Schema."""
_WHOLE = re.compile(PATTERN)


def parse(text: object) -> float:
    """Return the seconds that ``"90s"``, ``"5m"``, ``"8h"``, ``"30d"``, ``"2w"`` or ``"1d 12h"`` stand for.

    The result is a whole number of milliseconds, exactly.

    Raises:
        ValueError: no unit, zero, negative, finer than 1 ms, longer than 100 years, or not a duration at all.

    """
    shown = json.dumps(text, default=str, ensure_ascii=False)[:60]
    if not isinstance(text, str) or re.fullmatch(rf"-?{_NUMBER}", text):
        raise ValueError(f'{shown} has no unit: write a duration such as "30d" or "90s"')
    if not text.strip():
        raise ValueError('is blank: write a duration such as "30d" or "90s"')
    if not _WHOLE.fullmatch(text) or text != text.strip():
        raise ValueError(f'{shown} is not a duration: write numbers with units out of w, d, h, m, s, ms, such as "30d"')
    millis = sum(_millis(number, unit, shown) for number, unit in _PART.findall(text))
    if millis == 0:
        raise ValueError(f"{shown} is no time at all: a duration is longer than zero")
    if millis > LONGEST * 1000:
        raise ValueError(f"{shown} is longer than 100 years")
    return millis / 1000


def _millis(number: str, unit: str, shown: str) -> int:
    whole, _, fraction = number.partition(".")
    scale: int = 10 ** len(fraction)
    millis, rest = divmod(int(whole + fraction) * _UNITS[unit], scale)
    if rest:
        raise ValueError(f"{shown} is finer than one millisecond")
    return millis


def show(seconds: float) -> str:
    """Return a duration as a person writes it: the two largest units, ``"2d 4h"``, ``"90ms"``."""
    if seconds < 0:
        return "-" + show(-seconds)
    millis = round(seconds * 1000)
    if 0 < millis < _UNITS["s"]:
        return f"{millis}ms"
    rest, parts = round(seconds) * 1000, []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
