"""What operators do while work is in full swing."""

import subprocess
import time

from faults.rig import Rig
from support.deployment import policy

QUIET = 2.0


def said(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as an operator of this deployment does."""
    return subprocess.run(
        [*rig.command, *arguments], env=rig.beside, cwd=rig.directory, capture_output=True, text=True, check=False
    )


def lapse(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it; it has to succeed."""
    done = said(rig, *arguments)
    assert done.returncode == 0, done
    return done


def paused_under_load(rig: Rig, *, ids: int) -> None:
    """Pause in the middle of a sweep, wait, and resume."""
    rig.configure(policy())
    rig.provider.faults([{"latency": "50ms"}])
    registered = rig.seed(ids)
    rig.beat()
    rig.worker(children=4)
    rig.wait_until(lambda: len(rig.traffic.deletes()) > ids // 20, what="full load")

    lapse(rig, "pause", "--reason", "a test")
    told = time.time()
    rig.settled()
    time.sleep(QUIET)
    late = [one for one in rig.traffic.deletes() if one.at > told + QUIET]
    left = len(rig.alive() & set(registered))
    lapse(rig, "resume")
    rig.gone(registered, 60)

    assert late == []
    assert left > 0, "there was no load left to pause"
    rig.judge(within=90)
