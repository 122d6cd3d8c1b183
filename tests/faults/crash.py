"""What happens to processes, at any size: a test module says which."""

import random
import time

from deployment import policy
from faults.rig import Rig

CHILD_EVERY = 0.5
WORKER_EVERY = 10.0


def killed_all_the_time(rig: Rig, *, ids: int, seed: int, within: float, worker_every: float = WORKER_EVERY) -> None:
    """Kill a child every half second and now and then a whole worker, until everything due is gone."""
    rig.configure(policy())
    rig.provider.faults([{"latency": "150ms"}])
    registered = rig.seed(ids)
    chosen = random.Random(seed)
    rig.beat()
    workers = [rig.worker(children=4), rig.worker(children=4)]
    began = last = time.monotonic()
    while rig.alive() & set(registered):
        assert time.monotonic() < began + within, f"{len(rig.alive())} of {ids} are left"
        time.sleep(CHILD_EVERY)
        rig.kill_child(chosen.choice(workers), chosen.choice)
        if time.monotonic() - last > worker_every:
            rig.kill_worker(workers.pop(0))
            workers.append(rig.worker(children=4))
            last = time.monotonic()

    rig.judge(within=within, crashes=rig.kills)

    assert rig.kills > 0
    assert rig.quarantined("chat") == set()
