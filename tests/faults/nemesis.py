"""What breaks, and when: a schedule that follows from a seed, and the hands that carry it out."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cells.answers import FAULTS
from cells.line import Line
from faults import operator
from faults.crash import POINTS, Failpoint, disarm
from faults.rig import Rig
from oracle.history import Request
from support.deployment import Process, policy
from support.documented import rows, table

TTL = 3
LONGER = 1  # seconds that each reload adds
EDITS = {"max_deletions lower", "max_already_gone", "every", "cancel", "keep added"}
"""Those of the document that a file of threads can have, and that weaken no proof."""

BETWEEN = (0.5, 3.0)
LASTS = (0.5, 3.0)
ANSWERS = (
    *(
        FAULTS[name]
        for name in rows("Answers of a provider")
        if table("Answers of a provider")[name, "delete, kind"] == "breaker"
    ),
    {"effect": "error", "status": 409},
    {"effect": "error", "status": 429, "headers": {"Retry-After": "1"}},
    {"effect": "reset"},
    {"effect": "reset", "execute": True},
    {"effect": "cut"},
    {"effect": "deleted_false"},
    {"effect": "html"},
    {"effect": "truncated", "execute": True},
    {"effect": "hang"},
)
"""Every one is drawn for a twentieth of the deletions while the provider misbehaves."""

WEIGHTS = {
    "kill_child": 8,
    "kill_worker": 2,
    "kill_redis": 1,
    "restart_redis": 1,
    "stop_redis": 1,
    "reset_redis": 2,
    "freeze_redis": 1,
    "cut_redis": 1,
    "slow_redis": 1,
    "refuse_redis": 3,
    "die_at": 3,
    "edit": 1,
    "reset_provider": 2,
    "freeze_provider": 1,
    "cut_provider": 1,
    "slow_provider": 1,
    "wrong_answers": 5,
    "stop_worker": 1,
    "lengthen": 1,
    "pause": 1,
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that breaks: so many seconds after the start, and for so long where it lasts."""

    after: float
    name: str
    seconds: float
    choice: float


def schedule(seed: int, seconds: float) -> list[Event]:
    """Return what breaks within so many seconds; the same for the same seed, however long it goes on after."""
    chosen = random.Random(seed)
    events: list[Event] = []
    after = 0.0
    while True:
        after += chosen.uniform(*BETWEEN)
        (name,) = chosen.choices(list(WEIGHTS), list(WEIGHTS.values()))
        event = Event(after, name, chosen.uniform(*LASTS), chosen.random())
        if after >= seconds:
            return events
        events.append(event)
        after += event.seconds if name not in {"kill_child", "kill_worker"} else 0.0


