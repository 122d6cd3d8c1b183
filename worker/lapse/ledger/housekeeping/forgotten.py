"""What of a slot ends with time; that an id was forgotten is remembered for as long as the provider may show it."""

from collections.abc import Iterable, Sequence
from typing import Any

from lapse.ledger.partition import Ledger
from lapse.policy import Rule
from lapse.registry import keys
from lapse.registry.model import PURGED, Partition

CHUNK = 500


class Unlisted:
    """Ends what was forgotten of a kind and two complete listings in a row did not show."""

    def __init__(self, ledger: Ledger, partition: Partition) -> None:
        self._ledger = ledger
        self._partition = partition
        self._name = keys.slot(ledger.namespace, partition.provider, partition.kind) + keys.FORGOTTEN
        self._began = 0
        self._any = False
        self._shown: set[str] = set()

    async def begin(self, now: int) -> None:
        """Begin a listing at a registry time in milliseconds; what is forgotten from then on may not be in it."""
        (count,) = await self._ledger.carrier.run([("ZCARD", self._name)])
        self._began, self._any, self._shown = now, bool(count), set()

    async def see(self, ids: Sequence[str]) -> None:
        """Take note of what a page of the listing shows."""
        if self._any and ids:
            self._shown.update(await self._on("ledger/lua/listed", *ids))

    async def end(self) -> int:
        """End what this listing, which was complete, is the second not to show; return how many."""
        ended, at = 0, 0
        while self._any:
            (flat,) = await self._ledger.carrier.run([("ZRANGE", self._name, at, at + CHUNK - 1, "WITHSCORES")])
            before = [
                id_.decode() for id_, since in zip(flat[::2], flat[1::2], strict=True) if int(since) < self._began
            ]
            unseen = [id_ for id_ in before if id_ not in self._shown]
            gone = await self._on("ledger/lua/unlisted", str(self._began), *unseen) if unseen else 0
            ended += gone
            at += len(before) - gone
            if len(before) < CHUNK:
                break
        return ended

    async def _on(self, script: str, *said: str) -> Any:
        at = self._partition
        call = self._ledger.on_slot(script, at.provider, at.kind, *said, parse=_read)
        return (await self._ledger.carrier.carry([call]))[0]


async def anything_ends(ledger: Ledger, provider: str, kind: str, rules: Iterable[Rule]) -> bool:
    """Return False if a slot has nothing that ends with time.

    That is: no tombstone, no id that was deleted or forgotten, no edge to release, no lease, and no name of a policy
    but the rules'.
    """
    slot = keys.slot(ledger.namespace, provider, kind)
    (stored,) = await ledger.carrier.run([("SMEMBERS", slot + keys.POLICIES)])
    names = {*keys.policies_named(stored)}
    if not names <= {at.policy for rule in rules if ((at := rule.partition).provider, at.kind) == (provider, kind)}:
        return True
    ending = [slot + name for name in (keys.TOMBSTONES, keys.DELETED, keys.FORGOTTEN, keys.RELEASED)]
    ending += [f"{slot}{name}:{keys.CLAIMS}" for name in (PURGED, *names)]
    (there,) = await ledger.carrier.run([("EXISTS", *ending)])
    return bool(there)


async def end_unlistable(ledger: Ledger, provider: str, kind: str, before: int) -> int:
    """End what was forgotten before a registry time in milliseconds, of a kind that no list shows; return how many."""
    name = keys.slot(ledger.namespace, provider, kind) + keys.FORGOTTEN
    (ended,) = await ledger.carrier.write(("ZREMRANGEBYSCORE", name, "-inf", f"({before}"))
    return int(ended)


def _read(reply: Any) -> Any:
    return [id_.decode() for id_ in reply] if isinstance(reply, list) else reply
