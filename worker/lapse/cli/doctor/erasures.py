"""Requests to erase a subject: are they done in time, and does something stand in their way?"""

from lapse import moments
from lapse.guards.integrity.preflight import Finding, Level
from lapse.metrics.erasures import ErasureStanding
from lapse.policy import Config

NAMED = 5
UNKNOWN = "provider not configured: "
"""As workers write down what stands in a request's way."""


def erasures(found: ErasureStanding, used: Config, now: int) -> Finding:
    """Judge the open requests.

    Args:
        found: How all of them stand.
        used: The policy file in use.
        now: Registry time in milliseconds.

    """
    late = [f"{one.id} (due {moments.told(one.due, now)})" for one in found.open if one.due <= now]
    doubts = _doubts(found, used)
    parts = [found.told(now)]
    parts += [f"late: {_first(late)}"] if late else []
    parts += [f"in the way: {_first(doubts)}"] if doubts else []
    level = Level.WARNING if doubts or found.urgent(now) else Level.OK
    return Finding("erasures", Level.FATAL if late else level, "; ".join(parts), _fix(doubts))


def _first(said: list[str]) -> str:
    return ", ".join(said[:NAMED]) + (" and more" if len(said) > NAMED else "")


def _doubts(found: ErasureStanding, used: Config) -> list[str]:
    """Return what stands in the way: what workers saw, and accounts that were confirmed and left the file."""
    gone = {name for one in found.open for name in one.providers if name not in used.accounts}
    seen = {doubt for one in found.open for doubt in one.doubts}
    return sorted(seen | {UNKNOWN + name for name in gone})


def _fix(doubts: list[str]) -> str:
    if any(doubt.startswith(UNKNOWN) for doubt in doubts):
        return (
            "put [providers.NAME] back into the policy file until nothing is open: nobody else can delete what is there"
        )
    return "lapse erase status UUID says of each id why it is still there"
