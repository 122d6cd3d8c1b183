"""Ids as the registry holds them: pages for ``ls`` and ``plan``, and one id with everything that concerns it."""

import json
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from lapse.errors import InvalidResource
from lapse.ledger.due import NEVER, cutoffs, due_of, terms
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.policy import Rule
from lapse.registry import codec, keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition

INDEXES = {
    keys.FRESH: "tracked",
    keys.ACTIVE: "tracked",
    keys.EXPLICIT: "tracked",
    keys.WAITING: "waiting",
    keys.SUSPECTS: "waiting",
    keys.TRIED: "waiting",
    keys.CLAIMS: "claimed",
    keys.PARKED: "parked",
    keys.KEPT: "kept",
    keys.QUARANTINE: "quarantined",
}
"""The sorted sets in which an id of a partition stands, each with the state that it means."""

PAGE = 500
LOOKED_AT = 250
"""Ids that one script looks at: it takes a few milliseconds."""
NONE: Mapping[str, str] = MappingProxyType({})
ALL = 2.0**53
"""A cut-off at or before which every score is."""

TRACKED = (keys.FRESH, keys.ACTIVE, keys.EXPLICIT)
"""Where an id stands that is not set aside."""

STATES = ("due", "tracked", "waiting", "claimed", "held", "referenced", "kept", "quarantined")


