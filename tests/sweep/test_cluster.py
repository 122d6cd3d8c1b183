"""Sweeps on a real cluster: a kind's hash slot moves under them, and a primary ends."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from lapse.errors import LapseError
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.sandbox import Sandbox
from lapse.sweep.sweep import sweep
from support.clusters import Cluster
from support.world import World

TIMEOUT = 2.0
TURNS = 40
MOVES = 12
DAY = 86400.0


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


class Speaking(threading.Thread):
    """An application that registers what is due at once, and holds and touches some of it while workers want it."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.registered: list[str] = []
        self.kept: list[str] = []
        self.failed: list[LapseError] = []
        self.over = threading.Event()
        self._world = world

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._say(*self._world.sandbox.seed("thread", 3))
            except LapseError as error:
                self.failed.append(error)

    def _say(self, *ids: str) -> None:
        registry, due = self._world.registry, time.time() - 30 * DAY
        for id_ in ids:
            registry.register("thread", id_, "chat", created_at=due, last_active_at=due)
            self.registered.append(id_)
        for id_, answer in (
            (ids[0], registry.hold("thread", ids[0], reason="case 7")),
            (ids[1], registry.touch("thread", ids[1])),
        ):
            if answer == "ok":
                self.kept.append(id_)


async def test_what_is_held_touched_or_paused_survives_a_hash_slot_that_moves_whole_again_and_again(
    cluster: Cluster, world: World
) -> None:
    world.rule = replace(world.rule, anchor="last_active_at")
    import_rule = replace(world.rule, partition=Partition("openai", "thread", "import"))
    kept = [*world.seed(5), *world.seed(5, policy="import")]
    held(world, kept[:5])
    (touched,) = world.seed(1)
    assert world.registry.touch("thread", touched) == "ok"
    await world.context().control.pause("openai/thread/import", "a look", slots=[("openai", "thread")])
    speaking = Speaking(world)
    moving = asyncio.create_task(asyncio.to_thread(moved_whole, cluster, world.slot(), MOVES))
    speaking.start()
    while not moving.done():
        await world.sweep()
        assert (await sweep(world.context(), import_rule)).result == "paused"
    await moving
    meanwhile = len(world.deletes())
    speaking.over.set()
    await asyncio.to_thread(speaking.join)
    await swept(world, sorted({*speaking.registered} - {*speaking.kept}))

    assert meanwhile > 20
    assert {*kept, touched, *speaking.kept} <= world.sandbox.alive("thread")
    assert [] == speaking.failed
    assert len(speaking.registered) > 100
    assert len(speaking.kept) > 30
    tracked = {id_ for id_ in speaking.kept if world.registry.get("thread", id_)}
    assert {*speaking.kept} == tracked
    assert len(speaking.registered) - len(speaking.kept) == world.counters()["deletions|chat|thread"]


def moved_whole(cluster: Cluster, key: str, times: int) -> None:
    """Move a hash slot to the next primary, and to the one after that."""
    for _ in range(times):
        cluster.move_whole(key, (cluster.owner(key) + 1) % 3)


async def test_a_primary_that_ends_is_followed_by_its_replica(cluster: Cluster, world: World) -> None:
    ids = world.seed(20)
    held(world, ids[:5])
    await world.sweep()
    cluster.nodes[cluster.owner(world.slot())].stop(kill=True)

    later = world.sandbox.seed("thread", 5)
    await asyncio.to_thread(held, world, later)
    await swept(world, world.seed(5))
    assert set(ids[:5]) | set(later) <= world.sandbox.alive("thread")
