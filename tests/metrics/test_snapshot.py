"""The view shows what the sweep itself would find, of whatever mixture of states, and asks little for it."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from lapse.metrics.snapshot import LOOKED_AT, View
from lapse.metrics.views import PartitionView
from lapse.policy import Pace
from lapse.providers.kinds import KINDS
from lapse.registry import keys
from lapse.registry.model import Partition
from support.monitored import monitored
from support.world import DAY, World

BUSY = {"method": "DELETE", "effect": "error", "status": 409}


@pytest.fixture
def view(world: World) -> Iterator[View]:
    with redis.Redis.from_url(world.url, decode_responses=True) as client:
        yield View(client, "lapse")


def of(view: View, world: World, **given: Any) -> PartitionView:
    """Return the world's own partition."""
    found = view.partitions([world.rule], {"openai": world.account}, **given)
    return next(one for one in found if one.partition == world.rule.partition)


async def mixture(world: World, seed: int) -> list[str]:
    """Bring ids into every state: tracked, touched, with an expiry, held, backed off, claimed, in quarantine."""
    chance, now = random.Random(seed), time.time()
    ids = world.sandbox.seed("thread", 60)
    for id_ in ids[:45]:
        created = now - chance.uniform(1, 40) * DAY
        active = chance.choice([created, chance.uniform(created, now - 60)])
        expiry = chance.choice([None, None, now - chance.uniform(0, 9) * DAY, now + chance.uniform(1, 9) * DAY])
        world.registry.register(
            "thread", id_, "chat", created_at=created, last_active_at=active, expires_at=expiry, subject="user:1"
        )
    for id_ in chance.sample(ids[:45], 6):
        world.registry.touch("thread", id_)
    for id_ in chance.sample(ids[:45], 5):
        world.registry.hold("thread", id_, reason="case 7")
    world.sandbox.faults(
        [
            {"method": "DELETE", "effect": "error", "status": 422, "first": 2},
            BUSY,
        ]
    )
    await world.sweep()
    for id_ in ids[45:]:
        world.registry.register("thread", id_, "chat", created_at=now - chance.uniform(1, 40) * DAY)
    context = world.context()
    await context.ledger.claim(world.rule, world.settings, 4)
    return ids


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "rule",
    [
        {"ttl": 7 * DAY, "anchor": "created_at"},
        {"ttl": 5 * DAY, "anchor": "last_active_at", "max_age": 20 * DAY},
        {"ttl": 30 * DAY, "anchor": "created_at", "max_age": 10 * DAY},
    ],
)
async def test_it_counts_what_the_sweep_counts(world: World, view: View, rule: dict[str, Any], seed: int) -> None:
    world.rule = replace(world.rule, **rule)
    ids = await mixture(world, seed)
    survey = await world.context().ledger.survey(world.rule)
    records = [record for id_ in ids if (record := world.registry.get("thread", id_))]

    seen = of(view, world)

    states = [record.state for record in records]
    assert {"tracked", "held", "waiting", "claimed", "quarantined"} == set(states)
    assert (survey.registered, survey.due) == (seen.registered, seen.due)
    assert (len(records), states.count("held"), states.count("quarantined"), 4) == (
        seen.registered,
        seen.parked,
        seen.quarantined,
        seen.claimed,
    )
    assert (states.count("waiting"), states.count("claimed")) == (seen.waiting, seen.claimed)
    pending = [one.due.timestamp() for one in records if one.due and one.state in {"tracked", "waiting", "claimed"}]
    assert time.time() - min(pending) == pytest.approx(seen.overdue, abs=5)


async def test_nothing_due_is_not_overdue(world: World, view: View) -> None:
    world.seed(3, days=1)
    await world.sweep()

    assert (3, 0, 0.0) == (of(view, world).registered, of(view, world).due, of(view, world).overdue)


