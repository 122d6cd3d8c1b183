"""What the registry shows: counts, due, halts, counters; read only, and in a few round trips whatever it holds.

Every command here costs O(log n) at most: a scrape must not be felt by the application that shares the Redis.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from lapse import keys
from lapse.control import Halt
from lapse.kinds import KINDS
from lapse.model import Partition
from lapse.policy import Account, Rule

UNMANAGED = "(unmanaged)"
_SIZES = (
    keys.FRESH, keys.ACTIVE, keys.EXPLICIT,
    keys.CLAIMS, keys.WAITING, keys.SUSPECTS, keys.PARKED, keys.KEPT, keys.QUARANTINE,
)  # fmt: skip
NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition as it stands. Times in seconds; ``due`` counts what is past its policy and not parked.

    ``overdue``: seconds that the oldest due one is late, whatever the mode. ``configured`` is False for a policy name
    that applications use and the config does not know. ``parked``: held or referenced. ``paused``: the scope of the
    pause that covers it. ``last_success``: registry time, seconds since 1970, or None.
    """

    partition: Partition
    configured: bool = True
    mode: str | None = None
    registered: int = 0
    due: int = 0
    overdue: float = 0.0
    parked: int = 0
    kept: int = 0
    waiting: int = 0
    claimed: int = 0
    quarantined: int = 0
    would: int = 0
    paused: str | None = None
    halts: tuple[Halt, ...] = ()
    limited: bool = False
    last_success: float | None = None
    orphans: Mapping[str, int] = field(default_factory=dict)

    @property
    def enforcing(self) -> bool:
        """True if its policy says enforce and neither a halt nor a pause stands in the way."""
        return self.mode == "enforce" and not self.halts and self.paused is None


@dataclass(frozen=True, slots=True)
class SlotView:
    """One (provider, kind): its counters, how many holds there are, how many audit records wait for the sink."""

    provider: str
    kind: str
    counters: Mapping[str, int]
    held: int
    audit_pending: int


class View:
    """Reads one namespace. The client has to decode responses."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def now(self) -> int:
        """Return Redis TIME in milliseconds."""
        reply: Any = self._client.time()
        return int(reply[0]) * 1000 + int(reply[1]) // 1000

    def published(self) -> dict[str, str]:
        """Return what worker processes and beat published."""
        return dict(self._client.hgetall(keys.published(self._namespace)))  # type: ignore[arg-type]

    def epoch(self) -> dict[str, str]:
        """Return the registry's epoch: its id, and when it was made in milliseconds; empty before a first worker."""
        return dict(self._client.hgetall(keys.epoch(self._namespace)))  # type: ignore[arg-type]

    def flow(self, provider: str) -> dict[str, str]:
        """Return a provider's bucket, Retry-After and breaker."""
        return dict(self._client.hgetall(keys.flow(self._namespace, provider)))  # type: ignore[arg-type]

    def pauses(self) -> dict[str, dict[str, Any]]:
        """Return every pause by scope."""
        stored: Any = self._client.hgetall(keys.control(self._namespace))
        return {scope: json.loads(text) for scope, text in stored.items()}

    def slots(self, slots: Iterable[tuple[str, str]]) -> list[SlotView]:
        """Return what each (provider, kind) holds as a whole."""
        chosen = list(slots)
        with self._client.pipeline(transaction=False) as pipe:
            for provider, kind in chosen:
                prefix = keys.slot(self._namespace, provider, kind)
                pipe.hgetall(prefix + keys.COUNTERS)
                pipe.hlen(prefix + keys.HOLDS)
                pipe.xlen(prefix + keys.AUDIT)
            replies = iter(pipe.execute())
        return [
            SlotView(provider, kind, {name: int(n) for name, n in next(replies).items()}, next(replies), next(replies))
            for provider, kind in chosen
        ]

    def partitions(self, rules: Sequence[Rule], accounts: Mapping[str, Account]) -> list[PartitionView]:
        """Return every configured partition in the rules' order, then those that only applications name."""
        slots = sorted({(rule.partition.provider, rule.partition.kind) for rule in rules} | self._known_slots(accounts))
        now, names, halts, pauses = self._surroundings(slots)
        known = {rule.partition for rule in rules}
        renamed = {(rule.partition.provider, rule.partition.kind, old) for rule in rules for old in rule.formerly}
        stray = [
            Partition(provider, kind, name)
            for (provider, kind), policies in names.items()
            for name in sorted(policies)
            if Partition(provider, kind, name) not in known and (provider, kind, name) not in renamed
        ]
        views = [*self._configured(rules, now), *self._unconfigured(stray)]
        return [_with_switches(view, halts, pauses) for view in views]

    def _known_slots(self, accounts: Mapping[str, Account]) -> set[tuple[str, str]]:
        """Return slots that workers have known, and every kind of the accounts: an application may use any of them."""
        published: Any = self._client.hget(keys.published(self._namespace), "slots")
        every = {(name, kind) for name, account in accounts.items() for kind in KINDS.get(account.type, {})}
        return every | {(provider, kind) for provider, kind in json.loads(published or "[]")}

    def _surroundings(
        self, slots: Sequence[tuple[str, str]]
    ) -> tuple[int, dict[tuple[str, str], set[str]], list[Halt], dict[str, Any]]:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hkeys(keys.control(self._namespace))
            for slot in slots:
                pipe.smembers(keys.slot(self._namespace, *slot) + keys.POLICIES)
                pipe.hgetall(keys.slot(self._namespace, *slot) + keys.HALTS)
            (seconds, micros), scopes, *rest = pipe.execute()
        names = dict(zip(slots, rest[::2], strict=True))
        halts = [
            _halt(slot, name, json.loads(text))
            for slot, stored in zip(slots, rest[1::2], strict=True)
            for name, text in stored.items()
        ]
        return int(seconds) * 1000 + int(micros) // 1000, names, halts, dict.fromkeys(scopes, True)

    def _configured(self, rules: Sequence[Rule], now: int) -> Iterator[PartitionView]:
        with self._client.pipeline(transaction=False) as pipe:
            for rule in rules:
                _ask(pipe, self._prefix(rule.partition), rule, now)
            replies = iter(pipe.execute())
        for rule in rules:
            yield _answer(rule, now, replies)

    def _unconfigured(self, partitions: Sequence[Partition]) -> Iterator[PartitionView]:
        with self._client.pipeline(transaction=False) as pipe:
            for partition in partitions:
                for name in _SIZES:
                    pipe.zcard(self._prefix(partition) + name)
            replies = pipe.execute()
        for i, partition in enumerate(partitions):
            sizes = replies[i * len(_SIZES) : (i + 1) * len(_SIZES)]
            if sum(sizes):
                yield PartitionView(partition, configured=False, registered=sum(sizes))

    def _prefix(self, partition: Partition) -> str:
        return keys.partition(self._namespace, partition.provider, partition.kind, partition.policy)


