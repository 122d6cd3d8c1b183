"""A host with systemd as its first process, in a container; Redis and the provider are servers of this machine.

The units are installed by the commands of deploy/README.md. ``RELAXED`` is what a container needs to be such a host: it
is outside of the units, which are as they are in the tree but for the drop-ins of a test.
"""

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from images.contained import GRACE
from images.engine import Podman
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.deploykit import DEPLOY
from support.deployment import KEY, Deployment, Process

HOST_IMAGE = "localhost/lapse-test/systemd"
SYSTEM = "/etc/systemd/system"
NOT_OURS = (
    *("systemd-sysctl.service", "systemd-modules-load.service", "systemd-binfmt.service"),
    *("systemd-remount-fs.service", "getty.target", "systemd-firstboot.service"),
)
"""Units of Debian's that would change the machine below, or wait for a terminal."""
CONTAINERFILE = """FROM docker.io/library/python:3.13-slim
RUN apt-get update && apt-get install --yes --no-install-recommends systemd
RUN cd {system} && for unit in {masked}; do ln -sf /dev/null $unit; done
COPY --from={image} /opt/lapse /opt/lapse
"""
RELAXED = (
    *("--network", "host", "--pull", "never", "--systemd=false", "--cgroupns=private"),
    *("--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL"),
    *("--security-opt", "apparmor=unconfined", "--tmpfs", "/run", "--tmpfs", "/tmp"),  # noqa: S108 - the host's own
)
INIT = """umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
export container=podman
exec /lib/systemd/systemd"""
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
api_key_file = "/etc/lapse/keys/openai"
rate = "unlimited"
concurrency = 8
"""
INSTALLED_ALREADY = ("python3 -m venv", "/opt/lapse/bin/pip")


def blocks(title: str) -> list[list[str]]:
    """Return the commands of each console block of a section of deploy/README.md."""
    text = (DEPLOY / "README.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^ *```console\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [[line.strip()[2:] for line in block.splitlines()] for block in found]


class Unit(Process):
    """One unit of the host; what it wrote is its journal."""

    def __init__(self, host: "SystemdDeployment", name: str) -> None:
        self.name = name
        self._host = host

    def show(self, setting: str) -> str:
        """Return one property of ``systemctl show``."""
        return self._host.run("systemctl", "show", "--value", "--property", setting, self.name)

    @property
    def pid(self) -> int:
        """The first process, as the host counts."""
        return int(self.show("MainPID"))

    @property
    def stdout(self) -> str:
        return ""

    @property
    def stderr(self) -> str:
        return self._host.run(
            "journalctl", "--no-pager", "--output=cat", f"_SYSTEMD_UNIT={self.name}.service", "_TRANSPORT=stdout"
        )

    def alive(self) -> bool:
        return self.show("ActiveState") == "active"

    def wait(self, within: float = GRACE) -> int:
        self._host.wait_until(lambda: self.show("ActiveState") in {"inactive", "failed"}, within, what=self.name)
        return int(self.show("ExecMainStatus"))

    def stop(self, *, group: bool = False, within: float = GRACE) -> tuple[int, float]:
        assert not group, "the unit says whom systemd tells"
        started = time.monotonic()
        self._host.run("systemctl", "stop", self.name, within=within + 30)
        return int(self.show("ExecMainStatus")), time.monotonic() - started

    def kill(self) -> None:
        """Leave it to the container's end."""


