"""What has to stand at a replica too before it is told, or acted by: on a primary and a replica that comes and goes."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import redis

from lapse import Answer, AsyncRegistry, Registry
from lapse.errors import RegistryUnavailable, Unreplicated
from lapse.guards.integrity import preflight, replication
from lapse.guards.integrity.preflight import Level
from lapse.ledger.halts import Halts
from lapse.ledger.housekeeping.misnamed import Misnamed
from lapse.policy.tables import AUTO
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.pools.replicas import Replicas
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis
from support.clusters import Cluster
from support.erased_places import lapse_leases, wait_out
from support.recording import RecordingRegistry
from support.world import World

PUBLISHED = keys.published("lapse")
AT_ONCE = ("--repl-diskless-sync-delay", "0")
PATIENT = Replicas(1, 10)
"""For a replica that goes on: on a busy machine that takes it a while."""


@dataclass(frozen=True)
class Pair:
    """A primary and its replica."""

    primary: EmbeddedRedis
    replica: EmbeddedRedis

    def connected(self) -> int:
        with redis.Redis.from_url(self.primary.url) as client:
            client.set("written", "now")
            return int(client.execute_command("WAIT", 1, 100))


@pytest.fixture
def pair(clean_environment: None, wait_until: Callable[..., None]) -> Iterator[Pair]:
    with EmbeddedRedis(*AT_ONCE) as primary:
        with EmbeddedRedis("--replicaof", f"127.0.0.1 {primary.port}", *AT_ONCE) as replica:
            made = Pair(primary, replica)
            wait_until(lambda: made.connected() == 1, what="the replica")
            yield made
        primary.stop(kill=True)  # asked to end, it waits for its replica


@pytest.fixture
async def world(pair: Pair, sandbox: Sandbox) -> AsyncIterator[World]:
    carrier = Carrier(pair.primary.url, 5)
    carrier.replicas = Replicas(1, 0.5)
    made = World(pair.primary.url, sandbox, carrier)
    yield made
    await made.end()


def says(url: str, number: int) -> None:
    """Publish, as workers do, how many replicas have to have what is said."""
    with redis.Redis.from_url(url) as client:
        client.hset(PUBLISHED, "replicas", number)


async def test_what_forbids_a_deletion_is_told_once_a_replica_has_it(pair: Pair) -> None:
    says(pair.primary.url, 1)
    with Registry(pair.primary.url, provider="openai", timeout=5) as registry:
        registry.register("thread", "t1", "chat", subject="user:42")
        assert registry.hold("thread", "t1", reason="case 7")
        assert registry.hold_subject("user:42", reason="case 8")
        with redis.Redis.from_url(pair.replica.url) as replica:
            assert replica.hexists("lapse:{openai:thread}:holds", "t1")
            assert replica.hexists("lapse:held_subjects", "user:42")
    pair.replica.stop(kill=True)
    with Registry(pair.primary.url, provider="openai", timeout=0.4) as registry:
        told = [registry.hold("thread", "t2", reason="case 9"), registry.unhold("thread", "t1")]
        told.append(registry.forget("thread", "t1"))

        assert [Answer.UNREPLICATED] * 3 == told
        assert not any(told)
        assert registry.touch("thread", "unknown") == Answer.UNKNOWN
        with redis.Redis.from_url(pair.primary.url) as primary:
            assert not primary.hexists("lapse:{openai:thread}:holds", "t1")
            assert primary.hexists("lapse:{openai:thread}:holds", "t2")
        with pytest.raises(Unreplicated, match="it is written, and 0 of 1 replicas had it"):
            registry.hold_subject("user:42", reason="case 8")
        with pytest.raises(Unreplicated):
            registry.unhold_subject("user:1")
    async with AsyncRegistry(pair.primary.url, provider="openai", timeout=0.4) as calls:
        assert await calls.hold("thread", "t3", reason="case 9") == Answer.UNREPLICATED


async def test_a_claim_that_no_replica_has_sends_no_request(pair: Pair, world: World) -> None:
    world.seed(1)
    await world.sweep()  # from here on a claim leases at once: nothing is left to be told to the slot
    ids = world.seed(3)
    pair.replica.stop(kill=True)

    with pytest.raises(RegistryUnavailable):
        await world.sweep()

    assert "claimed" in {world.state(id_) for id_ in ids}
    assert sum(deletes(world)) == 1
    assert set(ids) <= world.sandbox.alive("thread")
    world.carrier.replicas = Replicas()
    lapse_leases(world)
    for _ in range(2 + len(ids)):  # each alone, after a lease that ran out
        await world.sweep()
        wait_out(world)
    assert not world.sandbox.alive("thread")


async def test_an_outcome_that_no_replica_has_is_said_again_until_one_has(
    pair: Pair, world: World, wait_until: Callable[..., None]
) -> None:
    world.sandbox.faults([{"method": "DELETE", "latency": "300ms"}])
    ids = world.seed(3)
    sweeping = asyncio.create_task(world.sweep())
    await asyncio.to_thread(wait_until, lambda: sum(deletes(world)) == len(ids), what="the requests")
    pair.replica.stop(kill=True)
    await asyncio.to_thread(
        wait_until, lambda: sweeping.done() or not set(ids) & world.sandbox.alive("thread"), what="the deletions"
    )
    pair.replica.start()

    with suppress(Unreplicated):  # of a further claim
        await sweeping

    with redis.Redis.from_url(pair.replica.url) as replica:
        counted = partial(replica.hget, "lapse:{openai:thread}:counters", "deletions|chat|thread")
        await asyncio.to_thread(wait_until, lambda: counted() == b"3", what="the outcomes at the replica")


@contextmanager
def standing_still(server: EmbeddedRedis) -> Iterator[None]:
    """Let a server stand still, as one whose machine does: it stays connected, and takes nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("said", [AUTO, 1])
