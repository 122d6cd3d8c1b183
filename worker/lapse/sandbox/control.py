"""A client of the stand-in's own endpoints, on the standard library alone."""

import json
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from lapse.errors import ConfigError
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
