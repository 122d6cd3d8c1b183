"""What happens to processes, at any size: a test module says which."""

import contextlib
import json
import os
import random
import signal
import time

from faults import operator
from faults.rig import RIG, Rig
from faults.traffic import Cut, Exchange
from support.deployment import Process, policy
from support.lua import named

ONE_AT_A_TIME = RIG.replace("concurrency = 8", "concurrency = 1").replace('lease = "5s"', 'lease = "3s"')
RECOVERED = 15.0  # seconds: a lease, a sweep, a process that starts on a busy machine

CHILD_EVERY = 0.5
WORKER_EVERY = 10.0
UNLUCKY = 3
"""How many ids chance may kill three times, each time while they are tried alone: an operator gets those."""


def killed_all_the_time(
    rig: Rig, *, ids: int, seed: int, within: float, latency: str = "50ms", worker_every: float = WORKER_EVERY
) -> None:
    """Kill a child every half second and now and then a whole worker, until everything due is gone."""
    rig.configure(policy())
    rig.provider.faults([{"latency": latency}])
    registered = rig.seed(ids)
    rig.witness()
    chosen = random.Random(seed)
    rig.beat()
    workers = [rig.worker(children=4), rig.worker(children=4)]
    began = last = time.monotonic()
    while rig.alive() & (set(registered) - rig.quarantined("chat")):
        assert time.monotonic() < began + within, f"{len(rig.alive())} of {ids} are left"
        time.sleep(CHILD_EVERY)
        rig.kill_child(chosen.choice(workers), chosen.choice)
        if time.monotonic() - last > worker_every:
            rig.kill_worker(workers.pop(0))
            workers.append(rig.worker(children=4))
            last = time.monotonic()

    rig.settled()
    assert len(rig.quarantined("chat")) <= UNLUCKY
    retried(rig)
    rig.gone(registered, 30)
    rig.judge(within=within, crashes=rig.kills)
    assert rig.kills > 0


def retried(rig: Rig) -> None:
    """Have an operator take everything out of quarantine that is said to be there, and wait until it is settled."""
    listed = operator.lapse(rig, "quarantine", "list", "threads", "--limit", "1000", "--json").stdout.splitlines()
    assert {json.loads(line)["id"] for line in listed} == rig.quarantined("chat")
    if listed:
        operator.lapse(rig, "quarantine", "retry", "threads", "--all", "--reason", "the killing is over")
        rig.wait_until(lambda: not rig.quarantined("chat"), 30, what="the end of the quarantine")
        rig.settled()


POINTS = {
    "asking": "claimed",
    "executed": "executed",
    "answered": "answered",
    "settling": "settling",
    "settled": "settled",
}


def disarm(rig: Rig) -> None:
    """Kill nobody any more."""
    rig.traffic.on_request = rig.traffic.on_answer = rig.on_command = rig.on_reply = None


class Failpoint:
    """Kills a worker's children once, at one point of one deletion."""

    def __init__(self, rig: Rig, worker: Process, point: str) -> None:
        self.hit = False
        self._rig, self._worker, self._point = rig, worker, point
        self._settling = False
        rig.traffic.on_request = self._asked
        rig.traffic.on_answer = self._answered
        rig.on_command, rig.on_reply = self._commanded, self._replied

    def _asked(self, exchange: Exchange) -> None:
        if (
            exchange.method == "DELETE"
            and self._point in {"claimed", "executed"}
            and self._kill()
            and self._point == "claimed"
        ):
            raise Cut

    def _answered(self, exchange: Exchange) -> None:
        if exchange.method == "DELETE" and self._point == "answered" and self._kill():
            raise Cut

    def _commanded(self, data: bytes) -> None:
        self._settling = named("settle").sha.encode() in data
        if self._settling and self._point == "settling" and self._kill():
            raise Cut

    def _replied(self, _data: bytes) -> None:
        if self._settling and self._point == "settled" and self._kill():
            raise Cut

    def _kill(self) -> bool:
        if self.hit:
            return False
        self.hit = True
        for child in self._worker.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._rig.killed.append(time.time())
        return True