async def test_a_replica_that_stands_still_keeps_everything_from_being_told_and_deleted(
    pair: Pair, world: World, said: int | str
) -> None:
    info = (await preflight.look(world.carrier)).info
    world.carrier.replicas = Replicas(await replication.decide(world.carrier, "lapse", said, info), 0.5)
    world.rule = replace(world.rule, anchor="last_active_at")
    gone, kept = world.seed(2)
    assert world.registry.touch("thread", kept) == Answer.OK
    await world.sweep()
    assert gone not in world.sandbox.alive("thread")
    ids = world.seed(4)
    world.raw.hset(PUBLISHED, "erasure", "by_application")
    with standing_still(pair.replica), RecordingRegistry(pair.primary.url, provider="openai", timeout=0.4) as registry:
        registry.calls = world.registry.calls
        answers = [registry.hold("thread", ids[0], reason="case 7"), registry.forget("thread", ids[1])]
        for say in (
            lambda: registry.hold_subject("user:7", reason="case 8"),
            lambda: registry.erase("user:42", "11111111-2222-4333-8444-555555555555"),
        ):
            with pytest.raises(Unreplicated, match="0 of 1 replicas had it"):
                say()
        assert registry.touch("thread", ids[3]) == Answer.OK
        with pytest.raises(RegistryUnavailable, match="0 of 1 replicas had it"):
            await world.sweep()
        found = await replication.settle(world.carrier, "lapse", said, (await preflight.look(world.carrier)).info)
        had = await replication.in_step(world.carrier, 1)
        judged = replication.judge(1, said, (await preflight.look(world.carrier)).info, had)

    assert [Answer.UNREPLICATED] * 2 == answers
    assert not any(answers)
    assert sum(deletes(world)) == 1
    assert (judged.level, had) == (Level.FATAL, 0)
    assert judged == found, "workers halt for it, and lapse status says so"
    assert "1 are connected, and 0 of them had all of it within 1 s; nothing is deleted" in judged.detail
    assert await replication.in_step(world.carrier, 1) == 1
    lapse_leases(world)
    for _ in range(2 + len(ids)):
        await world.sweep()
        wait_out(world)
    assert {*ids} - {ids[2]} == {*ids} & world.sandbox.alive("thread"), "it was held, forgotten, touched"


HOLD = json.dumps({"reason": "case 7", "actor": "app", "since": 1})
MISNAMED: dict[str, dict[str, Any]] = {
    "holds": {"conv_1": HOLD},
    "forgotten": {"conv_2": 1},
    "edges": {"conv_3|openai|thread|thread_1": 0},
}


@pytest.mark.parametrize("name", MISNAMED)
async def test_what_goes_to_the_right_name_leaves_the_wrong_one_once_a_replica_has_it_there(
    pair: Pair, world: World, name: str
) -> None:
    """In a cluster, the one slot may fail over without the other: it would be in neither."""
    wrong = f"lapse:{{openai:conversations}}:{name}"
    if name == "holds":
        world.raw.hset(wrong, mapping=MISNAMED[name])
    else:
        world.raw.zadd(wrong, MISNAMED[name])

    async def corrected() -> None:
        await Misnamed(world.carrier, "lapse").run(["openai"], time.monotonic() + 20)

    with standing_still(pair.replica):
        for _ in range(2):  # the second time it stands where it belongs already
            with pytest.raises(Unreplicated):
                await corrected()
        assert world.raw.exists(wrong)
    world.carrier.replicas = PATIENT
    await corrected()

    assert not world.raw.exists(wrong)
    with redis.Redis.from_url(pair.replica.url) as replica:
        assert replica.exists(f"lapse:{{openai:conversation}}:{name}")


