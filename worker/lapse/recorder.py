"""Writing down what became of claims: outcomes and request counters, one batch in one step."""

import asyncio
import secrets
import time
from collections.abc import Sequence

from lapse.errors import RegistryUnavailable
from lapse.ledger import Recorded, Settled
from lapse.means import Means
from lapse.model import Partition
from lapse.outcomes import Outcome
from lapse.policy import Share

TRY_AGAIN = 0.5  # seconds between two tries while Redis is away


class Recorder:
    """Records the outcomes of one partition's claims."""

    def __init__(self, means: Means, partition: Partition, wall: Share | None) -> None:
        """Record for one partition; ``wall``: how many absences are believed, None for any number."""
        self._wall = wall
        self._rolled_back: int | None = None
        self._means = means
        self._partition = partition
        self._listable = means.provider.kinds[partition.kind].listable

    async def record(self, settled: Sequence[Settled]) -> Recorded:
        """Record outcomes, trying again while the leases last: an answer that is not recorded is lost.

        Returns:
            What was not recorded as it was said.

        Raises:
            RegistryUnavailable: Redis stayed away for half a lease.

        """
        means = self._means
        patience = time.monotonic() + means.settings.lease / 2
        counters, batch = self.counters(), secrets.token_hex(8)
        while True:
            try:
                return await means.ledger.settle(
                    self._partition, settled, counters, means.settings.max_attempts, listable=self._listable,
                    batch=batch, wall=self._wall, rolled_back=await self._rollback(settled),
                )  # fmt: skip
            except RegistryUnavailable:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(TRY_AGAIN)

    async def _rollback(self, settled: Sequence[Settled]) -> int:
        """Return when a rollback was accepted: what was due before is gone by our own hand, perhaps."""
        if self._rolled_back is None and any(one.outcome is Outcome.ALREADY_GONE for one in settled):
            self._rolled_back = await self._means.control.rolled_back()
        return self._rolled_back or 0

    def counters(self) -> dict[str, int]:
        """Return what was counted of requests and waits since the last call, and forget it."""
        kind, flow = self._partition.kind, self._means.flow
        counted = self._means.provider.drain_tally(kind).get(kind, {})
        if flow.waited_ms:
            counted["rate_wait_ms||"], flow.waited_ms = flow.waited_ms, 0
        return counted
