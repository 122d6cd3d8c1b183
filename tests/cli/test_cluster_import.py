"""An export, imported into a cluster of three nodes: whole, and from wherever it was interrupted."""

from collections.abc import Iterator
from typing import Any

import pytest

from lapse.cli.transfer.dump import Dump
from lapse.cli.transfer.format import Chunk, Header
from lapse.cli.transfer.load import Load
from lapse.registry.pools.plain import client_of
from support.clusters import Cluster
from support.commandline import ENFORCED, Desk
from support.held import held


@pytest.fixture(scope="module")
def cluster(clean_environment: None) -> Iterator[Cluster]:
    with Cluster(3) as made:
        yield made


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    for node in cluster.clients:
        node.flushall()
    with client_of(cluster.url, decode_responses=True, encoding_errors="surrogateescape") as made:
        yield made


@pytest.fixture
def used(desk: Desk) -> Desk:
    """Return a desk whose registry is on one server, and in use."""
    desk.configure(ENFORCED)
    due = desk.seed(3, subject="user:1", uses=[("file", "file_1")])
    desk.seed(3, kind="conversation", days=1, uses=[("thread", due[0])])
    desk.registry.hold("thread", due[1], reason="case 7")
    desk.registry.hold_subject("user:2", reason="case 8")
    desk.registry.forget("thread", "thread_forgotten")
    desk.worker()
    desk.registry.touch("conversation", "conv_new")
    return desk


def test_a_cluster_has_all_that_an_export_has(used: Desk, cluster: Cluster, client: Any) -> None:
    used.good("export", "--move", "--to", "the cluster", "-o", "r.jsonl")
    on = {"REDIS_URL": cluster.url, "LAPSE_CELERY__BROKER_URL": used.environ["REDIS_URL"]}

    used.good("import", "r.jsonl", **on)

    assert carried(held(used.raw, "lapse")) == carried(held(client, "lapse"))
    assert 3 == sum(bool(node.dbsize()) for node in cluster.clients)
    assert "imported here before" in used.run("import", "r.jsonl", **on).err
    used.good("export", "-o", "again.jsonl", **on)
    assert not client.hexists("lapse:{openai:thread}:halts", "*|half_imported")
    assert not client.hexists("lapse:{openai:thread}:marks", "importing_line")


def carried(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is held without what workers and a move say of themselves."""
    for field in ("replicas", "replicas_seen"):
        found["published"].pop(field, None)
    return {name: one for name, one in found.items() if not name.endswith((":halts", ":counters"))}


def test_a_line_that_was_applied_and_not_noted_is_applied_once(used: Desk, client: Any) -> None:
    export = Dump(used.raw, "lapse", {})
    chunks, header = list(export.chunks()), Header("1", "lapse", None, export.slots, 1)

    for number, _chunk in enumerate(chunks, 2):
        assert number == next(applied(client, header, chunks))
        client.hset("lapse:epoch", "importing_line", number - 1)  # as if it had ended between the two
        assert number == next(applied(client, header, chunks))
    Load(client, "lapse", header).finish()

    assert carried(held(used.raw, "lapse")) == carried(held(client, "lapse"))
    counted = used.raw.hgetall("lapse:{openai:thread}:counters")
    assert counted == client.hgetall("lapse:{openai:thread}:counters") != {}


def applied(client: Any, header: Header, chunks: list[Chunk]) -> Iterator[int]:
    load = Load(client, "lapse", header)
    return load.apply(enumerate(chunks, 2), load.begin())
