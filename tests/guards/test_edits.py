"""Every edit of every key of a policy, alone and in pairs: what becomes newly due by it, and does it halt?"""

import itertools
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
import redis

from lapse.guards import enforcement
from lapse.guards.edits import newly_due
from lapse.guards.edits.adoption import rename
from lapse.ledger.partition import Ledger, Survey
from lapse.policy import Rule, parse
from lapse.policy.schema import Policy
from lapse.registry.aio import Carrier
from lapse.registry.client import Registry
from support.documented import rows, table

DAY = 86400.0
PLACE = "place00000000001"

PROVIDERS = """
[providers.openai]
type = "openai"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "K"
[providers.other]
type = "openai"
base_url = "http://127.0.0.1:8/v1"
api_key_env = "K"
"""
BASE: Mapping[str, str | None] = {
    "provider": '"openai"',
    "kind": '"thread"',
    "ttl": '"30d"',
    "anchor": '"last_active_at"',
    "mode": '"enforce"',
    "max_newly_due": "{ percent = 10, at_least = 5 }",
}
OLD = dict(BASE) | {"ttl": '"90d"'}
"""What the ids under the name "old" stood under."""


@dataclass(frozen=True)
class Edit:
    """Some keys before and after; ``unknown``: what no count can tell; ``usual``: against the defaults too."""

    before: Mapping[str, str | None]
    after: Mapping[str, str | None]
    unknown: str | None = None
    usual: bool = False

    @property
    def keys(self) -> set[str]:
        keys = {*self.before, *self.after}
        return keys | {"ttl", "anchor"} if "expires_after" in keys else keys


def keys_of(text: str) -> dict[str, str | None]:
    """Return the keys that a cell of the document names, None for one that is not there."""
    said = [part.partition(" = ") for part in text.split("; ")]
    return {key.removeprefix("no "): value or None for key, _, value in said}


HEADING = "Edits of the policy file"
EDITS = {
    name: Edit(
        keys_of(table(HEADING)[name, "before"]),
        keys_of(table(HEADING)[name, "after"]),
        table(HEADING)[name, "unknown"] or None,
        usual=table(HEADING)[name, "against"] == "the usual",
    )
    for name in rows(HEADING)
}
IN_LISTINGS = {"orphan"}
"""Keys whose edits only a listing can count: tests/sweep/test_widening.py."""
PAIRS = [pair for pair in itertools.combinations(EDITS, 2) if not EDITS[pair[0]].keys & EDITS[pair[1]].keys]


@dataclass(frozen=True)
class Id:
    """One id, times in seconds since 1970."""

    name: str
    policy: str
    created: float
    active: float
    expiry: float | None = None


def population(now: float) -> Iterator[Id]:
    """Yield ids of every age and idleness; some are due under the base already, some have an expiry of their own."""
    number = itertools.count()
    created: float
    for created, idle in itertools.product((1, 5, 10, 20, 40, 92, 100, 400), (0.5, 3, 10, 20, 29.5, 35, 45, 100)):
        if idle <= created:
            yield Id(f"thread_{next(number)}", "chat", now - created * DAY, now - idle * DAY)
    for created in (1, 5, 10, 20, 29.5, 31, 45, 92):
        yield Id(f"thread_{next(number)}", "chat", now - created * DAY, now - created * DAY)
    for created, expiry in itertools.product((5, 92, 100, 400), (-3, -1, 1, 30)):
        yield Id(f"thread_{next(number)}", "chat", now - created * DAY, now - created * DAY, now + expiry * DAY)
    for created, idle in itertools.product((45, 60, 80), (3, 20, 40)):
        yield Id(f"thread_{next(number)}", "old", now - created * DAY, now - idle * DAY)


def due(rule: Rule | None, one: Id, now: float) -> bool:
    """Return whether the documents say that an id is due."""
    if rule is None or rule.ttl is None:
        return False
    base = one.created if rule.anchor == "created_at" else one.active
    at = base + rule.ttl if one.expiry is None else one.expiry
    return min(at, one.created + (rule.max_age or math.inf)) <= now


