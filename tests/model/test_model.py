"""The registry's scripts against the same registry in plain Python: any story, step by step, one state.

Time is set, never waited for. ``LAPSE_TEST_STORIES`` tells how many stories to try, each of them new.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lapse import keys
from lapse.codec import dump
from lapse.ledger import Claim, Settled
from lapse.model import Partition
from lapse.outcomes import Outcome
from lapse.policy import Rule as Adopted
from lapse.policy import SweepSection
from model.clocked import Clocked
from model.plain import ATTEMPTS, LEASE, Entry, Plain, Rule

STORIES = int(os.environ.get("LAPSE_TEST_STORIES", "0"))
START = 1_700_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR
IDS = [f"thread_{i}" for i in range(6)]
POLICIES = ["chat", "archive", "stray"]
SLOT = "lapse:{openai:thread}:"
SETTINGS = SweepSection(
    budget=20, lease=LEASE / 1000, batch=100, max_attempts=ATTEMPTS, tombstones=30 * 86400.0, ramp=None
)

ids = st.sampled_from(IDS)
policies = st.sampled_from(POLICIES)
managed = st.sampled_from(POLICIES[:2])
ages = st.sampled_from([0, 1, 2 * DAY, 5 * DAY, 10 * DAY, 40 * DAY])
rules = st.builds(
    Rule,
    ttl=st.sampled_from([HOUR, 3 * DAY, 7 * DAY]),
    anchor=st.sampled_from(["created_at", "last_active_at"]),
    max_age=st.sampled_from([None, 9 * DAY]),
)
ACTS: dict[str, tuple[str, Outcome, dict[str, Any]]] = {
    "deleted": ("done", Outcome.DELETED, {}),
    "gone": ("done", Outcome.ALREADY_GONE, {}),
    "error": ("retry", Outcome.ERROR, {"counted": True, "delay": 5000, "reason": "error"}),
    "lost": ("retry", Outcome.ERROR, {"counted": True, "unknown": True, "delay": HOUR, "reason": "error"}),
    "busy": ("retry", Outcome.CONFLICT, {"delay": 30_000, "reason": "conflict"}),
    "kept": ("keep", Outcome.KEPT, {"delay": 6 * HOUR}),
    "refused": ("quarantine", Outcome.INVALID, {"reason": "invalid"}),
    "unbegun": ("release", Outcome.LIMITED, {}),
    "breaker": ("release", Outcome.AUTH, {}),
}


class Registry(RuleBasedStateMachine):
    """Says the same to both, and looks at both after every step."""

    client: redis.Redis

    @initialize()
    def begin(self) -> None:
        self.client.flushall()
        self.model = Plain(START, {})
        self.real = Clocked(self.client)
        self.real.set(START)
        self.claims: list[Claim] = []
        self.digests = {"chat": 0, "archive": 0}
        self.adopt("chat", Rule(7 * DAY, "last_active_at"))
        self.adopt("archive", Rule(3 * DAY, "created_at", 9 * DAY))

    # --- time, and what an application says

    @rule(by=st.sampled_from([1, 6000, LEASE + 1, HOUR, DAY, 4 * DAY, 9 * DAY]))
    def wait(self, by: int) -> None:
        self.model.now += by
        self.real.set(self.model.now)

    @rule(id_=ids, policy=policies, age=st.none() | ages, idle=st.none() | ages, uses=st.sets(ids, max_size=2))
    def register(self, id_: str, policy: str, age: int | None, idle: int | None, uses: set[str]) -> None:
        facts: dict[str, int] = {}
        if age is not None:
            facts["created"] = self.model.now - age
        if idle is not None:
            facts["active"] = max(facts.get("created", 0), self.model.now - idle)
        self._register(id_, policy, facts, sorted(uses - {id_}))

    @rule(id_=ids, policy=policies, within=st.sampled_from([1, HOUR, 5 * DAY]))
    def register_with_an_expiry(self, id_: str, policy: str, within: int) -> None:
        self._register(id_, policy, {"within": within}, [])

    def _register(self, id_: str, policy: str, facts: dict[str, int], uses: list[str]) -> None:
        new = self.model.register(id_, policy, facts, uses)
        answer = self.real.say(self.real.commands.register(self._said(id_, policy, facts, uses)))
        entry = self.model.entries[id_]
        due = None if entry.reason == "held" else self.model.due(entry)
        assert (new, due) == (answer.new, None if answer.due is None else round(answer.due.timestamp() * 1000))
        assert (policy in self.model.rules) == answer.managed

    def _said(self, id_: str, policy: str, facts: dict[str, int], uses: list[str]) -> Any:
        names = {"created": "created_at", "active": "last_active_at", "within": "expires_in", "at": "expires_at"}
        given: dict[str, Any] = {names[name]: value / 1000 for name, value in facts.items()}
        return self.real.commands.registration("thread", id_, policy, uses=[("thread", one) for one in uses], **given)

    @rule(several=st.lists(st.tuples(ids, policies, ages), min_size=2, max_size=4))
    def register_many(self, several: list[tuple[str, str, int]]) -> None:
        said = [(id_, policy, {"created": self.model.now - age}) for id_, policy, age in several]
        new = sum(self.model.register(id_, policy, facts, []) for id_, policy, facts in said)
        answer = self.real.say(
            self.real.commands.register_many([self._said(id_, policy, facts, []) for id_, policy, facts in said])
        )
        assert (len(said), new) == (answer.registered, answer.new)

    @rule(id_=ids)
    def touch(self, id_: str) -> None:
        assert self.model.touch(id_) == self.real.say(self.real.commands.touch(self._at(id_)))

    @rule(id_=ids, until=st.sampled_from([None, HOUR, DAY]))
    def hold(self, id_: str, until: int | None) -> None:
        end = None if until is None else self.model.now + until
        said = self.real.say(self.real.commands.hold(self._at(id_), "case", "ann", None if end is None else end / 1000))
        assert self.model.hold(id_, end) == said

    @rule(id_=ids)
    def unhold(self, id_: str) -> None:
        assert self.model.unhold(id_) == self.real.say(self.real.commands.unhold(self._at(id_), "ann"))

    @rule(id_=ids)
    def forget(self, id_: str) -> None:
        assert self.model.forget(id_) == self.real.say(self.real.commands.forget(self._at(id_)))

    @rule(id_=ids, ahead=st.sampled_from([None, -DAY, HOUR]))
    def expire(self, id_: str, ahead: int | None) -> None:
        at = None if ahead is None else self.model.now + ahead
        said = self.real.say(self.real.commands.expire(self._at(id_), None if at is None else at / 1000))
        assert self.model.expire(id_, at) == said

    def _at(self, id_: str) -> Any:
        return self.real.commands.resource("thread", id_, None)

    # --- what workers and operators do

    @rule(policy=managed, limit=st.sampled_from([1, 2, 10]), alone=st.booleans())
    def claim(self, policy: str, limit: int, *, alone: bool) -> None:
        granted = self.model.claim(policy, limit, alone=alone)
        claims = self.real.do(self.real.ledger.claim(self._rule(policy), SETTINGS, limit, alone=alone))
        assert ("ok", granted) == (claims.status, [claim.resource.id for claim in claims.claims])
        assert all(claim.due <= self.model.now for claim in claims.claims)
        assert sorted(claim.due for claim in claims.claims) == [claim.due for claim in claims.claims]
        assert not [id_ for id_ in granted if self.model.guarded(id_)]
        self.claims += claims.claims

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), act=st.sampled_from(sorted(ACTS)))
    def settle(self, data: st.DataObject, act: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        verb, outcome, said = ACTS[act]
        id_ = claim.resource.id
        taken = self.model.settle(id_, claim.token, verb, outcome, policy=claim.policy, **said)
        one = Settled(id_, claim.token, claim.policy, claim.due, verb, outcome, **said)
        partition = Partition("openai", "thread", claim.policy)
        refused = self.real.do(self.real.ledger.settle(partition, "us", [one], {}, ATTEMPTS, listable=False))
        assert ([] if taken else [id_]) == refused
        self.real.do(self.real.ledger.release_edges("openai", "thread"))
        self.model.release()

    @rule(over=st.sampled_from([DAY, 30 * DAY]))
    def housekeep(self, over: int) -> None:
        self.model.end_tombstones(self.model.now - over)
        self.real.do(self.real.ledger.end_tombstones("openai", "thread", self.model.now - over))
        self.real.do(self.real.ledger.release_edges("openai", "thread"))
        self.model.release()

    @rule(policy=managed, changed=rules)
    def adopt(self, policy: str, changed: Rule) -> None:
        self.digests[policy] += 1
        self.model.adopt(policy, changed)
        assert "adopted" == self.real.do(self.real.ledger.adopt(self._rule(policy)))

    @rule()
    def rename(self) -> None:
        self.model.rename("stray", "chat")
        self.real.do(self.real.ledger.rename(self._rule("chat", formerly=("stray",))))

    @rule(id_=ids, verb=st.sampled_from(["retry", "undo", "drop"]))
    def operate(self, id_: str, verb: str) -> None:
        changed = self.model.operate(verb, id_)
        call = self.real.commands.on_slot(
            "quarantine", "openai", "thread", verb, dump("ann"), dump("test"), id_, parse=list
        )
        assert ([id_.encode()] if changed else []) == self.real.do(self.real.carry([call]))[0]

    def _rule(self, policy: str, formerly: tuple[str, ...] = ()) -> Adopted:
        said = self.model.rules[policy]
        return Adopted(
            partition=Partition("openai", "thread", policy), ttl=said.ttl / 1000, anchor=said.anchor,
            max_age=said.max_age and said.max_age / 1000, orphan=None, keep=(), cascade={}, enforce=True,
            max_deletions=None, max_newly_due=None, touches_stated=True, expect_gone=False, cancel=False, every=60,
            formerly=formerly, digest=f"{policy}{self.digests[policy]:04}",
        )  # fmt: skip

    # --- what has to hold after every step

    @invariant()
    def every_id_stands_in_one_place_and_in_the_right_one(self) -> None:
        if not hasattr(self, "model"):
            return
        assert {id_: _shown(one) for id_, one in self.model.entries.items()} == stored(self.client)

    @invariant()
    def what_protects_and_what_is_remembered_is_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        client: Any = self.client
        assert set(self.model.holds) == {id_.decode() for id_ in client.hkeys(SLOT + keys.HOLDS)}
        edges = {f"{target}|openai|thread|{source}" for target, source in self.model.edges}
        assert edges == {edge.decode() for edge in client.zrange(SLOT + keys.EDGES, 0, -1)}
        for name, expected in ((keys.FORGOTTEN, self.model.forgotten), (keys.TOMBSTONES, set(self.model.tombstones))):
            assert set(expected) == {id_.decode() for id_ in client.zrange(SLOT + name, 0, -1)}, name
        assert set(self.model.graves) == {id_.decode() for id_ in client.hkeys(SLOT + keys.GRAVES)}

    @invariant()
    def counters_equal_the_history_and_no_record_has_a_redis_ttl(self) -> None:
        if not hasattr(self, "model"):
            return
        client: Any = self.client
        counted = {name.decode(): int(n) for name, n in client.hgetall(SLOT + keys.COUNTERS).items()}
        shown = {name: n for name, n in counted.items() if name.split("|")[0] in {"settled", "deletions", "crashes"}}
        assert self.model.counters == shown
        names = [name for name in client.keys("lapse:*") if b":used:" not in name]
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.pttl(name)
        assert {-1} >= set(pipeline.execute())


def _shown(one: Entry) -> tuple[Any, ...]:
    place = "suspects" if one.place == "waiting" and one.crashes else one.place
    tries = () if place == "tracked" else (one.attempts, one.crashes, one.alone, one.unknown, one.token, one.reason)
    return (place, one.policy, one.created, one.active, one.expiry, one.score, *tries)


def stored(client: Any) -> dict[str, tuple[Any, ...]]:
    """Return where each id stands in Redis; fails if one stands in two places, or half in one."""
    found: Counter[str] = Counter()
    shown: dict[str, tuple[Any, ...]] = {}
    records = {id_.decode(): json.loads(text) for id_, text in client.hgetall(SLOT + keys.ASIDE).items()}
    for policy, scores in _scores(client).items():
        for id_, created in scores[keys.FRESH].items():
            shown[id_] = ("tracked", policy, created, None, None, None)
        for id_, active in scores[keys.ACTIVE].items():
            shown[id_] = ("tracked", policy, scores[keys.CREATED][id_], active, None, None)
        for id_, expiry in scores[keys.EXPLICIT].items():
            shown[id_] = ("tracked", policy, scores[keys.CAPPED][id_], None, expiry, None)
        assert scores[keys.ACTIVE].keys() == scores[keys.CREATED].keys()
        assert scores[keys.EXPLICIT].keys() == scores[keys.CAPPED].keys()
        for name in (keys.FRESH, keys.ACTIVE, keys.EXPLICIT):
            found.update(scores[name].keys())
        for index, place in PLACES.items():
            for id_, score in scores[index].items():
                found[id_] += 1
                shown[id_] = _aside(place, policy, score, records.pop(id_))
    assert {} == records, "set aside, and in no index"
    assert [] == [id_ for id_, n in found.items() if n > 1]
    return shown


PLACES = {
    keys.CLAIMS: "claimed", keys.WAITING: "waiting", keys.SUSPECTS: "suspects", keys.PARKED: "parked",
    keys.KEPT: "kept", keys.QUARANTINE: "quarantined",
}  # fmt: skip


def _scores(client: Any) -> dict[str, dict[str, dict[str, int]]]:
    """Return policy -> index -> id -> score."""
    names = [(policy, index) for policy in POLICIES for index in INDEXES]
    pipeline = client.pipeline(transaction=False)
    for policy, index in names:
        pipeline.zrange(f"{SLOT}{policy}:{index}", 0, -1, withscores=True)
    found: dict[str, dict[str, dict[str, int]]] = {policy: {} for policy in POLICIES}
    for (policy, index), members in zip(names, pipeline.execute(), strict=True):
        found[policy][index] = {id_.decode(): int(score) for id_, score in members}
    return found


INDEXES = (keys.FRESH, keys.ACTIVE, keys.CREATED, keys.EXPLICIT, keys.CAPPED, *PLACES)


def _aside(place: str, policy: str, score: int, record: dict[str, Any]) -> tuple[Any, ...]:
    assert policy == record["p"]
    created = record.get("f") or record.get("c") or record.get("k")
    tries = (record.get("n", 0), record.get("x", 0), record.get("y", 0), bool(record.get("u")))
    return (
        place, policy, created, record.get("a"), record.get("e"), score, *tries, record.get("t"), record.get("r"),
    )  # fmt: skip


@pytest.fixture
def machine(redis_url: str) -> Iterator[type[Registry]]:
    with redis.Redis.from_url(redis_url) as client:
        yield type("Machine", (Registry,), {"client": client})


@pytest.mark.timeout(3600)
def test_any_story_leaves_the_registry_as_plain_python_has_it(machine: type[Registry]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=STORIES or 60, stateful_step_count=40, derandomize=not STORIES, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip
