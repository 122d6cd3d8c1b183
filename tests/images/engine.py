"""podman as these tests use it, and the base images: those of a registry that answers, else Debian's packages."""

import os
import subprocess
import tempfile
from pathlib import Path

SETTINGS = """
[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""runc, as crun wants cgroups that not every machine gives; no limits of its own, as not everybody may raise them."""

DEBIAN = "localhost/lapse-test/debian:trixie"
LABEL = "lapse.stands-in"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
INSTALL = "RUN apt-get update && apt-get install --yes --no-install-recommends"
STAND_INS = {
    "docker.io/library/python:3.13-slim": (
        "the Python 3.13 of Debian trixie",
        f"{INSTALL} ca-certificates python3 python3-venv && ln -s python3 /usr/bin/python",
    ),
    "docker.io/library/redis:7.4-bookworm": (
        "the redis-server of Debian trixie",
        # As the official one is built, it takes connections from other containers without a password.
        f"""{INSTALL} redis-server
WORKDIR /data
VOLUME /data
ENTRYPOINT ["/bin/sh", "-c", "exec \\"$@\\" --protected-mode no", "redis"]""",
    ),
    "docker.io/prom/prometheus:v2.53.2": (
        "the prometheus of Debian trixie",
        f"""{INSTALL} prometheus && install -d -o nobody -g nogroup /prometheus
VOLUME /prometheus
USER nobody
ENTRYPOINT ["/usr/bin/prometheus"]""",
    ),
}


class Podman:
    """podman with settings of its own, in a folder that lives as long as this is used."""

    def __init__(self, folder: Path) -> None:
        settings = folder / "containers.conf"
        settings.write_text(SETTINGS)
        self.environ = {**os.environ, "CONTAINERS_CONF": str(settings), "BUILDAH_ISOLATION": "oci"}

    def done(self, *words: str, within: float = 60, text: str = "") -> subprocess.CompletedProcess[str]:
        """Return what a command came to, however it ended."""
        return subprocess.run(
            ["podman", *words],
            env=self.environ,
            input=text,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def __call__(self, *words: str, within: float = 60, text: str = "") -> str:
        """Return what a command says; fail if it fails."""
        done = self.done(*words, within=within, text=text)
        assert 0 == done.returncode, f"podman {' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout.strip()

    def build(self, *words: str, network: str = "host", text: str = "") -> str:
        """Build an image in Docker's format; programs in it trust the authorities that this machine trusts."""
        trusted = ("--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro") if Path(AUTHORITIES).exists() else ()
        return self("build", "--format", "docker", "--network", network, *trusted, *words, within=500, text=text)

    def base(self, name: str) -> str:
        """Get a base image; return what stands in for it, or "" if it is the one that its name says."""
        if self.done("image", "exists", name).returncode and self.done("pull", name, within=300).returncode:
            what, instructions = STAND_INS[name]
            self._debian()
            self.build("--tag", name, "--label", f"{LABEL}={what}", "-", text=f"FROM {DEBIAN}\n{instructions}\n")
        return self("image", "inspect", name, "--format", f'{{{{index .Labels "{LABEL}"}}}}')

    def _debian(self) -> None:
        """Make a Debian from its packages."""
        if not self.done("image", "exists", DEBIAN).returncode:
            return
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            made = subprocess.run(
                ["debootstrap", "--variant=minbase", "--include=ca-certificates", "trixie", root],
                capture_output=True,
                text=True,
                timeout=500,
                check=False,
            )
            assert 0 == made.returncode, f"debootstrap: {made.stdout[-2000:]}{made.stderr[-2000:]}"
            packed = Path(folder) / "root.tar"
            subprocess.run(["tar", "--create", "--file", packed, "--directory", root, "."], check=True)
            self("import", str(packed), DEBIAN, within=300)
