"""Writing down what became of claims: outcomes and request counters, one batch in one step, the same way for all.

What the provider confirmed is final. A Redis that is away, or refuses, is asked until it has taken it; meanwhile a
confirmation is kept on disk. A batch that is refused for good is halved, until the one outcome that cannot be recorded
is alone: it stays in the outbox, and its partition halts.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import astuple, replace

import structlog

from lapse.errors import RegistryError, RegistryRefused
from lapse.guards.context import SweepContext, named
from lapse.ledger.claim import Claim
from lapse.ledger.outbox import Unrecorded
from lapse.ledger.partition import Ledger
from lapse.ledger.reasons import HaltReason
from lapse.ledger.settle import OutcomeBatch, Recorded, Settled
from lapse.policy import Share
from lapse.providers.outcomes import Outcome
from lapse.registry.model import Partition

TRY_AGAIN = 0.5  # seconds between two tries
ENDING = 10.0  # seconds that a process which is told to end waits for Redis, where all it knows is on disk
FOR_GOOD = 4  # refusals in a row that speak of no state of the server, after which a batch is halved
HALTED = HaltReason.UNRECORDABLE

log = structlog.get_logger("lapse")


class Recorder:
    """Records the outcomes of one partition's claims."""

    def __init__(self, context: SweepContext, partition: Partition, wall: Share | None) -> None:
        """Record for one partition; ``wall``: how many absences are believed, None for any number."""
        self._wall = wall
        self._rolled_back: int | None = None
        self._failing_since: float | None = None
        self._context = context
        self._partition = partition
        self._listable = context.provider.kinds[partition.kind].listable

    async def record(self, settled: Sequence[Settled], counters: dict[str, int] | None = None) -> Recorded:
        """Record outcomes; return once Redis has taken them, or the outbox what it never will.

        Returns:
            What was not recorded as it was said.

        Raises:
            RegistryError: Redis took nothing for half a lease, and what the provider confirmed is in the outbox, or
                the process is to end.

        """
        counted = self.counters() if counters is None else counters
        attempts = self._context.settings.max_attempts
        return await self._recorded(OutcomeBatch(settled, counted, attempts, listable=self._listable, wall=self._wall))

    async def _recorded(self, batch: OutcomeBatch) -> Recorded:
        refusals = 0
        while True:
            try:
                recorded = await self._context.ledger.settle(self._partition, await self._told(batch))
            except RegistryError as error:
                # Before anything else: from the first try that failed on, the disk knows what only this process knew.
                self._keep(batch)
                refusals = refusals + 1 if _for_good(error) else 0
                if refusals >= FOR_GOOD:
                    return await self._refused(batch, error)
                if self._gives_up(batch):
                    raise
                await asyncio.sleep(TRY_AGAIN)
            else:
                self._failing_since = None
                self._acknowledged(batch)
                return recorded

    def _gives_up(self, batch: OutcomeBatch) -> bool:
        """Return True once Redis has taken nothing for so long that this process leaves a batch to the next one.

        Beyond half a lease others may claim these ids again, at the cost of a second DELETE. What must not be lost is a
        confirmation: a process that is the only one to know of it goes on asking.
        """
        now, half = time.monotonic(), self._context.settings.lease / 2
        self._failing_since = self._failing_since or now
        stopping, safe = self._context.stop.is_set(), self._safe(batch)
        patience = min(half, ENDING) if stopping and safe else half
        return now > self._failing_since + patience and (stopping or safe)

    async def _refused(self, batch: OutcomeBatch, error: RegistryError) -> Recorded:
        """Record the halves of a batch that is refused as a whole, the counters alone too; halt for what is left."""
        parts = [batch.settled[: len(batch.settled) // 2], batch.settled[len(batch.settled) // 2 :]]
        # A half has a name of its own, or the script would take it for the whole sent again. The names follow from the
        # whole's, so that a half that is tried again is the same one; the counters go with the first, to count once.
        if len(batch.settled) > 1:
            halves = [
                replace(batch, name=f"{batch.name}.{i}", settled=part, counters=batch.counters if not i else {})
                for i, part in enumerate(parts)
            ]
            done = [await self._recorded(half) for half in halves]
            # Each half is in Redis or in the outbox under its own name by now: the whole would be recorded beside them.
            self._acknowledged(batch)
            return Recorded(*(one + other for one, other in zip(astuple(done[0]), astuple(done[1]), strict=True)))
        ids = [one.id for one in batch.settled]
        log.error("outcome.unrecordable", ids=ids, error=str(error), **named(self._partition))
        try:
            await self._context.control.halt(
                self._partition, HALTED, f"the outcome of {', '.join(ids) or 'no id'} cannot be recorded: {error}"
            )
        except RegistryError as second:
            log.error("guard.failed", guard=HALTED, error=str(second), **named(self._partition))
        return Recorded(unrecordable=tuple(ids))

    def _safe(self, batch: OutcomeBatch) -> bool:
        """Return True if nothing that the provider confirmed would be lost with this process."""
        outbox = self._context.outbox
        return not _confirmed(batch) or (outbox is not None and outbox.keeps(batch.name))

    def _keep(self, batch: OutcomeBatch) -> None:
        """Write confirmations to disk that Redis did not take; sent again, they change nothing that it did take."""
        outbox, at = self._context.outbox, self._partition
        if outbox is None or not _confirmed(batch):
            return
        ledger, epoch = self._context.ledger, self._context.watch.epoch
        # Without the wall, which weighs what comes in now: each of these was judged by whoever asked, and stays judged.
        stored = replace(batch, wall=None).stored(ledger.worker)
        try:
            outbox.keep(Unrecorded(ledger.namespace, epoch, at.provider, at.kind, batch.name, stored))
        except OSError as error:
            log.error("outbox.unwritten", folder=str(outbox.folder), error=str(error), **named(at))

    def _acknowledged(self, batch: OutcomeBatch) -> None:
        if self._context.outbox is None:
            return
        try:
            self._context.outbox.recorded(batch.name)
        except OSError as error:
            log.warning("outbox.unwritten", folder=str(self._context.outbox.folder), error=str(error))

    async def _told(self, batch: OutcomeBatch) -> OutcomeBatch:
        """Return a batch with when a rollback was accepted: what was due before is gone by our own hand, perhaps."""
        if self._rolled_back is None and any(one.outcome is Outcome.ALREADY_GONE for one in batch.settled):
            self._rolled_back = await self._context.control.rolled_back()
        return replace(batch, rolled_back=self._rolled_back or 0)

    def counters(self) -> dict[str, int]:
        """Return what was counted of requests and waits since the last call, and forget it."""
        kind, throttle = self._partition.kind, self._context.throttle
        counted = self._context.provider.drain_counters(kind).get(kind, {})
        if throttle.waited_ms:
            counted["rate_wait_ms||"], throttle.waited_ms = throttle.waited_ms, 0
        return counted


_OF_THE_SERVER = (
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
)
"""What a server says of its own state, and not of what it was asked: it ends by itself, or an operator ends it."""


def _confirmed(batch: OutcomeBatch) -> bool:
    return any(one.outcome is Outcome.DELETED or one.items for one in batch.settled)


def _for_good(error: RegistryError) -> bool:
    return isinstance(error, RegistryRefused) and not any(word in str(error) for word in _OF_THE_SERVER)


async def progress(ledger: Ledger, claim: Claim, items: int) -> bool:
    """Count items of a claimed id while it is being emptied; False where the lease is another's.

    Raises:
        RegistryError: they may be counted or not; the next call, or the outcome, says it again.

    """
    call = ledger.commands.call("ledger/lua/progress", claim.resource, claim.token, items, parse=bool)
    return bool((await ledger.carrier.carry([call]))[0])
