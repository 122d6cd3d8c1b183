"""A clock that a test sets, for programs of its choice: libfaketime, preloaded, reads it from a file."""

import subprocess
from pathlib import Path

# Where the monotonic clock stays right, libfaketime 0.9.10 answers EINVAL to the sleep that Python's is made of.
_SLEEP = """import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class Clock:
    """What the programs that get ``environ`` take for the time of day; their monotonic clocks stay right."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._python = path.with_suffix(".python")
        self._python.mkdir()
        (self._python / "sitecustomize.py").write_text(_SLEEP)
        self.set("+0")

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a program that has this clock.

        Raises:
            FileNotFoundError: there is no faketime (Debian: apt-get install faketime).

        """
        library = subprocess.run(
            ["faketime", "-m", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(self._python),
        }

    def set(self, offset: str) -> None:
        """Set it off against the right time, in one step: ``+1d``, ``-1h``, ``+10y``."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self._path)

    def wrap(self, program: str, script: Path) -> Path:
        """Make a script that becomes a program with this clock."""
        given = " ".join(f"'{name}={value}'" for name, value in self.environ.items())
        script.write_text(f"#!/bin/sh\nexec env {given} '{program}' \"$@\"\n")
        script.chmod(0o755)
        return script
