"""Redis is killed, stays away and comes back, and processes are killed, while an application creates: at any size."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.creating import IN_FLIGHT
from faults.rig import Rig
from lapse.registry.spool import spool
from lapse.sandbox.redis_server import die_with_parent
from oracle.history import Call, History, Resource
from support import counted

PROCESSES = 4
TESTS = Path(__file__).parents[1]
Creating = list["subprocess.Popen[bytes]"]


def created_while_away(rig: Rig, *, ids: int, rate: float, away: float) -> None:
    """Create so many conversations, with Redis killed twice for so many seconds, and a process during each of them."""
    path = rig.directory / "app.spool"
    with _creating(rig, path, rate) as processes:
        _until_made(rig, ids // 3, rate)
        rig.stop_server(kill=True)
        time.sleep(away / 2)
        assert path.exists()
        _kill(processes)
        time.sleep(away / 2)
        rig.server.start()

        _until_made(rig, ids * 2 // 3, rate)
        rig.stop_server(kill=True)
        time.sleep(away)
        rig.server.start()
        _kill(processes)  # while they send what waits
        _until_made(rig, ids, rate)

    rig.wait_until(lambda: _waiting(rig, path) == 0, what="the end of the spool")
    created, registered = rig.alive("conversation"), _registered(rig)
    lost = created - registered
    counted.judged(_history(registered), [], kills=2, faults=2)
    assert len(created) >= ids
    assert len(lost) <= 2 * IN_FLIGHT, f"{len(lost)} of {len(created)} are not registered, such as {sorted(lost)[:3]}"
    assert registered <= created


@contextmanager
def _creating(rig: Rig, path: Path, rate: float) -> Iterator[Creating]:
    command = (sys.executable, "-m", "faults.creating", rig.server.url, rig.provider.url, path, rate / PROCESSES)
    processes = [subprocess.Popen(die_with_parent(*map(str, command)), cwd=TESTS) for _ in range(PROCESSES)]
    try:
        yield processes
        for one in processes:
            one.terminate()
        assert [one.wait(30) for one in processes] == [0] * len(processes)
    finally:
        for one in processes:
            one.kill()
            one.wait()


def _kill(processes: Creating) -> None:
    one = processes.pop()
    assert one.poll() is None
    one.kill()
    one.wait()


def _until_made(rig: Rig, ids: int, rate: float) -> None:
    def made() -> int:
        return sum(one["count"] for one in rig.provider.counts() if one["method"] == "POST")

    rig.wait_until(lambda: made() >= ids, 60 + 3 * ids / rate, what=f"{ids} conversations")


def _waiting(rig: Rig, path: Path) -> int:
    one = spool.of(path, "lapse", rig.server.url)
    one.look()
    return one.pending


def _registered(rig: Rig) -> set[str]:
    indexes = [f"lapse:{{openai:conversation}}:chat:{name}" for name in ("fresh", "active")]
    return {str(id_) for index in indexes for id_ in rig.raw.zrange(index, 0, -1)}


def _history(registered: set[str]) -> History:
    now = time.time()
    return History(
        calls=tuple(Call("register", Resource("openai", "conversation", one), now, now) for one in registered)
    )
