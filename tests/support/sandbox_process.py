"""The stand-in as a process of its own, for whoever must not share its CPU."""

import subprocess
import sys
from pathlib import Path
from typing import IO, Self

from lapse import durations
from lapse.sandbox.control import Control
from lapse.sandbox.redis_server import die_with_parent

SERVE = """
from pathlib import PosixPath
from lapse.sandbox import serve
serve({port!r}, log={log!r}, script={script!r}, latency={latency!r})
"""


def command(port: int = 0, *, log: Path | None = None, script: Path | None = None, latency: str = "") -> list[str]:
    """Return what runs a stand-in: not the command line, which takes three times as long to start and to end."""
    seconds = durations.parse(latency) if latency else 0.0
    return [sys.executable, "-c", SERVE.format(port=port, log=log, script=script, latency=seconds)]


class SandboxProcess(Control):
    """A stand-in that is a child of this process and dies with it. A context manager.

    Start it from a thread that lives as long as the server shall.

    Args:
        port: The port; 0 takes a free one.
        log: The request log's file.
        script: The fault script's file.
        latency: Every answer waits so long: a duration such as "20ms"; empty for no wait.
        errors: Where its stderr goes; None leaves it on this process' own.

    """

    def __init__(
        self,
        port: int = 0,
        *,
        log: Path | None = None,
        script: Path | None = None,
        latency: str = "",
        errors: IO[bytes] | int | None = None,
    ) -> None:
        super().__init__()
        self._command = command(port, log=log, script=script, latency=latency)
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            RuntimeError: it is not running.

        """
        if self._process is None:
            raise RuntimeError("the provider stand-in is not running: call start()")
        return self._process.pid

    def start(self) -> Self:
        """Start the process; returns when it answers.

        Raises:
            RuntimeError: it ended instead; its stderr says why.

        """
        started = die_with_parent(*self._command)
        self._process = subprocess.Popen(started, stdout=subprocess.PIPE, stderr=self._errors)
        assert self._process.stdout is not None
        self._root = self._process.stdout.readline().decode().strip().removesuffix("/v1")
        if not self._root:
            code = self._process.wait(10)
            self.stop()
            raise RuntimeError(f"the provider stand-in did not start: it ended with {code}")
        return self

    def stop(self) -> None:
        """End the process; what it logged is in the file then."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
