"""Recording what a process left in its outbox: confirmed deletions that Redis did not take while it lived."""

import structlog

from lapse.ledger.outbox import Abandoned, Outbox, Unrecorded, abandoned
from lapse.ledger.partition import Ledger
from lapse.registry.model import Partition

log = structlog.get_logger("lapse")


async def replay(ledger: Ledger, outbox: Outbox, epoch: str) -> int:
    """Record the batches that processes of this host left behind; return how many outcomes that were.

    Those of another epoch stay where they are: the registry that they belong to is not this one.

    Raises:
        RegistryError: Redis does not take them now either; they stay.

    """
    recorded = 0
    for file in abandoned(outbox.folder):
        recorded += await _replayed(ledger, file, epoch)
    return recorded


async def _replayed(ledger: Ledger, file: Abandoned, epoch: str) -> int:
    recorded, foreign = 0, 0
    for batch in file.batches:
        if (batch.namespace, batch.epoch) != (ledger.namespace, epoch):
            foreign += 1
            continue
        recorded += await _record(ledger, batch)
    if foreign:
        log.warning("outbox.foreign", path=str(file.path), batches=foreign, epoch=epoch)
    else:
        file.recorded()
    return recorded


async def _record(ledger: Ledger, batch: Unrecorded) -> int:
    await ledger.record(Partition(batch.provider, batch.kind, ""), batch.said)
    ids = [one["id"] for one in batch.said["settled"]]
    log.info("outbox.recorded", ids=ids, provider=batch.provider, kind=batch.kind, batch=batch.batch)
    return len(ids)
