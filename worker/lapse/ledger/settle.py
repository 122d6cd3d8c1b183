"""Outcomes on their way into the registry: what became of claims, each batch in one step, and once."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from lapse.ledger.connection import LedgerConnection, text
from lapse.ledger.edges import Release
from lapse.policy import Share
from lapse.providers.outcomes import Outcome
from lapse.registry import codec
from lapse.registry.model import Partition


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one claim: ``act`` is done, retry, keep, touch, quarantine or release.

    ``delay`` and ``active``, the last activity that the provider showed, are in milliseconds. ``identity`` is that of
    the deciding answer, and ``seen`` what it shows of the object: present, absent, or None for neither.
    ``believed``: an operator said that this id would not be found. ``told``: how many of ``items`` are counted
    already. ``at``: when it was claimed, in registry milliseconds. ``good``: its DELETE was confirmed, or
    recognised as that of something absent. ``doubt``: ``answer``, ``failure`` or ``error`` where all of the kind
    may get the same, ``outage`` where everything does: it counts as this id's only by what others get.
    """

    id: str
    token: int
    policy: str
    due: int
    act: str
    outcome: Outcome
    delay: int = 0
    identity: str | None = None
    seen: str | None = None
    believed: bool = False
    at: int = 0
    counted: bool = False
    unknown: bool = False
    reason: str | None = None
    detail: str | None = None
    status: int | None = None
    request: str | None = None
    items: int = 0
    told: int = 0
    active: int | None = None
    left: Mapping[str, int] = field(default_factory=dict)
    extra: int = 0
    good: bool = False
    doubt: str | None = None

    def stored(self) -> dict[str, Any]:
        """Return the fields that say something: a script reads a null as a value."""
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        return {
            name: value for name, value in fields if value is not None and value is not False and value not in ("", {})
        }


@dataclass(frozen=True, slots=True)
class Recorded:
    """What of a batch is not as it was said.

    ``refused``: ids whose lease another worker had taken over. ``unbelieved``: ids that were not found, and were one
    too many: they wait, and their policy is halted. ``unrecordable``: ids whose outcome Redis refuses for good.
    """

    refused: tuple[str, ...] = ()
    unbelieved: tuple[str, ...] = ()
    unrecordable: tuple[str, ...] = ()


class Settlements(LedgerConnection):
    """Records outcomes, and ends what they leave behind."""

    async def settle(
        self,
        partition: Partition,
        settled: Sequence[Settled],
        counters: Mapping[str, int],
        attempts: int,
        **more: Any,
    ) -> Recorded:
        """Record outcomes and counters in one step, and once; see ``said`` and ``record``."""
        return await self.record(partition, said(self.worker, settled, counters, attempts, **more))

    async def record(self, partition: Partition, batch: Mapping[str, Any]) -> Recorded:
        """Record a batch; return what was not recorded as it was said.

        Raises:
            RegistryUnavailable: no answer; it may be recorded, and sending it again changes nothing then.
            RegistryRefused: Redis said no.

        """
        call = self.commands.on_slot(
            "ledger/lua/settle", partition.provider, partition.kind, codec.dump(batch), parse=list
        )
        _now, released, walled, *refused = (await self.carrier.carry([call]))[0]
        if released:
            await self.release_edges(partition.provider, partition.kind)
        return Recorded(tuple(text(id_) for id_ in refused), tuple(json.loads(walled)))

    async def release_edges(self, provider: str, kind: str) -> int:
        """Remove the edges of settled or forgotten sources, in the slots of their targets; return how many sources."""
        release = Release(self.carrier, self.commands, provider, kind)
        sources = await release.run()
        self.freed |= release.freed
        return sources

    async def end_tombstones(self, provider: str, kind: str, before: int, deleted: int | str = "") -> int:
        """Forget what was settled before a registry time in milliseconds, and ``deleted`` before another one."""
        ended, call = 0, self.commands.on_slot("ledger/lua/housekeep", provider, kind, before, 500, deleted, parse=int)
        while n := (await self.carrier.carry([call]))[0]:
            ended += n
        return ended

    async def count(self, partition: Partition, counters: Mapping[str, int]) -> None:
        """Add to counters of a slot that no settled claim carries."""
        if counters:
            await self.settle(partition, [], counters, 1, listable=False)


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
