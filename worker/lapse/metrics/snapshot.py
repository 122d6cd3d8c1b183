"""What the registry shows: counts, due, halts, counters; read only, and in a few round trips whatever it holds.

Every command here costs O(log n) at most: a scrape must not be felt by the application that shares the Redis.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from lapse.guards.integrity.continuity import ContinuityCheck
from lapse.guards.integrity.monitor import local_clock
from lapse.ledger.due import cutoffs
from lapse.ledger.halts import Halt
from lapse.ledger.reasons import BESIDE, OF_A_RULE
from lapse.metrics.views import PartitionView, SlotView
from lapse.policy import Rule
from lapse.providers.account import Account
from lapse.providers.kinds import KINDS
from lapse.registry import keys
from lapse.registry.model import HOLDS_MARKER, Partition

UNMANAGED = "(unmanaged)"
_OUTSIDE = (keys.CLAIMS, keys.WAITING, keys.SUSPECTS)
"""Where ids stand that are due and not in the due indexes: their scores do not say since when."""

_SCORES = {"f": keys.FRESH, "a": keys.ACTIVE, "c": keys.CREATED, "e": keys.EXPLICIT, "k": keys.CAPPED}
"""The saved scores of such a record (``include/record.lua``), and the index that each would stand in."""

LOOKED_AT = 50  # ids at either end of what is backed off or claimed: the longest tried are the last of it
RAMP_STEPS = 2  # as in ledger/lua/include/budget.lua
MOST_TOLD = 1000  # slots that applications said they write to: a provider's name is no data


@dataclass(frozen=True, slots=True)
class Overview:
    """One look at a registry: every partition and slot, what was published, the epoch, and when, in milliseconds."""

    partitions: Sequence[PartitionView]
    slots: Sequence[SlotView]
    published: Mapping[str, str]
    epoch: Mapping[str, str]
    now: int


class View:
    """Reads one namespace. The client has to decode responses."""

    def __init__(self, client: redis.Redis, namespace: str, continuity: ContinuityCheck | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._continuity = continuity or ContinuityCheck()

    def now(self) -> int:
        """Return Redis TIME in milliseconds."""
        reply: Any = self._client.time()
        return int(reply[0]) * 1000 + int(reply[1]) // 1000

    def published(self) -> dict[str, str]:
        """Return what worker processes and beat published."""
        return dict(self._client.hgetall(keys.published(self._namespace)))  # type: ignore[arg-type]

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return host:pid of each worker process of the last hour -> ``at`` (milliseconds), ``hash``, ``version``."""
        stored: Any = self._client.hgetall(keys.workers(self._namespace))
        return {name: json.loads(text) for name, text in stored.items()}

    def epoch(self) -> dict[str, str]:
        """Return the registry's epoch: its id, and when it was made in milliseconds; empty before a first worker."""
        return dict(self._client.hgetall(keys.epoch(self._namespace)))  # type: ignore[arg-type]

    def throttle(self, provider: str) -> dict[str, str]:
        """Return a provider's bucket, Retry-After and breaker."""
        return dict(self._client.hgetall(keys.throttle(self._namespace, provider)))  # type: ignore[arg-type]

    def pauses(self) -> dict[str, dict[str, Any]]:
        """Return every pause by scope."""
        stored: Any = self._client.hgetall(keys.control(self._namespace))
        return {scope: json.loads(text) for scope, text in stored.items()}

    def slots(self, slots: Iterable[tuple[str, str]]) -> list[SlotView]:
        """Return what each (provider, kind) holds as a whole."""
        chosen = list(slots)
        return self._slots(chosen, self._used(chosen))

    def _slots(self, chosen: Sequence[tuple[str, str]], used: Sequence[tuple[str, str]]) -> list[SlotView]:
        with self._client.pipeline(transaction=False) as pipe:
            for provider, kind in used:
                prefix = keys.slot(self._namespace, provider, kind)
                pipe.hgetall(prefix + keys.COUNTERS)
                pipe.hlen(prefix + keys.HOLDS)
                pipe.hexists(prefix + keys.HOLDS, HOLDS_MARKER)
                pipe.xlen(prefix + keys.AUDIT)
                pipe.hmget(prefix + keys.MARKS, "shut", "shut_detail", "shut_until")
            replies = iter(pipe.execute())
        views = {
            slot: SlotView(
                *slot,
                {name: int(n) for name, n in next(replies).items()},
                next(replies) - next(replies),
                next(replies),
                None if (shut := next(replies))[0] is None else (shut[0], shut[1] or "", int(shut[2] or 0)),
            )
            for slot in used
        }
        return [views.get(slot, SlotView(*slot, {}, 0, 0)) for slot in chosen]

    def _used(self, slots: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the slots in which anything stands that is read of one: an account has kinds that nobody uses."""
        read = (keys.POLICIES, keys.HALTS, keys.COUNTERS, keys.HOLDS, keys.AUDIT, keys.MARKS)
        with self._client.pipeline(transaction=False) as pipe:
            for slot in slots:
                pipe.execute_command("EXISTS", *(keys.slot(self._namespace, *slot) + name for name in read))
            return [slot for slot, there in zip(slots, pipe.execute(), strict=True) if there]

    def flows(self, providers: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the flow of each provider."""
        chosen = list(providers)
        with self._client.pipeline(transaction=False) as pipe:
            for provider in chosen:
                pipe.hgetall(keys.throttle(self._namespace, provider))
            return dict(zip(chosen, pipe.execute(), strict=True))

    def partitions(
        self, rules: Sequence[Rule], accounts: Mapping[str, Account], *, ramp: float | None = None
    ) -> list[PartitionView]:
        """Return every configured partition in the rules' order, then those that only applications name.

        ``ramp`` is that of ``[sweep]``, in seconds; None: off.
        """
        slots = self.known_slots(rules, accounts)
        return self._partitions(rules, self._surroundings(slots, self._used(slots)), ramp)

    def look(self, rules: Sequence[Rule], accounts: Mapping[str, Account], *, ramp: float | None = None) -> Overview:
        """Return what ``partitions`` and ``slots`` return of all that is known, with nothing asked twice."""
        published = self.published()
        slots = self._known(published.get("slots"), rules, accounts)
        used = self._used(slots)
        around = self._surroundings(slots, used)
        partitions = self._partitions(rules, around, ramp)
        return Overview(partitions, self._slots(slots, used), published, around.epoch, around.now)

    def _partitions(self, rules: Sequence[Rule], around: "_Around", ramp: float | None) -> list[PartitionView]:
        known = {rule.partition for rule in rules}
        renamed = {(rule.partition.provider, rule.partition.kind, old) for rule in rules for old in rule.formerly}
        stray = [
            Partition(provider, kind, name)
            for (provider, kind), policies in around.names.items()
            for name in sorted(policies)
            if Partition(provider, kind, name) not in known and (provider, kind, name) not in renamed
        ]
        views = [*self._configured(rules, around.now, ramp), *self._unconfigured(stray)]
        formerly = {rule.partition: rule.formerly for rule in rules}
        return [_with_switches(view, around, formerly.get(view.partition, ())) for view in views]

    def known_slots(self, rules: Sequence[Rule], accounts: Mapping[str, Account]) -> list[tuple[str, str]]:
        """Return every (provider, kind) that may hold something.

        Those of the rules, those that workers have ever known, every kind of the accounts, and what applications said
        that they write to: a provider that no worker knows is one of those.
        """
        published: Any = self._client.hget(keys.published(self._namespace), "slots")
        return self._known(published, rules, accounts)

    def _known(
        self, published: str | None, rules: Sequence[Rule], accounts: Mapping[str, Account]
    ) -> list[tuple[str, str]]:
        told: Any = self._client.smembers(keys.slots(self._namespace))
        every = {(name, kind) for name, account in accounts.items() for kind in KINDS.get(account.type, {})}
        every |= {(rule.partition.provider, rule.partition.kind) for rule in rules}
        every |= {(provider, kind) for provider, _, kind in (name.partition("/") for name in sorted(told)[:MOST_TOLD])}
        return sorted(every | {(provider, kind) for provider, kind in json.loads(published or "[]")})

    def _surroundings(self, slots: Sequence[tuple[str, str]], used: Sequence[tuple[str, str]]) -> "_Around":
        asked = local_clock()
        now = self.now()  # by itself: redis-py has no TIME among what it asks of a cluster at once
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.epoch(self._namespace))
            pipe.hkeys(keys.control(self._namespace))
            for slot in used:
                pipe.smembers(keys.slot(self._namespace, *slot) + keys.POLICIES)
                pipe.hgetall(keys.slot(self._namespace, *slot) + keys.HALTS)
            epoch, scopes, *rest = pipe.execute()
        names = dict(zip(used, rest[::2], strict=True))
        halts = [
            _halt(slot, name, json.loads(text))
            for slot, stored in zip(used, rest[1::2], strict=True)
            for name, text in stored.items()
        ]
        told = {(halt.provider, halt.kind, halt.reason) for halt in halts}
        seen = self._continuity.halts(epoch, slots, now=now, asked=asked, answered=local_clock())
        halts += [halt for halt in seen if (halt.provider, halt.kind, halt.reason) not in told]
        return _Around(now, epoch, names, halts, dict.fromkeys(scopes, True))

    def _configured(self, rules: Sequence[Rule], now: int, ramp: float | None) -> Iterator[PartitionView]:
        filled = self._filled(rules)
        slots: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            slots.setdefault((rule.partition.provider, rule.partition.kind), []).append(rule)
        found = {rule.partition: answer for group in slots.values() for rule, answer in self._asked(group, filled, now)}
        answers = [found[rule.partition] for rule in rules]
        records = self._records(rules, [parts for parts, _stored in answers])
        for rule, (parts, stored) in zip(rules, answers, strict=True):
            late = [_late(json.loads(record), cutoffs(rule, now)) for record in next(records) if record]
            yield _view(rule, _sum(parts), max([0.0, *late]), stored, _Moment(now, ramp))

    def _asked(
        self, rules: Sequence[Rule], filled: set[str], now: int
    ) -> Iterator[tuple[Rule, tuple[list["_Part"], Any]]]:
        """Read the rules of one slot in one transaction: an id on its way from one index to another is counted once."""
        standing = [[prefix for prefix in self._prefixes(rule) if prefix in filled] for rule in rules]
        with self._client.pipeline(transaction=any(standing)) as pipe:
            for rule, prefixes in zip(rules, standing, strict=True):
                for prefix in prefixes:
                    _ask(pipe, prefix, cutoffs(rule, now))
                pipe.hgetall(self._prefix(rule.partition) + keys.RULES)
            replies = iter(pipe.execute())
        for rule, prefixes in zip(rules, standing, strict=True):
            yield rule, ([_answer(replies, cutoffs(rule, now)) for _ in prefixes], next(replies))

    def _filled(self, rules: Sequence[Rule]) -> set[str]:
        """Return the prefixes under which anything stands.

        One command says that of a whole slot, and one of each prefix where the slot has something.
        """
        slots: dict[tuple[str, str], list[str]] = {}
        for rule in rules:
            slots.setdefault((rule.partition.provider, rule.partition.kind), []).extend(self._prefixes(rule))
        groups = self._standing(slots.values())
        alone = {prefix for group in groups if len(group) == 1 for prefix in group}
        several = self._standing([prefix] for group in groups if len(group) > 1 for prefix in group)
        return alone | {prefix for group in several for prefix in group}

    def _standing(self, groups: Iterable[Sequence[str]]) -> list[Sequence[str]]:
        """Return the groups of prefixes, each of one slot, under which anything stands."""
        chosen, names = list(groups), (*keys.STANDING, keys.CREATED, keys.CAPPED)
        with self._client.pipeline(transaction=False) as pipe:
            for group in chosen:
                pipe.execute_command("EXISTS", *(prefix + name for prefix in group for name in names))
            return [group for group, there in zip(chosen, pipe.execute(), strict=True) if there]

    def _prefixes(self, rule: Rule) -> list[str]:
        return [self._prefix(replace(rule.partition, policy=name)) for name in (rule.partition.policy, *rule.formerly)]

    def _records(self, rules: Sequence[Rule], answers: Sequence[Sequence["_Part"]]) -> Iterator[list[str | None]]:
        """Yield for each rule the records of the ids that were named outside the due indexes."""
        named = [sorted({id_ for part in parts for id_ in part.outside}) for parts in answers]
        with self._client.pipeline(transaction=False) as pipe:
            for rule, ids in zip(rules, named, strict=True):
                if ids:
                    slot = keys.slot(self._namespace, rule.partition.provider, rule.partition.kind)
                    pipe.hmget(slot + keys.ASIDE, ids)
            replies = iter(pipe.execute())
        for ids in named:
            yield next(replies) if ids else []

    def _unconfigured(self, partitions: Sequence[Partition]) -> Iterator[PartitionView]:
        with self._client.pipeline(transaction=False) as pipe:
            for partition in partitions:
                for name in keys.STANDING:
                    pipe.zcard(self._prefix(partition) + name)
            replies = pipe.execute()
        for i, partition in enumerate(partitions):
            sizes = replies[i * len(keys.STANDING) : (i + 1) * len(keys.STANDING)]
            if sum(sizes):
                yield PartitionView(partition, configured=False, registered=sum(sizes))

    def _prefix(self, partition: Partition) -> str:
        return keys.partition(self._namespace, partition.provider, partition.kind, partition.policy)


