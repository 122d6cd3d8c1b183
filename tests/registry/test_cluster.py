"""A registry on a real cluster: three primaries, a hash slot that moves, a node that ends."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lapse import AsyncRegistry, Registry
from lapse.errors import RegistryRefused, RegistryUnavailable
from lapse.registry import keys
from lapse.registry.pools.plain import client_of
from support.clusters import Cluster

SLOT = keys.slot("lapse", "openai", "thread")


@pytest.fixture(scope="module")
def shared(clean_environment: None) -> Iterator[Cluster]:
    with Cluster(3) as made:
        yield made


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    for client in shared.clients:
        client.flushall()
        client.script_flush()
    return shared


@pytest.fixture
def registry(cluster: Cluster) -> Iterator[Registry]:
    with Registry(cluster.url, provider="openai", timeout=2) as made:
        yield made


def test_what_an_application_says_stands_at_the_node_of_its_kind(cluster: Cluster, registry: Registry) -> None:
    first = registry.register("thread", "t1", "chat", uses=[("file", "f1")], subject="user:42")
    again = registry.register("thread", "t1", "chat")
    held = registry.hold("thread", "t1", reason="case 7")

    record = registry.get("thread", "t1")
    assert (True, False, "ok") == (first.new, again.new, held)
    assert record
    assert ["f1"] == [use.id for use in record.uses]
    assert ["t1"] == [one.resource.id for one in registry.resources(subject="user:42").records]
    assert 1 == cluster.clients[cluster.owner(SLOT)].exists(f"{SLOT}policies")
    many = [{"kind": kind, "id": "x1", "policy": "chat"} for kind in ("thread", "file", "assistant")]
    assert 3 == registry.register_many(many).new


@pytest.mark.parametrize("database", ["", "/", "/0", "/0?db=0", "?db=0"])
def test_the_one_database_of_a_cluster_may_be_named(cluster: Cluster, database: str) -> None:
    """To what applications and workers use, and to redis-py's client, which the command line and beat read by."""
    url = cluster.url + database
    with Registry(url, provider="openai", timeout=2) as registry, client_of(url, decode_responses=True) as reader:
        assert registry.register("thread", "t1", "chat")
        assert reader.exists(f"{SLOT}policies")


async def test_and_so_it_does_with_asyncio(cluster: Cluster, registry: Registry) -> None:
    async with AsyncRegistry(cluster.url, provider="openai", timeout=2) as calls:
        made = [await calls.register(kind, "x1", "chat", uses=[("file", "f1")]) for kind in ("thread", "assistant")]

    assert [True, True] == [one.new for one in made]
    assert registry.get("assistant", "x1") is not None


def test_a_slot_that_moves_key_by_key_loses_nothing_and_hides_no_hold(cluster: Cluster, registry: Registry) -> None:
    for n in range(5):
        registry.register("thread", f"t{n}", "chat")
    registry.hold("thread", "t0", reason="case 7")
    move = cluster.migrating(SLOT, (cluster.owner(SLOT) + 1) % 3)
    with Registry(cluster.url, provider="openai", timeout=0.1) as hurried:
        before = move.left()
        for half in (before[::2], before[1::2]):
            move.move(*half)
            refused(lambda: hurried.register("thread", "t9", "chat"))
            refused(lambda: hurried.touch("thread", "t1"))
            refused(lambda: hurried.get("thread", "t0"))
            refused(lambda: hurried.hold("thread", "t2", reason="case 8"))
            assert sorted(before) == sorted([*move.left(), *move.moved()])
        move.finish()

        assert hurried.register("thread", "t9", "chat").new
        shown = [hurried.get("thread", f"t{n}") for n in range(5)]
    assert ["held", *["tracked"] * 4] == [one and one.state for one in shown]


def refused(say: Callable[[], object]) -> None:
    with pytest.raises(RegistryUnavailable):
        say()


def test_calls_wait_for_a_slot_that_moves_within_their_time(cluster: Cluster, registry: Registry) -> None:
    registry.register("thread", "t1", "chat")
    move = cluster.migrating(SLOT, (cluster.owner(SLOT) + 1) % 3)
    move.move(*move.left()[::2])
    mover = threading.Timer(0.2, move.finish)
    mover.start()

    assert "ok" == registry.hold("thread", "t1", reason="case 7")
    assert not registry.register("thread", "t1", "chat").new
    mover.join()


def test_a_slot_that_moves_at_once_is_followed(cluster: Cluster, registry: Registry) -> None:
    registry.register("thread", "t1", "chat")
    move = cluster.migrating(SLOT, (cluster.owner(SLOT) + 1) % 3)
    move.finish()

    assert not registry.register("thread", "t1", "chat").new


def test_another_policy_that_came_meanwhile_is_declared(cluster: Cluster, registry: Registry) -> None:
    registry.register("thread", "t1", "chat")
    with Registry(cluster.url, provider="openai", timeout=2) as other:
        other.register("thread", "t2", "import")

    assert not registry.register("thread", "t2", "chat").new


def test_a_plain_url_says_that_it_is_a_cluster(cluster: Cluster) -> None:
    plain = next(node.url for i, node in enumerate(cluster.nodes) if i != cluster.owner(SLOT))
    with (
        Registry(plain, provider="openai", timeout=2) as registry,
        pytest.raises(RegistryRefused, match=r"this server is a cluster: use redis\+cluster://"),
    ):
        registry.register("thread", "t1", "chat")


def test_what_waited_in_a_spool_reaches_a_cluster(
    cluster: Cluster, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    with Registry(
        cluster.url, provider="openai", timeout=2, on_error="spool", spool=tmp_path / "one.spool"
    ) as registry:
        registry.register("thread", "t0", "chat")
        assert registry.spool
        operation = registry.protocol.commands.register(
            registry.protocol.commands.registration("thread", "t1", "chat", uses=[("file", "f1")])
        )
        registry.spool.append(operation).result(5)
        registry.spool.flush()
        wait_until(lambda: registry.get("thread", "t1"), what="what waited is there")
        record = registry.get("thread", "t1")
    assert record
    assert ["f1"] == [use.id for use in record.uses]
