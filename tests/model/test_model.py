"""The registry's scripts against the same registry in plain Python: any story, step by step, one state.

Time is set, never waited for. ``LAPSE_TEST_STORIES`` tells how many stories to try, each of them new.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from lapse.ledger.claim import Batch, ChildRequest, PlannedIds
from lapse.providers.deadline import Deadline
from lapse.registry import keys
from lapse.registry.codec import dump
from lapse.registry.model import Partition, Resource
from model.chosen import OURS
from model.entries import HOUR, LEASE, STEPS, Rule
from model.stored import SLOT
from model.stories import DAY, Stories, ids, managed

STORIES = int(os.environ.get("LAPSE_TEST_STORIES", "0"))
EPOCH = "0123456789ab"

shown = st.dictionaries(ids, st.sampled_from([OURS, OURS, "", "old_epoch", "other_namespace"]))


class Registry(Stories):
    """Adds what names ids: listings and their orphans, plans, parents and purges."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        client: Any = self.client
        client.hset(SLOT + keys.MARKS, "purge", EPOCH)
        self.runs = {"chat": 0, "archive": 0}

    @rule(policy=managed, stamps=shown)
    def listing(self, policy: str, stamps: dict[str, str]) -> None:
        self.runs[policy] += 1
        run = self.runs[policy]
        said = self._on(
            policy, "sweep/lua/sight", run, dump({id_: {"m": stamp, "c": 1} for id_, stamp in stamps.items()})
        )
        assert self.model.sight(policy, run, stamps) == (said["refused"], said["seen"])
        over = self.model.unsight(policy, run)
        assert len(over) == self._on(policy, "sweep/lua/unsight", run, *over)

    @precondition(lambda self: self.model.sightings)
    @rule(policy=managed, chosen=st.sets(ids), alone=st.booleans(), late=st.sampled_from([0, 0, 0, 1]))
    def claim_orphans(self, policy: str, chosen: set[str], late: int, *, alone: bool) -> None:
        seen = {id_: one.first + late for (name, id_), one in self.model.sightings.items() if name == policy}
        wanted = {id_: seen[id_] for id_ in sorted(chosen & seen.keys())}
        status, granted = self.model.claim_orphans(policy, wanted, alone=alone)
        ledger = self.real.ledger
        claims = self.real.do(ledger.claim_orphans(self.adopted(policy), self.sweep(policy), wanted, alone=alone))
        self._granted(claims, status, granted)

    @rule(
        policy=managed,
        id_=ids,
        act=st.sampled_from(["error", "lost", "busy", "active", "kept"]),
        before=st.sampled_from(["", "", "touch", "hold", "refer"]),
        after=st.sampled_from(["", "touch", "hold", "held over", "unlisted"]),
    )
    def try_an_orphan(self, policy: str, id_: str, act: str, before: str, after: str) -> None:
        """Claim what a listing shows, and fail: few stories would come to that by themselves."""
        long_ago = self.model.now - 40 * DAY
        self._register(id_, policy, {"created": long_ago, "active": long_ago}, [])
        self.listing(policy, {id_: OURS})
        self._says(before, policy, id_)
        known = len(self.claims)
        self.claim_orphans(policy, {id_}, 0, alone=False)
        for claim in self.claims[known:]:
            self.ends(claim, act)
        self._says(after, policy, id_)

    def _says(self, what: str, policy: str, id_: str) -> None:
        if what == "touch":
            self.touch(id_)
        elif what == "hold":
            self.hold(id_, HOUR)
        elif what == "refer":
            self._register("thread_user", policy, {}, [id_])
        elif what == "held over":
            self.hold(id_, None)
            self.listing(policy, {id_: OURS})
            self.unhold(id_)
        elif what == "unlisted":
            self.adopt(policy, Rule(HOUR, "created_at"))
            self.claim(policy, 10, alone=False)

    @rule(policy=managed, chosen=st.lists(ids, unique=True), alone=st.booleans(), late=st.sampled_from([0, 0, 0, 1]))
    def apply(self, policy: str, chosen: list[str], late: int, *, alone: bool) -> None:
        known = self.model.entries
        dues = {id_: self.model.due(known[id_]) if id_ in known else None for id_ in chosen}
        wanted = {id_: (due or self.model.now) + late for id_, due in dues.items()}
        status, granted, left = self.model.claim_planned(policy, wanted, alone=alone)
        ledger = self.real.ledger
        claims = self.real.do(
            ledger.claim_planned(self.adopted(policy), self.sweep(policy), PlannedIds("plan", wanted, alone))
        )
        self._granted(claims, status, granted)
        assert left == claims.left

    @rule(
        id_=ids,
        stamped=st.sampled_from(["", "chat", "archive"]),
        going=st.sets(ids, min_size=1),
        ago=st.sampled_from([0, DAY]),
    )
    def claim_child(self, id_: str, stamped: str, going: set[str], ago: int) -> None:
        sources = sorted(going - {id_}) or [f"{id_}_parent"]
        since = self.model.now - ago
        status, entry = self.model.claim_child(id_, stamped, sources, since)
        parents = [Resource("openai", "thread", one) for one in sources]
        said, claim = self.real.do(
            self.real.ledger.claim_child(
                ChildRequest(
                    Resource("openai", "thread", id_),
                    self._told(),
                    parents,
                    LEASE / 1000,
                    Deadline(0.0, 0.0),
                    since=since,
                    stamped=stamped,
                )
            )
        )
        assert status == said
        assert (entry is None) == (claim is None)
        self.claims += [claim] if claim else []

    @rule(policy=managed, chosen=st.lists(ids, unique=True))
    def purge(self, policy: str, chosen: list[str]) -> None:
        granted, left = self.model.claim_purged(policy, chosen)
        partition, expected = Partition("openai", "thread", policy), (EPOCH, "", "", 0)
        claims = self.real.do(
            self.real.ledger.claim_purged(partition, self.sweep(policy), chosen, "ann", expected=expected)
        )
        self._granted(claims, "ok", granted)
        assert left == claims.left

    @rule(policy=managed)
    def narrow(self, policy: str) -> None:
        """Let a step of the ramp allow one: few ids are there."""
        one, client = self.model.budgets[policy], self.client
        if one.ramp_since is not None and one.step < STEPS:
            one.cap = 1
            client.hset(f"{SLOT}{policy}:{keys.RULES}", "ramp_cap", 1)

    def _granted(self, claims: Batch, status: str, granted: list[str]) -> None:
        assert (status, granted) == (claims.status, [claim.resource.id for claim in claims.claims])
        assert not set(granted) & self.model.holds.keys()
        self.claims += claims.claims

    def _told(self) -> dict[str, Any]:
        policies = {
            name: {
                "digest": self.adopted(name).digest,
                "enforce": True,
                "paused": False,
                "amount": said.pace or -1,
                "window": HOUR if said.pace else 0,
            }
            for name, said in self.model.rules.items()
        }
        return {"policies": policies, "paused": False, "place": "", "amount": -1, "window": 0}

    def _on(self, policy: str, script: str, *args: str | int) -> Any:
        call = self.real.ledger.on(Partition("openai", "thread", policy), script, *args, parse=_reply)
        return self.real.do(self.real.carry([call]))[0]


def _reply(reply: bytes | int) -> Any:
    return reply if isinstance(reply, int) else json.loads(reply)


@pytest.fixture
def machine(redis_url: str) -> Iterator[type[Registry]]:
    with redis.Redis.from_url(redis_url) as client:
        yield type("Machine", (Registry,), {"client": client})


@pytest.mark.timeout(3600)
def test_any_story_leaves_the_registry_as_plain_python_has_it(machine: type[Registry]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=STORIES or 60,
            stateful_step_count=40,
            derandomize=not STORIES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
