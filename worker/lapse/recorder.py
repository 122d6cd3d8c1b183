"""Writing down what became of claims: outcomes and request counters, one batch in one step."""

import asyncio
import secrets
import time
from collections.abc import Sequence

from lapse.errors import RegistryUnavailable
from lapse.ledger import Settled
from lapse.means import Means
from lapse.model import Partition

TRY_AGAIN = 0.5  # seconds between two tries while Redis is away


class Recorder:
    """Records the outcomes of one partition's claims."""

    def __init__(self, means: Means, partition: Partition) -> None:
        self._means = means
        self._partition = partition
        self._listable = means.provider.kinds[partition.kind].listable

    async def record(self, settled: Sequence[Settled]) -> list[str]:
        """Record outcomes, trying again while the leases last: an answer that is not recorded is lost.

        Returns:
            The ids whose lease another worker had taken over.

        Raises:
            RegistryUnavailable: Redis stayed away for half a lease.

        """
        means = self._means
        patience = time.monotonic() + means.settings.lease / 2
        counters, batch = self.counters(), secrets.token_hex(8)
        while True:
            try:
                return await means.ledger.settle(
                    self._partition, means.provider.identity, settled, counters,
                    means.settings.max_attempts, listable=self._listable, batch=batch,
                )  # fmt: skip
            except RegistryUnavailable:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(TRY_AGAIN)

    def counters(self) -> dict[str, int]:
        """Return what was counted of requests and waits since the last call, and forget it."""
        kind, flow = self._partition.kind, self._means.flow
        counted = self._means.provider.drain_tally(kind).get(kind, {})
        if flow.waited_ms:
            counted["rate_wait_ms||"], flow.waited_ms = flow.waited_ms, 0
        return counted
