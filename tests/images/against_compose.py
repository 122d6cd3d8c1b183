"""The services of compose.yaml in containers, by podman-compose: started in order, judged at the end. And the demo.

Not collected by a plain run, as its name does not begin with test_: ``make test-images`` names the file.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from images.engine import AUTHORITIES, Podman
from lapse.sandbox.control import Control
from lapse.sandbox.demo.verdict import deletions
from lapse.sandbox.redis_server import free_port
from support.deploykit import DEPLOY, compose

pytestmark = pytest.mark.timeout(900)
Wait = Callable[..., None]
Told = Callable[[str], None]
PROGRAM = Path(sysconfig.get_path("scripts")).parent / "compose" / "podman_compose.py"
PROJECT = "lapse-test-compose"
NOT_RUN = {"grafana"}
FASTER = {
    "LAPSE_POLICIES__CHAT__TTL": "5s",
    "LAPSE_POLICIES__TICKETS__TTL": "5s",
    "LAPSE_SCHEDULE__SWEEP": "1s",
}
WITHIN = 180
"""Seconds for each step: seven containers share the machine with whatever else runs there."""
EXPORTER, PROMETHEUS = "http://127.0.0.1:9108", "http://127.0.0.1:9090"


class Project:
    """The services of the compose file, with one more file that makes days of its minutes' seconds."""

    def __init__(self, podman: Podman, folder: Path) -> None:
        self.podman = podman
        self.provider_port = free_port()
        self.services: dict[str, Any] = {k: v for k, v in compose()["services"].items() if k not in NOT_RUN}
        more: dict[str, Any] = {name: {"environment": FASTER} for name in ("worker", "beat", "metrics")}
        more["application"] = {"environment": {"EVERY": "0.05"}}
        more["provider"] = {"ports": [f"127.0.0.1:{self.provider_port}:8099"]}
        self._faster = folder / "faster.yaml"
        self._faster.write_text(yaml.safe_dump({"services": more}))

    def __call__(self, *words: str, within: float = 300) -> str:
        """Run podman-compose; fail if it fails."""
        files = ("--file", str(DEPLOY / "compose.yaml"), "--file", str(self._faster))
        trusted = f"--volume {AUTHORITIES}:{AUTHORITIES}:ro" if Path(AUTHORITIES).exists() else ""
        options = ("--in-pod", "false", "--podman-build-args", f"--format docker --network host {trusted}")
        command = [sys.executable, str(PROGRAM), *options, "--project-name", PROJECT, *files, *words]
        environ = {**self.podman.environ, "PYTHONPATH": os.pathsep.join([str(PROGRAM.parent)])}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=within, check=False)
        assert 0 == done.returncode, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def container(self, service: str) -> str:
        return f"{PROJECT}_{service}_1"

    def inspected(self, service: str) -> dict[str, Any]:
        """Return what podman says of a service's container."""
        (found,) = json.loads(self.podman("inspect", self.container(service)))
        return dict(found)

    def healthy(self, service: str) -> bool:
        """Return whether a service's own check passes now; one without a check is well while it runs."""
        if "test" not in self.services[service].get("healthcheck", {}):
            return bool(self.inspected(service)["State"]["Running"])
        return not self.podman.done("healthcheck", "run", self.container(service)).returncode

    def order(self) -> Iterable[str]:
        """Return the services, each after those that it waits for."""
        return TopologicalSorter(
            {name: set(one.get("depends_on", ())) for name, one in self.services.items()}
        ).static_order()


@pytest.fixture
def project(podman: Podman, bases: dict[str, str], tmp_path: Path, stands_in: Told) -> Iterator[Project]:
    """Build what the compose file builds, and take all of it away at the end."""
    assert PROGRAM.exists(), f"there is no {PROGRAM}: make test-images fetches podman-compose"
    stands_in("podman with runc and podman-compose for Docker")
    for name, what in {**bases, (one := "docker.io/prom/prometheus:v2.53.2"): podman.base(one)}.items():
        if what:
            stands_in(f"{what} for {name}")
    made = Project(podman, tmp_path)
    try:
        made("build", within=500)
        yield made
    finally:
        names = [made.container(service) for service in made.services]  # podman-compose leaves an image's own volumes
        podman("rm", "--force", "--ignore", "--time", "10", "--volumes", *names)
        made("down", "--volumes", "--timeout", "10")


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
    except (urllib.error.URLError, ConnectionError):
        pass
    return ""


def asked(query: str) -> float:
    """Return the sum of what Prometheus answers to a query."""
    said: Any = json.loads(fetched(f"{PROMETHEUS}/api/v1/query?query={query}") or '{"data": {"result": []}}')
    return sum(float(one["value"][1]) for one in said["data"]["result"])


