"""A real Prometheus with the shipped rules, in front of a running lapse."""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lapse.sandbox.redis_server import die_with_parent, free_port

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
INSTALL = "apt-get install prometheus"
Labels = dict[str, str]


def program(name: str) -> str:
    """Return where a program is; without it, fail with the command that installs it."""
    found = shutil.which(name)
    assert found, f"{name} is not on PATH: {INSTALL}"
    return found


class Prometheus:
    """One server that scrapes and evaluates every second, with the rules and the config that are shipped."""

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        for path in PROMETHEUS.glob("*rules.yaml"), PROMETHEUS.glob("alerts.yaml"):
            for file in path:
                (directory / file.name).write_text(file.read_text().replace("interval: 1m", "interval: 1s"))
        config = (PROMETHEUS / "prometheus.yml").read_text().replace("15s", "1s")
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        (directory / "prometheus.yml").write_text(config.replace('"127.0.0.1:9108"', targets))
        self._log = (directory / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            die_with_parent(
                program("prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ),
            stdout=self._log,
            stderr=self._log,
        )

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of one answer of the HTTP API; None while it does not answer."""
        query = urllib.parse.urlencode(parameters)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/api/v1/{path}?{query}", timeout=10) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                    return None
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        except OSError:
            return None

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """Return the samples of an instant query."""
        data = self.ask("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in data["result"]] if data else []

    def rules(self) -> dict[str, Any]:
        """Return name -> rule, as Prometheus evaluates it."""
        data = self.ask("rules") or {"groups": []}
        return {rule["name"]: rule for group in data["groups"] for rule in group["rules"]}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(10)
        self._log.close()
