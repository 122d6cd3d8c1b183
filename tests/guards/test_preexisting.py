"""What is older than the registry looks unused after every accident, and is an orphan only after somebody said so."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from lapse.guards.integrity.monitor import Watch
from lapse.guards.preexisting import APPROVED, scope
from lapse.policy import Orphan
from lapse.registry.model import Partition
from support.world import World

IDLE = Partition("openai", "assistant", "idle")
ORPHANS = Orphan(min_age=0.001, seen=2, max_share=None, uses_stated=True)


@pytest.fixture
def idle(world: World) -> World:
    """Return a world whose rule collects orphaned assistants, five of which threads use."""
    world.rule = replace(world.rule, partition=IDLE, ttl=None, anchor=None, orphan=ORPHANS, digest="digest00000a")
    return world


def used(world: World, n: int = 5) -> list[str]:
    """Create assistants and register them with the threads that use them."""
    ids = world.seed(n, kind="assistant", policy="idle")
    for i, id_ in enumerate(ids):
        world.registry.register("thread", f"thread_{i}", "chat", uses=[("assistant", id_)])
    return ids


def registered(world: World, ids: list[str]) -> None:
    """Register the assistants again, as an application does that starts; what uses them, it said long ago."""
    world.registry.register_many({"kind": "assistant", "id": id_, "policy": "idle"} for id_ in ids)


def counts(world: World) -> dict[str, int]:
    return dict(json.loads(world.raw.hget(f"{world.slot('assistant')}idle:rules", "orphans")))


def restarted(world: World) -> None:
    """Let the worker begin anew: it knows of no registry before this one."""
    world.watch = Watch(world.carrier, "lapse")


async def elders(world: World, n: int) -> list[str]:
    """Create assistants an hour ago, before the registry began half an hour ago."""
    ids = world.sandbox.seed("assistant", n, created_at=int(time.time()) - 3600)
    registered(world, ids)
    await world.context().control.epoch()
    world.raw.hincrby("lapse:epoch", "created", -1_800_000)
    return ids


async def flushed_while_workers_were_stopped(world: World) -> None:
    world.raw.flushall()
    restarted(world)


async def taken_after_a_flush(world: World) -> None:
    world.raw.flushall()
    await world.watch.look()
    await world.context().control.accept("registry_lost")
    world.raw.delete(f"{world.slot('assistant')}halts")


async def an_older_state_was_taken(world: World) -> None:
    world.raw.delete(f"{world.slot()}facts")
    world.raw.delete(f"{world.slot('assistant')}edges", f"{world.slot('assistant')}protected")
    await world.context().control.accept("registry_rolled_back")


async def a_renamed_namespace(world: World) -> None:
    """All keys begin with another word from now on: to lapse, an empty Redis. Here the old ones are put away."""
    for name in world.raw.keys("lapse:*"):
        world.raw.rename(name, f"old{name}")
    restarted(world)


ACCIDENTS = (flushed_while_workers_were_stopped, taken_after_a_flush, an_older_state_was_taken, a_renamed_namespace)


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda one: one.__name__)
async def test_after_every_accident_what_was_there_before_waits(idle: World, accident: Any) -> None:
    """19 and 20 assistants in use were collected so."""
    idle.unpromised = {"lost", "record", "count"}
    ids = used(idle)
    await idle.orphans()
    await accident(idle)
    registered(idle, ids)

    reports = [await idle.orphans() for _ in range(3)]

    assert ["completed"] * 3 == [one.result for one in reports]
    assert [] == idle.deletes()
    assert 5 == counts(idle)["older_than_registry"]
    halt = idle.halts("assistant")["idle|older_than_registry"]
    assert "5 unused since before this registry began" in halt["detail"]
    assert halt["plan"]


async def test_the_younger_ones_go_meanwhile(idle: World) -> None:
    ids = await elders(idle, 2)
    young = idle.sandbox.seed("assistant", 3, created_at=int(time.time()) - 1)
    registered(idle, young)

    for _ in range(3):
        await idle.orphans()

    assert set(young) == set(idle.deletes())
    assert set(ids) <= idle.sandbox.alive("assistant")


async def test_an_approval_holds_for_one_rule_and_one_beginning(idle: World) -> None:
    ids = await elders(idle, 2)
    await idle.orphans()
    await idle.orphans()
    began = int(idle.raw.hget("lapse:epoch", "created"))
    first = idle.halts("assistant")["idle|older_than_registry"]["plan"]
    rules = f"{idle.slot('assistant')}idle:rules"

    for wrong in (scope("another", began), scope("digest00000a", began + 1)):
        idle.raw.hset(rules, APPROVED, wrong)
        await idle.orphans()
        assert [] == idle.deletes()
    idle.raw.hset(rules, APPROVED, scope("digest00000a", began))
    await idle.orphans(digest="digest00000b")
    assert first != idle.halts("assistant")["idle|older_than_registry"]["plan"]
    idle.raw.hset(rules, APPROVED, scope("digest00000b", began))
    await idle.orphans()

    assert set(ids) == set(idle.deletes())
    assert {} == idle.halts("assistant")
