"""A cluster's hash slot moves again and again, and primaries are killed, while applications register and hold."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from lapse import Registry
from lapse.errors import RegistryUnavailable
from lapse.guards.integrity.replication import IN_FORCE
from lapse.registry import keys
from lapse.registry.pools.plain import client_of
from lapse.sandbox.redis_server import EmbeddedRedis
from support.clusters import Cluster, sentinels

pytestmark = pytest.mark.timeout(300)
PUBLISHED = keys.published("lapse")
SLOT = keys.slot("lapse", "openai", "thread")
MOVES = 12


class Saying(threading.Thread):
    """An application that registers, and holds each second id, and remembers what was acknowledged."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self.registered: list[str] = []
        self.held: list[str] = []
        self.refused = 0
        self.unreplicated = 0
        self._registry = Registry(url, provider="openai", timeout=0.5)
        self._named = name
        self._ended = threading.Event()

    def run(self) -> None:
        n = 0
        while not self._ended.is_set():
            n += 1
            id_ = f"{self._named}_{n}"
            self._say(self.registered, id_, partial(self._registry.register, "thread", id_, f"policy{n % 3}"))
            if n % 2:
                self._say(self.held, id_, partial(self._registry.hold, "thread", id_, reason="case 7"))
            time.sleep(0.002)

    def _say(self, said: list[str], id_: str, say: Callable[[], object]) -> None:
        try:
            if say():
                said.append(id_)
            else:
                self.unreplicated += 1
        except RegistryUnavailable:
            self.refused += 1

    def end(self) -> None:
        """Stop, and wait until it has."""
        self._ended.set()
        self.join(30)
        self._registry.close()


def saying(url: str, meanwhile: Callable[[], None]) -> list[Saying]:
    """Let three applications speak while something happens."""
    applications = [Saying(url, f"app{n}") for n in range(3)]
    for one in applications:
        one.start()
    try:
        meanwhile()
    finally:
        for one in applications:
            one.end()
    return applications


def lost(url: str, applications: list[Saying]) -> tuple[list[str], list[str]]:
    """Return what was acknowledged and is not there: registrations, and holds."""
    with Registry(url, provider="openai", timeout=5) as registry:
        records = {id_: registry.get("thread", id_) for one in applications for id_ in one.registered}
        gone = [id_ for id_, record in records.items() if record is None]
    with client_of(url, decode_responses=True) as client:
        held = set(client.hkeys(SLOT + keys.HOLDS))
    return gone, [id_ for one in applications for id_ in one.held if id_ not in held]


@pytest.fixture
def cluster(clean_environment: None) -> Iterator[Cluster]:
    with Cluster(3, replicas=1) as made:
        yield made


def key_by_key(cluster: Cluster, to: int) -> None:
    """Move the hash slot as an operator does it with the servers before Valkey 9, slowly."""
    move = cluster.migrating(SLOT, to)
    for key in move.left():
        move.move(key)
        time.sleep(0.01)
    move.finish()


def whole(cluster: Cluster, to: int) -> None:
    """Move it as Valkey 9 does it."""
    cluster.move_whole(SLOT, to)


@pytest.mark.parametrize("move", [key_by_key, whole], ids=["key by key", "whole"])
def test_a_slot_that_moves_again_and_again_loses_nothing(
    cluster: Cluster, move: Callable[[Cluster, int], None]
) -> None:
    cluster.clients[cluster.owner(PUBLISHED)].hset(PUBLISHED, IN_FORCE, 1)

    def moving() -> None:
        for _ in range(MOVES):
            time.sleep(0.5)
            move(cluster, (cluster.owner(SLOT) + 1) % 3)

    applications = saying(cluster.url, moving)

    said = sum(len(one.registered) for one in applications)
    print(
        f"a slot moved {MOVES} times: {said:,} registrations, {sum(one.refused for one in applications)} calls refused"
    )
    assert ([], []) == lost(cluster.url, applications)
    assert [0, 0, 0] == [one.unreplicated for one in applications]
    assert all(len(one.registered) > 100 for one in applications)


def test_a_killed_primary_loses_no_hold_and_at_most_what_was_on_its_way_to_the_replica(cluster: Cluster) -> None:
    cluster.clients[cluster.owner(PUBLISHED)].hset(PUBLISHED, IN_FORCE, 1)

    def killing() -> None:
        time.sleep(3)
        cluster.nodes[cluster.owner(SLOT)].stop(kill=True)
        time.sleep(5)

    applications = saying(cluster.url, killing)

    unharmed(cluster.url, applications, "a primary of a cluster")


def test_a_failover_by_sentinels_loses_no_hold_and_at_most_what_was_on_its_way(
    clean_environment: None, tmp_path: Path
) -> None:
    with sentinels(tmp_path) as (url, servers):
        with redis.Redis.from_url(servers[0].url) as client:
            client.hset(PUBLISHED, IN_FORCE, 1)
        applications = saying(url, lambda: _killed(servers[0]))
        unharmed(url, applications, "a primary that Sentinels watch")


def _killed(server: EmbeddedRedis) -> None:
    time.sleep(3)
    server.stop(kill=True)
    time.sleep(6)


def unharmed(url: str, applications: list[Saying], killed: str) -> None:
    """Assert that every hold that was told stands, and that few registrations are lost, none of them after the end."""
    gone, free = lost(url, applications)
    said = sum(len(one.registered) for one in applications)
    print(f"{killed} killed: of {said:,} registrations {len(gone)} lost")
    assert [] == free
    assert len(gone) <= said * 0.01
    for one in applications:
        assert not {*gone} & {*one.registered[-100:]}