@dataclass
class Registered:
    """A registry with the population in it, and what its policies were enforced with last."""

    carrier: Carrier
    ids: list[Id]
    now: float
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.carrier, "lapse", "worker-1", max_pending=10**6)

    async def enforced(self, rule: Rule) -> None:
        """Let a rule be the last that was enforced."""
        await self.ledger.adopt(rule)
        await rename(self.ledger, rule)
        survey = await newly_due.look(self.ledger, rule, await self.ledger.survey(rule))
        await self.ledger.note(rule.partition, **newly_due.baseline(rule, survey))

    async def edited(self, rule: Rule) -> tuple[enforcement.Stand, Survey]:
        """Return what a sweep by a new rule decides."""
        assert "divergence" != await self.ledger.adopt(rule)
        survey = await self.ledger.survey(rule)
        survey = await newly_due.look(self.ledger, rule, survey) if rule.enforce else survey
        return enforcement.stand(rule, survey, PLACE), survey


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registered]:
    """Return a registry that the population was registered in."""
    now = time.time()
    ids = list(population(now))
    with Registry(redis_url, provider="openai", timeout=5) as application:
        application.register_many(
            {
                "kind": "thread",
                "id": one.name,
                "policy": one.policy,
                "created_at": one.created,
                "last_active_at": one.active,
                **({} if one.expiry is None else {"expires_at": one.expiry}),
            }
            for one in ids
        )
    with redis.Redis.from_url(redis_url) as client:
        client.hset("lapse:{openai:thread}:marks", mapping={"touched|chat": 1, "touched|old": 1})
    carrier = Carrier(redis_url, 5)
    yield Registered(carrier, ids, now)
    await carrier.aclose()


def written(keys: Mapping[str, str | None], name: str = "chat") -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None)
    return f"{PROVIDERS}[policies.{name}]\n{lines}"


def rules(keys: Mapping[str, str | None], name: str = "chat") -> tuple[Rule, ...]:
    return parse(written(keys, name), "retention.toml", {}).rules


def test_every_key_of_a_policy_is_edited() -> None:
    assert set(Policy.model_fields) == {key for edit in EDITS.values() for key in edit.keys} | IN_LISTINGS


@pytest.mark.parametrize("names", [*((name,) for name in EDITS), *PAIRS], ids=" and ".join)
async def test_an_edit_halts_exactly_if_it_makes_more_due_than_allowed(
    registry: Registered, names: tuple[str, ...]
) -> None:
    edits = [EDITS[name] for name in names]
    before, after = dict(BASE), dict(BASE)
    for edit in edits:
        before |= edit.before
        after |= edit.after
    (old,) = rules(OLD, "old")
    await registry.enforced(old)
    (last,) = rules(before)
    if last.enforce:
        await registry.enforced(last)

    for rule in rules(after):
        stand, survey = await registry.edited(rule)

        here = rule.partition.kind == "thread" and rule.partition.provider == "openai"
        stood = {"chat": last if last.enforce else None} | ({"old": old} if rule.formerly == ("old",) else {})
        groups = [
            Group(rule, under, [one for one in registry.ids if here and one.policy == policy])
            for policy, under in stood.items()
        ]
        unknown = [
            edit.unknown
            for edit in edits
            if edit.unknown and here and (last.enforce or (edit.usual and "old" in stood))
        ]
        checked(rule, stand, survey, groups, registry.now, unknown)


@dataclass
class Group:
    """Ids that stood under one rule, or under none."""

    rule: Rule
    before: Rule | None
    ids: list[Id]

    def newly(self, now: float) -> int:
        return sum(due(self.rule, one, now) and not due(self.before, one, now) for one in self.ids)

    def limit(self, population: int) -> float:
        """Return how many ids the documents let become newly due."""
        shares = [one.max_newly_due for one in (self.rule, self.before) if one]
        return min((max(one.at_least, one.percent * population / 100) for one in shares if one), default=math.inf)


def checked(
    rule: Rule, stand: enforcement.Stand, survey: Survey, groups: list[Group], now: float, unknown: list[str]
) -> None:
    if not rule.enforce:
        assert (stand.act, stand.result) == (False, "observed")
        return
    together, everyone = sum(group.newly(now) for group in groups), sum(len(group.ids) for group in groups)
    many = together > max(group.limit(everyone) for group in groups)
    many = many or any(group.newly(now) > group.limit(len(group.ids)) for group in groups)
    stops = many or bool(unknown)
    assert (stand.act, stand.halt) == (not stops, "cutoff_jumped" if stops else None), (together, survey.edit)
    assert together <= survey.edit.named
    assert everyone == survey.edit.total
    for text in unknown:
        assert text in " ".join(survey.edit.unknown)
    if stops:
        assert stand.plan
