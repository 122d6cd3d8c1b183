"""A list that is much shorter than the last one, less what lapse deleted since: not to be believed at once."""

from lapse.guards.context import SweepContext
from lapse.ledger.reasons import HaltReason
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import PURGED, Partition

SHRUNK_BELOW = 0.5
LAG = 3_600_000
"""Milliseconds for which a list may go on showing what was deleted."""
DOUBTS = 3
"""Shrunken listings in a row after which an operator has to say whether that is how it is."""


class Shrinkage:
    """Compares one complete listing with the last one of its (provider, kind), whichever policy had that read."""

    def __init__(self, context: SweepContext, partition: Partition) -> None:
        self._context = context
        self._partition = partition
        self._listed = 0
        slot = keys.slot(context.ledger.namespace, partition.provider, partition.kind)
        self._name, self._counters, self._policies = slot + keys.LISTING, slot + keys.COUNTERS, slot + keys.POLICIES
        self._tombstones = slot + keys.TOMBSTONES
        self._doubts = f"doubts|{partition.policy}"
        self._accepted, self._shown = f"accepted|{partition.policy}", f"shrunk|{partition.policy}"
        self._shrunken = False

    async def doubt(self, listed: int, registered: int) -> str | None:
        """Return why so few objects are not believed; otherwise the next listing is compared with this one."""
        carrier, self._listed = self._context.ledger.carrier, listed
        deleted = await self._deleted()
        ((last, then, accepted, at),) = await carrier.run(
            [("HMGET", self._name, "count", "deleted", self._accepted, "at")]
        )
        now = await self._context.control.now()
        ours = max(deleted - int(then or 0), await self._settled_since(int(at or now) - LAG))
        expected = registered if last is None else int(last) - ours
        short = listed < expected * SHRUNK_BELOW if last is not None else listed == 0 < registered
        # An operator who answers the halt says that the list is as short as it was then: take_as_it_is.
        if short and (accepted is None or listed < int(accepted) * SHRUNK_BELOW):
            self._shrunken = True
            return f"the listing has {listed} objects; at least half of {expected} were expected"
        await carrier.write(
            ("HSET", self._name, "count", listed, "deleted", deleted, "at", now),
            ("HDEL", self._name, self._doubts, self._accepted),
        )
        return None

    async def halt(self, why: str) -> bool:
        """Halt if this is how listings have looked several times in a row: nothing but an operator would end it."""
        carrier = self._context.ledger.carrier
        if not self._shrunken or (await carrier.write(("HINCRBY", self._name, self._doubts, 1)))[0] < DOUBTS:
            return False
        await carrier.write(("HSET", self._name, self._shown, self._listed), ("HDEL", self._name, self._doubts))
        await self._context.trip(self._partition, HaltReason.LISTING_SHRUNK, why)
        return True

    async def _settled_since(self, since: int) -> int:
        """Return how many ids of the kind lapse has settled since then: the last list may have shown any of them."""
        (count,) = await self._context.ledger.carrier.run([("ZCOUNT", self._tombstones, since, "+inf")])
        return int(count)

    async def _deleted(self) -> int:
        """Return how many of the kind lapse has ever deleted here, under whatever policy and by purges."""
        carrier, kind = self._context.ledger.carrier, self._partition.kind
        (policies,) = await carrier.run([("SMEMBERS", self._policies)])
        fields = [f"deletions|{name}|{kind}" for name in (PURGED, *keys.policies_named(policies))]
        (counts,) = await carrier.run([("HMGET", self._counters, *fields)])
        return sum(int(n or 0) for n in counts)


async def take_as_it_is(carrier: Carrier, namespace: str, partition: Partition) -> None:
    """Take the list for as short as it was when it halted: the answer of an operator."""
    name = keys.slot(namespace, partition.provider, partition.kind) + keys.LISTING
    (shown,) = await carrier.run([("HGET", name, f"shrunk|{partition.policy}")])
    if shown is not None:
        await carrier.write(("HSET", name, f"accepted|{partition.policy}", int(shown)))
