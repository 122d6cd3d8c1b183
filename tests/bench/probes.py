"""What a supervisor's question costs: ``lapse health --live``, to a Python that does nothing.

The script is written here as pip 26 and uv write it. An older pip's loads ``re`` first: the last figure is the script
of this environment, whoever wrote it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, ratio
from lapse.runtime.heartbeat import WORKER, Heartbeat

TIMES = 40
INSTALLED = Path(sys.executable).with_name("lapse")
SCRIPT = """#!{python}
import sys
from lapse_health import main
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(main())
"""
IDLE = (sys.executable, "-I", "-c", "pass")


def measure(rounds: int) -> list[Figure]:
    """Return the seconds of both, taken in turns, and their ratio."""
    ours: list[float] = []
    theirs: list[float] = []
    installed: list[float] = []
    with TemporaryDirectory(prefix="lapse-probe-") as folder:
        environ = {**os.environ, "LAPSE_RUNTIME_DIR": folder}
        Heartbeat(WORKER, environ).turned()
        script = Path(folder) / "lapse"
        script.write_text(SCRIPT.format(python=sys.executable), encoding="utf-8")
        script.chmod(0o755)
        question = ("health", "--live")
        for _ in range(rounds):
            taken = [
                [_seconds(environ, *command) for command in ((script, *question), IDLE, (INSTALLED, *question))]
                for _ in range(TIMES)
            ]
            for figure, column in zip((ours, theirs, installed), zip(*taken, strict=True), strict=True):
                figure.append(sorted(column)[TIMES // 2])
    return [
        Figure("lapse health --live, ms", [one * 1000 for one in ours], None),
        Figure("python -I -c pass, ms", [one * 1000 for one in theirs], None),
        ratio("lapse health --live to python -I -c pass", ours, theirs, "<=", 1.5),
        ratio("the same by this environment's script", installed, theirs, "<=", 2),
    ]


def _seconds(environ: dict[str, str], *command: str | Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


__all__ = ["measure"]
