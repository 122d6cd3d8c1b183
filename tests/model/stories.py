"""Stories told to the registry's scripts and to the registry in plain Python: what applications and sweeps say."""

import json
from dataclasses import replace
from typing import Any

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lapse.guards.edits.adoption import rename
from lapse.ledger.claim import Claim
from lapse.ledger.settle import Act, OutcomeBatch, Settled
from lapse.policy import Orphan, Pace, SweepSection
from lapse.policy import Rule as Adopted
from lapse.providers.outcomes import Outcome
from lapse.registry import keys
from lapse.registry.codec import dump
from lapse.registry.model import Partition
from model.chosen import Chosen
from model.clocked import Clocked
from model.entries import ATTEMPTS, LEASE, Rule
from model.stored import MARKERS, POLICIES, SLOT, budget, shown, sightings, stored

START = 1_700_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR
IDS = [f"thread_{i}" for i in range(6)]
SETTINGS = SweepSection(
    budget=20, lease=LEASE / 1000, batch=100, max_attempts=ATTEMPTS, tombstones=30 * 86400.0, ramp=None
)

SHORT_LIVED = (b":used:", b":batch:", b":claim:")
"""In the names of keys that end by themselves."""

ORPHAN = Orphan(min_age=DAY / 1000, seen=2, max_share=None, uses_stated=True)

ids = st.sampled_from(IDS)
policies = st.sampled_from(POLICIES)
managed = st.sampled_from(POLICIES[:2])
ages = st.sampled_from([0, 1, 2 * DAY, 5 * DAY, 10 * DAY, 40 * DAY])
rules = st.builds(
    Rule,
    ttl=st.sampled_from([HOUR, 3 * DAY, 7 * DAY]),
    anchor=st.sampled_from(["created_at", "last_active_at"]),
    max_age=st.sampled_from([None, 9 * DAY]),
    orphan=st.booleans(),
    pace=st.sampled_from([None, None, 1, 3]),
    ramp=st.booleans(),
)
ACTS: dict[str, tuple[str, Outcome, dict[str, Any]]] = {
    "deleted": ("done", Outcome.DELETED, {}),
    "gone": ("done", Outcome.ALREADY_GONE, {}),
    "error": ("retry", Outcome.ERROR, {"counted": True, "delay": 5000, "reason": "error"}),
    "lost": ("retry", Outcome.ERROR, {"counted": True, "unknown": True, "delay": HOUR, "reason": "error"}),
    "busy": ("retry", Outcome.CONFLICT, {"delay": 30_000, "reason": "conflict"}),
    "kept": ("keep", Outcome.KEPT, {"delay": 6 * HOUR}),
    "refused": ("quarantine", Outcome.INVALID, {"reason": "invalid"}),
    "active": ("touch", Outcome.ACTIVE, {}),
    "unbegun": ("release", Outcome.LIMITED, {}),
    "breaker": ("release", Outcome.AUTH, {}),
}


