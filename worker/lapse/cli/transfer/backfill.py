"""Tracks what was there before the registry knew it, many ids at a time; what it knows of stays as it is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lapse.ledger.partition import Ledger
from lapse.registry import keys
from lapse.registry.model import Partition
from lapse.registry.scripts import text

TOGETHER = 500
"""Ids in one call: about a millisecond of Redis' time."""


class Standing(StrEnum):
    """What ``backfill.lua`` found of an id before it did anything: only a new one is tracked by it."""

    NEW = "n"
    KNOWN = "k"
    FORGOTTEN = "f"
    SETTLED = "s"
    HELD = "h"


class Mode(StrEnum):
    """How ids are tracked.

    ``ADOPT``: what is held is left alone too, and what is added counts as newly due as soon as it is due. ``LOOK``:
    what that would find; nothing is changed.
    """

    IMPORT = "import"
    ADOPT = "adopt"
    LOOK = "look"


@dataclass(slots=True)  # not frozen: one is made for each line of a file, in half the time
class Backfilled:
    """One id to be tracked: creation and last activity in registry milliseconds, facts as JSON or empty."""

    id: str
    created: int
    active: int
    facts: str = ""


async def backfill(
    ledger: Ledger, chosen: Mapping[Partition, Sequence[Backfilled]], mode: Mode = Mode.IMPORT
) -> dict[Partition, str]:
    """Track ids, ``TOGETHER`` at most; return the value of a ``Standing`` for each, in their order.

    Raises:
        RegistryUnavailable: no answer in time; the same call again does what is left.
        RegistryRefused: Redis said no.

    """
    calls = []
    for at, some in chosen.items():
        flat = [part for one in some for part in (one.id, one.created, one.active, one.facts)]
        calls.append(ledger.on(at, "cli/transfer/lua/backfill", mode, *flat, parse=text))
    return dict(zip(chosen, await ledger.carrier.carry(calls), strict=True))


async def tell_slots(ledger: Ledger, chosen: Collection[Partition]) -> None:
    """Name the slots that ids come into, as every registration does: one that no worker knows is shown all the same."""
    slots = sorted({f"{at.provider}/{at.kind}" for at in chosen})
    await ledger.carrier.run([("SADD", keys.slots(ledger.namespace), *slots)])
