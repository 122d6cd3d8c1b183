"""The second story: list what can be listed, see the same orphans several times in a row, then the same delete path."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import structlog

from lapse import durations
from lapse.guards.context import SweepContext, named
from lapse.guards.listing import Shrinkage
from lapse.guards.preexisting import Elders
from lapse.guards.recovery import by_listing, lift
from lapse.guards.undeclared_uses import halted
from lapse.ledger.halts import plan_hash
from lapse.ledger.housekeeping.forgotten import Unlisted
from lapse.ledger.nonces import Copies, Nonces
from lapse.ledger.reasons import HaltReason
from lapse.ledger.records import scanned
from lapse.policy import Orphan, Rule
from lapse.providers.pagination import Listed, Listing
from lapse.registry import codec, keys
from lapse.sweep.batches import claim_due, claim_orphans
from lapse.sweep.deletion.ownership import COPIED, Judge
from lapse.sweep.deletion.reactions import move_breaker
from lapse.sweep.executor import Executor
from lapse.sweep.opening import opened
from lapse.sweep.report import Report
from lapse.sweep.session import Session
from lapse.sweep.widening import Widening

T = TypeVar("T")

log = structlog.get_logger("lapse")

CHUNK = 100
NAME = 80
"""How much of a name is shown with a candidate."""


async def collect_orphans(context: SweepContext, rule: Rule, *, budget: float | None = None) -> Report:
    """Delete what is listed, provably ours, old enough and used by nothing, on several complete listings in a row.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    found = Findings()
    session = Session(context, rule, budget, recheck=found.changed)
    if await opened(session):
        async with session.executor(delete=session.delete, settle=session.settle) as executor:
            while batch := await claim_due(session, executor):  # those with an expiry of their own
                executor.submit(batch.claims)
            await _collect(Search(session, found, await Widening.of(session)), executor)
    elif await by_listing(context, rule):
        await Search(session, found, await Widening.of(session)).look_again()
    return await session.closed()


async def _collect(search: "Search", executor: Executor) -> None:
    if why := await halted(search.session.context, search.session.rule.partition):
        search.session.ends("halted", why)
        return
    listing = await search.listing()
    if listing is None:
        return
    ripe = await search.ripe(listing)
    if not await search.old_enough() or not await search.share_allows(ripe, listing):
        return
    if not await search.widening.allows(listing.count):
        return
    together = {id_: one.first for id_, one in ripe.items() if not one.crashed}
    while together and (claims := await claim_orphans(search.session, executor, together)):
        executor.submit(claims.claims)
    await executor.drain(search.session.budget.left())
    for id_, one in ripe.items():
        if one.crashed and (claims := await claim_orphans(search.session, executor, {id_: one.first}, alone=True)):
            executor.submit(claims.claims)
            await executor.drain(search.session.budget.left())


def _judge(context: SweepContext, rule: Rule) -> Judge:
    if rule.orphan is None:
        raise ValueError(f"{rule.partition} has no orphan rule")
    return Judge(rule, rule.orphan, context.ledger.namespace, context.watch.epoch)


@dataclass(frozen=True, slots=True)
class Ripe:
    """An orphan on enough listings in a row: since when (ms), and whether a worker ended while deleting it."""

    first: int
    crashed: bool


@dataclass(slots=True)
class Findings:
    """What one listing shows: how many objects of each state, and those that the registry has to count."""

    now: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    candidates: dict[str, dict[str, Any]] = field(default_factory=dict)
    ripens: list[float] = field(default_factory=list)
    """When the first and the last of the young ones is old enough, in registry milliseconds."""

    judge: Judge | None = None
    """By what each object was seen as what it is."""

    def changed(self, item: Listed) -> str | None:
        """Return why an object as it is just before its deletion is no orphan any more, or None."""
        return self.judge.changed(item, self.now, self.candidates[item.id]["m"]) if self.judge else "it was not listed"

    def young(self, at: float) -> None:
        """Remember when a young one is old enough."""
        self.ripens = [min([at, *self.ripens]), max([at, *self.ripens])]


