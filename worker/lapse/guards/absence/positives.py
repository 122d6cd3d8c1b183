"""Positive answers: what shows that objects of a kind can be seen from here, with this credential.

Positive is an answer about an id that this registry knew before the sweep began: read, deleted with confirmation, or
shown by a complete listing. It proves an absence only if its request was sent after that absence was answered: what was
seen before may have been seen at another place. Nothing is remembered as proof beyond the sweep.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field

from lapse.guards.absence.canaries import prove
from lapse.guards.context import SweepContext
from lapse.ledger.known import known_before, tracked_before
from lapse.policy import Rule
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Outcome, Spend, classify_read, exists
from lapse.registry import codec, keys
from lapse.registry.model import Partition

ASKED = 10
"""Ids that a sweep asks about before it gives up. With 6 requests a minute that takes less than two minutes."""

MISSED_FOR = 15 * 60 * 1000
"""Milliseconds for which an id that was not found is not asked about again: the next sweep goes on with others."""


@dataclass(slots=True)
class _Memory:
    """Whom to ask first, and whom not to ask, next time: a hint, and no proof of anything."""

    found: str = ""
    missed: dict[str, int] = field(default_factory=dict)


class Positives:
    """The positive answers of one sweep about one kind.

    ``exhausted``: identities under which all that could be asked about was, and nothing was there.
    """

    def __init__(self, context: SweepContext, kind: Kind, partition: Partition, rule: Rule | None = None) -> None:
        """Begin with none; ``rule`` is what canaries stand under, None for no canaries."""
        self.exhausted: set[str] = set()
        self._rule = rule if context.provider.canary and kind.create is not None else None
        self._context = context
        self._kind = kind
        self._partition = partition
        self._latest: dict[str, float] = {}
        self._asked: dict[str, set[str]] = {}
        self._marks = keys.slot(context.ledger.namespace, partition.provider, partition.kind) + keys.MARKS

    def note(self, identity: str, sent_at: float) -> None:
        """Note a positive answer about an id that this registry knew before the sweep began."""
        # By when it was sent: an answer that arrives late may have been formed before the absence was.
        self._latest[identity] = max(sent_at, self._latest.get(identity, 0.0))

    def after(self, identity: str, answered_at: float) -> bool:
        """Return True if a positive answer under this identity was asked for after another answer was there."""
        return self._latest.get(identity, 0.0) > answered_at

    async def ask(self, identity: str, began: int, besides: Collection[str], spend: Spend) -> bool:
        """Ask for one positive answer under an identity; False if there is none to be had.

        Args:
            identity: Whose answers count.
            began: Registry milliseconds; ids that were registered later prove nothing.
            besides: Ids that were not found themselves.
            spend: Awaited before each request.

        Raises:
            Limited: no time or tokens; the next call goes on where this one ended.

        """
        if identity in self.exhausted:
            return False
        if self._kind.witness:
            found = await self._read(identity, began, besides, spend)
        else:
            found = await self._listed(identity, began, spend)
        if not found:
            found = await self._canary(identity, spend)
        if not found:
            self.exhausted.add(identity)
        return found

    async def _read(self, identity: str, began: int, besides: Collection[str], spend: Spend) -> bool:
        asked = self._asked.setdefault(identity, set())
        for id_ in await self._candidates(identity, began, {*besides, *asked}):
            if len(asked) >= ASKED:
                break
            await spend(1)
            reply = await self._context.provider.witness(self._kind, id_)
            if reply.identity != identity:
                return False  # the credential is another one by now, and this one's answers are over
            if exists(self._kind, id_, reply):
                self.note(identity, reply.sent_at)
                await self._remember(identity, found=id_)
                return True
            asked.add(id_)
            verdict = classify_read(self._kind, id_, reply, self._context.provider.recognisers)
            if verdict.outcome is Outcome.ALREADY_GONE:
                await self._remember(identity, missed=id_)
            else:
                await self._context.throttle.react(verdict)
        return False

    async def _listed(self, identity: str, began: int, spend: Spend) -> bool:
        """Read the list of a kind that a read would keep alive: one of the registry's own on it shows the place."""
        if not self._kind.listable:
            return False
        known = set(await self._known(began))
        listing = await self._context.provider.listing(self._kind, spend)
        shown = listing.complete and listing.identity == identity
        if not shown or known.isdisjoint(one.id for one in listing.items):
            return False
        self.note(identity, listing.sent_at)
        return True

    async def _canary(self, identity: str, spend: Spend) -> bool:
        """Make an object and delete it, if this credential has seen or deleted one of the registry's own before."""
        if self._rule is None:
            return False
        # In a wrong project a canary would be made and deleted without fault, and prove just that.
        (worked,) = await self._context.ledger.carrier.run([("HEXISTS", self._marks, f"worked|{identity}")])
        if not worked and not (await self._memory(identity)).found:
            return False
        verdict = await prove(self._context, self._rule, self._kind, spend)
        if verdict is None or verdict.identity != identity:
            return False
        self.note(identity, verdict.sent_at)
        return True

    async def _known(self, began: int) -> list[str]:
        ledger = self._context.ledger
        return await known_before(ledger.carrier, ledger.namespace, self._partition, began)

    async def _candidates(self, identity: str, began: int, besides: Collection[str]) -> list[str]:
        """Return the id that answered last time, then others, without those that were not found a moment ago."""
        memory, now = await self._memory(identity), await self._context.control.now()
        known = await self._known(began)
        if memory.found and await self._tracked(memory.found, began):
            known = [memory.found, *known]
        missed = {id_ for id_, when in memory.missed.items() if now - when < MISSED_FOR}
        return [id_ for id_ in dict.fromkeys(known) if id_ not in missed and id_ not in besides]

    async def _tracked(self, id_: str, began: int) -> bool:
        ledger = self._context.ledger
        return await tracked_before(ledger.carrier, ledger.namespace, self._partition, id_, began)

    async def _memory(self, identity: str) -> _Memory:
        (stored,) = await self._context.ledger.carrier.run([("HGET", self._marks, f"asked|{identity}")])
        return _Memory(**json.loads(stored)) if stored else _Memory()

    async def _remember(self, identity: str, *, found: str = "", missed: str = "") -> None:
        memory, now = await self._memory(identity), await self._context.control.now()
        recent = {id_: when for id_, when in memory.missed.items() if now - when < MISSED_FOR and id_ != found}
        kept = _Memory(found or memory.found, recent | ({missed: now} if missed else {}))
        await self._context.ledger.carrier.write(("HSET", self._marks, f"asked|{identity}", codec.dump(asdict(kept))))
