"""The second story: list what can be listed, see the same orphans several times in a row, then the same delete path."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import structlog

from lapse import codec, keys
from lapse.control import plan_hash
from lapse.crew import Crew
from lapse.listing import Listed, Listing
from lapse.means import Means, named
from lapse.policy import Orphan, Rule
from lapse.run import Report, Run
from lapse.sweep import opened

log = structlog.get_logger("lapse")

CHUNK = 500
SHRUNK_BELOW = 0.5


async def collect_orphans(means: Means, rule: Rule, *, budget: float | None = None) -> Report:
    """Delete what is listed, provably ours, old enough and used by nothing, on several complete listings in a row.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    run = Run(means, rule, budget)
    if await opened(run):
        async with run.crew() as crew:
            while batch := await run.next_claims(crew):  # those with an expiry of their own
                crew.hand(batch.claims)
            await _collect(Search(run), crew)
    return await run.closed()


async def _collect(search: "Search", crew: Crew) -> None:
    listing = await search.listing()
    if listing is None:
        return
    ripe = await search.ripe(listing)
    if not await search.share_allows(ripe, listing):
        return
    while ripe and (claims := await search.run.claim_orphans(ripe, crew)):
        crew.hand(claims.claims)
    await crew.drain(search.run.left())


class Search:
    """One look at everything of a kind that the provider lists."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._rule = run.rule
        self._partition = run.rule.partition
        self._orphan = run.rule.orphan or _no_orphan_rule(run.rule)
        self._slot = keys.slot(run.means.ledger.namespace, self._partition.provider, self._partition.kind)

    async def listing(self) -> Listing | None:
        """Return the complete list, or None: a failed, empty, truncated or shrunken one decides nothing."""
        means = self.run.means
        listing = await means.provider.listing(self.run.kind, self.run.spend)
        if listing.verdict:
            await means.flow.heed(listing.verdict)
        elif await means.flow.answered():
            log.warning("breaker.mended", provider=self._partition.provider)
        why = None if listing.complete else listing.reason or "the listing is incomplete"
        why = why or await self._shrunken(len(listing.items))
        if why is None:
            return listing
        log.warning("listing.undecided", reason=why, seen=len(listing.items), **named(self._partition))
        self.run.ends("undecided", why)
        return None

    async def ripe(self, listing: Listing) -> dict[str, int]:
        """Return id -> when first seen, for every candidate seen often enough in a row."""
        means, counts = self.run.means, Counter[str]()
        (number,) = await means.ledger.carrier.run(
            [("HINCRBY", self._slot + keys.LISTING, f"run|{self._partition.policy}", 1)]
        )
        epoch, now = await means.control.epoch(), await means.control.now()
        stamp = f"{means.ledger.namespace}/{epoch}/{self._partition.policy}"
        candidates = {
            item.id: item.metadata.get("lapse") == stamp
            for item in listing.items
            if self._may_be_orphan(item, now, counts)
        }
        ripe: dict[str, int] = {}
        for chunk in _chunks(candidates.items(), CHUNK):
            seen = await self._sight(dict(chunk), int(number))
            counts.update(seen["refused"] or {})
            for id_, (times, first) in (seen["seen"] or {}).items():
                counts["candidate" if times < self._orphan.seen else "ripe"] += 1
                if times >= self._orphan.seen:
                    ripe[id_] = int(first)
        await means.ledger.note(self._partition, orphans=codec.dump(counts), listed=len(listing.items), listed_at=now)
        return ripe

    async def share_allows(self, ripe: Mapping[str, int], listing: Listing) -> bool:
        """Return True unless so large a share of the listing would go that an operator has to say so."""
        share, means = self._orphan.max_share, self.run.means
        if share is None or not share.exceeded(len(ripe), len(listing.items)):
            return True
        rules = keys.partition(means.ledger.namespace, *_parts(self._rule)) + keys.RULES
        (approved,) = await means.ledger.carrier.run([("HGET", rules, "share_ok")])
        if approved and len(ripe) <= int(approved):
            return True
        detail = f"{len(ripe)} of {len(listing.items)} listed would be deleted as orphans"
        await means.ledger.note(self._partition, share_asked=len(ripe))
        plan = plan_hash(self._partition, self._rule.digest, "orphan_share", len(ripe))
        if await means.control.halt(self._partition, "orphan_share", detail, plan=plan):
            log.error("guard.tripped", guard="orphan_share", detail=detail, plan=plan, **named(self._partition))
        return self.run.ends("halted", detail)

    def _may_be_orphan(self, item: Listed, now: int, counts: Counter[str]) -> bool:
        if item.created_at is None or now - item.created_at * 1000 < self._orphan.min_age * 1000:
            counts["young"] += 1
        elif any(keep.matches(item.name, item.metadata) for keep in self._rule.keep):
            counts["kept"] += 1
        else:
            return True
        return False

    async def _sight(self, candidates: dict[str, bool], number: int) -> dict[str, dict[str, list[int]]]:
        ledger = self.run.means.ledger
        listed = codec.dump({"candidates": candidates, "run": number})
        call = ledger.on(self._partition, "sight", self._rule.digest, listed, parse=json.loads)
        return (await ledger.carrier.carry([call]))[0]  # type: ignore[no-any-return]

    async def _shrunken(self, listed: int) -> str | None:
        """Say so if fewer than half of the last complete listing are left, our own deletions since taken off."""
        carrier, name = self.run.means.ledger.carrier, self._slot + keys.LISTING
        field = f"deletions|{self._partition.policy}|{self._partition.kind}"
        last, then, deleted = await carrier.run(
            [("HGET", name, "count"), ("HGET", name, "deleted"), ("HGET", self._slot + keys.COUNTERS, field)]
        )
        expected = int(last or 0) - (int(deleted or 0) - int(then or 0))
        if listed < expected * SHRUNK_BELOW or (listed == 0 and expected > 0):
            return f"the listing has {listed} objects; at least half of {expected} were expected"
        await carrier.run([("HSET", name, "count", listed, "deleted", int(deleted or 0))])
        return None


def _chunks(items: Iterable[tuple[str, bool]], size: int) -> Iterator[list[tuple[str, bool]]]:
    waiting = iter(items)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _parts(rule: Rule) -> tuple[str, str, str]:
    return rule.partition.provider, rule.partition.kind, rule.partition.policy


def _no_orphan_rule(rule: Rule) -> Orphan:
    raise ValueError(f"{rule.partition} has no orphan rule")
