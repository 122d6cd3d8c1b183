"""What happens to Redis, at any size."""

import threading
import time

from faults.rig import Rig
from support.deployment import policy

CONSUMING = 15.0


def registering(rig: Rig, ids: list[str], rate: float, half: threading.Event) -> threading.Thread:
    """Register ids one by one at a rate in a thread, each again until it is acknowledged; half of them after a sign."""

    def work() -> None:
        began = time.monotonic()
        for number, id_ in enumerate(ids):
            if number == len(ids) // 2:
                half.wait(60)
            while time.monotonic() < began + number / rate:
                time.sleep(0.001)
            while not rig.application.register(id_, "chat"):
                time.sleep(0.05)

    thread = threading.Thread(target=work, name="application")
    thread.start()
    return thread


def killed_while_registering(rig: Rig, *, ids: int, rate: float) -> None:
    """Kill Redis in the middle of registrations and sweeps, and start it again."""
    rig.configure(policy())
    rig.beat()
    rig.worker(children=2)
    created = rig.provider.seed("thread", ids)
    half = threading.Event()
    application = registering(rig, created, rate, half)
    rig.wait_until(lambda: len(rig.traffic.deletes()) > ids // 10, what="the first deletions")

    half.set()
    rig.stop_server(kill=True)
    acknowledged = rig.application.acknowledged()
    rig.server.start()
    left = rig.alive()
    rig.wait_until(lambda: rig.alive() < left, CONSUMING, what="a deletion after the restart")
    application.join(60)
    rig.gone(created, 60)

    assert len(acknowledged) < ids, "Redis was killed too late"
    rig.judge(within=60, crashes=2)
