"""Whose answers count: a credential that cannot see what the registry's others see looks at another place.

The first credential of a (provider, kind) is believed. A further one is accepted once it reads what was registered
before it appeared, or a complete listing shows such an id, or where there is none. It is asked about ids from
everywhere between the oldest and the newest: an application that moved to another project has registered the newest
ones there.
Accepted ones may alternate, as in a rotation, while none misses what another sees. A refused one is the state of its
worker, and halts nobody else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from lapse.guards.context import SweepContext, named
from lapse.ledger.known import spread_before
from lapse.ledger.reasons import HaltReason
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Outcome, Spend, classify_read, exists
from lapse.registry.model import Partition, Resource

IN_USE = 10 * 60 * 1000
"""Milliseconds after which a credential that nobody sweeps with any more has no say."""

JUDGED_AGAIN = 10 * 60 * 1000
"""Milliseconds after which a refused one is looked at again: a permission may have been missing."""

ENOUGH = 3
"""Ids that it has to see, or as many as there are, before the others are not asked about."""

log = structlog.get_logger("lapse")


@dataclass(frozen=True, slots=True)
class _State:
    """What the slot says of one credential. Times in registry milliseconds."""

    state: str
    since: int
    why: str
    judged: int
    others: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Finding:
    """How many of some ids a credential sees, and how many it misses that stand where they stood."""

    seen: int
    missed: int

    @property
    def accepts(self) -> bool:
        """True if it sees what there is: what is gone by itself is missed by everybody, and is the smaller part."""
        return self.seen > 0 and self.seen >= 2 * self.missed


class Principals:
    """The credentials of one (provider, kind), as one sweep meets them."""

    def __init__(self, context: SweepContext, kind: Kind, partition: Partition) -> None:
        self._context = context
        self._kind = kind
        self._partition = partition
        self._accepted: set[str] = set()

    async def others(self, identity: str) -> set[str]:
        """Return the credentials in use at the moment, besides this one, that see ids of this registry."""
        return set((await self._state(identity)).others)

    async def refusal(self, identity: str, spend: Spend) -> str:
        """Return why answers under this identity do not count, or an empty string where they do.

        Raises:
            Limited: no time or tokens to find that out.

        """
        if identity in self._accepted:
            return ""
        stored = await self._state(identity)
        now = await self._context.control.now()
        # Remembered for all workers, or each sweep of each of them would spend requests on the same wrong key.
        if stored.state in {"refused", "partial"} and now - stored.judged < JUDGED_AGAIN:
            return stored.why
        if stored.state != "accepted":
            found = await self._examined(identity, stored.since, spend)
            if found is None:
                return "whether this credential sees the registry's ids could not be found out"
            if why := await self._judged(identity, found):
                return why
        self._accepted.add(identity)
        return ""

    async def _judged(self, identity: str, found: "_Finding") -> str:
        """Write down what was found out about a credential; return why it is refused, if it is."""
        if found.accepts:
            await self._state(identity, "accepted")
            log.info("principal.accepted", identity=identity, **named(self._partition))
            return ""
        why = (
            f"this worker's credential sees {found.seen} of {found.seen + found.missed} ids that were registered before"
            " it appeared: it is that of another project or account"
        )
        await self._state(identity, "partial" if found.seen else "refused", why)
        await self._context.trip(self._partition, HaltReason.PRINCIPAL_UNPROVEN, why, wide=True)
        return why

    async def _examined(self, identity: str, since: int, spend: Spend) -> "_Finding | None":
        """Return what a further credential sees of the registry's ids; None if nobody could say."""
        ledger = self._context.ledger
        known = await spread_before(ledger.carrier, ledger.namespace, self._partition, since)
        if not known:  # nothing is older than it, so there is nothing that it could fail to see
            return _Finding(1, 0)
        if not self._kind.witness:
            return await self._listed(identity, known, spend)
        found = _Finding(0, 0)
        for id_ in known:
            sees = await self._sees(identity, id_, spend)
            if sees is None:
                return None
            # Looked up after the answer: only what still stands here untouched was there to be seen.
            missed = 0 if sees else await self._still(id_)
            found = _Finding(found.seen + sees, found.missed + missed)
            if found.seen >= ENOUGH and not found.missed:
                break
        return found if found.seen or found.missed else None

    async def _sees(self, identity: str, id_: str, spend: Spend) -> bool | None:
        """Return whether one id can be read under an identity; None if the answer says nothing of that."""
        await spend(1)
        reply = await self._context.provider.witness(self._kind, id_)
        if reply.identity != identity:
            return None
        if exists(self._kind, id_, reply):
            return True
        verdict = classify_read(self._kind, id_, reply, self._context.provider.recognisers)
        await self._context.throttle.react(verdict)
        return None if verdict.outcome in _OF_THE_MOMENT else False

    async def _listed(self, identity: str, known: Sequence[str], spend: Spend) -> "_Finding | None":
        # Neither to be read nor listed: its absences need a positive answer all the same, so this gives nothing away.
        if not self._kind.listable:
            return _Finding(1, 0)
        listing = await self._context.provider.listing(self._kind, spend)
        if not listing.complete or listing.identity != identity:
            return None
        seen = len(set(known) & {one.id for one in listing.items})
        return _Finding(seen, 0 if seen else len(known))  # what is not on it may have ended by itself

    async def _still(self, id_: str) -> int:
        """Return 1 if an id stands where it stood: another worker may have deleted it a moment ago."""
        ledger, at = self._context.ledger, self._partition
        operation = ledger.commands.get(Resource(at.provider, at.kind, id_))
        record = operation.finish(await ledger.carrier.carry(operation.calls))
        return int(record is not None and record.state not in {"claimed", "waiting"})

    async def _state(self, identity: str, verdict: str = "", why: str = "") -> _State:
        call = self._context.ledger.commands.on_slot(
            "guards/lua/principal",
            self._partition.provider,
            self._partition.kind,
            identity,
            verdict,
            why,
            IN_USE,
            parse=list,
        )
        state, since, reason, judged, others = (await self._context.ledger.carrier.carry([call]))[0]
        return _State(state.decode(), since, reason.decode(), judged, frozenset(json.loads(others)))


_OF_THE_MOMENT = frozenset({Outcome.AUTH, Outcome.QUOTA, Outcome.RATE_LIMITED, Outcome.ERROR})