async def test_what_was_touched_while_it_was_backed_off_is_not_overdue(world: World, view: View) -> None:
    (id_,) = world.seed(1)
    world.sandbox.faults([BUSY])
    await world.sweep(anchor="last_active_at", touches_stated=True)
    assert 23 * DAY == pytest.approx(of(view, world).overdue, abs=60)

    world.registry.touch("thread", id_)

    assert 0 == of(view, world).overdue


@pytest.mark.parametrize("next_attempt", [1.0, 9e12], ids=["first", "last"])
async def test_of_many_backed_off_ids_both_ends_are_looked_at(world: World, view: View, next_attempt: float) -> None:
    world.seed(3 * LOOKED_AT, days=10)
    (oldest,) = world.seed(1, days=30)
    world.sandbox.faults([BUSY])
    await world.sweep()
    world.raw.zadd(f"{world.slot()}chat:{keys.WAITING}", {oldest: next_attempt})

    seen = of(view, world)

    assert 3 * LOOKED_AT + 1 == seen.waiting == seen.due
    assert 23 * DAY == pytest.approx(seen.overdue, abs=60)


async def test_ids_under_a_former_name_belong_to_the_policy_that_adopts_them(world: World, view: View) -> None:
    world.seed(4)
    world.seed(2, days=1)
    world.rule = replace(world.rule, partition=Partition("openai", "thread", "talk"), formerly=("chat",))

    before = view.partitions([world.rule], {"openai": world.account})
    assert [("talk", 6, 4)] == [(one.partition.policy, one.registered, one.due) for one in before]
    assert 23 * DAY == pytest.approx(before[0].overdue, abs=60)
    await world.sweep(enforce=False)

    assert before[0].registered == of(view, world).registered
    assert before[0].due == of(view, world).due


async def test_a_name_that_the_config_does_not_know_comes_last_and_never_is_due(world: World, view: View) -> None:
    world.seed(2, policy="typo")
    world.seed(1)

    found = view.partitions([world.rule], {"openai": world.account})

    assert [("chat", True, 1, 1), ("typo", False, 2, 0)] == [
        (one.partition.policy, one.configured, one.registered, one.due) for one in found
    ]


async def test_the_ramp_holds_until_its_step_is_over(world: World, view: View) -> None:
    world.settings = replace(world.settings, ramp=900.0)
    world.seed(15)
    await world.sweep()

    assert of(view, world, ramp=900.0).ramped
    assert not of(view, world, ramp=None).ramped
    assert not of(view, world, ramp=0.0).ramped
    world.rule = replace(world.rule, enforce=False)
    assert not of(view, world, ramp=900.0).ramped


async def test_a_pace_holds_until_its_window_is_over(world: World, view: View) -> None:
    world.seed(5)
    await world.sweep(max_deletions=Pace(amount=3, window=3600))
    assert (True, 2) == (of(view, world).limited, of(view, world).due)

    rules = keys.partition("lapse", "openai", "thread", "chat") + keys.RULES
    world.raw.hset(rules, "pace_from", world.raw.time()[0] * 1000 - 3601 * 1000)

    assert not of(view, world).limited


async def test_halts_and_pauses_reach_exactly_what_they_cover(world: World, view: View) -> None:
    other = replace(world.rule, partition=Partition("openai", "conversation", "chat"))
    sibling = replace(world.rule, partition=Partition("openai", "thread", "archive"))
    rules, control = [world.rule, sibling, other], world.context().control

    await control.halt(world.rule.partition, "no_touches", "one policy")
    await control.halt(world.rule.partition, "endpoint_missing", "its kind", whole_kind=True)
    await control.pause("openai/conversation", "deploy")

    seen = {one.partition: one for one in view.partitions(rules, {"openai": world.account})}
    reasons = {partition: {halt.reason for halt in one.halts} for partition, one in seen.items()}
    assert {"no_touches", "endpoint_missing"} == reasons[world.rule.partition]
    assert {"endpoint_missing"} == reasons[sibling.partition]
    assert set() == reasons[other.partition]
    assert [None, None, "openai/conversation"] == [seen[rule.partition].paused for rule in rules]
    assert not any(one.enforcing for one in seen.values())


