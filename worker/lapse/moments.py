"""Times in words, seen from another time. No I/O."""

from datetime import datetime

from lapse import durations
from lapse.registry.model import from_millis

ABSURD = 10 * 365 * 86_400
"""Seconds. Nothing here is so far away: such a distance says that a clock was wrong, and the date says which."""


def clock(moment: datetime) -> str:
    """Return a time as a person reads it, in UTC to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def told(at: float, now: float) -> str:
    """Say when something is or was: ``in 3d``, ``2h ago``, ``now``, ``never`` for 0; the date where that is absurd.

    Args:
        at: The time, in milliseconds since 1970; 0 is what stands where none is known.
        now: The one it is seen from, in the same.

    """
    away = (at - now) / 1000
    if at <= 0:
        return "never"
    if abs(away) > ABSURD:
        return _date(at)
    if abs(away) < 1:
        return "now"
    return f"in {durations.show(away)}" if away > 0 else f"{durations.show(-away)} ago"


def both(at: float, now: float) -> str:
    """Say the date and how far away it is: ``2026-11-29 06:00:00 UTC (2h ago)``; arguments as of ``told``."""
    said = told(at, now)
    if said in {"never", date := _date(at)}:
        return said
    return f"{date} ({said})"


def next_try(until: float, now: float) -> str:
    """Say when something that is held back is tried again; what is over already ends with the next request."""
    return told(until, now) if until > now else "with the next request"


def _date(at: float) -> str:
    try:
        moment = from_millis(at)
    except (OverflowError, OSError, ValueError):
        return "at no date"
    return clock(moment) if moment else "never"
