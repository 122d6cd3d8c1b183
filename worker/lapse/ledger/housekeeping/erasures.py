"""What workers do for requests to erase subjects besides deleting: taken up, told to every slot, completed, ended."""

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from lapse.ledger.connection import apart
from lapse.ledger.erasure import members, requests
from lapse.ledger.erasure.account import account_of
from lapse.ledger.erasure.members import Slot
from lapse.ledger.erasure.request import GONE, ErasureAccount, ErasureRequest, State
from lapse.ledger.halts import Halts
from lapse.ledger.housekeeping.subjects import index_progress
from lapse.ledger.partition import Ledger
from lapse.policy.tables import ErasureSection
from lapse.registry import keys
from lapse.registry.protocol import asked
from lapse.registry.scripts import text

log = structlog.get_logger("lapse")

INDEX = "not every registration can be found by its subject yet"


@dataclass(frozen=True, slots=True)
class Erasures:
    """The requests of one registry.

    Attributes:
        ledger: The registry.
        section: What the policy file says of erasures.
        providers: The accounts that this worker knows.
        slots: Every (provider, kind).

    """

    ledger: Ledger
    section: ErasureSection
    providers: Collection[str]
    slots: Sequence[Slot]

    async def keep(self, until: float) -> bool:
        """Bring every request as far as no deletion is needed for; True if ids may be left to delete.

        Args:
            until: When to leave off, on ``time.monotonic``'s clock.

        Raises:
            RegistryUnavailable: no answer in time; what is left is done next time.
            RegistryRefused: Redis refused what is about no request alone.

        """
        now = await Halts(self.ledger.carrier, self.ledger.namespace).now()
        await requests.take_up(self.ledger, self.section, now)
        await self._reopen()
        every = await requests.every(self.ledger)
        if not every:
            return False
        told, doubts, is_open = await requests.told(self.ledger), await self._doubts(), False
        for request in every:
            if time.monotonic() > until:
                return True
            done = False
            with apart("erasure.not_kept", request=request.id):
                done = await self._kept(request, told, doubts, now)
            is_open |= not done
        return is_open

    async def _kept(
        self, request: ErasureRequest, told: Mapping[str, Sequence[Any]], doubts: Sequence[str], now: int
    ) -> bool:
        """Bring one request further; False if ids may be left to delete for it."""
        if request.state is State.OPEN:
            if request.id not in [one["id"] for one in told.get(request.subject, ())]:
                await requests.audit(self.ledger, request, "erasure_requested", self.slots)
                await requests.tell(self.ledger, request)
            return await self._advance(request, doubts, now)
        if request.subject and now > request.until + round(self.section.records * 1000):
            await self._end(request)
        return True

    async def _reopen(self) -> None:
        """Open completed requests again to which something belongs that was registered late.

        A subject stays noted until none of its requests is open and a look finds nothing: whoever completes one by an
        older look does not have the last word.
        """
        noted = await self._noted()
        every = await requests.every(self.ledger) if noted else []
        for subject, names in noted.items():
            mine = [one for one in every if one.subject == subject]
            with apart("erasure.not_looked_at"):
                if not await self._opened(mine) and all(one.state is not State.OPEN for one in mine):
                    await self.ledger.carrier.say(asked(*(("SREM", name, subject) for name in names)))
                    await self._opened(mine)  # what came between that look and this

    async def _noted(self) -> Mapping[str, Sequence[str]]:
        """Return the subjects of which something was registered, and the keys that say so."""
        names = [keys.slot(self.ledger.namespace, *slot) + keys.JOINED for slot in self.slots]
        found = await self.ledger.carrier.run([("SMEMBERS", name) for name in names]) if names else []
        noted = defaultdict[str, list[str]](list)
        for name, subjects in zip(names, found, strict=True):
            for subject in () if isinstance(subjects, Exception) else subjects:
                noted[text(subject)].append(name)
        return noted

    async def _opened(self, done: Sequence[ErasureRequest]) -> bool:
        """Open those again of which something is not gone; True if there are any."""
        left = [one for one in done if one.state is State.COMPLETE and await self._all_gone(one) is None]
        for request in left:
            await requests.store(self.ledger, replace(request, state=State.OPEN, completed=None, counts={}))
            log.warning("erasure.reopened", request=request.id)
        return bool(left)

    async def _all_gone(self, request: ErasureRequest) -> ErasureAccount | None:
        """Return everything that a request found, if all of it is gone and nothing is left to delete."""
        for slot in self.slots:
            async for _ids in members.pages(self.ledger, request, slot):
                return None
        account = await account_of(self.ledger, request.id)
        return account if all(one.fate in GONE for one in account.ids) else None

    async def _advance(self, request: ErasureRequest, doubts: Sequence[str], now: int) -> bool:
        """Note how far a request has come; True if it is complete."""
        whole = INDEX not in doubts
        seen = replace(request, began=request.began or (now if whole else None), doubts=tuple(doubts))
        may_be = now >= request.until and whole and not doubts
        if may_be and (account := await self._all_gone(request)):
            counts = dict(Counter(str(one.fate) for one in account.ids))
            seen = replace(seen, state=State.COMPLETE, completed=now, counts=counts)
            touched = sorted({(one.resource.provider, one.resource.kind) for one in account.ids})
            await requests.audit(self.ledger, request, "erasure_completed", touched)
            log.info("erasure.completed", request=request.id, **counts)
        if seen != request:
            await requests.store(self.ledger, seen)
        return seen.state is State.COMPLETE

    async def _doubts(self) -> list[str]:
        """Return why more of a subject may be there than can be found, or be deleted."""
        found = [] if (await index_progress(self.ledger, self.slots)).whole else [INDEX]
        strange = [slot for slot in self.slots if slot[0] not in self.providers]
        names = [keys.slot(self.ledger.namespace, *slot) for slot in strange]
        there = [("EXISTS", name + keys.FACTS, name + keys.POLICIES) for name in names]
        standing = await self.ledger.carrier.run(list(there)) if there else []
        unknown = sorted({slot[0] for slot, n in zip(strange, standing, strict=True) if n})
        return found + [f"provider not configured: {name}" for name in unknown]

    async def _end(self, request: ErasureRequest) -> None:
        """Forget whose data it was and which ids; the counts stay."""
        await requests.end(self.ledger, request)
        prefixes = [keys.slot(self.ledger.namespace, *slot) for slot in self.slots]
        names = [f"{prefix}{name}:{request.id}" for prefix in prefixes for name in keys.OUTCOMES]
        await self.ledger.carrier.run([("UNLINK", name) for name in names])
        await requests.store(self.ledger, replace(request, subject="", reason=""))
