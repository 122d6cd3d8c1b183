"""What the users that are shipped for a cluster may do there: all that applications and workers have to say."""

from collections.abc import Iterator

import pytest

from lapse import Registry
from lapse.metrics.snapshot import View
from lapse.registry.aio import Carrier
from lapse.registry.commands import Commands
from lapse.registry.pools.plain import client_of
from support import acl
from support.clusters import Cluster


@pytest.fixture(scope="module")
def cluster(clean_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(1, 0, *acl.options(tmp_path_factory.mktemp("acl"), acl.SHIPPED_CLUSTER)) as made:
        yield made


def test_an_application_says_all_it_has_to_say(cluster: Cluster) -> None:
    with Registry(acl.as_user(cluster.url, acl.APPLICATION), provider="openai", timeout=5) as registry:
        assert registry.register("thread", "t1", "chat", uses=[("file", "f1")], subject="user:42").new
        answers = [
            registry.touch("thread", "t1"),
            registry.hold("thread", "t1", reason="case 7"),
            registry.unhold("thread", "t1"),
            registry.expire("thread", "t1"),
            registry.forget("thread", "t1"),
        ]
        assert registry.hold_subject("user:7", reason="case 8")
        assert registry.register("thread", "t2", "chat", subject="user:7").new
        assert ["t2"] == [one.resource.id for one in registry.resources(subject="user:7").records]
        assert "ok" == registry.deleted("thread", "t2")

    assert ["ok"] * 5 == answers


async def test_a_worker_asks_and_an_exporter_reads(cluster: Cluster) -> None:
    url = acl.as_user(cluster.url, acl.WORKER)
    carrier = Carrier(url, 5)
    call = Commands("lapse", None).on_slot("ledger/lua/survey", "openai", "thread", "chat", "d1", parse=str)

    assert await carrier.carry([call])
    await carrier.aclose()
    with client_of(url, decode_responses=True) as client:
        assert 0 < View(client, "lapse").now()
        assert [0] == [slot.held for slot in View(client, "lapse").slots([("openai", "thread")])]
