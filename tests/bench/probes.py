"""What a supervisor's question costs: ``lapse health --live``, to a Python that does nothing."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, ratio
from lapse.runtime.heartbeat import WORKER, Heartbeat

TIMES = 40
PROBE = (Path(sys.executable).with_name("lapse"), "health", "--live")
IDLE = (sys.executable, "-I", "-c", "pass")


def measure(rounds: int) -> list[Figure]:
    """Return the seconds of both, taken in turns, and their ratio."""
    ours: list[float] = []
    theirs: list[float] = []
    with TemporaryDirectory(prefix="lapse-probe-") as folder:
        environ = {**os.environ, "LAPSE_RUNTIME_DIR": folder}
        Heartbeat(WORKER, environ).turned()
        for _ in range(rounds):
            taken = [[_seconds(environ, *command) for command in (PROBE, IDLE)] for _ in range(TIMES)]
            for figure, column in zip((ours, theirs), zip(*taken, strict=True), strict=True):
                figure.append(statistics.median(column))
    return [
        Figure("lapse health --live, ms", [one * 1000 for one in ours], None),
        Figure("python -I -c pass, ms", [one * 1000 for one in theirs], None),
        ratio("lapse health --live to python -I -c pass", ours, theirs, "<=", 1.5),
    ]


def _seconds(environ: dict[str, str], *command: str | Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


__all__ = ["measure"]