async def test_a_use_that_ended_is_let_go_of_once_a_replica_knows_that_it_ended(pair: Pair, world: World) -> None:
    """A failover would bring it back, with nobody to end it: what it uses would never be deleted."""
    released, edges, ledger = "lapse:{openai:thread}:released", "lapse:{openai:file}:edges", world.context().ledger
    world.raw.hset(released, "thread_1", json.dumps(["openai|file|file_1", "openai|file|file_2"]))
    world.raw.zadd(edges, {f"file_{n}|openai|thread|thread_1": 0 for n in (1, 2)})
    with standing_still(pair.replica):
        with pytest.raises(Unreplicated):
            await ledger.release_edges("openai", "thread")
        assert world.raw.hexists(released, "thread_1")

    world.carrier.replicas = PATIENT
    assert 1 == await ledger.release_edges("openai", "thread")

    assert not world.raw.exists(released, edges)


async def test_everything_is_moved_once_a_replica_knows_so(pair: Pair, world: World) -> None:
    control = Halts(world.carrier, "lapse")
    with standing_still(pair.replica), pytest.raises(Unreplicated):
        await control.move([], "redis-b")
    world.carrier.replicas = PATIENT
    await control.move([], "redis-b")


async def test_a_replica_that_is_silent_counts_for_none(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier = Carrier(pair.primary.url, 5)
    try:
        assert replication.judge(1, 1, (await preflight.look(carrier)).info).level is Level.OK
        monkeypatch.setattr(preflight, "SILENT", 0)
        found = replication.judge(1, 1, (await preflight.look(carrier)).info)
    finally:
        await carrier.aclose()
    assert found.level is Level.FATAL
    assert "1 are connected, and 1 of them silent" in found.detail


def deletes(world: World) -> list[bool]:
    return [request["method"] == "DELETE" for request in world.sandbox.requests()]


@pytest.mark.parametrize(
    ("said", "there", "number", "level"),
    [(AUTO, True, 1, Level.OK), (AUTO, False, 0, Level.OK), (1, False, 1, Level.FATAL), (0, True, 0, Level.OK)],
    ids=["auto with one", "auto without", "one that is missing", "none"],
)
async def test_how_many_are_waited_for_is_what_the_file_says_or_what_was_seen_first(
    pair: Pair, said: int | str, *, there: bool, number: int, level: Level, wait_until: Callable[..., None]
) -> None:
    if not there:
        pair.replica.stop(kill=True)
        await asyncio.to_thread(wait_until, lambda: pair.connected() == 0, what="its end")
    carrier = Carrier(pair.primary.url, 5)
    try:
        info = (await preflight.look(carrier)).info

        assert await replication.decide(carrier, "lapse", said, info) == number
        assert (await replication.published(carrier, "lapse")).number == number
        assert replication.judge(number, said, info).level is level
        if said == AUTO:
            assert await replication.decide(carrier, "lapse", AUTO, {}) == number
            assert replication.judge(0, AUTO, {"connected_slaves": "1"}).level is Level.WARNING
        assert replication.judge(1, 1, {}).level is Level.UNKNOWN
    finally:
        await carrier.aclose()


def test_a_cluster_is_asked_where_the_hold_was_written() -> None:
    with Cluster(3, replicas=1) as cluster, Registry(cluster.url, provider="openai", timeout=2) as registry:
        registry.register("thread", "t1", "chat")
        cluster.clients[cluster.owner(PUBLISHED)].hset(PUBLISHED, "replicas", 1)
        assert registry.hold("thread", "t1", reason="case 7")
        owner = cluster.owner(keys.slot("lapse", "openai", "thread"))
        follower = cluster.clients[3 + owner]
        follower.readonly()
        assert follower.hexists("lapse:{openai:thread}:holds", "t1")
        move = cluster.migrating(keys.slot("lapse", "openai", "thread"), (owner + 1) % 3)
        while left := move.left():
            move.move(left[0])
        move.finish()
        assert registry.hold("thread", "t1", reason="case 8")
