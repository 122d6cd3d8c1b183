"""Erasing on a worker's loop: every open request, slot by slot, one worker at a time."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import structlog

from lapse.errors import LapseError, RegistryUnavailable, SlotUnavailable
from lapse.guards.context import SweepContext
from lapse.ledger.erasure import members, requests
from lapse.ledger.erasure.account import account_with
from lapse.ledger.erasure.request import ErasedId, ErasureRequest, Fate, State
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.registry import keys
from lapse.registry.model import Resource
from lapse.registry.scripts import Call, script
from lapse.sweep.erase import SlotErasure, erase

log = structlog.get_logger("lapse")

Contexts = Callable[[str, str], AbstractAsyncContextManager[SweepContext | None]]
"""Gives what a (provider, kind) is swept with, or None where this worker cannot."""


@dataclass(frozen=True, slots=True)
class EraseRun:
    """One run over all open requests.

    Attributes:
        ledger: The registry.
        contexts: What each (provider, kind) is swept with.
        until: When to leave off, on ``time.monotonic``'s clock.
        failed: Slots in which something went wrong: left alone for the rest of the run, so that none waits for them.

    """

    ledger: Ledger
    contexts: Contexts
    until: float
    failed: set[members.Slot] = field(default_factory=set)

    async def run(self) -> bool:
        """Delete what may be deleted; True if time ran out before everything was tried.

        Raises:
            RegistryUnavailable: Redis was lost; leases run out by themselves.

        """
        for request in await requests.every(self.ledger):
            if request.state is State.OPEN and not await self._request(request):
                return True
        return False

    async def _request(self, request: ErasureRequest) -> bool:
        """Try every id of a request; False if time ran out."""
        done, blocked = 1, True
        while done and blocked:  # what was used by what went now may go itself
            done, blocked = 0, False
            for slot in await self._slots():
                if time.monotonic() > self.until:
                    return False
                settled, used = await self._slot(slot, SlotErasure(request))
                done, blocked = done + settled, blocked or used
        if blocked:
            for slot, errand in (await self._together(request)).items():
                await self._slot(slot, errand)
        return time.monotonic() <= self.until

    async def _slots(self) -> list[members.Slot]:
        return [slot for slot in await requests.slots(self.ledger) if slot not in self.failed]

    async def _slot(self, slot: members.Slot, errand: SlotErasure) -> tuple[int, bool]:
        """Erase in one slot what is there; return how many are gone, and True if uses kept others."""
        try:
            return await self._erased(slot, errand)
        except LapseError as error:
            if isinstance(error, RegistryUnavailable) and not isinstance(error, SlotUnavailable):
                raise
            self.failed.add(slot)
            log.error("erasure.failed", provider=slot[0], kind=slot[1], request=errand.request.id, error=str(error))
            return 0, False

    async def _erased(self, slot: members.Slot, errand: SlotErasure) -> tuple[int, bool]:
        async for _ids in members.pages(self.ledger, errand.request, slot):
            async with self.contexts(*slot) as context:
                if context is None:
                    break
                report, left = await erase(context, slot[1], errand, budget=max(1.0, self.until - time.monotonic()))
                return report.outcomes["deleted"] + report.outcomes["already_gone"], "used" in left.values()
        return 0, False

    async def _together(self, request: ErasureRequest) -> Mapping[tuple[str, str], SlotErasure]:
        """Return what is used by nothing but each other, by slot: each waits for the other, so they go in one step."""
        standing = await members.standing(self.ledger, request, await self._slots())
        account, now = (
            await account_with(self.ledger, request),
            await Halts(self.ledger.carrier, self.ledger.namespace).now(),
        )
        may_go = {one.resource for one in account.ids if _may_go(one, now)}
        found = members.together({one: seen for one, seen in standing.items() if seen.used_by and one in may_go})
        by_slot = defaultdict[tuple[str, str], dict[str, Sequence[Resource]]](dict)
        for resource, users in found.items():
            by_slot[resource.provider, resource.kind][resource.id] = list(users)
        return {slot: SlotErasure(request, tuple(ids), ids) for slot, ids in by_slot.items()}


def _may_go(one: ErasedId, now: int) -> bool:
    """Return True if nothing but uses keeps an id: each of a circle has to be able to go now, or none does."""
    return one.fate is Fate.PENDING and not one.blocked and (one.again or 0) <= now


async def lease(ledger: Ledger, seconds: float) -> bool:
    """Return True if this process goes through the requests for so long, and no other; 0 lets others."""
    said = (ledger.worker, round(seconds * 1000))
    call: Call[bool] = Call(script("ledger/lua/erasure/erasing"), keys.erasing(ledger.namespace), said, bool)
    (mine,) = await ledger.carrier.carry([call])
    return bool(mine)
