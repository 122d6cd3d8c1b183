"""A deployment whose worker, beat and Redis are containers; the provider stand-in is a server of this machine."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from images.engine import Podman
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import free_port
from support.deployment import KEY, Deployment, Process

IMAGE = "localhost/lapse-test/lapse"
REDIS = "docker.io/library/redis:7.4-bookworm"
HARDENED = (
    *("--network", "host", "--pull", "never"),
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/var/lapse-run"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
"""A root that is read-only, one place in memory, no /tmp, and no rights."""
GRACE = 45
HEAD = """
[schedule]
sweep = "1s"
[sweep]
budget = "5s"
lease = "1m"
ramp = "off"
[audit]
sink = "file:audit.jsonl"
[limits]
max_deletions = "unlimited"
max_newly_due = "unlimited"
[providers.openai]
type = "openai"
base_url = "{base_url}"
api_key_env = "OPENAI_API_KEY"
rate = "unlimited"
concurrency = 8
"""


class Container(Process):
    """One running container of lapse and what it wrote; ``remove`` keeps the latter."""

    def __init__(self, podman: Podman, name: str, *words: str) -> None:
        self.name = name
        self._podman = podman
        self._kept: tuple[str, str] | None = None
        podman("run", "--detach", "--name", name, *words)

    @property
    def pid(self) -> int:
        return int(self.inspect("State.Pid"))

    @property
    def stdout(self) -> str:
        return self._logs()[0]

    @property
    def stderr(self) -> str:
        return self._logs()[1]

    def _logs(self) -> tuple[str, str]:
        if self._kept is not None:
            return self._kept
        done = self._podman.done("logs", self.name)
        return done.stdout, done.stderr

    def inspect(self, path: str) -> str:
        """Return one value of ``podman inspect``."""
        return self._podman("inspect", self.name, "--format", f"{{{{.{path}}}}}")

    def run(self, *words: str, within: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program inside."""
        return self._podman.done("exec", self.name, *words, within=within)

    def alive(self) -> bool:
        return self._kept is None and self.inspect("State.Running") == "true"

    def wait(self, within: float = GRACE) -> int:
        return 0 if self._kept is not None else int(self._podman("wait", self.name, within=within))

    def again(self) -> None:
        """Start it once more."""
        self._podman("start", self.name)

    def stop(self, *, group: bool = False, within: float = GRACE) -> tuple[int, float]:
        """Stop it as an engine does, which kills it after ``within`` seconds; return the exit code and the seconds."""
        assert not group, "an engine tells the first process alone"
        started = time.monotonic()
        self._podman("stop", "--time", str(within), self.name, within=within + 30)
        return int(self.inspect("State.ExitCode")), time.monotonic() - started

    def shoot(self) -> int:
        """Kill it with signal 9; return the exit code."""
        self._podman("kill", "--signal", "KILL", self.name)
        return self.wait()

    def remove(self) -> None:
        """Take the container away; what it wrote is kept here."""
        self._kept = self._kept or self._logs()
        self.kill()

    def kill(self) -> None:
        self._podman("rm", "--force", "--ignore", "--time", "0", "--volumes", self.name)


class RedisContainer:
    """A Redis that keeps what it is told on a volume, on a free port of this machine."""

    def __init__(self, podman: Podman, name: str) -> None:
        self.podman = podman
        self._name = name
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Run it, on the volume of the one before."""
        server = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--appendonly", "yes"]
        options = ("--network", "host", "--pull", "never", "--volume", f"{self._name}:/data")
        self.podman("run", "--detach", "--name", self._name, *options, REDIS, *server)

    def stop(self) -> None:
        """End and remove it."""
        self.podman("stop", "--time", "10", self._name)
        self.podman("rm", self._name)

    def ready(self) -> bool:
        """Return True if it answers."""
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        """Take all of it away."""
        self.podman("rm", "--force", "--ignore", "--time", "0", self._name)
        self.podman("volume", "rm", "--force", self._name)


class ContainerDeployment(Deployment):
    """A policy folder as Kubernetes mounts one, a volume for state, and containers.

    Attributes:
        podman: The engine.
        server: The Redis.
        volume: The name of the state's volume.

    """

    def __init__(
        self, server: RedisContainer, directory: Path, provider: Sandbox, wait_until: Callable[..., None]
    ) -> None:
        super().__init__(directory, server.url, provider, wait_until)
        self.podman = podman = server.podman
        self.server = server
        self.volume = f"lapse-test-{server.port}-state"
        self.in_flight = 32  # 4 processes of a worker, each with 8
        podman("volume", "create", self.volume)
        self.audit = Path(podman("volume", "inspect", self.volume, "--format", "{{.Mountpoint}}")) / "audit.jsonl"
        self._versions = 0
        directory.chmod(0o755)

    def configure(self, *policies: str, head: str = HEAD, path: Path | None = None) -> None:
        """Replace the policy folder as Kubernetes does: all files of a version at once, by the link ``..data``."""
        folder = self.config.parent
        self._versions += 1
        version = folder / f"..{self._versions}"
        version.mkdir()
        text = head.format(directory=self.directory, base_url=self.base_url) + "".join(policies)
        (version / "retention.toml").write_text(text)
        fresh = folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(folder / "..data")
        if not self.config.is_symlink():
            self.config.symlink_to("..data/retention.toml")
        self._in_force(path or self.config, text)

    def start(self, *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Process:
        """Start a container: of the image's own command, or of these words."""
        assert cwd is None, "the image says where"
        given = {"LAPSE_REGISTRY__URL": self.url, "OPENAI_API_KEY": KEY, **(environ or {})}
        name = f"lapse-test-{self.server.port}-{len(self.processes)}"
        made = Container(
            self.podman,
            name,
            *HARDENED,
            *(word for key, value in given.items() for word in ("--env", f"{key}={value}")),
            *("--volume", f"{self.config.parent}:/etc/lapse:ro", "--volume", f"{self.volume}:/var/lib/lapse"),
            *("--health-cmd", "lapse health --beat") if "beat" in arguments else (),
            IMAGE,
            *arguments,
        )
        self.processes.append(made)
        return made

    def program(self, *arguments: str) -> Container:
        """Start a container and wait until its loop has turned."""
        made = self.start(*arguments)
        assert isinstance(made, Container)
        role = "beat" if "beat" in arguments else "worker"
        self.wait_until(
            lambda: not made.alive() or not made.run("lapse", "health", f"--{role}").returncode, 60, what=f"a {role}"
        )
        assert made.alive(), made.stderr
        return made

    def both(self) -> tuple[Container, Container]:
        """Start a worker by the image's own command, and beat."""
        return self.program(), self.program("celery", "-A", "lapse.app", "-q", "beat", "--loglevel=INFO")

    def close(self) -> None:
        super().close()
        self.podman("volume", "rm", "--force", self.volume)


@contextmanager
def contained(
    podman: Podman, directory: Path, provider: Sandbox, wait_until: Callable[..., None]
) -> Iterator[ContainerDeployment]:
    """Give a deployment with a Redis of its own, and hold what happened there against what is promised."""
    server = RedisContainer(podman, f"lapse-test-redis-{directory.name}")
    server.start()
    try:
        wait_until(server.ready, 30, what="Redis")
        made = ContainerDeployment(server, directory, provider, wait_until)
        try:
            yield made
            found = made.verdict()
            assert not found, "\n".join(map(str, found))
        finally:
            made.close()
    finally:
        server.close()
