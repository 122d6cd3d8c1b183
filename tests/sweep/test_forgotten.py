"""How long an application's word counts that an id is none of lapse's; and uses that it could not say."""

import time
from dataclasses import replace

import pytest

from lapse import InvalidResource
from lapse.forgotten import end_unlistable
from lapse.model import FORGOTTEN_MARKER, Partition
from lapse.policy import Orphan
from oracle.history import Resource
from world import World

ORPHANS = Orphan(min_age=0.001, seen=3, max_share=None, uses_stated=True)


@pytest.fixture
def idle(world: World) -> World:
    """Return a world whose rule collects orphaned assistants."""
    partition = Partition("openai", "assistant", "idle")
    world.rule = replace(world.rule, partition=partition, ttl=None, anchor=None, orphan=ORPHANS, digest="digest00000a")
    world.seed(1, kind="assistant", policy="idle")
    return world


def vanished(world: World, n: int) -> list[str]:
    """Forget ids that the provider does not list."""
    ids = [f"asst_gone{i}" for i in range(n)]
    for id_ in ids:
        world.registry.register("assistant", id_, "idle")
        world.registry.forget("assistant", id_)
    return ids


def remembered(world: World, kind: str = "assistant") -> set[str]:
    return set(world.raw.zrange(f"{world.slot(kind)}forgotten", 0, -1)) - {FORGOTTEN_MARKER}


async def test_it_ends_with_the_second_complete_listing_that_does_not_show_the_id(idle: World) -> None:
    (listed,) = idle.seed(1, kind="assistant", policy="idle")
    idle.registry.forget("assistant", listed)
    gone = vanished(idle, 3)

    await idle.orphans()
    assert remembered(idle) == {listed, *gone}
    await idle.orphans()

    assert remembered(idle) == {listed}
    assert set(idle.raw.hkeys(f"{idle.slot('assistant')}unlisted")) == set()


async def test_listings_that_are_not_complete_end_nothing(idle: World) -> None:
    (gone,) = vanished(idle, 1)
    idle.sandbox.faults([{"method": "GET", "effect": "error", "status": 500}])

    for _ in range(4):
        await idle.orphans()

    assert remembered(idle) == {gone}


async def test_an_id_that_a_list_shows_again_begins_anew(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    idle.registry.forget("assistant", id_)
    since = idle.raw.zscore(f"{idle.slot('assistant')}forgotten", id_)
    idle.raw.hset(f"{idle.slot('assistant')}unlisted", id_, f"{since:.0f}")

    await idle.orphans()

    assert not idle.raw.hexists(f"{idle.slot('assistant')}unlisted", id_)
    assert remembered(idle) == {id_}


async def test_an_id_forgotten_anew_begins_anew(idle: World) -> None:
    (gone,) = vanished(idle, 1)
    await idle.orphans()
    idle.registry.forget("assistant", gone)

    await idle.orphans()
    assert remembered(idle) == {gone}
    await idle.orphans()
    assert remembered(idle) == set()


async def test_of_a_kind_that_no_list_shows_it_ends_after_a_time(world: World) -> None:
    for name in ("one", "two"):
        world.registry.forget("thread", f"thread_{name}")
        await world.until(lambda: world.raw.time()[0] > 0)
    after = world.raw.zscore(f"{world.slot()}forgotten", "thread_two") + 1

    assert await end_unlistable(world.means().ledger, "openai", "thread", round(after - 10_000)) == 0
    assert await end_unlistable(world.means().ledger, "openai", "thread", round(after)) == 2
    assert remembered(world, "thread") == set()


async def test_uses_that_could_not_be_said_halt_the_orphan_rule_until_it_is_resumed(idle: World) -> None:
    (candidate,) = idle.seed(1, kind="assistant", policy="idle")
    for _ in range(2):
        await idle.orphans()
    with pytest.raises(InvalidResource):
        idle.registry.register("thread", "thread_1", "chat", uses=[("assistant", f"asst_{n}") for n in range(1001)])

    for _ in range(3):
        report = await idle.orphans()
        assert report.result == "halted"
    assert list(idle.halts("assistant")) == ["idle|uses_exceeded"]
    assert "thread_1" in idle.halts("assistant")["idle|uses_exceeded"]["detail"]
    assert idle.deletes() == []

    control = idle.means().control
    (halt,) = await control.halts([("openai", "assistant")])
    await control.lift(halt, "the application says all again")
    idle.registry.register("thread", "thread_1", "chat", uses=[("assistant", candidate)])
    reports = [await idle.orphans() for _ in range(3)]

    assert [report.result for report in reports] == ["completed"] * 3
    assert candidate in idle.sandbox.alive("assistant")


async def test_no_orphan_is_claimed_once_uses_could_not_be_said(idle: World) -> None:
    ids = idle.seed(1, kind="assistant", policy="idle")
    for _ in range(2):
        await idle.orphans()
    first = int(time.time() * 1000)
    with pytest.raises(InvalidResource):
        idle.registry.register("thread", "thread_1", "chat", uses=[("assistant", f"asst_{n}") for n in range(1001)])

    ledger = idle.means().ledger
    claims = await ledger.claim_orphans(idle.rule, idle.settings, dict.fromkeys(ids, first), alone=False)

    assert claims.status == "halted"
    assert Resource("openai", "assistant", ids[0]).id in idle.sandbox.alive("assistant")
