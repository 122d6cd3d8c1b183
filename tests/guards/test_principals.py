"""Whose answers count: rotated keys alternate, and a key of another project settles nothing."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lapse.sandbox import Sandbox
from support.world import DAY, KEY, World

ROTATED = "sk-test-rotated-of-one"
OTHER = "sk-test-of-another-project"
GONE = [f"thread_{n:024d}" for n in range(20)]
LONG_AGO = 1_600_000_000


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Return a stand-in that knows two keys of one project and one of another."""
    with Sandbox(keys={KEY: "one", ROTATED: "one", OTHER: "other"}) as server:
        yield server


def gone(world: World, n: int) -> list[str]:
    """Register ids that are at no provider."""
    world.registry.register_many(
        {"kind": "thread", "id": id_, "policy": "chat", "created_at": LONG_AGO, "last_active_at": LONG_AGO}
        for id_ in GONE[:n]
    )
    return GONE[:n]


def again(world: World) -> None:
    """Let what is backed off be due."""
    waiting = f"{world.slot()}chat:waiting"
    for id_ in world.raw.zrange(waiting, 0, -1):
        world.raw.zadd(waiting, {id_: 0}, xx=True)


def seeded(world: World, project: str, n: int, days: float) -> list[str]:
    """Create objects in a project and register them as that old."""
    ids: list[str] = world.sandbox.seed("thread", n, project=project)
    at = time.time() - days * DAY
    world.registry.register_many(
        {"kind": "thread", "id": id_, "policy": "chat", "created_at": at, "last_active_at": at} for id_ in ids
    )
    return ids


async def test_a_key_of_another_project_is_refused_and_halts_nobody_else(world: World) -> None:
    seeded(world, "one", 3, 30)
    seeded(world, "one", 3, 1)
    assert {"deleted": 3} == dict((await world.sweep()).outcomes)
    ids = seeded(world, "one", 20, 30)

    report = await world.sweep(context=world.context(key=OTHER))

    assert ("principal_unproven", {}) == (report.result, dict(report.outcomes))
    assert ["*|principal_unproven"] == list(world.halts())
    assert {"deleted": 20} == dict((await world.sweep()).outcomes)
    assert set(ids).isdisjoint(world.sandbox.alive("thread"))


async def test_an_application_that_moved_to_another_project_loses_no_id(world: World) -> None:
    """Its newest ids are the other project's, and can be read; all that is due belongs to the one it left."""
    seeded(world, "one", 1, 30)
    await world.sweep()
    ids = seeded(world, "one", 30, 30)
    seeded(world, "other", 5, 1)

    for _ in range(3):
        assert "principal_unproven" == (await world.sweep(context=world.context(key=OTHER))).result

    assert {"tracked"} == {world.state(id_) for id_ in ids}
    assert set(ids) <= world.sandbox.alive("thread")


async def test_keys_of_one_project_may_alternate(world: World) -> None:
    """A rotation that rolls over two hosts, with ids of both halves due, and some gone by themselves."""
    seeded(world, "one", 4, 1)
    reports = []
    for round_ in range(4):
        seeded(world, "one", 5, 30)
        gone(world, round_)
        key = ROTATED if round_ % 2 else KEY
        reports.append(await world.sweep(context=world.context(key=key)))
        again(world)

    assert 20 == sum(report.outcomes["deleted"] for report in reports)
    assert {} == world.halts()


async def test_what_one_key_misses_waits_for_the_other_one_in_use(world: World) -> None:
    """Two workers with two accepted keys: an absence is believed once both did not find it."""
    seeded(world, "one", 4, 1)
    await world.sweep()
    await world.sweep(context=world.context(key=ROTATED))
    (id_,) = gone(world, 1)

    assert {"unproven": 1} == dict((await world.sweep()).outcomes)
    again(world)
    assert {"already_gone": 1} == dict((await world.sweep(context=world.context(key=ROTATED))).outcomes)
    assert world.state(id_) is None


async def test_a_key_that_misses_what_another_one_deletes_is_refused(world: World) -> None:
    """Ids of two projects under one name: each key finds its own, and none may settle the other's."""
    mine, theirs = seeded(world, "one", 4, 1), seeded(world, "other", 4, 1)
    assert {} == dict((await world.sweep()).outcomes)
    await world.sweep(context=world.context(key=OTHER))
    due = seeded(world, "other", 5, 30)

    for key in (KEY, OTHER, KEY):
        report = await world.sweep(context=world.context(key=key))
        assert 0 == report.outcomes["already_gone"]
        again(world)

    assert set(mine) | set(theirs) <= world.sandbox.alive("thread")
    assert all(world.state(id_) or id_ not in world.sandbox.alive("thread") for id_ in due)


async def test_a_key_file_that_is_replaced_in_mid_sweep_settles_nothing(world: World, tmp_path: Path) -> None:
    ids = seeded(world, "one", 200, 30)
    seeded(world, "one", 3, 1)
    seeded(world, "other", 3, 1)
    path = tmp_path / "key"
    path.write_text(KEY)
    world.sandbox.faults([{"latency": "5ms"}])
    world.account = replace(world.account, api_key_env=None, api_key_file=str(path))
    sweeping = asyncio.create_task(world.sweep())
    await world.until(lambda: len(world.deletes()) > 20)
    path.write_text(OTHER)

    report = await sweeping

    assert 0 == report.outcomes["already_gone"]
    assert 0 < report.outcomes["deleted"] < 200
    assert all(world.state(id_) for id_ in ids if id_ in world.sandbox.alive("thread"))


async def test_a_canary_proves_an_absence_where_nothing_lives(world: World) -> None:
    """It is registered first, counted as what it is, and valid for a key that has deleted an id of this registry."""
    world.unpromised = {"unasked"}  # no application registers it
    world.account = replace(world.account, proof="canary")
    seeded(world, "one", 1, 30)
    await world.sweep()
    (id_,) = gone(world, 1)

    report = await world.sweep()

    assert {"already_gone": 1} == dict(report.outcomes)
    assert world.state(id_) is None
    created = [one["path"] for one in world.sandbox.requests() if one["method"] == "POST"]
    assert ["/v1/threads"] == created
    assert set() == world.sandbox.alive("thread")
    assert 2 == world.counters()["deletions|chat|thread"]
    assert ["canary"] == [one["event"] for one in world.audit() if one["event"] == "canary"]


async def test_a_canary_of_a_key_that_has_never_seen_an_id_of_this_registry_proves_nothing(world: World) -> None:
    world.account = replace(world.account, proof="canary")
    ids = gone(world, 5)

    report = await world.sweep(context=world.context(key=OTHER))

    assert {"unproven": 5} == dict(report.outcomes)
    assert {"waiting"} == {world.state(id_) for id_ in ids}
    assert [] == [one for one in world.sandbox.requests() if one["method"] == "POST"]