@dataclass(frozen=True, slots=True)
class Seen:
    """One id as its slot knows it. Times in registry milliseconds.

    Attributes:
        id: The id.
        now: When it was read.
        record: Where it stands and with which scores; empty if it is not tracked.
        due: When it is due; None if nothing says so.
        by: What says it: ``ttl``, ``max_age``, ``expires_at``, ``orphan`` or ``unmanaged``.
        hold: Its hold, or None.
        facts: ``uses``, ``subject``, ``labels``.
        used_by: "provider|kind|id" of what refers to it, at most 100.
        tombstone: When it was settled, or None.

    """

    id: str
    now: int
    record: Mapping[str, Any]
    due: int | None
    by: str
    hold: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    tombstone: int | None = None

    @property
    def tracked(self) -> bool:
        """True if it was registered: what lapse only saw in a listing is not tracked."""
        return bool(self.record) and not self.record.get("q")

    @property
    def state(self) -> str:
        """One of ``STATES`` except ``due``, or ``unknown``."""
        if not self.record:
            return "unknown"
        state = str(self.record["s"])
        return str(self.record["r"]) if state == "parked" else state

    def has(self, labels: Mapping[str, str]) -> bool:
        """Return True if it has all of these labels."""
        return bool(labels.items() <= self.facts.get("labels", {}).items())

    @property
    def created(self) -> int | None:
        """When it was created."""
        return self.record.get("f") or self.record.get("c") or self.record.get("k")

    @property
    def active(self) -> int | None:
        """When it was last active; None for one with an expiry of its own."""
        return self.record.get("f") or self.record.get("a")


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some ids of a partition, and where the next ones begin; None if these were the last."""

    seen: list[Seen]
    after: str | None


async def look(ledger: Ledger, provider: str, kind: str, ids: Iterable[str], rules: Sequence[Rule]) -> list[Seen]:
    """Return what a slot knows of these ids, in their order, with due times as these rules say."""
    chosen = list(ids)
    mine = [rule for rule in rules if (rule.partition.provider, rule.partition.kind) == (provider, kind)]
    by_policy = {name: rule for rule in mine for name in (*rule.formerly, rule.partition.policy)}
    calls = [ledger.commands.on_slot("registry/lua/get", provider, kind, id_, parse=json.loads) for id_ in chosen]
    return [_seen(id_, found, by_policy) for id_, found in zip(chosen, await ledger.carrier.carry(calls), strict=True)]


@dataclass(frozen=True, slots=True)
class PartitionRecords:
    """The ids of a partition; ``rules``: what their due times are computed with."""

    ledger: Ledger
    partition: Partition
    rules: Sequence[Rule]

    async def size(self, state: str | None) -> int:
        """Return how many ids a look at all of a state reads: some stand in two indexes."""
        names = _indexes(state)
        asked = [("ZCARD", _key(self.ledger, self.partition, name)) for name in names]
        return sum(await self.ledger.carrier.run(list(asked)))

    async def page(
        self, *, state: str | None, limit: int, after: str | None, labels: Mapping[str, str] = NONE
    ) -> RecordPage:
        """Return ids index by index, oldest first in each.

        Args:
            state: Only these; None for all.
            limit: How many at most.
            after: Where the page before ended.
            labels: Only ids that have all of these: no index finds them, so every id is read.

        Raises:
            InvalidResource: ``after`` is not what a page before returned.

        """
        names = _indexes(state)
        start = _PageEnd("", "", "")
        if after:
            start = _cursor(after)
            names = names[names.index(start.name) :] if start.name in names else []
        found: list[Seen] = []
        for name in names:
            rank = await self._rank(start) if name == start.name else 0
            async for one, score in self._standing(name, rank, limit):
                if (state is None or one.state == state) and one.has(labels):
                    found.append(one)
                if len(found) == limit:
                    return RecordPage(found, f"{name}/{math.floor(score)}/{one.id}")
        return RecordPage(found, None)

    async def _standing(self, name: str, rank: int, size: int) -> AsyncIterator[tuple[Seen, float]]:
        """Yield what stands in one index from a rank on, with its score."""
        key, at = _key(self.ledger, self.partition, name), self.partition
        while True:
            (flat,) = await self.ledger.carrier.run([("ZRANGE", key, rank, rank + size - 1, "WITHSCORES")])
            ids, scores = [id_.decode() for id_ in flat[::2]], [float(score) for score in flat[1::2]]
            seen = await look(self.ledger, at.provider, at.kind, ids, self.rules)
            for pair in zip(seen, scores, strict=True):
                yield pair
            rank += len(ids)
            if len(ids) < size:
                return

    async def _rank(self, cursor: "_PageEnd") -> int:
        """Return where a page goes on.

        If its last id is gone, some of its score may be shown again; none is left out.
        """
        key = _key(self.ledger, self.partition, cursor.name)
        asked = [("ZRANK", key, cursor.id), ("ZCOUNT", key, "-inf", f"({cursor.score}")]
        rank, before = await self.ledger.carrier.run(asked)
        return int(before if rank is None else rank + 1)


class _PageEnd(NamedTuple):
    """Where a page ended."""

    name: str
    score: str
    id: str


class DueId(NamedTuple):
    """One id that a sweep would claim: it comes before those that are greater. Times in registry milliseconds.

    Attributes:
        alone: True if a worker ended while it held the id: such go last, one at a time.
        turn: When it is due; of one that goes alone, when its lease or its wait was over.
        id: The id.
        due: When it is due.
        by: What says so, as ``Seen.by``.

    """

    alone: bool
    turn: int
    id: str
    due: int
    by: str


async def due_first(ledger: Ledger, rule: Rule, limit: int | None) -> list[Seen]:
    """Return the ids that are due by a rule and that a sweep would claim, in its order; None for all of them."""
    chosen = sorted({one async for page in due_pages(ledger, rule, limit) for one in page})[:limit]
    at, found = rule.partition, list[Seen]()
    for start in range(0, len(chosen), PAGE):
        ids = [one.id for one in chosen[start : start + PAGE]]
        found += await look(ledger, at.provider, at.kind, ids, [rule])
    return [one for one in found if one.due is not None and one.due <= one.now]


async def due_pages(ledger: Ledger, rule: Rule, limit: int | None = None) -> AsyncIterator[list[DueId]]:
    """Yield what is due by a rule and a sweep would claim, index by index, some twice; ``limit``: enough of each."""
    names = (rule.partition.policy, *rule.formerly)
    asked = {"names": dict.fromkeys(names, True), "rules": terms(rule)}
    for policy, index, cut in await _due_indexes(ledger, rule, names):
        given = 0
        async for page in _claimable(ledger, rule.partition, {**asked, "policy": policy, "index": index, "cut": cut}):
            yield page
            given += len(page)
            if limit is not None and given >= limit and cut != ALL:
                break


async def _due_indexes(ledger: Ledger, rule: Rule, names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Return policy, index and cut-off of where the ids stand that a rule makes due.

    Where creations are packed no index is in their order: of a rule that counts from them each touched id is read.
    """
    now = await Halts(ledger.carrier, ledger.namespace).now()
    cuts: dict[str, float] = cutoffs(rule, now) | dict.fromkeys((keys.WAITING, keys.SUSPECTS, keys.CLAIMS), now)
    found = [("", keys.HOLD_ENDS, float(now))]
    for name in names:
        here = replace(rule.partition, policy=name)
        (packed,) = await ledger.carrier.run([("HGET", _key(ledger, here, keys.RULES), "creations")])
        seen = cuts | {keys.ACTIVE: ALL, keys.CREATED: NEVER} if packed and cuts[keys.CREATED] != NEVER else cuts
        found += [(name, index, cut) for index, cut in seen.items() if cut != NEVER]
    return found