class Search:
    """One look at everything of a kind that the provider lists."""

    def __init__(self, session: Session, found: Findings, widening: Widening) -> None:
        self.session = session
        self.widening = widening
        self._judge = judge = found.judge = _judge(session.context, session.rule)
        self._orphan: Orphan = judge.orphan
        self._rule = session.rule
        self._partition = session.rule.partition
        self._slot = keys.slot(session.context.ledger.namespace, self._partition.provider, self._partition.kind)
        self._found = found
        self._vetting: asyncio.Task[None] | None = None
        nonces = Nonces(session.context.ledger.carrier, session.context.ledger.namespace)
        self._copies = Copies(nonces, self._partition.provider, self._partition.kind, judge.copies)
        self._unlisted = Unlisted(session.context.ledger, self._partition)

    async def listing(self) -> Listing | None:
        """Read the complete list, or return None: a failed, empty, truncated or shrunken one decides nothing."""
        context, shrinkage = self.session.context, Shrinkage(self.session.context, self._partition)
        # Age counts up to here: what is created while pages are read is young.
        self._found.now = await context.control.now()
        self._judge.also.update(await context.control.also_ours())
        await self._unlisted.begin(self._found.now)
        listing = await context.provider.listing(self.session.kind, self.session.budget.spend, take=self._take)
        await self._vetted()
        if listing.strange:
            log.warning(
                "listing.strange", ids=listing.strange[:5], count=len(listing.strange), **named(self._partition)
            )
            self._found.counts["unaddressable"] += len(listing.strange)
        if listing.verdict:
            await move_breaker(context, self._partition.provider, listing.verdict)
        elif await context.throttle.answered():
            log.warning("breaker.mended", provider=self._partition.provider)
        why = None if listing.complete else listing.reason or "the listing is incomplete"
        why = why or await shrinkage.doubt(listing.count, self.session.report.registered)
        if why is None:
            return listing
        log.warning("listing.undecided", reason=why, seen=listing.count, **named(self._partition))
        await context.ledger.note(self._partition, undecided=why, undecided_at=self._found.now)
        self.session.ends("halted" if await shrinkage.halt(why) else "undecided", why)
        return None

    async def ripe(self, listing: Listing) -> dict[str, Ripe]:
        """Count the listing, and return every candidate seen often enough in a row."""
        carrier, found, ripe = self.session.context.ledger.carrier, self._found, dict[str, Ripe]()
        elders, waiting = await Elders.of(self.session.context, self._rule), 0
        await self._copies.end()
        for id_ in self._copies.ids & found.candidates.keys():
            found.candidates[id_]["m"] = COPIED
        (number,) = await carrier.write(("HINCRBY", self._slot + keys.LISTING, f"run|{self._partition.policy}", 1))
        for chunk in _chunks(found.candidates.items(), CHUNK):
            counted = await self._on("sweep/lua/sight", int(number), codec.dump(dict(chunk)))
            found.counts.update(counted["refused"] or {})
            for id_, (times, first, crashed) in (counted["seen"] or {}).items():
                self.widening.times[id_] = int(times)
                if times < self._orphan.seen:
                    found.counts["candidate"] += 1
                elif elders.waits(found.candidates[id_]):
                    found.counts[HaltReason.OLDER_THAN_REGISTRY] += 1
                    waiting += 1
                else:
                    found.counts["ripe"] += 1
                    ripe[id_] = Ripe(int(first), crashed == 1)
        await elders.tell(waiting)
        await self._forget_others(int(number))
        await self._unlisted.end()
        await self.session.context.ledger.note(
            self._partition,
            orphans=codec.dump(found.counts),
            listed=listing.count,
            listed_at=found.now,
            ripens=codec.dump([round(at) for at in found.ripens]),
            undecided="",
        )
        return ripe

    async def look_again(self) -> None:
        """Look whether the list still halts the policy; nothing is claimed while it does."""
        if listing := await self.listing():
            await lift(
                self.session.context, self._rule, HaltReason.LISTING_SHRUNK, "the list is as long as was expected again"
            )
            await self.share_allows(await self.ripe(listing), listing)

    async def old_enough(self) -> bool:
        """Return True once the registry is as old as its orphans have to be: it may not know yet what uses them."""
        ready = await self.session.context.control.began() + round(self._orphan.min_age * 1000)
        if self._found.now >= ready:
            return True
        age = durations.show((ready - self._found.now) / 1000)
        return self.session.ends(
            "completed", f"the registry is younger than min_age: no orphan is deleted for another {age}"
        )

    async def share_allows(self, ripe: Mapping[str, Ripe], listing: Listing) -> bool:
        """Return True unless so large a share of the listing would go that an operator has to say so."""
        share, context = self._orphan.max_share, self.session.context
        rules = context.ledger.prefix(self._partition) + keys.RULES
        if share is None or not share.exceeded(len(ripe), listing.count):
            await context.ledger.carrier.run([("HDEL", rules, "share_ok")])  # an approval is for one plan
            await lift(context, self._rule, HaltReason.ORPHAN_SHARE, "no more than max_share would go")
            return True
        (approved,) = await context.ledger.carrier.run([("HGET", rules, "share_ok")])
        if approved and len(ripe) <= int(approved):
            return True
        detail = f"{len(ripe)} of {listing.count} listed would be deleted as orphans"
        await context.ledger.note(self._partition, share_asked=len(ripe))
        plan = plan_hash(self._partition, self._rule.digest, HaltReason.ORPHAN_SHARE, len(ripe))
        await context.trip(self._partition, HaltReason.ORPHAN_SHARE, detail, plan=plan)
        return self.session.ends("halted", detail)

    async def _take(self, page: Sequence[Listed]) -> None:
        """Keep of a page only what the registry may have to count."""
        found, left = self._found, dict[str, Listed]()
        await self._copies.page((item, nonce) for item in page if (nonce := self._judge.nonce(item)))
        await self._unlisted.see([item.id for item in page])
        for item in page:
            why = self._judge.spared(item, found.now)
            if why is None:
                left[item.id] = item
                self.widening.see(item, found.now)
                continue
            found.counts[why] += 1
            if why == "young":
                found.young(self._judge.ripens(item))
        await self._vetted()
        self._vetting = asyncio.create_task(self._vet(left))  # while the next page is on its way

    async def _vetted(self) -> None:
        if self._vetting:
            await self._vetting

    async def _vet(self, left: Mapping[str, Listed]) -> None:
        found = self._found
        for chunk in _chunks(left.values(), CHUNK):
            vetted = await self._on("sweep/lua/vet", codec.dump({item.id: self._judge.stamp(item) for item in chunk}))
            found.counts.update(vetted["refused"] or {})
            found.candidates |= {id_: self._shown(left[id_]) for id_ in vetted["left"]}

    def _shown(self, item: Listed) -> dict[str, Any]:
        name = {"n": item.name[:NAME]} if item.name else {}
        return {"m": self._judge.stamp(item), "c": round(item.created_at or 0), **name}

    async def _forget_others(self, number: int) -> None:
        """End the sightings that this listing did not renew."""
        ledger = self.session.context.ledger
        sightings = scanned(ledger.carrier, "HSCAN", ledger.prefix(self._partition) + keys.SIGHTINGS)
        old = [id_ async for id_, one in sightings if json.loads(one)["run"] < number]
        for ids in _chunks(old, CHUNK):
            await self._on("sweep/lua/unsight", number, *ids)

    async def _on(self, script: str, *args: str | int) -> Any:
        ledger = self.session.context.ledger
        return (await ledger.carrier.carry([ledger.on(self._partition, script, *args, parse=_reply)]))[0]


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    waiting = iter(items)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _reply(reply: bytes | int) -> Any:
    return reply if isinstance(reply, int) else json.loads(reply)
