"""The stand-in as a process of its own, for whoever must not share its CPU: the demo and the benchmarks."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlencode, urlsplit

from lapse.errors import ConfigError
from lapse.sandbox.redis_server import die_with_parent
from lapse.sandbox.wire import Json, encode


class SandboxProcess:
    """A stand-in that is a child of this process and dies with it. A context manager; methods as Sandbox has them.

    Start it from a thread that lives as long as the server shall.

    Args:
        port: The port; 0 takes a free one.
        log: The request log's file.
        script: The fault script's file.
        latency: Every answer waits so long: a duration such as "20ms"; empty for no wait.
        errors: Where its stderr goes; None leaves it on this process' own.

    """

    def __init__(
        self,
        port: int = 0,
        *,
        log: Path | None = None,
        script: Path | None = None,
        latency: str = "",
        errors: IO[bytes] | int | None = None,
    ) -> None:
        options = {"--log": log, "--faults": script, "--latency": latency}
        self._command = [sys.executable, "-m", "lapse.sandbox", "--port", str(port)]
        for name, value in options.items():
            self._command += [name, str(value)] if value else []
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        """The base URL of OpenAI's dialect; empty until started."""

    @property
    def root(self) -> str:
        """The server's URL, under which its own endpoints are."""
        return self.url.removesuffix("/v1")

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            RuntimeError: it is not running.

        """
        if self._process is None:
            raise RuntimeError("the provider stand-in is not running: call start()")
        return self._process.pid

    def start(self) -> Self:
        """Start the process; returns when it answers.

        Raises:
            RuntimeError: it ended instead; its stderr says why.

        """
        command = die_with_parent(*self._command)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self.url = self._process.stdout.readline().decode().strip()
        if not self.url:
            code = self._process.wait(10)
            self.stop()
            raise RuntimeError(f"the provider stand-in did not start: it ended with {code}")
        return self

    def stop(self) -> None:
        """End the process; what it logged is in the file then."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def seed(self, kind: str, count: int = 1, **given: Any) -> list[str]:
        """Make objects; return their ids. ``given``: metadata, name, created_at, items, ids, project."""
        ids: list[str] = self._ask("POST", "/sandbox/seed", {"kind": kind, "count": count, **given})["ids"]
        return ids

    def alive(self, kind: str, *, dialect: str = "openai") -> set[str]:
        """Return the ids that exist of a kind, of messages and conversation items too."""
        return set(self._ask("GET", "/sandbox/objects?" + urlencode({"kind": kind, "dialect": dialect}))["ids"])

    def requests(self) -> list[Json]:
        """Return the request log since the start or the last reset, a dict per request as in the file."""
        records: list[Json] = self._ask("GET", "/sandbox/requests")["requests"]
        return records

    def counts(self) -> list[Json]:
        """Return the number of requests by method, kind, status and answer."""
        counts: list[Json] = self._ask("GET", "/sandbox/log")["counts"]
        return counts

    def faults(self, rules: Sequence[Mapping[str, Any]] = (), *, seed: int = 0) -> None:
        """Put these faults in force instead of those before.

        Raises:
            ConfigError: a rule is wrong.

        """
        self._ask("PUT", "/sandbox/faults", {"seed": seed, "rule": [dict(rule) for rule in rules]})

    def reset(self) -> None:
        """Forget every object, the log in memory and the faults."""
        self._ask("POST", "/sandbox/reset")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        # http.client, not urllib.request: that one would send this through the environment's proxy.
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            content = None if body is None else encode(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            answer: Json = json.loads(reply.read())
        finally:
            connection.close()
        if "error" in answer:
            raise ConfigError(answer["error"])
        return answer
