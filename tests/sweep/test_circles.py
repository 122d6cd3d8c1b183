"""What uses each other is due as a whole; and chains, which end from their newest link on."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lapse.registry.model import Partition
from lapse.registry.scripts import Call
from lapse.sweep.circles import MOST
from support.lua import named
from support.world import DAY, World

STORE = Partition("openai", "vector_store", "stores")
FILE = Partition("openai", "file", "files")


@pytest.fixture
async def circle(world: World) -> World:
    """Return a world that deletes stores and files after a week, each under a policy of its own."""
    stores = replace(world.rule, partition=STORE, digest="digest00000s")
    world.rule = replace(world.rule, partition=FILE, digest="digest00000f")
    world.others = (stores,)
    await sweeps(world)  # both have a baseline
    return world


async def sweeps(world: World) -> None:
    """Sweep both partitions once."""
    (other,) = world.others
    world.rule, world.others = other, (world.rule,)
    await world.sweep()
    (other,) = world.others
    world.rule, world.others = other, (world.rule,)
    await world.sweep()


def register(world: World, kind: str, id_: str, *uses: tuple[str, str], days: float = 30, **facts: Any) -> None:
    at = time.time() - days * DAY
    world.registry.register(
        kind, id_, "files" if kind == "file" else "stores", uses=uses, created_at=at, last_active_at=at, **facts
    )


def pair(world: World, *, days: float = 30) -> tuple[str, str]:
    (store,), (file,) = world.sandbox.seed("vector_store"), world.sandbox.seed("file")
    register(world, "vector_store", store, ("file", file))
    register(world, "file", file, ("vector_store", store), days=days)
    return store, file


def alive(world: World) -> set[str]:
    return world.sandbox.alive("vector_store") | world.sandbox.alive("file")


async def test_two_that_use_each_other_are_deleted_once_both_are_due(circle: World) -> None:
    store, file = pair(circle)

    await sweeps(circle)

    assert set() == alive(circle)
    assert 1 == circle.counters("file")["deletions|files|file"]
    assert 1 == circle.counters("vector_store")["deletions|stores|vector_store"]
    claims = [one for kind in ("file", "vector_store") for one in circle.audit(kind) if one["event"] == "intent"]
    assert {store, file} == {one["id"] for one in claims}
    assert all(len(one["circle"]) == 2 for one in claims)


async def test_a_circle_is_due_with_its_last(circle: World) -> None:
    store, file = pair(circle, days=1)
    await sweeps(circle)
    assert {store, file} == alive(circle)

    circle.registry.expire("file", file)
    await sweeps(circle)

    assert set() == alive(circle)


async def test_a_circle_of_many_kinds_goes_as_a_whole(circle: World) -> None:
    stores, files = circle.sandbox.seed("vector_store", 5), circle.sandbox.seed("file", 5)
    ring = [one for pair in zip(stores, files, strict=True) for one in pair]
    kinds = ["vector_store", "file"] * 5
    for n, id_ in enumerate(ring):
        register(circle, kinds[n], id_, (kinds[n - 1], ring[n - 1]))

    await sweeps(circle)

    assert set() == alive(circle)


async def test_one_that_an_older_client_let_use_itself_goes(circle: World) -> None:
    (file,) = circle.sandbox.seed("file")
    register(circle, "file", file)
    call = Call(named("refer"), circle.slot("file"), ("openai", "file", f"openai|file|{file}", file), int)
    await circle.carrier.carry([call])

    await circle.sweep()

    assert set() == alive(circle)


IN_THE_WAY: dict[str, Callable[[World, str, str], object]] = {
    "held": lambda world, store, _file: world.registry.hold("vector_store", store, reason="case 7"),
    "touched": lambda world, store, _file: world.registry.register("vector_store", store, "stores", expires_in="9d"),
    "used from outside": lambda world, store, _file: world.registry.register(
        "thread", "thread_1", "chat", uses=[("vector_store", store)]
    ),
    "moved": lambda world, store, _file: world.registry.register("vector_store", store, "nobodys"),
    "forgotten": lambda world, store, _file: world.registry.forget("vector_store", store),
}


@pytest.mark.parametrize("way", IN_THE_WAY)
async def test_nothing_of_a_circle_goes_while_one_of_it_may_not(circle: World, way: str) -> None:
    store, file = pair(circle)
    IN_THE_WAY[way](circle, store, file)

    for _ in range(2):
        await sweeps(circle)

    assert {store, file} == alive(circle)
    assert [] == circle.deletes()


async def test_what_held_a_circle_up_and_ended_frees_it(circle: World) -> None:
    store, _file = pair(circle)
    circle.registry.register("thread", "thread_1", "chat", uses=[("vector_store", store)])
    await sweeps(circle)
    circle.registry.forget("thread", "thread_1", release=True)
    await circle.context().ledger.release_edges("openai", "thread")

    await sweeps(circle)

    assert set() == alive(circle)


async def test_a_paused_policy_of_one_holds_up_all(circle: World) -> None:
    store, file = pair(circle)
    await circle.context().control.pause(str(STORE), "maintenance")

    await circle.sweep()

    assert ({store, file}, []) == (alive(circle), circle.deletes())


async def test_rules_that_no_sweep_acted_under_yet_claim_no_member(circle: World) -> None:
    """The guards of a partition look at an edit when it is swept itself."""
    store, file = pair(circle)
    (stores,) = circle.others
    edited = replace(stores, ttl=8 * DAY, digest="digest00000e")
    await circle.context().ledger.adopt(edited)
    circle.others = (edited,)

    await circle.sweep()
    assert ({store, file}, []) == (alive(circle), circle.deletes())

    circle.decides(edited)
    await sweeps(circle)
    assert set() == alive(circle)


async def test_what_only_uses_a_circle_goes_before_it(circle: World) -> None:
    store, file = pair(circle)
    (user,) = circle.sandbox.seed("file")
    register(circle, "file", user, ("vector_store", store))

    await sweeps(circle)
    await sweeps(circle)

    assert user == circle.deletes()[0]
    assert {user, store, file} == set(circle.deletes())


async def test_what_is_said_between_the_claims_of_a_circle_wins(circle: World) -> None:
    """Each member is asked again once all are claimed."""
    store, file = pair(circle)
    context = circle.context()
    ledger, said = context.ledger, list[str]()
    plain = ledger.carrier.carry_lasting

    async def carry(calls: Any) -> list[Any]:
        chosen = list(calls)
        replies = await plain(chosen)
        if chosen[0].script.name == "claim_circle" and not said:
            said.append("hold")
            assert "too_late" == circle.registry.hold("file", file, reason="case 7")
        return replies

    ledger.carrier.carry_lasting = carry  # type: ignore[method-assign]
    await circle.sweep(context=context)
    ledger.carrier.carry_lasting = plain  # type: ignore[method-assign]

    assert (["hold"], {store, file}, []) == (said, alive(circle), circle.deletes())
    assert "claimed" not in {circle.state(file, "file"), circle.state(store, "vector_store")}


async def test_a_member_that_fails_gives_the_others_back(circle: World) -> None:
    store, file = pair(circle)
    circle.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500, "first": 1}])

    await circle.sweep()

    assert {store, file} == alive(circle)
    assert 1 == len(circle.deletes())
    assert "claimed" not in {circle.state(file, "file"), circle.state(store, "vector_store")}


async def test_a_circle_too_large_is_left(circle: World) -> None:
    files = circle.sandbox.seed("file", MOST + 1)
    for n, id_ in enumerate(files):
        register(circle, "file", id_, ("file", files[n - 1]))

    await circle.sweep()

    assert ([], set(files)) == (circle.deletes(), alive(circle))


async def test_looking_for_circles_takes_turns(circle: World) -> None:
    """Any number of ids may be in use; each look takes some of them."""
    (thread,) = circle.seed(1, days=1)
    files = circle.sandbox.seed("file", 250)
    for id_ in files:
        register(circle, "file", id_)
    circle.registry.register("thread", thread, "chat", uses=[("file", id_) for id_ in files])

    await circle.sweep()

    rules = f"{circle.slot('file')}files:rules"
    assert [] == circle.deletes()
    assert circle.raw.hget(rules, "circles_at")
    assert circle.raw.hget(rules, "circles_from")


async def test_ten_links_of_a_chain_end_within_one_sweep(world: World) -> None:
    """Each response uses the one before it; only the newest is free."""
    ids = world.sandbox.seed("thread", 10)
    at = time.time() - 30 * DAY
    for n, id_ in enumerate(ids):
        uses = [("thread", ids[n - 1])] if n else []
        world.registry.register("thread", id_, "chat", uses=uses, created_at=at, last_active_at=at)

    report = await world.sweep()

    assert ({"deleted": 10}, list(reversed(ids))) == (dict(report.outcomes), world.deletes())
