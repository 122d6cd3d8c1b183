"""Sweeps and orphan runs at the stand-in's other dialects: registered, claimed, looked at, deleted."""

import time
from dataclasses import replace

import pytest

from lapse.policy import Orphan
from lapse.registry.model import Partition
from oracle.history import Resource
from support.world import DAY, World

ORPHANS = Orphan(min_age=0.001, seen=3, max_share=None, uses_stated=True)


def at(world: World, type_: str, kind: str = "thread") -> World:
    """Return the world with its account at another dialect of the stand-in."""
    version = "v1" if type_ == "foundry" else None
    base_url = f"{world.sandbox.root}/{type_}"
    world.account = replace(world.account, type=type_, base_url=base_url, api_version=version)
    world.rule = replace(world.rule, partition=Partition("openai", kind, "chat"))
    return world


def registered(world: World, ids: list[str], kind: str = "thread", days: float = 30) -> None:
    at = time.time() - days * DAY
    world.registry.register_many(
        {"kind": kind, "id": id_, "policy": "chat", "created_at": at, "last_active_at": at} for id_ in ids
    )


@pytest.mark.parametrize("type_", ["foundry", "langgraph"])
async def test_what_is_due_goes_and_the_rest_stays(type_: str, world: World) -> None:
    due, young = (world.sandbox.seed("thread", n, dialect=type_) for n in (30, 10))
    registered(at(world, type_), due)
    registered(world, young, days=1)

    report = await world.sweep()

    assert (report.result, report.outcomes["deleted"]) == ("completed", 30)
    assert set(young) == world.sandbox.alive("thread", dialect=type_)
    assert 30 == world.counters()["deletions|chat|thread"]


async def test_a_busy_thread_is_put_off_without_an_attempt(world: World) -> None:
    (busy,) = world.sandbox.seed("thread", dialect="langgraph", status="busy")
    (idle,) = world.sandbox.seed("thread", dialect="langgraph")
    registered(at(world, "langgraph"), [busy, idle])

    report = await world.sweep()

    assert (report.outcomes["conflict"], report.outcomes["deleted"]) == (1, 1)
    assert {busy} == world.sandbox.alive("thread", dialect="langgraph")
    assert busy not in world.deletes()
    assert (world.state(busy), world.record(busy).attempts) == ("waiting", 0)


async def test_a_registered_system_assistant_is_kept(world: World) -> None:
    (system,) = world.sandbox.alive("assistant", dialect="langgraph")
    (mine,) = world.sandbox.seed("assistant", dialect="langgraph")
    registered(at(world, "langgraph", "assistant"), [system, mine], "assistant")

    report = await world.sweep()

    assert (report.outcomes["kept"], report.outcomes["deleted"]) == (1, 1)
    assert {system} == world.sandbox.alive("assistant", dialect="langgraph")
    assert system not in world.deletes()


@pytest.mark.parametrize("kind", ["thread", "assistant"])
@pytest.mark.parametrize("type_", ["foundry", "langgraph"])
async def test_orphans_go_and_nothing_that_is_not_ours(type_: str, kind: str, world: World) -> None:
    """Threads can be listed here: those that the registry knows and nothing uses are orphans like assistants."""
    at(world, type_, kind)
    world.rule = replace(world.rule, ttl=None, anchor=None, orphan=ORPHANS)
    world.long_ago()
    (foreign,) = world.sandbox.seed(kind, dialect=type_)
    (stamped,) = world.sandbox.seed(kind, dialect=type_, metadata=world.registry.stamp("chat"))
    world.stamped.add(Resource("openai", kind, stamped))
    ours = world.sandbox.seed(kind, 3, dialect=type_)
    registered(world, ours, kind)
    system = world.sandbox.alive(kind, dialect=type_) - {foreign, stamped, *ours}

    reports = [await world.orphans() for _ in range(3)]

    assert [0, 0, 4] == [report.outcomes["deleted"] for report in reports]
    assert {foreign, *system} == world.sandbox.alive(kind, dialect=type_)
    assert len(system) == (type_ == "langgraph" and kind == "assistant")
