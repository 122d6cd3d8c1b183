"""``make test-faults``: Redis is restarted again and again, half open, slow, standing still, wiped, or full."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from faults import registry
from faults.rig import RIG, Rig
from lapse.errors import RegistryRefused
from lapse.sandbox.redis_server import EmbeddedRedis
from support.deployment import Process, policy

pytestmark = pytest.mark.timeout(900)
HALF_OPEN = 45.0
STOOD_STILL = 10.0
AT_ONCE = 0.05


def working(rig: Rig, *arguments: str) -> Process:
    """Start a worker and a beat, and wait until something was deleted."""
    rig.configure(policy())
    rig.beat()
    worker = rig.worker(*arguments, children=2)
    rig.gone(rig.seed(20), 30)
    return worker


def test_a_killed_redis_loses_no_acknowledged_registration_of_ten_thousand(rig: Rig) -> None:
    registry.killed_while_registering(rig, ids=10_000, rate=500)


def test_four_restarts_in_eight_seconds(rig: Rig) -> None:
    working(rig)
    for number in range(4):
        rig.stop_server(kill=number % 2 == 0)
        time.sleep(1)
        rig.server.start()
        time.sleep(1)

    rig.gone(rig.seed(20), registry.CONSUMING)
    rig.judge(within=60, crashes=8)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_half_open_connections_are_left_within_45_seconds(rig: Rig, pool: str) -> None:
    working(rig, f"--pool={pool}")

    assert rig.to_redis.freeze() > 0

    rig.gone(rig.seed(20), HALF_OPEN)
    rig.judge(within=90, crashes=4)


def test_a_redis_that_stands_still_for_half_a_minute(rig: Rig) -> None:
    working(rig)
    os.kill(rig.server.pid, signal.SIGSTOP)
    time.sleep(30)
    os.kill(rig.server.pid, signal.SIGCONT)

    rig.gone(rig.seed(20), STOOD_STILL)
    rig.judge(within=90, crashes=4)


def test_a_redis_far_away_deletes_nothing_twice(rig: Rig) -> None:
    rig.to_redis.latency = 0.05  # each way
    working(rig)

    rig.gone(rig.seed(300), 120)
    rig.to_redis.mend()
    rig.judge(within=120)


def test_connections_that_are_reset_every_five_seconds(rig: Rig) -> None:
    working(rig)
    ids = rig.seed(500)
    for _ in range(4):
        rig.to_redis.reset()
        time.sleep(5)

    rig.gone(ids, 60)
    rig.judge(within=90, crashes=8)


def test_a_wiped_registry_halts_within_one_sweep_and_deletes_nothing(rig: Rig) -> None:
    worker = working(rig)
    rig.settled()
    before, began = len(rig.traffic.deletes()), time.monotonic()

    rig.raw.flushall()
    ids = rig.seed(50)

    rig.wait_until(lambda: worker.events("guard.tripped", guard="registry_lost"), 10, what="the halt")
    assert time.monotonic() - began < 10
    time.sleep(5)
    assert len(rig.traffic.deletes()) == before
    assert set(ids) <= rig.alive()


def test_an_older_state_of_the_registry_halts(rig: Rig, tmp_path: Path) -> None:
    worker = working(rig)
    rig.settled()
    shutil.copytree(rig.server.directory / "appendonlydir", tmp_path / "older")
    time.sleep(12)
    rig.gone(rig.seed(20), 30)
    rig.settled()

    rig.stop_server(kill=True)
    shutil.rmtree(rig.server.directory / "appendonlydir")
    shutil.copytree(tmp_path / "older", rig.server.directory / "appendonlydir")
    rig.server.start()

    rig.wait_until(lambda: worker.events("guard.tripped", guard="registry_rolled_back"), 60, what="the halt")


def refused(rig: Rig) -> float:
    """Return how many seconds a refused registration took."""
    began = time.monotonic()
    with pytest.raises(RegistryRefused, match="maxmemory"):
        rig.registry.register("thread", "thread_late", "chat")
    return time.monotonic() - began


def test_a_full_redis_refuses_new_ids_at_once_and_goes_on_deleting(rig: Rig) -> None:
    """The broker is another server: a full one takes no messages, of beat or of anybody."""
    with EmbeddedRedis() as broker:
        rig.configure(policy(), head=f'{RIG}[celery]\nbroker_url = "{broker.url}"\n')
        rig.beat()
        worker = rig.worker(children=2)
        rig.gone(rig.seed(20), 30)
        rig.to_provider.latency = 0.05
        ids = rig.seed(500)
        rig.raw.config_set("maxmemory", "1mb")

        assert min(refused(rig) for _ in range(5)) < AT_ONCE  # the quickest: this machine is busy
        rig.gone(ids, 60)

        rig.judge(within=90)
        assert worker.events("sweep.finished", result="completed")
    rig.raw.config_set("maxmemory", "0")


def test_a_full_redis_that_is_the_broker_too_loses_nothing(rig: Rig) -> None:
    working(rig)
    ids = rig.seed(200)
    rig.raw.config_set("maxmemory", "1mb")
    time.sleep(5)
    rig.raw.config_set("maxmemory", "0")

    rig.gone(ids, 60)
    rig.judge(within=90, crashes=2)
