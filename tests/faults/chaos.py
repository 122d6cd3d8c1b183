"""``make chaos SEED=n MINUTES=m``: everything breaks at random while an application goes on, and one line judges it.

What breaks when follows from the seed alone; what was in flight at that moment does not.
"""

import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults import nemesis
from faults.rig import Rig, rig_on
from support.sandbox_process import SandboxProcess

WORKERS, CHILDREN = 2, 2
RATE = 25.0  # registrations a second
DRAIN = 240.0


@dataclass(slots=True)
class Result:
    """What a run came to."""

    seed: int
    ids: int
    deletions: int
    kills: int
    faults: int
    violations: list[str]

    @property
    def good(self) -> bool:
        """Whether nothing was violated, and anything happened at all."""
        return not self.violations and all((self.ids, self.deletions, self.kills, self.faults))

    def line(self) -> str:
        """Return the last line."""
        return (
            f"seed={self.seed} ids={self.ids} deletions={self.deletions} kills={self.kills} faults={self.faults} "
            f": {len(self.violations)} violations"
        )


class Users:
    """What people do with an application: open threads, come back to them, hold and forget some."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig, self._random = rig, random.Random(seed)
        self._over = threading.Event()
        self._known: list[str] = []
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._open, self._speak)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop, and take every hold back."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        application = self._rig.application
        for id_ in sorted({one.resource.id for one in application.said("hold")}):
            self._rig.wait_until(lambda id_=id_: application.unhold(id_), what=f"the end of {id_}'s hold")

    def _open(self) -> None:
        while not self._over.wait(10 / RATE):
            for id_ in self._rig.provider.seed("thread", 10):
                self._rig.application.register(id_, self._random.choice(["chat", "idle", "idle"]))
                self._known.append(id_)

    def _speak(self) -> None:
        chosen = random.Random(self._random.random())
        ops = ("touch", "touch", "touch", "hold", "unhold", "expire", "forget")
        while not self._over.wait(0.02):
            if recent := self._known[-200:]:
                getattr(self._rig.application, chosen.choice(ops))(chosen.choice(recent))


class Chaos:
    """One run."""

    def __init__(self, rig: Rig, seed: int, minutes: float, tell: Callable[[str], None]) -> None:
        self.rig, self.seed, self.tell = rig, seed, tell
        self.plan = nemesis.schedule(seed, minutes * 60)
        self.faults = 0
        self._bound = minutes * 60 + DRAIN  # an id may be due, and have failed, from the beginning

    def run(self) -> Result:
        """Break everything, mend it, wait until what is due is gone, and judge."""
        rig = self.rig
        ruler = nemesis.Nemesis(rig, CHILDREN)
        ruler.configure()
        rig.beat()
        for _ in range(WORKERS):
            ruler.hire()
        rig.scrape()
        users, began = Users(rig, self.seed), time.monotonic()
        for event in self.plan:
            time.sleep(max(0.0, began + event.after - time.monotonic()))
            self.tell(f"{event.after:7.1f} s  {event.name}  {event.seconds:.1f} s")
            ruler.act(event)
            self.faults += 1
        ruler.mend()
        users.end()
        return self._judged(ruler)

    def _judged(self, ruler: nemesis.Nemesis) -> Result:
        rig, found = self.rig, []
        try:
            rig.settled(DRAIN)
            rig.wait_until(lambda: not self._expected() & rig.alive(), DRAIN, what="the end of all that is due")
            rig.settled(DRAIN)
        except AssertionError as error:
            found.append(str(error).splitlines()[0])
        crashes = rig.kills + ruler.outages * WORKERS * CHILDREN
        history = rig.history(bound=self._bound, crashes=crashes)
        found += [*map(str, rig.verdict_on(history)), *ruler.violations(history.requests)]
        deleted = {one.path for one in history.requests if one.confirmed}
        return Result(self.seed, len(rig.application.acknowledged()), len(deleted), rig.kills, self.faults, found)

    def _expected(self) -> set[str]:
        """Return the ids that have to be gone in the end."""
        forgotten = {one.resource.id for one in self.rig.application.said("forget")}
        quarantined = self.rig.quarantined("chat") | self.rig.quarantined("idle")
        return self.rig.application.acknowledged() - forgotten - quarantined


def wait_until(condition: Callable[[], object], within: float = 60, *, what: str = "the condition") -> None:
    """Wait on a condition with a deadline in seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {within:g} s"
        time.sleep(0.1)


def run(seed: int, minutes: float, directory: Path, tell: Callable[[str], None]) -> Result:
    """Run once, with everything that is written in a directory."""
    with SandboxProcess() as provider, rig_on(directory, provider, wait_until) as rig:
        return Chaos(rig, seed, minutes, tell).run()


def main(arguments: list[str]) -> int:
    """Run with a seed for some minutes; 0 if nothing was violated."""
    seed, minutes = int(arguments[0]), float(arguments[1])
    folder = Path(tempfile.mkdtemp(prefix=f"lapse-chaos-{seed}-"))
    result = run(seed, minutes, folder, _tell)
    for text in result.violations[:50]:
        _tell(text)
    if result.good:
        shutil.rmtree(folder)
    else:
        _tell(f"what everything wrote is in {folder}")
    sys.stdout.write(result.line() + "\n")
    return 0 if result.good else 1


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
