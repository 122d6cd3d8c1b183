"""The score of a touched id where its creation is packed into it, as ``include/packed.lua`` writes it. No I/O."""

STEP = 600_000  # ms
_HALVED = 2**41  # doubles from here on have half as many values to a millisecond


def creation_in(score: float) -> float | None:
    """Return the creation that a score of the index ``active`` says, in milliseconds; None if it stands beside it."""
    rest = score % 1000
    if rest.is_integer():
        return None
    second = score - rest
    age = (rest * (4096 if second < _HALVED - 1000 else 2048) - 1) / 2
    return min((-(-second // STEP) - age) * STEP, second)
