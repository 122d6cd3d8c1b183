"""The stand-in as a process of its own, for whoever must not share its CPU: the demo and the benchmarks."""

import subprocess
import sys
from pathlib import Path
from typing import IO, Self

from lapse.sandbox.control import OwnServer
from lapse.sandbox.redis_server import die_with_parent


class SandboxProcess(OwnServer):
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
        options = {"--log": log, "--faults": script, "--latency": latency}
        self._command = [sys.executable, "-m", "lapse.sandbox", "--port", str(port)]
        for name, value in options.items():
            self._command += [name, str(value)] if value else []
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None

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
        command = die_with_parent(*self._command)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
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
