"""``make test-faults``: processes die at every point, and are stopped for longer than their lease."""

import os
import signal
import time

import pytest

from faults import crash
from faults.rig import Rig
from faults.traffic import Cut, Exchange
from support.deployment import policy

pytestmark = pytest.mark.timeout(900)
ROUNDS = 20


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_children_and_workers_lose_nothing_of_ten_thousand(rig: Rig, seed: int) -> None:
    crash.killed_all_the_time(rig, ids=10_000, seed=seed, within=120)


@pytest.mark.parametrize("point", ["claimed", "executed", "answered", "settling", "settled"])
def test_a_worker_killed_at_a_point_loses_nothing(rig: Rig, point: str) -> None:
    """Claimed: before the provider has the request. Settling: before Redis has the outcome; settled: after."""
    rig.configure(policy(), head=crash.ONE_AT_A_TIME)
    rig.beat()
    worker = rig.worker(children=1)
    rig.gone(rig.seed(1), 30)
    rig.witness()
    for number in range(ROUNDS):
        armed = crash.Failpoint(rig, worker, point)
        ids = rig.seed(2)
        rig.wait_until(lambda armed=armed: armed.hit, 30, what=f"round {number}")
        began = time.monotonic()
        rig.gone(ids, 30)
        rig.settled()
        assert time.monotonic() - began < crash.RECOVERED
    rig.judge(within=60, crashes=rig.kills)
    assert rig.kills == ROUNDS


def test_ids_that_kill_their_worker_end_in_quarantine_and_the_others_are_deleted(rig: Rig) -> None:
    rig.configure(policy(), policy("long", ttl="12h"))
    rig.beat()
    worker = rig.worker(children=2)
    living = {*rig.seed(3, "long")}  # by which a worker knows, at the end, that what it does not find is gone
    ids = rig.seed(1000)
    poison = set(ids[::100])

    def kill(exchange: Exchange) -> None:
        if exchange.id in poison and exchange.method == "DELETE":
            for child in worker.children():
                os.kill(child, signal.SIGKILL)
                rig.killed.append(time.time())
            raise Cut

    rig.traffic.on_request = kill
    rig.wait_until(lambda: rig.quarantined("chat") == poison, 240, what="the quarantine of ten ids")
    rig.gone([id_ for id_ in ids if id_ not in poison], 60)
    rig.traffic.on_request = None

    asked = [one.id for one in rig.traffic.deletes() if one.id in poison]
    assert max(asked.count(id_) for id_ in poison) <= 1 + 3
    crash.retried(rig)
    rig.gone(ids, 30)
    assert living <= rig.alive()
    rig.judge(within=300, crashes=rig.kills)


def test_what_a_stopped_worker_says_after_its_lease_is_refused(rig: Rig) -> None:
    rig.configure(policy())
    rig.provider.faults([{"latency": "200ms"}])
    rig.beat()
    stopped = rig.worker(children=1)
    rig.witness()
    ids = rig.seed(200)
    rig.wait_until(lambda: len(rig.traffic.deletes()) > 20, what="the first deletions")
    rig.hold_worker(stopped)
    rig.worker(children=2)
    rig.gone(ids, 60)
    rig.settled()
    for pid in (stopped.pid, *stopped.children()):
        os.kill(pid, signal.SIGCONT)

    rig.wait_until(lambda: stopped.events("sweep.finished"), 60, what="the stopped worker's end of its sweep")
    rig.judge(within=90, crashes=1)
    assert rig.counters()["deletions|chat|thread"] <= len(ids)
