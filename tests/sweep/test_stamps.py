"""A stamp proves what one object is. Whoever copies an object copies its metadata too, and the copy is theirs."""

from dataclasses import replace
from typing import Any

import pytest

from lapse.ledger.nonces import Nonces
from lapse.policy import Keep
from lapse.providers.pagination import Listed
from lapse.registry import keys
from lapse.registry.model import Partition
from lapse.registry.model import Resource as Named
from lapse.sweep.deletion.ownership import Stamp, stamp
from lapse.sweep.purge import inventory, rule_of
from oracle.history import Resource
from support.world import World
from sweep.test_orphans import ORPHANS

IDLE = Partition("openai", "assistant", "idle")
LONG_AGO = 1_600_000_000


@pytest.fixture
async def stamped(world: World) -> World:
    """Return a world whose rule collects orphaned assistants, and whose registry can stamp."""
    rule = replace(world.rule, partition=IDLE, ttl=None, anchor=None, digest="digest00000a")
    world.rule = replace(rule, orphan=replace(ORPHANS, uses_stated=True))
    await world.context().control.epoch()
    world.long_ago()
    return world


def make(world: World, metadata: dict[str, str], at: int = LONG_AGO, kind: str = "assistant", **facts: Any) -> str:
    (id_,) = world.sandbox.seed(kind, metadata=metadata, created_at=at, **facts)
    return id_


async def listed(world: World, times: int = 4) -> None:
    for _ in range(times):
        await world.orphans()


def ours(world: World, id_: str) -> None:
    world.stamped.add(Resource("openai", "assistant", id_))


@pytest.mark.parametrize("apart", [1, -1])
async def test_of_an_object_and_its_copy_the_older_one_is_ours(stamped: World, apart: int) -> None:
    """Whichever the list shows first."""
    said = stamped.registry.stamp("idle")
    ids = {at: make(stamped, said, at) for at in (LONG_AGO, LONG_AGO + apart)}
    original, copy = ids[min(ids)], ids[max(ids)]
    ours(stamped, original)

    await listed(stamped)

    assert ([original], {copy}) == (stamped.deletes(), stamped.sandbox.alive("assistant"))


async def test_what_carries_the_stamp_of_a_registry_that_was_imported_here_is_ours(stamped: World) -> None:
    said = stamped.registry.stamp("idle")["lapse"]
    mine, foreign = (make(stamped, {"lapse": said.replace("lapse/", f"{name}/", 1)}) for name in ("old", "other"))
    stamped.raw.hset("lapse:epoch", f"stamp|old/{said.split('/')[1]}", 1)
    ours(stamped, mine)

    await listed(stamped)

    assert ([mine], {foreign}) == (stamped.deletes(), stamped.sandbox.alive("assistant"))


async def test_a_copy_of_what_is_gone_is_foreign(stamped: World) -> None:
    said = stamped.registry.stamp("idle")
    original = make(stamped, said)
    ours(stamped, original)
    await listed(stamped)
    copy = make(stamped, said)

    await listed(stamped)

    assert ([original], {copy}) == (stamped.deletes(), stamped.sandbox.alive("assistant"))
    assert '"copied":1' in stamped.raw.hget(f"{stamped.slot('assistant')}idle:rules", "orphans")


@pytest.mark.parametrize("why", ["registered", "kept", "other policy"])
async def test_a_copy_is_foreign_also_of_what_is_no_orphan(stamped: World, why: str) -> None:
    """What is listed is seen, whether or not it would go."""
    said = stamped.registry.stamp("other" if why == "other policy" else "idle")
    original = make(stamped, said, name="prod-1" if why == "kept" else "x")
    copy = make(stamped, {"lapse": said["lapse"].replace("/other/", "/idle/")}, LONG_AGO + 1)
    if why == "registered":
        stamped.registry.register("assistant", original, "idle")
        stamped.registry.register("thread", "thread_1", "chat", uses=[("assistant", original)])
    stamped.rule = replace(stamped.rule, keep=(Keep("prod-*", {}),))

    await listed(stamped)

    assert {original, copy} == stamped.sandbox.alive("assistant")


async def test_two_of_one_second_are_nobodys(stamped: World) -> None:
    said = stamped.registry.stamp("idle")
    ids = {make(stamped, said), make(stamped, said)}

    await listed(stamped)

    assert ids == stamped.sandbox.alive("assistant")


async def test_a_registered_copy_is_ours_by_its_registration(stamped: World) -> None:
    said = stamped.registry.stamp("idle")
    original, copy = make(stamped, said), make(stamped, said, LONG_AGO + 1)
    ours(stamped, original)
    stamped.registry.register("assistant", copy, "idle")

    await listed(stamped)

    assert {original, copy} == set(stamped.deletes())


async def test_a_stamp_of_an_older_version_is_no_proof(stamped: World) -> None:
    said = stamped.registry.stamp("idle")["lapse"].rpartition("/")[0]
    id_ = make(stamped, {"lapse": said})

    await listed(stamped)

    assert {id_} == stamped.sandbox.alive("assistant")


async def test_a_purge_calls_a_copy_foreign(stamped: World) -> None:
    said = stamped.registry.stamp("idle")
    first, copy = make(stamped, said), make(stamped, said, LONG_AGO + 1)
    context = stamped.context()
    await context.watch.look()
    await Nonces(stamped.carrier, "lapse").bind({said["lapse"].rsplit("/")[-1]: f"openai|assistant|{first}"})

    things = await inventory(context, rule_of(IDLE, (), (stamped.rule,)))

    assert {first: False, copy: True} == {thing.id: thing.foreign for thing in things}


async def test_a_nonce_keeps_its_first_owner(stamped: World) -> None:
    nonces = Nonces(stamped.carrier, "lapse")

    assert {} == await nonces.owners([]) == await nonces.bind({})
    assert await nonces.belongs("n1", Named("openai", "assistant", "a"))
    assert not await nonces.belongs("n1", Named("openai", "vector_store", "a"))
    assert await nonces.belongs("n1", Named("openai", "assistant", "a"))
    assert {"n1": "openai|assistant|a"} == stamped.raw.hgetall(keys.nonces("lapse"))


STAMPS = {
    "lapse/e1/idle/0123456789abcdef": ("ours", "idle", "0123456789abcdef"),
    "lapse/e1/idle": ("no_nonce", "idle", ""),
    "lapse/e1/idle/": ("", "", ""),
    "lapse/e1/idle/a b": ("", "", ""),
    "lapse/e1/idle/a/b": ("", "", ""),
    "other/e1/idle/a": ("other_namespace", "idle", "a"),
    "lapse/e0/idle/a": ("old_epoch", "idle", "a"),
    'lapse/e1/x"y/a': ("", "", ""),
    "": ("", "", ""),
}


@pytest.mark.parametrize("said", STAMPS)
def test_what_a_stamp_says(said: str) -> None:
    assert Stamp(*STAMPS[said]) == stamp(Listed("a", 1, None, {"lapse": said}), "lapse", "e1")