@dataclass(frozen=True, slots=True)
class _Around:
    """What is read once for all partitions: the policy names of each slot, halts, pauses; ``now`` in milliseconds."""

    now: int
    epoch: Mapping[str, str]
    names: Mapping[tuple[str, str], set[str]]
    halts: Sequence[Halt]
    pauses: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """What stands under one policy name; ``late`` in seconds, ``outside``: ids whose lateness their record says."""

    sizes: Mapping[str, int]
    due: int
    late: float
    outside: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Moment:
    """When the registry was read, and the ramp of the config, in milliseconds and seconds."""

    now: int
    ramp: float | None


def _ask(pipe: Any, prefix: str, cuts: Mapping[str, float]) -> None:
    for name in keys.STANDING:
        pipe.zcard(prefix + name)
    for name, cut in cuts.items():
        pipe.zcount(prefix + name, "-inf", cut)
        pipe.zrange(prefix + name, 0, 0, withscores=True)
    for name in _OUTSIDE:
        pipe.zrange(prefix + name, 0, LOOKED_AT - 1)
        pipe.zrange(prefix + name, -LOOKED_AT, -1)


def _answer(replies: Iterator[Any], cuts: Mapping[str, float]) -> _Part:
    sizes = {name: next(replies) for name in keys.STANDING}
    counts: dict[str, int] = {}
    late = [0.0]
    for name, cut in cuts.items():
        counts[name] = next(replies)
        late += [(cut - score) / 1000 for _id, score in next(replies)]
    due = counts[keys.FRESH]
    due += max(counts[keys.ACTIVE], counts[keys.CREATED]) + max(counts[keys.EXPLICIT], counts[keys.CAPPED])
    due += sum(sizes[name] for name in _OUTSIDE)
    outside = frozenset(id_ for _ in range(2 * len(_OUTSIDE)) for id_ in next(replies))
    return _Part(sizes, due, max(late), outside)


