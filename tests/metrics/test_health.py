"""What /livez, /startupz and /readyz answer in fourteen states of a deployment."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse.metrics import server as health
from lapse.metrics.server import Health
from lapse.policy.reload import ConfigFile
from lapse.sandbox.redis_server import EmbeddedRedis, free_port

CONFIG = """
[schedule]
sweep = "1m"
[providers.openai]
type = "openai"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "OPENAI_API_KEY"
[policies.chat]
kind = "thread"
ttl = "7d"
anchor = "created_at"
every = "1h"
"""
HALTS = "lapse:{openai:thread}:halts"
HALT = json.dumps({"since": 1, "detail": "test"})
NEVER = {"lapse:published": {"beat": "0", "tick": "0"}}
PAUSE = json.dumps({"since": 1, "actor": "ann", "reason": "the move"})


@dataclass
class State:
    """One state: what differs from a deployment in which all is well.

    ``beat`` and ``tick``: seconds since the last wake-up was sent, and since the last that came back was; None: never.
    """

    name: str
    live: int = 200
    started: int = 200
    ready: int = 200
    failed: str = ""
    beat: int | None = 5
    tick: int | None = 5
    stored: dict[str, dict[str, str]] = field(default_factory=dict)
    config: str = CONFIG
    answers: bool = True
    answered: bool = True
    turns: bool = True


STATES = [
    State("all is well"),
    State("a wake-up is 170 s late, within three intervals", tick=170, beat=170),
    State("paused by an operator", stored={"lapse:control": {"*": PAUSE}}),
    State("beat is silent", ready=503, failed="beat, worker", beat=200, tick=200),
    State("beat was never there", ready=503, failed="beat, worker", beat=None, tick=None),
    State("beat sends and no worker takes", ready=503, failed="worker", tick=200),
    State("beat sends and no worker ever took", ready=503, failed="worker", tick=None),
    State("the registry's clock went back an hour", ready=503, failed="beat, worker", beat=-3600, tick=-3600),
    State("what was never sent is stamped 1970", ready=503, failed="beat, worker", stored=NEVER),
    State("halted", ready=503, failed="halted", stored={HALTS: {"chat|no_witness": HALT}}),
    State("the policy file became invalid", ready=503, failed="config", config="[policies.chat]\n"),
    State("the registry went away", ready=503, failed="registry", answers=False),
    State("the registry was never there", ready=503, started=503, failed="registry", answers=False, answered=False),
    State("the exporter's own loop stands still", live=503, turns=False),
]


@pytest.fixture(scope="module")
def away() -> redis.Redis:
    return redis.Redis(port=free_port(), decode_responses=True, socket_connect_timeout=0.5)


class Server(health.Server):
    """The exporter's server, whose loop can be brought to a standstill."""

    held = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), health.Handler)
        self.release, self.stands = threading.Event(), threading.Event()
        self.turned = time.monotonic()

    def service_actions(self) -> None:
        super().service_actions()
        while self.held and not self.release.is_set():
            self.stands.set()
            self.release.wait(1)

    def stand_still(self) -> None:
        """Bring the loop to a standstill, and let as much time pass as makes it one."""
        self.held = True
        assert self.stands.wait(10)
        self.turned -= health.STANDSTILL + 1


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.release.set()
        made.shutdown()
        thread.join()


def test_there_are_fourteen() -> None:
    assert 14 == len({state.name for state in STATES})


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_state(state: State, redis_url: str, away: redis.Redis, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG)
    file = ConfigFile(path, {})
    path.write_text(state.config)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, closing(Keeping(server)) as asked:
        made = Health(client if state.answered else away, file)
        made.started()
        made._client = client if state.answers else away
        furnish(client, state)
        health.Handler.pages = health.pages(server, made)
        asked.get("/livez")
        if not state.turns:
            server.stand_still()

        seen = {page: asked.get(page)[0] for page in ("/livez", "/startupz", "/readyz")}
        verbose = json.loads(asked.get("/readyz?verbose")[1])
        assert {page: (status, "") for page, status in seen.items()} == {page: asked.get(page, "HEAD") for page in seen}

    assert {"/livez": state.live, "/startupz": state.started, "/readyz": state.ready} == seen
    assert state.failed == ", ".join(name for name, check in verbose["checks"].items() if not check["ok"])
    assert (state.ready == 200) is verbose["ready"]
    assert all(check["detail"] for check in verbose["checks"].values())
    assert not re.search(r"\b\d{5,} ?[sd]\b|-\d+ ?s", " ".join(check["detail"] for check in verbose["checks"].values()))


def test_systemd_is_told_that_the_loop_turns_until_it_stands_still(server: Server, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(10)
        server.environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        server.told = 0.0
        assert b"READY=1\nWATCHDOG=1\nSTATUS=serves" == told.recv(1000)
        server.stand_still()
        server.told = 0.0
        told.settimeout(1)
        with pytest.raises(TimeoutError):
            told.recv(1000)


class Keeping:
    """A connection that stays open: a probe over it does not need the loop that accepts new ones."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        self._connection.connect()

    def get(self, page: str, method: str = "GET") -> tuple[int, str]:
        self._connection.request(method, page)
        reply = self._connection.getresponse()
        return reply.status, reply.read().decode()

    def close(self) -> None:
        self._connection.close()


def furnish(client: Any, state: State) -> None:
    seconds, _micros = client.time()
    for name, ago in (("beat", state.beat), ("tick", state.tick)):
        if ago is not None:
            client.hset("lapse:published", name, (seconds - ago) * 1000)
    for key, fields in state.stored.items():
        client.hset(key, mapping=fields)


def test_a_registry_that_has_answered_is_not_asked_again_by_startupz(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG)
    with EmbeddedRedis() as mine, redis.Redis.from_url(mine.url) as client:
        made = Health(client, ConfigFile(path, {}))
        assert made.started()[0]
        mine.stop()
        assert made.started()[0]