async def _claimable(ledger: Ledger, at: Partition, asked: Mapping[str, Any]) -> AsyncIterator[list[DueId]]:
    """Yield what a sweep would claim of one index, page by page, in its order."""
    rank, read = 0, LOOKED_AT
    while read == LOOKED_AT:
        said = codec.dump({**asked, "most": LOOKED_AT, "from": rank})
        call = ledger.commands.on_slot("ledger/lua/claimable", at.provider, at.kind, said, parse=json.loads)
        (seen,) = await ledger.carrier.carry([call])
        yield [DueId(turn >= 0, turn if turn >= 0 else due, id_, due, by) for id_, due, by, turn in seen["found"]]
        read = seen["read"]
        rank += read


def _seen(id_: str, found: Mapping[str, Any], by_policy: Mapping[str, Rule]) -> Seen:
    record = found.get("record") or {}
    due, by = due_of(record, by_policy.get(str(record.get("p"))))
    return Seen(
        id=id_,
        now=int(found["now"]),
        record=record,
        due=due,
        by=by,
        hold=found.get("hold"),
        facts=found.get("facts") or {},
        used_by=tuple(edge.split("|", 1)[1] for edge in found.get("edges") or ()),
        tombstone=found.get("tombstone"),
    )


def _indexes(state: str | None) -> list[str]:
    """Return where ids of a state stand; None: of any."""
    stored = "parked" if state in {"held", "referenced"} else state
    return [name for name, meant in INDEXES.items() if stored in {None, meant}]


def _cursor(text: str) -> _PageEnd:
    match text.split("/"):
        case [name, score, id_] if name in INDEXES:
            return _PageEnd(name, score, id_)
    raise InvalidResource(f"--after {text!r}: give what the page before ended with")


def _key(ledger: Ledger, partition: Partition, name: str) -> str:
    return ledger.prefix(partition) + name


async def registered(carrier: Carrier, namespace: str, provider: str, kind: str) -> AsyncIterator[str]:
    """Yield every tracked id, some perhaps twice: what moves from one index to another meanwhile is not left out."""
    slot = keys.slot(namespace, provider, kind)
    (policies,) = await carrier.run([("SMEMBERS", slot + keys.POLICIES)])
    for policy in keys.policies_named(policies):
        for index in TRACKED:
            async for id_, _score in scanned(carrier, "ZSCAN", f"{slot}{policy}:{index}"):
                yield id_
    async for id_, _record in scanned(carrier, "HSCAN", slot + keys.ASIDE):
        yield id_


async def scanned(carrier: Carrier, command: str, name: str) -> AsyncIterator[tuple[str, bytes]]:
    """Yield all of a hash or sorted set with its values, ``HSCAN`` or ``ZSCAN``; some perhaps twice."""
    cursor = "0"
    while True:
        ((at, flat),) = await carrier.run([(command, name, cursor, "COUNT", PAGE)])
        for id_, value in zip(flat[::2], flat[1::2], strict=True):
            yield id_.decode(), value
        cursor = at.decode()
        if cursor == "0":
            return