async def test_one_look_at_everything_shows_what_its_parts_show(world: World, view: View) -> None:
    await mixture(world, 1)
    idle = replace(world.rule, partition=Partition("openai", "thread", "idle"), formerly=("older",))
    elsewhere = replace(world.rule, partition=Partition("openai", "file", "uploads"))
    rules, accounts = [world.rule, idle, elsewhere], {"openai": world.account}
    world.registry.register("thread", "thread_late", "older", created_at=time.time() - 400 * DAY)
    world.registry.register("conversation", "conv_1", "typo")
    world.registry.hold("response", "resp_1", reason="case 7")

    found = view.look(rules, accounts, ramp=60.0)

    settled = [replace(one, overdue=0.0) for one in view.partitions(rules, accounts, ramp=60.0)]
    assert settled == [replace(one, overdue=0.0) for one in found.partitions]
    assert view.slots(view.known_slots(rules, accounts)) == found.slots
    assert [(True, 1), (True, 0), (False, 1)] == [(one.configured, one.registered) for one in found.partitions[1:]]
    assert ["response"] == [slot.kind for slot in found.slots if slot.held and slot.kind != "thread"]
    assert (view.published(), view.epoch()) == (found.published, found.epoch)


async def test_a_look_asks_nothing_twice_and_little_where_nothing_stands(world: World, view: View) -> None:
    rules = [replace(world.rule, partition=Partition("openai", "thread", f"policy-{n}")) for n in range(6)]
    view.now()  # its connection is made

    with monitored(world.url) as empty:
        view.look(rules, {"openai": world.account})
    for rule in rules:
        world.registry.register("thread", f"thread_{rule.partition.policy}", rule.partition.policy)
    with monitored(world.url) as filled:
        found = view.look(rules, {"openai": world.account})

    said = [tuple(one.parts) for one in filled if one.parts[0] not in {b"MULTI", b"EXEC"}]
    assert sorted(set(said)) == sorted(said)
    assert [1] * 6 == [one.registered for one in found.partitions]
    assert len(empty) <= 1 + len(KINDS["openai"]) + 1 + len(rules) + 4  # what stands nowhere is not looked at


async def test_an_id_that_moves_is_counted_once(world: World, view: View) -> None:
    """Claimed ids leave one index and enter another, and what is left of the registry never grows."""
    world.seed(300)
    sweep = asyncio.create_task(world.sweep())
    shown = [300]
    while not sweep.done():
        shown.append((await asyncio.to_thread(of, view, world)).registered)
        await asyncio.sleep(0)
    await sweep

    assert sorted(shown, reverse=True) == shown
    assert 0 == of(view, world).registered


async def test_a_look_costs_the_same_whatever_the_registry_holds(world: World, view: View, raw: redis.Redis) -> None:
    world.sandbox.faults([BUSY])

    async def grown_by(n: int) -> tuple[dict[str, int], int]:
        for id_ in world.seed(n, subject="user:1"):
            world.registry.hold("thread", id_, reason="case 7") if int(id_[-4:], 36) % 2 else None
        world.seed(n, subject="user:1", days=1)
        await world.sweep()
        view.now()  # its connection is made
        raw.config_resetstat()
        view.slots(view.known_slots([world.rule], {"openai": world.account}))
        of(view, world)
        calls = {name: said["calls"] for name, said in raw.info("commandstats").items()}
        return calls, raw.info("stats")["total_net_output_bytes"]

    few, said_of_few = await grown_by(300)
    many, said_of_many = await grown_by(1500)

    del few["cmdstat_config|resetstat"], many["cmdstat_config|resetstat"]
    assert few == many
    assert 1 == few["cmdstat_exec"]  # sizes and cut-offs are of one moment
    assert said_of_many < 1.2 * said_of_few