class Stories(RuleBasedStateMachine):
    """Says the same to both, and looks at both after every step."""

    client: redis.Redis

    @initialize()
    def begin(self) -> None:
        self.client.flushall()
        self.model = Chosen(START, {})
        self.real = Clocked(self.client)
        self.real.set(START)
        self.claims: list[Claim] = []
        self.digests = {"chat": 0, "archive": 0}
        self.adopt("chat", Rule(7 * DAY, "last_active_at", orphan=True))
        self.adopt("archive", Rule(3 * DAY, "created_at", 9 * DAY, pace=1, ramp=True))

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
        answer = self.real.answer(self.real.commands.register(self._said(id_, policy, facts, uses)))
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
        answer = self.real.answer(
            self.real.commands.register_many([self._said(id_, policy, facts, []) for id_, policy, facts in said])
        )
        assert (len(said), new) == (answer.registered, answer.new)

    @rule(id_=ids)
    def touch(self, id_: str) -> None:
        assert self.model.touch(id_) == self.real.answer(self.real.commands.touch(self._at(id_)))

    @rule(id_=ids, until=st.sampled_from([None, HOUR, DAY]))
    def hold(self, id_: str, until: int | None) -> None:
        end = None if until is None else self.model.now + until
        held = self.real.commands.hold(self._at(id_), "case", "ann", None)
        if end:  # ahead of the model's time; by this clock it is over
            (call,) = held.calls
            *named, said, _ = call.args
            call = replace(call, args=(*named, dump(json.loads(str(said)) | {"until": end}), end))
            held = replace(held, calls=(call,))
        assert self.model.hold(id_, end) == self.real.answer(held)

    @rule(id_=ids)
    def unhold(self, id_: str) -> None:
        assert self.model.unhold(id_) == self.real.answer(self.real.commands.unhold(self._at(id_), "ann"))

    @rule(id_=ids, release=st.booleans())
    def forget(self, id_: str, *, release: bool) -> None:
        said = self.real.answer(self.real.commands.forget(self._at(id_), release=release))
        assert self.model.forget(id_, release=release) == said

    @rule(id_=ids, ahead=st.sampled_from([None, -DAY, HOUR]))
    def expire(self, id_: str, ahead: int | None) -> None:
        at = None if ahead is None else self.model.now + ahead
        said = self.real.answer(self.real.commands.expire(self._at(id_), None if at is None else at / 1000))
        assert self.model.expire(id_, at) == said

    def _at(self, id_: str) -> Any:
        return self.real.commands.resource("thread", id_, None)

    # --- what workers and operators do

    @rule(policy=managed, limit=st.sampled_from([1, 2, 10]), alone=st.booleans())
    def claim(self, policy: str, limit: int, *, alone: bool) -> None:
        status, granted = self.model.claim(policy, limit, alone=alone)
        claims = self.real.do(self.real.ledger.claim(self.adopted(policy), self.sweep(policy), limit, alone=alone))
        assert (status, granted) == (claims.status, [claim.resource.id for claim in claims.claims])
        assert all(claim.due <= self.model.now for claim in claims.claims)
        assert sorted(claim.due for claim in claims.claims) == [claim.due for claim in claims.claims]
        assert not [id_ for id_ in granted if self.model.guarded(id_)]
        self.claims += claims.claims

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), act=st.sampled_from(sorted(ACTS)))
    def settle(self, data: st.DataObject, act: str) -> None:
        self.ends(data.draw(st.sampled_from(self.claims)), act)

    def ends(self, claim: Claim, act: str) -> None:
        """Settle a claim, and remove the edges of what is over."""
        verb, outcome, said = ACTS[act]
        id_ = claim.resource.id
        entry = self.model.entries.get(id_)
        if outcome == "deleted" and (entry is None or entry.place != "claimed" or entry.token != claim.token):
            return  # what a confirmation of a lease taken over does is shown in tests/sweep/test_recording.py
        if verb == "touch":
            said = {"active": self.model.now - 1}
        taken = self.model.settle(id_, claim.token, verb, outcome, policy=claim.policy, **said)
        one = Settled(id_, claim.token, claim.policy, claim.due, Act(verb), outcome, **said)
        partition = Partition("openai", "thread", claim.policy)
        refused = self.real.do(self.real.ledger.settle(partition, OutcomeBatch([one], {}, ATTEMPTS, listable=False)))
        assert (() if taken else (id_,)) == refused.refused
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
        assert "adopted" == self.real.do(self.real.ledger.adopt(self.adopted(policy)))

    @rule()
    def rename(self) -> None:
        self.model.rename("stray", "chat")
        self.client.hset("lapse:{openai:thread}:stray:rules", "renamed", "chat")  # as adopting it does
        self.real.do(rename(self.real.ledger, self.adopted("chat", formerly=("stray",))))

    @rule(id_=ids, verb=st.sampled_from(["retry", "undo", "drop"]))
    def operate(self, id_: str, verb: str) -> None:
        if verb == "undo" and (id_ in self.model.holds or id_ in self.model.forgotten):
            return  # what was said of it since is shown in tests/cli/test_quarantine.py
        changed = self.model.operate(verb, id_)
        call = self.real.commands.on_slot(
            "ledger/lua/quarantine", "openai", "thread", verb, dump("ann"), dump("test"), id_, parse=list
        )
        said = [one.decode().partition("|") for one in self.real.do(self.real.carry([call]))[0]]
        back = [name or what for what, _, name in said if what not in {"registered", "forgotten"}]
        assert ([id_] if changed else []) == back

    def sweep(self, policy: str) -> SweepSection:
        """Return how a policy is swept."""
        return replace(SETTINGS, ramp=HOUR / 1000 if self.model.rules[policy].ramp else None)

    def adopted(self, policy: str, formerly: tuple[str, ...] = ()) -> Adopted:
        """Return the rule that is in force."""
        said = self.model.rules[policy]
        return Adopted(
            partition=Partition("openai", "thread", policy),
            ttl=said.ttl / 1000,
            anchor=said.anchor,
            max_age=said.max_age and said.max_age / 1000,
            orphan=ORPHAN if said.orphan else None,
            keep=(),
            cascade={},
            enforce=True,
            max_deletions=Pace(said.pace, HOUR / 1000) if said.pace else None,
            max_newly_due=None,
            touches_stated=True,
            expect_gone=False,
            cancel=False,
            every=60,
            formerly=formerly,
            digest=f"{policy}{self.digests[policy]:04}",
        )

    # --- what has to hold after every step

    @invariant()
    def every_id_stands_in_one_place_and_in_the_right_one(self) -> None:
        if not hasattr(self, "model"):
            return
        assert {id_: shown(one) for id_, one in self.model.entries.items()} == stored(self.client)

    @invariant()
    def what_protects_and_what_is_remembered_is_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        client: Any = self.client
        assert set(self.model.holds) == {id_.decode() for id_ in client.hkeys(SLOT + keys.HOLDS)} - MARKERS
        edges = {f"{target}|openai|thread|{source}" for target, source in self.model.edges}
        assert edges == {edge.decode() for edge in client.zrange(SLOT + keys.EDGES, 0, -1)} - MARKERS
        for name, expected in ((keys.FORGOTTEN, self.model.forgotten), (keys.TOMBSTONES, set(self.model.tombstones))):
            assert set(expected) == {id_.decode() for id_ in client.zrange(SLOT + name, 0, -1)} - MARKERS, name
        assert set(self.model.graves) == {id_.decode() for id_ in client.hkeys(SLOT + keys.GRAVES)}
        assert self.model.sightings == sightings(client)

    @invariant()
    def budgets_are_spent_alike(self) -> None:
        if not hasattr(self, "model"):
            return
        for policy in POLICIES:
            assert self.model.budgets[policy] == budget(self.client, policy), policy

    @invariant()
    def counters_equal_the_history_and_no_record_has_a_redis_ttl(self) -> None:
        if not hasattr(self, "model"):
            return
        client: Any = self.client
        counted = {name.decode(): int(n) for name, n in client.hgetall(SLOT + keys.COUNTERS).items()}
        shown = {name: n for name, n in counted.items() if name.split("|")[0] in {"settled", "deletions", "crashes"}}
        assert self.model.counters == shown
        names = [name for name in client.keys("lapse:*") if not any(part in name for part in SHORT_LIVED)]
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.pttl(name)
        assert {-1} >= set(pipeline.execute())
