"""An export, imported into a cluster of three nodes: whole, and from wherever it was interrupted."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from lapse.cli.exit_codes import Refused
from lapse.cli.transfer.dump import Dump
from lapse.cli.transfer.format import Chunk, Header
from lapse.cli.transfer.load import Load
from lapse.errors import RegistryUnavailable
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
    for field in ("kept", "replicas", "replicas_seen"):
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


def chunks_of(desk: Desk) -> tuple[list[Chunk], Header]:
    export = Dump(desk.raw, "lapse", {})
    return list(export.chunks()), Header("1", "lapse", None, export.slots, 1)


def whole(used: Desk, client: Any) -> None:
    """Hold a registry against what it was imported from."""
    assert carried(held(used.raw, "lapse")) == carried(held(client, "lapse"))
    for kind in ("thread", "conversation"):
        counters = f"lapse:{{openai:{kind}}}:counters"
        assert used.raw.hgetall(counters) == client.hgetall(counters)
        assert not client.hexists(f"lapse:{{openai:{kind}}}:halts", "*|half_imported")


def kept(client: Any, key: str) -> dict[str, bytes]:
    """Return all that the server of a key has."""
    node = client.get_node_from_key(key)
    server = client.get_redis_connection(node)
    return {name: server.dump(name) for name in server.keys("*")}


def go_back(client: Any, key: str, before: dict[str, bytes]) -> None:
    server = client.get_redis_connection(client.get_node_from_key(key))
    server.flushall()
    for name, stored in before.items():
        server.restore(name, 0, stored)


SERVERS = ["lapse:{openai:thread}:halts", "lapse:{openai:conversation}:halts", "lapse:epoch", "lapse:held_subjects"]


@pytest.fixture
def binary(cluster: Cluster) -> Iterator[Any]:
    with client_of(cluster.url) as made:
        yield made


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("lost", [1, 5, 1000])
def test_what_one_server_forgot_is_applied_again(used: Desk, client: Any, binary: Any, server: str, lost: int) -> None:
    """It failed over in the middle, to a replica that had less; the import ended there, and is begun again."""
    chunks, header = chunks_of(used)
    for crashed in (len(chunks) // 3, 2 * len(chunks) // 3, len(chunks)):
        for node in client.get_primaries():
            client.get_redis_connection(node).flushall()
        states = [kept(binary, server)]
        states += [kept(binary, server) for _number in applied(client, header, chunks[:crashed])]
        go_back(binary, server, states[-1 - min(lost, len(states) - 1)])

        load = Load(client, "lapse", header)
        if not client.hexists("lapse:epoch", "importing"):  # its beginning is forgotten
            with pytest.raises(Refused, match="this registry is not empty"):
                load.begin()
            continue
        list(load.apply(enumerate(chunks, 2), load.begin()))
        load.finish()
        whole(used, client)


@pytest.mark.parametrize("server", SERVERS[:2])
def test_a_server_that_forgets_the_end_of_an_import_gets_it_again(
    used: Desk, client: Any, binary: Any, server: str
) -> None:
    """It is halted, and says what to type."""
    chunks, header = chunks_of(used)
    load = Load(client, "lapse", header)
    states = [kept(binary, server) for _number in load.apply(enumerate(chunks, 2), load.begin())]
    load.finish()
    go_back(binary, server, states[-4])
    assert client.hexists(server, "*|half_imported")

    again = Load(client, "lapse", header)
    list(again.apply(enumerate(chunks, 2), again.begin()))
    again.finish()

    whole(used, client)
    with pytest.raises(Refused, match="imported here before"):
        Load(client, "lapse", header).begin()


def test_an_import_that_goes_on_sees_that_a_server_has_forgotten_lines(used: Desk, client: Any, binary: Any) -> None:
    chunks, header = chunks_of(used)
    slot = "lapse:{openai:thread}:"
    mine = [at for at, one in enumerate(chunks, 2) if one.slot == "{openai:thread}:"]
    load = Load(client, "lapse", header)
    going = load.apply(enumerate(chunks, 2), load.begin())
    states = [kept(binary, slot) for _number in islice(going, mine[-2] - 1)]
    go_back(binary, slot, states[-2])

    with pytest.raises(RegistryUnavailable, match="went back to line"):
        list(going)
    again = Load(client, "lapse", header)
    list(again.apply(enumerate(chunks, 2), again.begin()))
    again.finish()
    whole(used, client)