def cutoffs(rule: Rule, now: int) -> dict[str, float]:
    """Return the cut-off of each due index in registry milliseconds, as ``lua/candidates.inc.lua`` computes them."""
    idle = now - rule.ttl * 1000 if rule.ttl and rule.anchor == "last_active_at" else NEVER
    aged = now - rule.max_age * 1000 if rule.max_age else NEVER
    capped = aged
    if rule.ttl and rule.anchor == "created_at":
        aged = max(aged, now - rule.ttl * 1000)
    return {
        keys.FRESH: max(idle, aged), keys.ACTIVE: idle, keys.CREATED: aged,
        keys.EXPLICIT: float(now), keys.CAPPED: capped,
    }  # fmt: skip


def _ask(pipe: Any, prefix: str, rule: Rule, now: int) -> None:  # noqa: ANN401 - redis-py's pipeline
    for name in _SIZES:
        pipe.zcard(prefix + name)
    for name, cut in cutoffs(rule, now).items():
        pipe.zcount(prefix + name, "-inf", cut)
        pipe.zrange(prefix + name, 0, 0, withscores=True)
    pipe.hgetall(prefix + keys.RULES)


def _answer(rule: Rule, now: int, replies: Iterator[Any]) -> PartitionView:
    sizes = {name: next(replies) for name in _SIZES}
    counts: dict[str, int] = {}
    late = [0.0]
    for name, cut in cutoffs(rule, now).items():
        counts[name] = next(replies)
        late += [(cut - score) / 1000 for _id, score in next(replies) if score <= cut]
    stored = next(replies)
    return PartitionView(
        partition=rule.partition,
        mode="enforce" if rule.enforce else "observe",
        registered=sum(sizes.values()),
        due=counts[keys.FRESH]
        + max(counts[keys.ACTIVE], counts[keys.CREATED])
        + max(counts[keys.EXPLICIT], counts[keys.CAPPED])
        + sizes[keys.WAITING]
        + sizes[keys.SUSPECTS]
        + sizes[keys.CLAIMS],
        overdue=max(late),
        parked=sizes[keys.PARKED],
        kept=sizes[keys.KEPT],
        waiting=sizes[keys.WAITING] + sizes[keys.SUSPECTS],
        claimed=sizes[keys.CLAIMS],
        quarantined=sizes[keys.QUARANTINE],
        would=int(stored.get("would", 0)),
        limited=_limited(rule, stored, now),
        last_success=int(stored["success"]) / 1000 if "success" in stored else None,
        orphans=json.loads(stored.get("orphans", "{}")),
    )


def _halt(slot: tuple[str, str], name: str, seen: Mapping[str, Any]) -> Halt:
    policy, reason = name.split("|")
    return Halt(*slot, policy, reason, seen["detail"], seen["since"], seen.get("plan"))


def _limited(rule: Rule, stored: Mapping[str, str], now: int) -> bool:
    """Say whether the pace of the window that runs now is used up."""
    pace = rule.max_deletions
    if pace is None or "pace_from" not in stored or now >= int(stored["pace_from"]) + pace.window * 1000:
        return False
    return int(stored.get("pace_used", 0)) >= pace.amount


def _with_switches(view: PartitionView, halts: Sequence[Halt], pauses: Mapping[str, Any]) -> PartitionView:
    at = view.partition
    scopes = ("*", at.provider, f"{at.provider}/{at.kind}", f"{at.provider}/{at.kind}/{at.policy}")
    mine = tuple(
        halt
        for halt in halts
        if (halt.provider, halt.kind) == (at.provider, at.kind) and halt.policy in {"*", at.policy}
    )
    return replace(view, halts=mine, paused=next((scope for scope in scopes if scope in pauses), None))
