"""Where the creations of touched ids stand: packed into a score, or in an index, as the rules in force need."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from lapse.ledger.connection import LedgerConnection, apart
from lapse.registry import keys
from lapse.registry.model import Partition

IDS_A_STEP = 250
INDEXING = 20.0  # seconds of one round of housekeeping


class Building(NamedTuple):
    """A partition whose index of creations is being built: ``indexed`` of ``ids``. Until then it claims nothing."""

    partition: Partition
    indexed: int
    ids: int


async def keep(ledger: LedgerConnection, slots: Sequence[tuple[str, str]], until: float) -> None:
    """Bring every slot as far as time lasts.

    Args:
        ledger: The registry.
        slots: Every (provider, kind).
        until: When to leave off, on ``time.monotonic``'s clock.

    Raises:
        RegistryUnavailable: no answer in time; what is left is done next time.

    """
    until = min(until, time.monotonic() + INDEXING)
    for slot in slots:
        with apart("creations.not_kept", provider=slot[0], kind=slot[1]):
            more = await _anything_touched(ledger, slot)
            while more and time.monotonic() < until:
                more = await step(ledger, slot)


async def _anything_touched(ledger: LedgerConnection, slot: tuple[str, str]) -> bool:
    """Return False where nothing has a creation beside its last activity: two commands, and not one for each policy."""
    prefix = keys.slot(ledger.namespace, *slot)
    (policies,) = await ledger.carrier.run([("SMEMBERS", prefix + keys.POLICIES)])
    names = [f"{prefix}{policy}:{keys.ACTIVE}" for policy in keys.policies_named(policies)]
    return bool(names) and bool((await ledger.carrier.run([("EXISTS", *names)]))[0])


async def step(ledger: LedgerConnection, slot: tuple[str, str]) -> bool:
    """Bring some ids of a slot further; True if there are more."""
    call = ledger.on_slot("ledger/lua/housekeeping/creations", *slot, IDS_A_STEP, parse=int)
    return bool((await ledger.carrier.carry([call]))[0])


async def building(ledger: LedgerConnection, partitions: Sequence[Partition]) -> list[Building]:
    """Return the partitions whose index of creations is being built."""
    prefixes = [keys.partition(ledger.namespace, at.provider, at.kind, at.policy) for at in partitions]
    said = await ledger.carrier.run([("HGET", prefix + keys.RULES, "creations") for prefix in prefixes])
    found = []
    for at, prefix, state in zip(partitions, prefixes, said, strict=True):
        if state == b"indexing":
            indexed, ids = await ledger.carrier.run([("ZCARD", prefix + keys.CREATED), ("ZCARD", prefix + keys.ACTIVE)])
            found.append(Building(at, min(indexed, ids), ids))
    return found