class SystemdDeployment(Deployment):
    """A host, its folder /etc/lapse, and its units.

    Attributes:
        server: The Redis.
        state: What is /var/lib/private there, where systemd keeps the state of users that it makes.
        port: The exporter's.

    """

    def __init__(
        self, podman: Podman, server: EmbeddedRedis, directory: Path, provider: Sandbox, wait_until: Callable[..., None]
    ) -> None:
        super().__init__(directory, server.url, provider, wait_until)
        self.podman, self.server, self.port = podman, server, free_port()
        self.in_flight = 32  # 4 processes of a worker, each with 8
        self.state = directory / "private"
        self.state.mkdir(mode=0o700)
        self.audit = self.state / "lapse-worker" / "audit.jsonl"
        self.etc = self.config.parent
        (self.etc / "keys").mkdir()
        (self.etc / "keys" / "openai").write_text(KEY)
        (self.etc / "environment").write_text(f"LAPSE_REGISTRY__URL={server.url}\n")
        self.name = f"lapse-test-host-{server.port}"
        mounts = {self.etc: "/etc/lapse", self.state: "/var/lib/private", DEPLOY / "systemd": "/deploy/systemd:ro"}
        volumes = [word for here, there in mounts.items() for word in ("--volume", f"{here}:{there}")]
        podman("run", "--detach", "--name", self.name, *RELAXED, *volumes, HOST_IMAGE, "sh", "-c", INIT)
        wait_until(lambda: self.tried("systemctl", "is-system-running").stdout == "running\n", 60, what="systemd")

    def tried(self, *words: str, within: float = 60, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program on the host, however it ends."""
        return self.podman.done(
            "exec", *(("--interactive",) if text else ()), self.name, *words, within=within, text=text
        )

    def run(self, *words: str, within: float = 60) -> str:
        """Run a program on the host; fail if it fails."""
        done = self.tried(*words, within=within)
        assert 0 == done.returncode, f"{' '.join(words)}: {done.stdout}{done.stderr}{self.journal()}"
        return done.stdout.strip()

    def journal(self) -> str:
        """Return the end of the host's journal."""
        return self.tried("journalctl", "--no-pager", "--lines=60").stdout

    def configure(self, *policies: str, head: str = HEAD, path: Path | None = None) -> None:
        super().configure(*policies, head=head, path=path)

    def dropped_in(self, unit: str, name: str, lines: str) -> None:
        """Give a unit a drop-in of this name."""
        folder = f"{SYSTEM}/{unit}.service.d"
        self.run("mkdir", "-p", folder)
        self.podman("exec", "--interactive", self.name, "tee", f"{folder}/{name}.conf", text=f"[Service]\n{lines}\n")

    def typed(self, commands: list[str]) -> None:
        """Run lines of a document's; what they install is there already."""
        for command in commands:
            if not command.startswith(INSTALLED_ALREADY):
                self.run("sh", "-c", f"cd / && {command}", within=150)

    def install(self) -> tuple[Unit, Unit, Unit]:
        """Install and start the three units as deploy/README.md says; return worker, beat and exporter."""
        self.dropped_in(
            "lapse-metrics",
            "port",
            f"ExecStart=\nExecStart=/opt/lapse/bin/lapse metrics --host 127.0.0.1 --port {self.port}",
        )
        self.typed(blocks("systemd")[0])
        worker, beat, metrics = (self.unit(f"lapse-{name}") for name in ("worker", "beat", "metrics"))
        return worker, beat, metrics

    def unit(self, name: str) -> Unit:
        """Return a unit that was started."""
        made = Unit(self, name)
        assert made.alive(), f"{self.journal()}{made.stderr}"
        self.processes.append(made)
        return made

    def start(self, *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Process:
        raise NotImplementedError("a unit says how it is started")

    def stop_all(self) -> None:
        for process in self.processes:
            process.stop()

    def close(self) -> None:
        super().close()
        self.podman("rm", "--force", "--ignore", "--time", "0", "--volumes", self.name)

    def status(self, unit: Unit) -> dict[str, str]:
        """Return what /proc says of a unit's first process."""
        with contextlib.suppress(ValueError):
            lines = self.run("cat", f"/proc/{unit.pid}/status").splitlines()
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return {}

    def reads(self, unit: Unit, path: str) -> bool:
        """Return whether the user and the groups of a unit's first process may read a file."""
        said: Any = self.status(unit)
        groups = ",".join(said["Groups"].split()) or said["Gid"].split()[0]
        who = (
            "setpriv",
            f"--reuid={said['Uid'].split()[0]}",
            f"--regid={said['Gid'].split()[0]}",
            f"--groups={groups}",
        )
        return not self.tried(*who, "cat", path).returncode
