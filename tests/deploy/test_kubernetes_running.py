"""The pods of the plain manifests, by their own commands, variables and probes: what a cluster adds is not shown."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import chartfiles
import pytest
import yaml

from lapse import Registry
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import die_with_parent, free_port

KEY = "sk-test-0123456789abcdefghij"
POLICY = """
[registry]
allow_volatile = true
[schedule]
sweep = "1s"
[sweep]
ramp = "off"
[providers.openai]
type = "openai"
base_url = "{url}"
api_key_env = "OPENAI_API_KEY"
[policies.chat]
kind = "conversation"
ttl = "1s"
anchor = "created_at"
mode = "enforce"
"""


class Pod:
    """One pod as one process: its volumes are folders, its variables and probes are those of the manifest."""

    def __init__(self, name: str, spec: dict[str, Any], directory: Path, secrets: dict[str, dict[str, str]]) -> None:
        (self.container,) = spec["containers"]
        self.name = name
        self.port = str(free_port())
        self.log = directory / f"{name}.log"
        self.places = {one["mountPath"]: directory / name / one["name"] for one in self.container["volumeMounts"]}
        for place in self.places.values():
            place.mkdir(parents=True)
        # Celery warns where it is root, which a pod never is.
        self.environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONWARNINGS": "ignore"}
        for one in self.container.get("envFrom", []):
            self.environ |= secrets[one["secretRef"]["name"]]
        for one in self.container["env"]:
            if given := one.get("valueFrom"):
                self.environ[one["name"]] = secrets[given["secretKeyRef"]["name"]][given["secretKeyRef"]["key"]]
            else:
                self.environ[one["name"]] = self.local(one["value"])

    def local(self, text: str) -> str:
        """Return what a path or an address of the manifest is here."""
        for there, place in self.places.items():
            text = text.replace(there, str(place))
        return text.replace("9108", self.port).replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - it is taken out

    def command(self, words: list[str]) -> list[str]:
        """Return a command of the manifest by this environment's programs."""
        program, *rest = words
        return [sys.executable, str(Path(sys.executable).with_name(program)), *map(self.local, rest)]

    def start(self) -> "subprocess.Popen[bytes]":
        """Start its one program."""
        with self.log.open("wb") as log:
            command = die_with_parent(*self.command(self.container["command"]))
            return subprocess.Popen(command, cwd=self.places["/run/lapse"], env=self.environ, stdout=log, stderr=log)

    def passes(self, probe: str) -> bool:
        """Ask a probe of the manifest once."""
        asked = self.container[f"{probe}Probe"]
        if "exec" in asked:
            command = self.command(asked["exec"]["command"])
            return 0 == subprocess.run(command, env=self.environ, capture_output=True, check=False).returncode
        try:
            url = f"http://127.0.0.1:{self.port}{asked['httpGet']['path']}"
            with urllib.request.urlopen(url, timeout=asked["timeoutSeconds"]) as reply:
                return bool(reply.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
        except (urllib.error.URLError, ConnectionError):
            pass
        return False


@pytest.fixture
def pods(redis_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[dict[str, Pod]]:
    """Return the three pods, started; all have to end by TERM within their grace period."""
    secrets = {"lapse-registry": {"url": redis_url}, "lapse-provider": {"OPENAI_API_KEY": KEY}}
    specs = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in yaml.safe_load_all(chartfiles.MANIFESTS.read_text())
        if "template" in one.get("spec", {})
    }
    made = {name: Pod(name, spec, tmp_path, secrets) for name, spec in specs.items()}
    with ExitStack() as stack:
        running = []
        for pod in made.values():
            (pod.places["/etc/lapse"] / "retention.toml").write_text(POLICY.format(url=sandbox.url))
            running.append(pod.start())
            stack.callback(running[-1].kill)
        yield made
        for process in running:
            process.terminate()
        grace = {spec["terminationGracePeriodSeconds"] for spec in specs.values()}
        assert [0, 0, 0] == [process.wait(min(grace)) for process in running]


def test_the_pods_pass_their_probes_and_delete_what_is_due(
    pods: dict[str, Pod], sandbox: Sandbox, redis_url: str, wait_until: Callable[..., None]
) -> None:
    for name, pod in pods.items():
        for probe in ("startup", "liveness", "readiness"):
            wait_until(lambda pod=pod, probe=probe: pod.passes(probe), 60, what=f"the {probe} probe of {name}")
    ids = sandbox.seed("conversation", 3)
    with Registry(redis_url, provider="openai") as registry:
        registry.register_many({"kind": "conversation", "id": id_, "policy": "chat"} for id_ in ids)

    wait_until(lambda: not sandbox.alive("conversation"), 30, what="3 deletions")

    worker = pods["lapse-worker"]
    doctor = subprocess.run(
        worker.command(["lapse", "doctor"]), env=worker.environ, capture_output=True, text=True, check=False
    )
    assert 0 == doctor.returncode, doctor.stdout + doctor.stderr
    in_use = [line for line in map(json.loads, lines(worker)) if line["event"] == "outbox.in_use"]
    assert [str(worker.places["/var/lib/lapse"] / "state")] == [line["folder"] for line in in_use]
    assert [True, False, False] == [
        "OPENAI_API_KEY" in pods[f"lapse-{name}"].environ for name in ("worker", "beat", "exporter")
    ]
    for pod in pods.values():
        assert all(line.startswith("{") for line in lines(pod)), pod.log.read_text()
        assert KEY not in pod.log.read_text()


def lines(pod: Pod) -> list[str]:
    return [line for line in pod.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
