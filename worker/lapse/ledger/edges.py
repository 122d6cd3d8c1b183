"""Removes the edges of sources that are over: settled or forgotten. Source and target stand in different slots.

No script sees both slots, and a source may be registered again at any time. So an edge is said to be leaving first,
while it protects still; then the source is asked whether it uses the target after all; and the edge goes only if nobody
named it since the first step. A registration names its edges before and after it: whatever lies between two steps here,
one of the two is seen, or puts the edge back.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from lapse.registry import codec, keys
from lapse.registry.aio import Carrier
from lapse.registry.commands import BULK, Commands
from lapse.registry.model import Partition, Resource
from lapse.registry.scripts import Call, text

SOURCES = 500

Edge = tuple[str, str]
"""The id of a source, and what it uses: "provider|kind|id"."""


@dataclass(slots=True)
class Release:
    """One pass over the sources of a slot. ``mark`` is this pass' own: two passes never end each other's.

    ``freed``: the partitions of targets that nothing uses any more and that came back.
    """

    carrier: Carrier
    commands: Commands
    provider: str
    kind: str
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    freed: set[Partition] = field(default_factory=set)

    async def run(self) -> int:
        """Remove the edges of about SOURCES sources; return of how many."""
        sources = await self._sources()
        edges = [(source, edge) for source, uses in sources.items() for edge in uses]
        await self._each("ledger/lua/leave", edges)
        # Marked first, then asked again: a source that is registered anew meanwhile ends the mark, or is seen here.
        over, anew = await self._over(sources, edges)
        if anew:
            await self.carrier.write(*(self._unmarked(one) for one in anew))
        gone = await self._removed(over)
        for (_source, use), policy in zip(over, gone, strict=True):
            if isinstance(policy, str):
                target = codec.edge(use)
                self.freed.add(Partition(target.provider, target.kind, policy))
        await self._let_go([one for one, removed in zip(over, gone, strict=True) if removed])
        return len(sources)

    async def _sources(self) -> dict[str, list[str]]:
        _cursor, flat = (await self.carrier.run([("HSCAN", self._released, 0, "COUNT", SOURCES)]))[0]
        return {text(source): json.loads(uses) for source, uses in zip(flat[::2], flat[1::2], strict=True)}

    async def _over(self, sources: dict[str, list[str]], edges: Sequence[Edge]) -> tuple[list[Edge], list[Edge]]:
        """Return the edges that their sources let go of still, and those that they use again."""
        if not sources:
            return [], []
        stored = (await self.carrier.run([("HMGET", self._released, *sources)]))[0]
        still = {source: set(json.loads(uses or "[]")) for source, uses in zip(sources, stored, strict=True)}
        over = [one for one in edges if one[1] in still[one[0]]]
        return over, [one for one in edges if one[1] not in still[one[0]]]

    async def _let_go(self, gone: Sequence[Edge]) -> None:
        removed: dict[str, list[str]] = {}
        for source, edge in gone:
            removed.setdefault(source, []).append(edge)
        for source, uses in removed.items():
            call = self.commands.on_slot("ledger/lua/let_go", self.provider, self.kind, source, *uses, parse=int)
            await self.carrier.carry([call])

    @property
    def _released(self) -> str:
        return keys.slot(self.commands.namespace, self.provider, self.kind) + keys.RELEASED

    async def _each(self, script: str, edges: Sequence[Edge]) -> list[int | str]:
        """Run a script for each edge, in round trips of BULK."""
        replies: list[int | str] = []
        for at in range(0, len(edges), BULK):
            replies += await self.carrier.carry([self._edge(script, one) for one in edges[at : at + BULK]])
        return replies

    async def _removed(self, edges: Sequence[Edge]) -> list[int | str]:
        """Remove edges, each where its target is; nobody lets go of one that a failover could bring back for ever."""
        replies: list[int | str] = [0] * len(edges)
        slots: dict[Partition, list[int]] = {}
        for at, (_source, use) in enumerate(edges):
            target = codec.edge(use)
            slots.setdefault(Partition(target.provider, target.kind, ""), []).append(at)
        for places in slots.values():
            for start in range(0, len(places), BULK):
                some = places[start : start + BULK]
                told = await self.carrier.carry_lasting([self._edge("ledger/lua/unrefer", edges[at]) for at in some])
                for at, reply in zip(some, told, strict=True):
                    replies[at] = reply
        return replies

    def _edge(self, script: str, one: Edge) -> Call[int | str]:
        target = codec.edge(one[1])
        return self.commands.on_slot(
            script, target.provider, target.kind, self._named(one[0]), target.id, self.mark, parse=_policy
        )

    def _unmarked(self, one: Edge) -> tuple[str, ...]:
        target = codec.edge(one[1])
        slot = keys.slot(self.commands.namespace, target.provider, target.kind)
        return ("HDEL", slot + keys.LEAVING, f"{target.id}|{self._named(one[0])}")

    def _named(self, source: str) -> str:
        return codec.edge_text(Resource(self.provider, self.kind, source))


def _policy(reply: bytes | int) -> int | str:
    return reply if isinstance(reply, int) else reply.decode()
