"""The services of compose.yaml, run by their own commands on this machine: what a container would add is not shown."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lapse.sandbox.redis_server import die_with_parent, free_port
from support.deploykit import DEPLOY, compose

NAMES = ("provider", "worker", "beat", "metrics", "application")
FASTER = {
    "LAPSE_POLICIES__CHAT__TTL": "1s",
    "LAPSE_POLICIES__TICKETS__TTL": "1s",
    "LAPSE_SCHEDULE__SWEEP": "1s",
    "LAPSE_REGISTRY__ALLOW_VOLATILE": "true",
    "EVERY": "0.05",
}


@pytest.fixture
def exporter(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """Start the services in the file's order; return the exporter's URL."""
    provider, metrics = str(free_port()), str(free_port())
    here = {
        "redis://redis:6379/0": redis_url,
        "provider:8099": f"127.0.0.1:{provider}",
        "8099": provider,
        "9108": metrics,
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - it is taken out
        "/demo/application.py": str(DEPLOY / "demo" / "application" / "application.py"),
    }

    def local(text: str) -> str:
        for there, value in here.items():
            text = text.replace(there, value)
        return text

    config = tmp_path / "retention.toml"
    config.write_text(local((DEPLOY / "demo" / "policy" / "retention.toml").read_text()))
    with ExitStack() as stack:
        for name in NAMES:
            service = compose()["services"][name]
            environ = {key: local(value) for key, value in service["environment"].items()}
            program, *rest = [local(word) for word in service["command"]]
            if program != "python":
                rest = [str(Path(sys.executable).with_name(program)), *rest]
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                die_with_parent(sys.executable, *rest),
                cwd=tmp_path,
                stdout=log,
                stderr=log,
                env={**os.environ, **environ, **FASTER, "LAPSE_CONFIG": str(config)},
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield f"http://127.0.0.1:{metrics}"


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
    except (urllib.error.URLError, ConnectionError):
        pass
    return ""


def value(metrics: str, name: str, policy: str) -> float:
    found = re.search(rf'^{name}{{(?:.*,)?kind="conversation",policy="{policy}",.*}} (\S+)$', metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_the_demo_deletes_what_is_left_alone_and_observes_the_rest(
    exporter: str, wait_until: Callable[..., None]
) -> None:
    def shown() -> tuple[float, float]:
        metrics = fetched(f"{exporter}/metrics")
        return value(metrics, "lapse_deletions_total", "chat"), value(metrics, "lapse_would_delete", "tickets")

    wait_until(lambda: all(number > 2 for number in shown()), 60, what="deletions, and what would be deleted")
    wait_until(lambda: fetched(f"{exporter}/readyz") == "ready\n", 30, what="readiness")
