"""What a plan shows while observing is what an enforced sweep and an applied plan delete: the same ids, in order.

Over random registries, as many as LAPSE_TEST_REGISTRIES says.
"""

import json
import os
import random
import time
from dataclasses import replace
from typing import Any

import pytest

from lapse.policy import Rule
from lapse.sweep.apply import apply
from support.planned import planned
from support.world import DAY, World

REGISTRIES = int(os.environ.get("LAPSE_TEST_REGISTRIES", "30"))
BACK = {"n": 1, "u": 1}


def rule_of(world: World, dice: random.Random) -> Rule:
    anchor = dice.choice(["created_at", "last_active_at"])
    max_age = dice.choice([None, 9 * DAY, 20 * DAY])
    return replace(
        world.rule,
        anchor=anchor,
        ttl=dice.choice([1, 7, 15]) * DAY,
        max_age=max_age,
        enforce=False,
        touches_stated=True,
        digest=f"digest{dice.randrange(10**6):06}",
    )


def fill(world: World, dice: random.Random) -> None:
    """Register ids of every state there is."""
    now = time.time()
    ids = world.sandbox.seed("thread", dice.randrange(5, 25))
    for id_ in ids:
        created = now - dice.choice([0.5, 5, 8, 12, 25]) * DAY - dice.randrange(1000)
        active = dice.choice([created, created, now - dice.randrange(1, 10) * DAY])
        given: dict[str, Any] = {"created_at": created, "last_active_at": max(created, active)}
        if dice.random() < 0.2:
            given = {"expires_at": now + dice.choice([-9, -1, 9]) * DAY, "created_at": created}
        if dice.random() < 0.1:
            world.registry.hold("thread", id_, reason="case", until=dice.choice([None, now + DAY]))
        if dice.random() < 0.1:
            world.registry.register("conversation", f"conv_{id_}", "chat", uses=[("thread", id_)])
        world.registry.register("thread", id_, dice.choice(["chat", "chat", "chat", "other"]), **given)
    for id_, state in zip(dice.sample(ids, 3), ("waiting", "suspects", "quarantine"), strict=True):
        set_aside(world, id_, state, dice)


def set_aside(world: World, id_: str, state: str, dice: random.Random) -> None:
    """Put an id where an earlier sweep would have left it: backed off, under suspicion, or in quarantine."""
    fresh = f"{world.slot()}chat:fresh"
    score = world.raw.zscore(fresh, id_)
    if score is None:
        return
    until = round(time.time() * 1000) + dice.choice([-60_000, 600_000])
    record = {"p": "chat", "s": "quarantined" if state == "quarantine" else "waiting", "f": int(score), "d": until}
    record |= {"x": 1, "u": 1} if state == "suspects" else BACK
    world.raw.zrem(fresh, id_)
    world.raw.hset(f"{world.slot()}aside", id_, json.dumps(record))
    world.raw.zadd(f"{world.slot()}chat:{state}", {id_: until})


@pytest.mark.parametrize("seed", range(REGISTRIES))
async def test_observed_planned_swept_and_applied_are_the_same(world: World, seed: int) -> None:
    dice = random.Random(seed)
    rule = rule_of(world, dice)
    fill(world, dice)

    observed = await world.sweep(context=world.context(), **{name: getattr(rule, name) for name in rule.__slots__})
    plan = await planned(world, rule)
    assert "observed" == observed.result
    assert [] == world.sandbox.requests()

    enforced, context = replace(rule, enforce=True, digest="enforced0001"), world.context(concurrency=1)
    if dice.random() < 0.5:
        await world.sweep(context=context, **{name: getattr(enforced, name) for name in rule.__slots__})
    else:
        world.decides(enforced)
        left: dict[str, str] = {}
        await apply(context, rule, plan, "plan", left.update)
        assert {} == left
    assert [one.id for one in plan] == world.deletes()