def counted(metrics: str, name: str, policy: str) -> float:
    found = re.search(rf'^{name}{{.*kind="conversation",policy="{policy}",.*}} (\S+)$', metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_the_services_start_in_order_and_delete_what_is_left_alone(
    project: Project, wait_until: Wait, stands_in: Told
) -> None:
    stands_in(
        "nothing for Grafana, which is not run: make test-tools holds its dashboards against Grafana's own schema"
    )
    stands_in(
        "health checks started by hand, and services one by one after those they need, for the timers of an engine"
    )
    for name in project.order():
        project("up", "--detach", "--no-deps", name)
        wait_until(lambda name=name: project.healthy(name), WITHIN, what=f"a healthy {name}")

    def shown() -> tuple[float, float]:
        metrics = fetched(f"{EXPORTER}/metrics")
        return counted(metrics, "lapse_deletions_total", "chat"), counted(metrics, "lapse_would_delete", "tickets")

    wait_until(lambda: all(number > 20 for number in shown()), WITHIN, what="deletions, and what would be deleted")
    wait_until(lambda: fetched(f"{EXPORTER}/readyz") == "ready\n", WITHIN, what="readiness")
    wait_until(lambda: asked("sum(lapse_deletions_total)") > 0, WITHIN, what="deletions in Prometheus")
    rules: Any = json.loads(fetched(f"{PROMETHEUS}/api/v1/rules"))
    assert all(one["health"] != "err" for group in rules["data"]["groups"] for one in group["rules"])
    assert rules["data"]["groups"]
    log = project.podman.done("logs", project.container("application")).stderr
    assert "unmanaged" not in log, "it began when worker and beat were well"
    hardened(project)
    judged(project, wait_until, stands_in)


def hardened(project: Project) -> None:
    """Fail unless lapse's services have no right, a read-only root, and of this machine folders alone."""
    for name in ("provider", "worker", "beat", "metrics", "application"):
        said = project.inspected(name)
        assert (True, []) == (said["HostConfig"]["ReadonlyRootfs"], said["EffectiveCaps"] or []), name
        assert all(Path(mount["Source"]).is_dir() for mount in said["Mounts"] if mount["Type"] == "bind"), name
        status = project.podman("exec", project.container(name), "cat", "/proc/1/status")
        assert "NoNewPrivs:\t1" in status, name
    assert 1 == len({project.inspected(name)["Image"] for name in ("provider", "worker", "beat", "metrics")})


def judged(project: Project, wait_until: Wait, stands_in: Told) -> None:
    """End the application, wait until all of it is due, and compare the provider's log with the metrics."""
    project("stop", "application")
    assert 0 == project.inspected("application")["State"]["ExitCode"], "by TERM, not by the kill after it"
    provider = Control(f"http://127.0.0.1:{project.provider_port}")

    def kept() -> set[str] | None:
        """Return the ids that the registry has under `tickets`; None if it did not answer in time."""
        command = ("exec", project.container("worker"), "lapse", "ls", "conversations", "--json", "--limit", "10000")
        done = project.podman.done(*command)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return None if done.returncode else {row["id"] for row in rows if row["policy"] == "tickets"}

    alive = provider.alive("conversation")
    wait_until(lambda: kept() == provider.alive("conversation"), WITHIN, what="the end of all that is due")
    log = provider.requests()
    gone = [one["path"].rsplit("/", 1)[1] for one in log if one["method"] == "DELETE" and one["status"] == 200]
    made = sum(one["method"] == "POST" and one["executed"] for one in log)
    wait_until(
        lambda: deletions(fetched(f"{EXPORTER}/metrics")) == {"conversation": len(gone)}, WITHIN, what="the metric"
    )
    left = provider.alive("conversation")
    assert (len(gone), made) == (len(set(gone)), len(gone) + len(left))
    assert not set(gone) & left
    assert alive >= left
    stands_in(f"registered={made} gone={len(gone)} alive={len(left)} metric={len(gone)} provider_log={len(gone)}")


def test_the_demo_runs_in_its_image_without_rights(project: Project, stands_in: Told) -> None:
    hard = ("--read-only", "--tmpfs", "/var/lapse-run", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    image = project.services["provider"]["image"]
    done = project.podman.done(
        "run", "--rm", "--pull", "never", "--network", "none", *hard, image, "lapse", "demo", within=200
    )

    stands_in(done.stdout.strip())
    assert 0 == done.returncode, done.stderr
    assert re.search(r"registered=2102 expired=1526 gone=1526 .* early=0 missed=0 metric=1526", done.stdout)
