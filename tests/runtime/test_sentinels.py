"""Workers whose registry and broker are one Redis that Sentinels name."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from lapse.cli.doctor import running
from lapse.errors import LapseError
from lapse.policy.reload import ConfigFile, broker_source
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis
from support.clusters import sentinels
from support.deployment import HEAD, Deployment, policy
from support.recording import RecordingRegistry


@pytest.fixture
def watched(clean_environment: None, tmp_path: Path) -> Iterator[tuple[str, list[EmbeddedRedis]]]:
    folder = tmp_path / "sentinels"
    folder.mkdir()
    with sentinels(folder) as made:
        yield made


@pytest.fixture
def deployment(
    watched: tuple[str, list[EmbeddedRedis]], tmp_path: Path, sandbox: Sandbox, wait_until: Callable[..., None]
) -> Iterator[Deployment]:
    """Return a deployment that knows the Sentinels alone; who judges it reads from the server that is left."""
    url, servers = watched
    made = Deployment(tmp_path, servers[1].url, sandbox, wait_until)
    made.registry.close()
    made.url, made.registry = url, RecordingRegistry(url, provider="openai", timeout=5)
    yield made
    made.stop_all()
    made.url = servers[1].url
    found = made.verdict()
    made.close()
    assert found == [], "\n".join(map(str, found))


def test_workers_and_their_broker_follow_the_primary(
    watched: tuple[str, list[EmbeddedRedis]], deployment: Deployment
) -> None:
    _, servers = watched
    deployment.configure(policy(), head=HEAD)
    (held,) = deployment.seed(1)
    assert deployment.registry.hold("thread", held, reason="case 7")
    deployment.seed(3)
    deployment.beat()
    worker = deployment.worker()
    deployment.wait_until(lambda: deployment.alive() == {held}, what="3 deletions")
    deployment.wait_until(lambda: deployment.counters().get("deletions|chat|thread") == 3, what="their replication")

    servers[0].stop(kill=True)
    later = deployment.provider.seed("thread", 3)
    deployment.wait_until(lambda: registered(deployment, later), 30, what="registrations at the next primary")
    assert set(later) <= deployment.alive(), "a claim that no replica has sends no request"
    patient(deployment.url)
    servers[0].options = ("--replicaof", f"127.0.0.1 {servers[1].port}", "--repl-diskless-sync-delay", "0")
    servers[0].start()
    deployment.wait_until(lambda: deployment.alive() == {held}, 90, what="3 deletions more")

    assert worker.alive()
    config = ConfigFile(deployment.config, {}).current()
    found = running.broker(config, broker_source(config, {"REDIS_URL": deployment.url}))
    assert ["ok", "ok"] == [one.level.value for one in found]
    assert "redis+sentinel://127.0.0.1:" in found[0].detail
    with redis.Redis.from_url(servers[1].url) as left:
        assert left.exists("lapse:{broker}:_kombu.binding.lapse")


def patient(url: str) -> None:
    """Have Sentinels take no server for dead again: on a busy machine they would promote one that is still empty."""
    for address in url.partition("://")[2].partition("/")[0].split(","):
        with redis.Redis(port=int(address.rpartition(":")[2])) as client:
            client.execute_command("SENTINEL", "SET", "mymaster", "down-after-milliseconds", 60_000)


def registered(deployment: Deployment, ids: list[str]) -> bool:
    """Return True once a primary takes them."""
    with suppress(LapseError):
        deployment.registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
        return True
    return False
