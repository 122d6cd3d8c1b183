"""Watches the registry: a look before every sweep and every second of it; if it is not right, everything halts."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from lapse.errors import RegistryError
from lapse.guards.integrity.continuity import JUMP, Known, Observation, Trouble, judge, mended, remember
from lapse.guards.integrity.statefile import StateFile
from lapse.ledger.claim import UNCHECKED, Expected
from lapse.ledger.halts import Halts
from lapse.ledger.reasons import HaltReason
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.scripts import Call, script
from lapse.registry.subjects import last_said

SAVE_EVERY = 10.0  # seconds; what a host forgets at most when all its processes are killed
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

log = structlog.get_logger("lapse")


def local_clock() -> int:
    """Return milliseconds of a clock that nobody sets, and that goes on while a laptop sleeps."""
    return time.clock_gettime_ns(_CLOCK) // 1_000_000


class Watch:
    """What one process knows of its registry.

    Attributes:
        known: What it remembers.
        partitions: Every configured partition: what a halt of everything halts.

    """

    def __init__(
        self,
        carrier: Carrier,
        namespace: str,
        partitions: Sequence[Partition] = (),
        *,
        known: Known | None = None,
        witness: StateFile | None = None,
    ) -> None:
        self.known = known
        self.partitions = partitions
        self._carrier = carrier
        self._namespace = namespace
        self._control = Halts(carrier, namespace)
        self._witness = witness
        self._subjects = 0
        self._saved: tuple[str, float] = ("", 0.0)

    @property
    def epoch(self) -> str:
        """The registry's id as this process knows it; empty before the first look."""
        return self.known.epoch if self.known else ""

    def expected(self) -> Expected:
        """Return what a claim insists on: epoch, earliest and latest Redis TIME that can be true, subjects known."""
        if self.known is None or self.known.offset is None:
            return (*UNCHECKED[:3], self._subjects)
        here, offset = local_clock(), self.known.offset
        return self.known.epoch, here + offset.least - JUMP, here + offset.most + JUMP, self._subjects

    async def look(self) -> Trouble | None:
        """Look once; if the registry is not the one that is known, or its clock jumped, halt everything.

        Raises:
            RegistryUnavailable: there was nothing to see, or a halt could not be set; the next look tries again.

        """
        sight = await see(self._carrier, self._namespace, self.known)
        self._subjects = await self._carrier.say(last_said(self._namespace))
        trouble = judge(self.known, sight)
        if trouble and trouble.reason != HaltReason.HALF_IMPORTED:  # whoever imports has set that one
            await self.halt(trouble)
        elif not trouble and mended(self.known, sight):
            await self._control.accept(HaltReason.CLOCK_JUMPED)
            await self.lift(HaltReason.CLOCK_JUMPED, "the clock is right again")
        self.known = remember(self.known, sight, trouble)
        if not trouble:
            await self._save()
        return trouble

    async def halt(self, trouble: Trouble) -> None:
        """Halt everything."""
        slots = {(partition.provider, partition.kind): partition for partition in reversed(self.partitions)}
        news = [
            await self._control.halt(partition, trouble.reason, trouble.detail, whole_kind=True)
            for partition in slots.values()
        ]
        if any(news):
            log.error("guard.tripped", guard=trouble.reason, detail=trouble.detail)

    async def lift(self, reason: str, why: str) -> None:
        """End a halt of everything whose cause has ended."""
        slots = {(partition.provider, partition.kind) for partition in self.partitions}
        for halt in await self._control.halts(sorted(slots)):
            if halt.reason == reason:
                await self._control.lift(halt, why, "lapse")

    async def trust_clock(self, why: str) -> None:
        """Take Redis TIME for right from now on, whatever it was before, and end what halted because of it."""
        if self.known:
            self.known = replace(self.known, offset=None, before=None, behind=False)
        await self._control.accept(HaltReason.CLOCK_JUMPED)
        await self.lift(HaltReason.CLOCK_JUMPED, why)

    async def _save(self) -> None:
        epoch, when = self._saved
        if self._witness is None or self.known is None:
            return
        if epoch == self.known.epoch and time.monotonic() - when < SAVE_EVERY:
            return
        self._saved = (self.known.epoch, time.monotonic())
        try:
            await asyncio.to_thread(self._witness.save, self.known)
        except OSError as error:
            log.error("witness.unwritten", path=str(self._witness.path), error=str(error))


async def see(carrier: Carrier, namespace: str, known: Known | None) -> Observation:
    """Look at the registry once, as a worker does: make its epoch if it has none, and move its sequence on.

    Raises:
        RegistryUnavailable: no answer in time.

    """
    asked = local_clock()
    read = max((number for number, _ in known.recent), default=0) if known else 0
    arguments = (secrets.token_hex(6), known.epoch if known else "", secrets.token_hex(32), read)
    call = Call(script("guards/lua/look"), keys.epoch(namespace), arguments, list)
    now, epoch, sequence, at, reached, accepted, clock, moved, importing, started = (await carrier.carry([call]))[0]
    return Observation(
        now,
        epoch.decode(),
        sequence,
        at,
        reached,
        accepted == 1,
        clock,
        asked=asked,
        answered=local_clock(),
        moved=moved.decode(),
        importing=importing.decode(),
        started=started,
    )


def begin(url: str | RedisEndpoint, namespace: str, timeout: float, witness: StateFile | None) -> Known | None:
    """Look once before the pool forks: a process that begins later knows what the registry was like, and its clock.

    Raises:
        ConfigError: the witness file is no such thing.

    """
    known = witness.load() if witness else None

    async def first() -> Known | None:
        carrier = Carrier(url, timeout)
        try:
            sight = await see(carrier, namespace, known)
        except RegistryError:
            return known
        finally:
            await carrier.aclose()
        # What is wrong is found again, and answered, by whoever sweeps first.
        return known if judge(known, sight) else remember(known, sight)

    return asyncio.run(first())
