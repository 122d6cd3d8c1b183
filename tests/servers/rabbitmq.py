"""A RabbitMQ of one's own, from Debian's package: started, killed, started again, and out of disk as it believes."""

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from lapse.sandbox.redis_server import die_with_parent, free_port
from servers.others import program

INSTALL = "apt-get install rabbitmq-server"
PLACES = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/homebrew/sbin"))  # what Debian has on PATH wants its own user
WAIT = 60
ROOM = "1MB"


class RabbitMQ:
    """One node on free loopback ports, with all it keeps in one folder. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = program("rabbitmq-server", *PLACES, install=INSTALL)
        self._control = program("rabbitmqctl", *PLACES, install=INSTALL)
        self._process: subprocess.Popen[bytes] | None = None
        self._names: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._pid_file = directory / "pid"
        config = directory / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = {ROOM}\n")
        self._environ = {
            **os.environ,
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"lapse{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_PID_FILE": str(self._pid_file),
        }

    @property
    def url(self) -> str:
        """The broker's URL."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start the node and wait until it takes connections.

        Raises:
            subprocess.CalledProcessError: it does not within a minute.

        """
        self._pid_file.unlink(missing_ok=True)
        with (self._directory / "output").open("ab") as output:
            command = die_with_parent(self._server)
            self._process = subprocess.Popen(
                command, env=self._environ, stdout=output, stderr=output, start_new_session=True
            )
        self.say("wait", "--timeout", str(WAIT), str(self._pid_file))

    def kill(self) -> None:
        """Kill the node as a lack of memory does."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Let the node end in order."""
        assert self._process is not None
        self.say("stop")
        self._process.wait(WAIT)

    def fill(self) -> None:
        """Let the node believe that its disk is full: it takes nothing any more."""
        self.say("set_disk_free_limit", "100000GB")

    def drain(self) -> None:
        """Let the node believe that there is room again."""
        self.say("set_disk_free_limit", ROOM)

    def say(self, *command: str) -> str:
        """Return what ``rabbitmqctl`` says."""
        done = subprocess.run(
            [self._control, *command], env=self._environ, capture_output=True, text=True, check=True, timeout=WAIT + 10
        )
        return done.stdout

    def __enter__(self) -> Self:
        # Erlang's own name server: one that a node starts outlives it.
        self._names = subprocess.Popen(die_with_parent(program("epmd", install=INSTALL)), env=self._environ)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if self._names is not None:
            self._names.kill()
            self._names.wait()
