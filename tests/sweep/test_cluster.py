"""Sweeps on a real cluster: a kind's hash slot moves under them, and a primary ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from lapse.errors import LapseError
from lapse.registry.aio import Carrier
from lapse.sandbox import Sandbox
from support.clusters import Cluster
from support.world import World

TIMEOUT = 2.0
TURNS = 40


@pytest.fixture(scope="module")
def cluster(clean_environment: None) -> Iterator[Cluster]:
    with Cluster(3, replicas=1) as made:
        yield made


@pytest.fixture
async def world(cluster: Cluster, sandbox: Sandbox) -> AsyncIterator[World]:
    for client in cluster.clients[:3]:
        client.flushall()
    carrier = Carrier(cluster.url, TIMEOUT)
    made = World(cluster.url, sandbox, carrier)
    yield made
    assert [] == made.judge()
    for provider in made.open:
        await provider.aclose()
    made.registry.close()
    made.raw.close()
    await carrier.aclose()


async def swept(world: World, ids: list[str]) -> None:
    """Sweep until these are gone, as ticks do: one that meets a registry that is away ends, and the next goes on."""
    for _ in range(TURNS):
        try:
            await world.sweep()
        except LapseError:
            await asyncio.sleep(0.05)
        if not set(ids) & world.sandbox.alive("thread"):
            return
    raise AssertionError(f"{len(set(ids) & world.sandbox.alive('thread'))} are left")


def held(world: World, ids: list[str]) -> None:
    for id_ in ids:
        while True:
            try:
                world.registry.hold("thread", id_, reason="case 7")
                break
            except LapseError:
                continue


async def test_what_is_held_survives_a_hash_slot_that_moves_under_a_sweep(cluster: Cluster, world: World) -> None:
    ids = world.seed(40, uses=[("file", "file_shared")])
    kept, due = ids[:5], ids[5:]
    held(world, kept)
    move = cluster.migrating(world.slot(), (cluster.owner(world.slot()) + 1) % 3)
    sweeping = asyncio.create_task(swept(world, due))

    await asyncio.sleep(0)
    while left := move.left():
        move.move(left[0])
        await asyncio.sleep(0.02)
    move.finish()
    await sweeping

    assert set(kept) <= world.sandbox.alive("thread")


async def test_a_primary_that_ends_is_followed_by_its_replica(cluster: Cluster, world: World) -> None:
    ids = world.seed(20)
    held(world, ids[:5])
    await world.sweep()
    cluster.nodes[cluster.owner(world.slot())].stop(kill=True)

    later = world.sandbox.seed("thread", 5)
    await asyncio.to_thread(held, world, later)
    await swept(world, world.seed(5))
    assert set(ids[:5]) | set(later) <= world.sandbox.alive("thread")
