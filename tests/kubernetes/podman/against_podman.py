"""The chart's pods as podman plays them, of an image built from deploy/Dockerfile: ``make test-play IMAGE=...``.

What it does not show: StatefulSets and claims; Secrets, which podman 4.3 does not decode, and whose mode it ignores; a
kubelet that asks the probes, which are run by hand here; fsGroup; an emptyDir that everybody may write to; a root
without podman's own memory on /tmp; Services; NetworkPolicies; monitors.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes.rendering import Object, objects, rendered
from lapse import Registry
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import free_port

IMAGE = os.environ.get("LAPSE_TEST_IMAGE", "")
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


def podman(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run podman; nothing is raised where it fails."""
    program = shutil.which("podman")
    assert program, "podman is missing: apt-get install podman"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=100, check=False)


def playable(values: dict[str, Any]) -> list[Object]:
    """Return what podman plays of the chart, on the host's network: no port is mapped.

    It wants ``optional``, and takes a volume's name for one of the whole machine's.
    """
    kept = [one for one in objects(rendered(values)) if one["kind"] in {"ConfigMap", "Deployment"}]
    for one in kept:
        spec = one["spec"]["template"]["spec"] if one["kind"] == "Deployment" else {}
        for container in spec.get("containers", []):
            container.pop("ports", None)
            for mount in container["volumeMounts"]:
                mount["name"] = f"{one['metadata']['name']}-{mount['name']}"
        for volume in spec.get("volumes", []):
            volume["name"] = f"{one['metadata']['name']}-{volume['name']}"
            if "configMap" in volume:
                volume["configMap"]["optional"] = False
    return kept


@pytest.fixture
def played(tmp_path: Path, redis_url: str, sandbox: Sandbox) -> Iterator[dict[str, Object]]:
    """Play the pods of the chart; return container name -> what is asked of it."""
    assert IMAGE, "make test-play IMAGE=... names the image"
    repository, _, tag = IMAGE.rpartition(":")
    name = f"lapse-{free_port()}"
    values = {
        "fullnameOverride": name,
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "registry": {"url": redis_url},
        "persistence": {"enabled": False},
        "exporter": {"port": free_port()},
        "extraEnv": [{"name": "OPENAI_API_KEY", "value": KEY}],
        "policy": {"content": POLICY.format(url=sandbox.url)},
    }
    found = playable(values)
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(yaml.safe_dump_all(found))
    try:
        done = podman("kube", "play", "--network", "host", manifest)
        assert 0 == done.returncode, done.stderr
        yield {
            f"{one['metadata']['name']}-pod-0-{container['name']}": container
            for one in found
            if one["kind"] == "Deployment"
            for container in one["spec"]["template"]["spec"]["containers"]
        }
    finally:
        podman("kube", "down", manifest)
        podman("volume", "rm", *re.findall(rf"^{name}-\S+$", podman("volume", "ls", "--quiet").stdout, re.MULTILINE))


@pytest.mark.timeout(300)
def test_pods_without_rights_pass_their_probes_and_delete_what_is_due(
    played: dict[str, Object], sandbox: Sandbox, redis_url: str, wait_until: Callable[..., None]
) -> None:
    assert 3 == len(played)
    for name, container in played.items():
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe].get("exec", {}).get("command", ["true"])
            wait_until(lambda one=("exec", name, *asked): podman(*one).returncode == 0, 60, what=f"{probe} of {name}")
        assert "uid=10001 gid=10001" in podman("exec", name, "id").stdout.replace("(lapse)", "")
        assert "Read-only file system" in podman("exec", name, "touch", "/x").stderr
        (found,) = json.loads(podman("inspect", name).stdout)
        assert ([], ["no-new-privileges"]) == (found["EffectiveCaps"] or [], found["HostConfig"]["SecurityOpt"])
    ids = sandbox.seed("conversation", 3)
    with Registry(redis_url, provider="openai") as registry:
        registry.register_many({"kind": "conversation", "id": id_, "policy": "chat"} for id_ in ids)

    wait_until(lambda: not sandbox.alive("conversation"), 30, what="3 deletions")
