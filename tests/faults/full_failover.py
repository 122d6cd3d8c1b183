"""``make test-faults``: a replica becomes the primary and the old one goes on answering; a server loads its data."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from faults.application import Application
from faults.rig import Rig
from lapse.errors import RegistryUnavailable
from lapse.sandbox.redis_server import EmbeddedRedis
from support.deployment import policy
from support.recording import RecordingRegistry

pytestmark = pytest.mark.timeout(300)
RESUMED = 30.0
SLOWLY = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")


@pytest.fixture
def standby(rig: Rig) -> Iterator[EmbeddedRedis]:
    """Return a replica that has everything the rig's server has."""
    rig.raw.config_set("repl-diskless-sync-delay", "0")
    with EmbeddedRedis(persistent=True) as made, redis.Redis.from_url(made.url, decode_responses=True) as asked:
        asked.replicaof("127.0.0.1", rig.server.port)
        rig.wait_until(lambda: asked.info("replication")["master_link_status"] == "up", 20, what="the replica")
        yield made
        made.stop(kill=True)  # asked to end, it would wait for its replica


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_primary_that_becomes_a_replica_is_left_by_everybody(rig: Rig, standby: EmbeddedRedis, pool: str) -> None:
    rig.registry = RecordingRegistry(f"redis://127.0.0.1:{rig.to_redis.port}/0", provider="openai", timeout=5)
    rig.application = Application(rig.registry)
    rig.configure(policy())
    rig.beat()
    rig.worker(f"--pool={pool}", children=2)
    rig.provider.faults([{"latency": "50ms"}])
    ids = rig.seed(500)
    rig.wait_until(lambda: len(rig.traffic.deletes()) > 50, what="the first deletions")

    rig.fail_over(standby)

    assert len(rig.alive()) > 100, "it failed over too late"
    with contextlib.suppress(RegistryUnavailable):  # one call may find out
        rig.application.registry.touch("thread", ids[0])
    later = rig.seed(20)
    rig.gone([*ids, *later], RESUMED)
    unharmed(rig)
    rig.judge(within=60, crashes=1)  # until the address leads to the new primary, outcomes cannot be written


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_waits_for_a_message_outlives_a_failover(rig: Rig, standby: EmbeddedRedis, pool: str) -> None:
    rig.configure(policy())
    rig.beat()
    rig.worker(f"--pool={pool}", children=2)
    rig.gone(rig.seed(20), 30)
    rig.settled()
    rig.wait_until(lambda: rig.raw.info("clients")["blocked_clients"], what="a worker that waits for a message")

    rig.fail_over(standby)

    with RecordingRegistry(standby.url, provider="openai") as registry:
        rig.application = Application(registry)
        ids = rig.seed(20)
        rig.gone(ids, RESUMED)
        rig.registry.calls += registry.calls
    unharmed(rig)
    rig.judge(within=60, crashes=1)


def test_a_server_that_loads_its_data_is_waited_for(rig: Rig) -> None:
    rig.configure(policy())
    rig.beat()
    rig.worker(children=2)
    rig.gone(rig.seed(20), 30)
    rig.settled()
    ids = rig.seed(20, expires_in="8s")
    rig.raw.mset({f"other:{number}": os.urandom(1000) for number in range(400)})
    rig.raw.bgrewriteaof()
    rig.wait_until(lambda: not rig.raw.info("persistence")["aof_rewrite_in_progress"], what="the rewrite")
    rig.stop_server()

    refused: list[str] = []
    application = threading.Thread(target=refusals, args=(rig, refused), name="application")
    application.start()
    rig.server.options += SLOWLY
    rig.server.start()
    application.join(10)

    assert sum("loading" in text for text in refused) > 10, refused
    rig.gone(ids, RESUMED)
    unharmed(rig)
    rig.judge(within=60, crashes=2)


def unharmed(rig: Rig) -> None:
    """Fail if a process ended, or met what it did not foresee; beat logs a stack for each message it cannot send."""
    assert all(one.alive() for one in rig.processes)
    workers = [one for one in rig.processes if one.name.startswith("worker")]
    assert not [one.stderr for one in workers if "Traceback" in one.stderr or "Unrecoverable" in one.stderr]


def refusals(rig: Rig, refused: list[str]) -> None:
    """Register until the registry takes it; note how it refused."""
    while True:
        try:
            rig.registry.register("thread", "thread_while_loading", "unmanaged")
        except RegistryUnavailable as error:
            refused.append(str(error))
            time.sleep(0.05)
        else:
            return
