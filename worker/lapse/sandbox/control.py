"""A client of the stand-in's own endpoints, on the standard library alone; and the stand-in as a process of its own,
for whoever must not share its CPU.
"""

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlencode, urlsplit

from lapse.errors import ConfigError
from lapse.sandbox.redis_server import die_with_parent
from lapse.sandbox.state import Json


class Control:
    """Seeds a running stand-in, looks at it and gives it faults.

    Args:
        root: Its URL; empty for one that is still to be started.

    """

    def __init__(self, root: str = "") -> None:
        self._root = root

    @property
    def root(self) -> str:
        """The server's URL, under which its own endpoints are.

        Raises:
            RuntimeError: it was not started.

        """
        if not self._root:
            raise RuntimeError("the provider stand-in is not running: call start()")
        return self._root

    @property
    def url(self) -> str:
        """The base URL of OpenAI's dialect; the others' are ``{root}/foundry`` and ``{root}/langgraph``."""
        return f"{self.root}/v1"

    def seed(self, kind: str, count: int = 1, **given: Any) -> list[str]:
        """Make objects; return their ids. ``given``: dialect, metadata, name, created_at, items, ids, ..."""
        return list(self._ask("POST", "seed", {"kind": kind, "count": count, **given})["ids"])

    def alive(self, kind: str, project: str | None = None, *, dialect: str = "openai") -> set[str]:
        """Return the ids that exist of a kind, of messages and conversation items too, of LangGraph's runs those that
        still work.
        """
        asked = {"kind": kind, "dialect": dialect} | ({"project": project} if project else {})
        return set(self._ask("GET", f"objects?{urlencode(asked)}")["ids"])

    def requests(self) -> list[Json]:
        """Return the request log since the start or the last reset, a dict per request as in the file."""
        return list(self._ask("GET", "requests")["requests"])

    def counts(self) -> list[Json]:
        """Return the number of requests by method, kind, status and answer."""
        return list(self._ask("GET", "log")["counts"])

    def faults(self, rules: str | Sequence[Mapping[str, Any]] = (), *, seed: int = 0) -> None:
        """Put these faults in force instead of those before: a script's text, or its rules as dicts.

        Raises:
            ConfigError: a rule is wrong.

        """
        script = rules if isinstance(rules, str) else {"seed": seed, "rule": [dict(rule) for rule in rules]}
        self._ask("PUT", "faults", script)

    def reset(self) -> None:
        """Forget every object, the log in memory and the faults."""
        self._ask("POST", "reset")

    def _ask(self, method: str, path: str, body: Json | str | None = None) -> Json:
        # http.client, not urllib.request: that one would send this through the environment's proxy.
        connection = HTTPConnection(urlsplit(self.root).netloc, timeout=60)
        try:
            if isinstance(body, str):
                connection.request(method, f"/sandbox/{path}", body.encode())
            else:
                content = None if body is None else json.dumps(body).encode()
                connection.request(method, f"/sandbox/{path}", content, {"Content-Type": "application/json"})
            answer: Json = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise ConfigError(answer["error"])
        return answer


class OwnServer(Control, ABC):
    """A stand-in that this process starts and stops. A context manager."""

    @abstractmethod
    def start(self) -> Self:
        """Start the server; returns when it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End the server."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_raised: object) -> None:
        self.stop()


class SandboxProcess(OwnServer):
    """A stand-in that is a child of this process and dies with it. A context manager.

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
        super().__init__()
        options = {"--log": log, "--faults": script, "--latency": latency}
        self._command = [sys.executable, "-m", "lapse.sandbox", "--port", str(port)]
        for name, value in options.items():
            self._command += [name, str(value)] if value else []
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None

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
        self._root = self._process.stdout.readline().decode().strip().removesuffix("/v1")
        if not self._root:
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
