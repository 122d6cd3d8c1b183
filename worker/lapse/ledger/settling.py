"""A batch of outcomes as ``settle.lua`` takes it: to send it, and to keep it where Redis does not take it. No I/O."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from lapse.policy import Share


class Outcomes(Protocol):
    """One outcome that knows its stored form."""

    def stored(self) -> dict[str, Any]:
        """Return the fields that say something."""
        ...


def said(
    worker: str,
    settled: Sequence[Outcomes],
    counters: Mapping[str, int],
    attempts: int,
    *,
    listable: bool,
    batch: str | None = None,
    wall: Share | None = None,
    rolled_back: int = 0,
) -> dict[str, Any]:
    """Return a batch.

    Args:
        worker: Whose outcomes these are, for the audit.
        settled: The outcomes.
        counters: Increments of the slot's counters.
        attempts: How many failed ones lead to quarantine.
        listable: The kind can be listed, and lists may lag.
        batch: Its name: sent again under it, it has the effect and the reply of once.
        wall: How many absences are believed; None: any number.
        rolled_back: What was due before an accepted rollback, in registry milliseconds, is expected to be gone.

    """
    return {
        "batch": batch or secrets.token_hex(8),
        "rolled_back": rolled_back,
        **({"wall": asdict(wall)} if wall else {}),
        "worker": worker,
        "attempts": attempts,
        "listable": listable,
        "counters": dict(counters),
        "settled": [one.stored() for one in settled],
    }
