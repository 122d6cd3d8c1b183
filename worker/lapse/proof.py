"""Is "not found" the truth about an id, or are we looking at the wrong place?

A wrong key, project or base URL looks like "everything is gone".
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from lapse.control import Control
from lapse.flow import Flow
from lapse.kinds import Kind
from lapse.ledger import Ledger
from lapse.model import Partition
from lapse.outcomes import Outcome, Verdict, after_probe, exists
from lapse.providers import Provider

PROOF_LASTS_MS = 24 * 3600 * 1000
WITNESSES = 5
TRIES = 3  # sweeps without a proof
STRANGERS = 3


class Proof:
    """What one sweep knows about whether its provider answers for the right place."""

    def __init__(self, ledger: Ledger, provider: Provider, flow: Flow, kind: Kind, partition: Partition) -> None:
        self._ledger = ledger
        self._provider = provider
        self._flow = flow
        self._kind = kind
        self._partition = partition
        self._proven: bool | None = None
        self._strangers: set[str] = set()
        self._looking = asyncio.Lock()

    async def judge(self, object_id: str, verdict: Verdict, now: int) -> Verdict:
        """Return the verdict as it may be recorded: an unproven absence and an unknown 404 are no absence.

        Raises:
            Limited: no request tokens in time for a witness or a probe.

        """
        if verdict.outcome is Outcome.DELETED:
            self._proven = True
        if verdict.outcome is Outcome.ALREADY_GONE and not await self.proven(object_id, now):
            return replace(verdict, outcome=Outcome.UNPROVEN)
        if verdict.outcome is Outcome.UNRECOGNISED:
            return await self._probe(object_id, verdict)
        return verdict

    async def proven(self, absent: str, now: int) -> bool:
        """Return True if a deletion was confirmed here within 24 h, or one of the newest ids can be read."""
        async with self._looking:  # one look for all that are in flight
            if self._proven is None:
                mark = f"proof|{self._provider.identity}"
                since = await self._ledger.mark(self._partition.provider, self._partition.kind, mark)
                self._proven = since is not None and now - since < PROOF_LASTS_MS
                if not self._proven and await self._witness(absent):
                    await self._ledger.mark(self._partition.provider, self._partition.kind, mark, now)
                    self._proven = True
            return self._proven

    async def conclude(self, outcomes: Mapping[str, int], control: Control) -> None:
        """Count a sweep that found no proof, and halt at the third in a row; a sweep with one begins anew."""
        partition, field = self._partition, f"unproven|{self._partition.policy}"
        if outcomes.get(Outcome.DELETED) or outcomes.get(Outcome.ALREADY_GONE):
            if await self._ledger.mark(partition.provider, partition.kind, field):
                await self._ledger.mark(partition.provider, partition.kind, field, 0)
        elif outcomes.get(Outcome.UNPROVEN):
            tries = (await self._ledger.mark(partition.provider, partition.kind, field) or 0) + 1
            await self._ledger.mark(partition.provider, partition.kind, field, tries)
            if tries >= TRIES:
                await control.halt(partition, "no_witness", _NO_WITNESS)

    @property
    def endpoint_doubtful(self) -> bool:
        """True once several ids of one sweep met an answer that nobody knows."""
        return len(self._strangers) >= STRANGERS

    async def _witness(self, absent: str) -> bool:
        if not self._kind.witness:
            return False
        newest = await self._ledger.newest(self._partition.provider, self._partition.kind, WITNESSES + 1)
        for id_ in [id_ for id_ in newest if id_ != absent][:WITNESSES]:
            await self._flow.spend(1)
            if exists(self._kind, id_, await self._provider.witness(self._kind, id_)):
                return True
        return False

    async def _probe(self, object_id: str, verdict: Verdict) -> Verdict:
        self._strangers.add(object_id)
        if self._kind.probe:
            await self._flow.spend(1)
        return after_probe(self._kind, verdict, await self._provider.probe(self._kind))


_NO_WITNESS = (
    "the provider says of every id that it is not there, and none of the newest ids can be read: "
    "wrong key, project or base_url?"
)