class Nemesis:
    """Carries events out, one after the other, and knows what they excuse.

    Attributes:
        outages: Events in which answers or outcomes may have been lost on their way.

    """

    def __init__(self, rig: Rig, children: int) -> None:
        self._rig, self._children = rig, children
        self._workers: list[Process] = []
        self._ttl = TTL
        self._quiet: list[tuple[float, float]] = []
        self.outages = 0

    def configure(self, more: str = "") -> None:
        """Write the policy file; ``more``: a key of the policy chat."""
        chat = policy("chat", ttl=f"{self._ttl}s") + (f"{more}\n" if more else "")
        idle = policy("idle", ttl=f"{self._ttl}s").replace("created_at", "last_active_at")
        self._rig.configure(chat, idle)

    def hire(self) -> None:
        """Start a worker."""
        self._workers.append(self._rig.worker(children=self._children))

    def act(self, event: Event) -> None:
        """Carry one event out; returns when it is over."""
        worker = self._workers[int(event.choice * len(self._workers))]
        match event.name:
            case "kill_child":
                self._rig.kill_child(worker, lambda pids: pids[int(event.choice * len(pids))])
            case "kill_worker":
                self._rig.kill_worker(worker)
                self._workers.remove(worker)
                self.hire()
            case "lengthen":
                self._ttl += LONGER
                self.configure()
            case "pause":
                self._pause(event.seconds)
            case _:
                self.outages += 1
                getattr(self, f"_{event.name}")(event.seconds)

    def mend(self) -> None:
        """Let everything work again."""
        self._rig.to_redis.mend()
        self._rig.to_provider.mend()
        self._rig.provider.faults()
        operator.lapse(self._rig, "resume")

    def violations(self, requests: Sequence[Request]) -> Iterable[str]:
        """Return the deletions that were sent while everything was paused."""
        for begun, ended in self._quiet:
            late = [one for one in requests if one.method == "DELETE" and begun + operator.QUIET < one.begun < ended]
            yield from (f"{one.path}: DELETE {one.begun - begun:.1f} s after a pause" for one in late)

    def _pause(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            operator.lapse(self._rig, "pause", "--reason", "chaos")
            begun = time.time()
            time.sleep(operator.QUIET + seconds)
            self._quiet.append((begun, time.time()))
            operator.lapse(self._rig, "resume")

    def _refuse_redis(self, seconds: float) -> None:
        """Let calls of one script meet one reply of Redis, both drawn from the document."""
        cells = [at for at in table("Replies of Redis") if at[1] != "ok"]
        name, class_ = cells[round(seconds * 1e6) % len(cells)]
        with Line(self._rig.server.url) as line:
            line.break_(name, class_, times=10)
            self._rig.to_redis.lead_to(line.port)
            self._rig.to_redis.reset()
            time.sleep(seconds)
            self._rig.to_redis.lead_to(self._rig.server.port)
            self._rig.to_redis.reset()

    def _die_at(self, seconds: float) -> None:
        """Kill a worker's children at one point of the document's, if they come to it."""
        points = [point for point in rows("Deaths of a process") if point in POINTS]
        Failpoint(self._rig, self._workers[0], POINTS[points[round(seconds * 1e6) % len(points)]])
        time.sleep(seconds)
        disarm(self._rig)

    def _edit(self, seconds: float) -> None:
        """Make one edit of the document's, and put it back."""
        edits = [name for name in rows("Edits of the policy file") if name in EDITS]
        said = table("Edits of the policy file")[edits[round(seconds * 1e6) % len(edits)], "after"]
        self.configure(said)
        time.sleep(seconds)
        self.configure()

    def _kill_redis(self, seconds: float) -> None:
        self._rig.stop_server(kill=True)
        time.sleep(seconds)
        self._rig.server.start()

    def _restart_redis(self, seconds: float) -> None:
        self._rig.stop_server()
        time.sleep(seconds)
        self._rig.server.start()

    def _stop_redis(self, seconds: float) -> None:
        _stand_still(self._rig.server.pid, seconds)

    def _stop_worker(self, seconds: float) -> None:
        _stand_still(self._workers[0].pid, seconds, *self._workers[0].children())

    def _reset_redis(self, _seconds: float) -> None:
        self._rig.to_redis.reset()

    def _freeze_redis(self, _seconds: float) -> None:
        self._rig.to_redis.freeze()

    def _cut_redis(self, seconds: float) -> None:
        self._rig.to_redis.cut()
        time.sleep(seconds)
        self._rig.to_redis.mend()

    def _slow_redis(self, seconds: float) -> None:
        self._rig.to_redis.latency = 0.05
        time.sleep(seconds)
        self._rig.to_redis.mend()

    def _reset_provider(self, _seconds: float) -> None:
        self._rig.to_provider.reset()

    def _freeze_provider(self, _seconds: float) -> None:
        self._rig.to_provider.freeze()

    def _cut_provider(self, seconds: float) -> None:
        self._rig.to_provider.cut()
        time.sleep(seconds)
        self._rig.to_provider.mend()

    def _slow_provider(self, seconds: float) -> None:
        self._rig.to_provider.latency = 0.2
        time.sleep(seconds)
        self._rig.to_provider.mend()

    def _wrong_answers(self, seconds: float) -> None:
        share = {"method": "DELETE", "probability": 0.05}
        self._rig.provider.faults([{**share, **answer} for answer in ANSWERS], seed=round(seconds * 1e6))
        time.sleep(seconds)
        self._rig.provider.faults()


def _stand_still(pid: int, seconds: float, *others: int) -> None:
    for each in (pid, *others):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGSTOP)
    time.sleep(seconds)
    for each in (pid, *others):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGCONT)