def _sum(parts: Sequence[_Part]) -> _Part:
    sizes = {name: sum(part.sizes[name] for part in parts) for name in keys.STANDING}
    late = max((part.late for part in parts), default=0.0)
    return _Part(sizes, sum(part.due for part in parts), late, frozenset())


def _late(record: Mapping[str, Any], cuts: Mapping[str, float]) -> float:
    """Return by how many seconds a record outside the due indexes is late; below 0 if it is not due."""
    return max((cuts[name] - record[letter] for letter, name in _SCORES.items() if letter in record), default=0) / 1000


def _view(rule: Rule, part: _Part, late: float, stored: Mapping[str, str], at: _Moment) -> PartitionView:
    sizes = part.sizes
    return PartitionView(
        partition=rule.partition,
        mode="enforce" if rule.enforce else "observe",
        registered=sum(sizes.values()),
        due=part.due,
        overdue=max(part.late, late),
        parked=sizes[keys.PARKED],
        kept=sizes[keys.KEPT],
        waiting=sizes[keys.WAITING] + sizes[keys.SUSPECTS] + sizes[keys.TRIED],
        claimed=sizes[keys.CLAIMS],
        quarantined=sizes[keys.QUARANTINE],
        would=int(stored.get("would", 0)),
        limited=rule.enforce and _limited(rule, stored, at.now),
        ramped=rule.enforce and _ramped(stored, at),
        last_success=int(stored["success"]) / 1000 if "success" in stored else None,
        orphans=json.loads(stored.get("orphans", "{}")),
        extra=int(stored["extra"]) / int(stored["extra_of"]) if "extra_of" in stored else None,
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


def _ramped(stored: Mapping[str, str], at: _Moment) -> bool:
    """Say whether the step of the ramp that runs now is used up, as ``include/budget.lua`` will find it."""
    if at.ramp is None or "ramp_from" not in stored or int(stored.get("ramp_step", 0)) >= RAMP_STEPS:
        return False
    used = int(stored.get("ramp_used", 0))
    over = used > 0 and at.now >= int(stored["ramp_from"]) + at.ramp * 1000
    return not over and used >= int(stored.get("ramp_cap", 0))


def _with_switches(view: PartitionView, around: _Around, formerly: Sequence[str]) -> PartitionView:
    at = view.partition
    names = [str(replace(at, policy=name)) for name in (at.policy, *formerly)]
    scopes = ("*", at.provider, f"{at.provider}/{at.kind}", *names)
    there = [halt for halt in around.halts if (halt.provider, halt.kind) == (at.provider, at.kind)]
    mine = [halt for halt in there if halt.policy in {"*", at.policy}]
    # What was found under an old name counts at once; the next sweep lets it stand under the policy's own.
    known = {halt.reason for halt in mine} | OF_A_RULE | BESIDE
    mine += [halt for halt in there if halt.policy in formerly and halt.reason not in known]
    return replace(view, halts=tuple(mine), paused=next((scope for scope in scopes if scope in around.pauses), None))
