"""The image as it is: what is in it, what it may do, how it is looked at, and how it refuses.

Not collected by a plain run, as its name does not begin with test_: ``make test-images`` names the file. It needs
podman and what the Makefile says, and fails without them.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.contained import HARDENED, IMAGE, ContainerDeployment
from images.engine import Podman
from support.deploykit import DEPLOY, ROOT
from support.deployment import policy

pytestmark = pytest.mark.timeout(900)
Told = Callable[[str], None]
COPIED = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text())
SENT = {"deploy"} | {source.partition("/")[0] for line in COPIED for source in line.split()}
"""What of the tree a build is sent."""
THIS_IMAGE = {
    "python_full_version": "3.13.5",
    "python_version": "3.13",
    "sys_platform": "linux",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


def locked() -> dict[str, str]:
    """Return the versions that the image's lock has for this platform."""
    found = {}
    for line in (DEPLOY / "requirements" / "image.txt").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            wanted = Requirement(line.rstrip(" \\"))
            if wanted.marker is None or wanted.marker.evaluate(THIS_IMAGE):
                found[str(canonicalize_name(wanted.name))] = str(wanted.specifier).removeprefix("==")
    return found


def test_the_image_says_what_it_is_and_runs_as_nobody(podman: Podman, image: str) -> None:
    (inspected,) = json.loads(podman("image", "inspect", image))
    config = inspected["Config"]

    assert "10001:10001" == config["User"]
    assert "SIGTERM" == config["StopSignal"]
    assert ["/var/lib/lapse"] == list(config["Volumes"])
    assert ["CMD", "lapse", "health", "--worker"] == inspected["Healthcheck"]["Test"]
    assert "lapse" == config["Labels"]["org.opencontainers.image.title"]


def test_what_is_in_the_image_is_what_its_lock_says(podman: Podman, image: str) -> None:
    listed = podman("run", "--rm", *HARDENED, image, "python", "-m", "pip", "list", "--format", "json")
    installed = {str(canonicalize_name(one["name"])): one["version"] for one in json.loads(listed)}

    assert locked() == {name: version for name, version in installed.items() if name not in {"pip", "lapse"}}


def test_a_change_of_the_source_needs_no_network(podman: Podman, image: str, tmp_path: Path, stands_in: Told) -> None:
    tree = tmp_path / "tree"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if name.split("/")[0] in SENT and (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    with (tree / "worker/lapse/app.py").open("a") as file:
        file.write(f"# changed at {time.time()}\n")

    began = time.monotonic()
    podman.build("-f", str(tree / "deploy/Dockerfile"), "--tag", f"{IMAGE}:changed", str(tree), network="none")
    stands_in(f"built without any network after a change of the source, in {time.monotonic() - began:.0f} s")

    podman("image", "rm", f"{IMAGE}:changed")


def test_without_a_policy_file_it_ends_with_code_2_and_says_so(podman: Podman, image: str) -> None:
    done = podman.done("run", "--rm", *HARDENED, image)

    assert 2 == done.returncode
    assert "LAPSE_CONFIG=/etc/lapse/retention.toml: there is no such file" in done.stderr


def test_a_worker_deletes_without_any_right(deployment: ContainerDeployment, wait_until: Callable[..., None]) -> None:
    deployment.configure(policy())
    deployment.seed(20)
    worker, _beat = deployment.both()
    wait_until(lambda: not deployment.alive(), 60, what="20 deletions")

    status = dict(line.split(":\t", 1) for line in worker.run("cat", "/proc/1/status").stdout.splitlines())
    assert ("0" * 16, "0" * 16) == (status["CapEff"], status["CapBnd"])
    assert "1" == status["NoNewPrivs"]
    assert {"10001"} == set(status["Uid"].split()) | set(status["Gid"].split())
    for place in ("/tmp/x", "/x", "/etc/lapse/x", "/opt/lapse/x"):  # noqa: S108 - it cannot be written
        assert worker.run("touch", place).returncode, place
    assert not worker.run("test", "-s", "/etc/ssl/certs/ca-certificates.crt").returncode


def test_health_and_doctor_inside(
    deployment: ContainerDeployment, podman: Podman, wait_until: Callable[..., None], stands_in: Told
) -> None:
    stands_in("health checks started by hand for the timers of an engine")
    deployment.configure(policy())
    worker, beat = deployment.both()
    wait_until(lambda: worker.events("sweep.finished"), 60, what="a sweep")

    for container in (worker, beat):
        podman("healthcheck", "run", container.name)
        assert "healthy" == container.inspect("State.Healthcheck.Status")
    found: Any = json.loads(worker.run("lapse", "doctor", "--json").stdout)
    assert {"acl"} == {one["name"] for one in found["findings"] if one["level"] in {"fail", "warn"}}, (
        "Redis' default user"
    )
    podman("kill", "--signal", "STOP", beat.name)
    beat.run("rm", "/var/lapse-run/beat.json")
    assert podman.done("healthcheck", "run", beat.name).returncode, "its loop stands still, and shows nothing any more"
    podman("kill", "--signal", "CONT", beat.name)


def test_a_container_starts_a_second_time(deployment: ContainerDeployment, wait_until: Callable[..., None]) -> None:
    deployment.configure(policy())
    deployment.seed(5)
    worker, _beat = deployment.both()
    wait_until(lambda: not deployment.alive(), 60, what="5 deletions")

    assert 0 == worker.stop()[0]
    worker.again()
    wait_until(lambda: not worker.run("lapse", "health", "--worker").returncode, 60, what="health")
    deployment.seed(5)
    wait_until(lambda: not deployment.alive(), 60, what="5 more deletions")
    assert [] == worker.events("heartbeat.unwritten")
