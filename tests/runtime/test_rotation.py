"""Workers, beat, their broker and an application, while the password of their Redis changes again and again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from lapse.cli.doctor import running
from lapse.errors import LapseError
from lapse.policy import Config, parse
from lapse.policy.reload import ConfigFile, Source, broker_source
from lapse.registry.pools.credentials.password_file import PasswordFile
from lapse.runtime import broker
from lapse.runtime.celery_config import settings
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis
from support.clusters import sentinels
from support.deployment import HEAD, Deployment, policy
from support.recording import RecordingRegistry
from support.rotating import USER, Rotating, named

EVERY = 1.0
"""Seconds that a password lasts here: a fifth of what a token of 5 s would."""


@pytest.fixture
def rotating(clean_environment: None, tmp_path: Path) -> Iterator[tuple[str, Rotating]]:
    """Return the URL of a server that only its user ``app`` and the tests know, and that user's password."""
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as admin:
        yield server.url, Rotating(tmp_path / "password", admin)


@pytest.fixture
def deployment(
    rotating: tuple[str, Rotating], tmp_path: Path, sandbox: Sandbox, wait_until: Callable[..., None]
) -> Iterator[Deployment]:
    """Return a deployment whose programs have the user's name and a file alone; who judges it needs no password."""
    url, changing = rotating
    made = Deployment(tmp_path, url, sandbox, wait_until)
    made.registry.close()
    made.url = named(url)
    made.registry = RecordingRegistry(made.url, provider="openai", timeout=5, password_file=changing.file)
    yield made
    made.stop_all()
    made.url = url
    found = made.verdict()
    made.close()
    assert found == [], "\n".join(map(str, found))


def test_nothing_is_lost_while_a_password_changes_every_few_seconds(
    rotating: tuple[str, Rotating], deployment: Deployment
) -> None:
    _, changing = rotating
    head = HEAD.replace("[schedule]", f'password_file = "{changing.file}"\n[schedule]')
    deployment.configure(policy(), head=head)
    beat, worker = deployment.beat(), deployment.worker()
    ended, registered = threading.Event(), 0

    def change() -> None:
        while not ended.wait(EVERY):
            changing.rotate()

    with_change = threading.Thread(target=change)
    with_change.start()
    try:
        for _ in range(16):
            ids = deployment.provider.seed("thread", 5)
            deployment.wait_until(lambda ids=ids: taken(deployment, ids), what="a registration")
            registered += len(ids)
            ended.wait(0.2)
        deployment.wait_until(lambda: not deployment.alive(), 30, what="every deletion")
    finally:
        ended.set()
        with_change.join()

    deployment.wait_until(
        lambda: deployment.counters()["deletions|chat|thread"] == registered, what="all of them counted"
    )
    assert registered == len({line["path"] for line in deployment.deletes()})
    assert worker.alive() and beat.alive()  # noqa: PT018 - one deployment
    assert [] == worker.events(level="critical") + beat.events(level="critical")
    said = "\n".join(one.stdout + one.stderr for one in (worker, beat))
    assert "password-" not in said
    config = ConfigFile(deployment.config, {}).current()
    assert ["ok", "ok"] == [
        one.level.value for one in running.broker(config, broker_source(config, {"REDIS_URL": deployment.url}))
    ]


def taken(deployment: Deployment, ids: list[str]) -> bool:
    """Return True once the registry has taken them: an application registers again what got no answer."""
    with suppress(LapseError):
        deployment.registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
        return True
    return False


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse(HEAD.format(directory=tmp_path, base_url="http://127.0.0.1:9/v1") + policy(), "retention.toml", {})


def test_the_broker_is_opened_by_what_opens_the_registry(
    rotating: tuple[str, Rotating], config: Config, tmp_path: Path
) -> None:
    """Kombu drops a provider among the transport options, and opens nothing then."""
    url, changing = rotating
    opened = PasswordFile(changing.file, USER)
    broker.use()
    for _ in range(2):
        made = settings(config, Source(named(url), "here", opened))
        assert made["broker_transport_options"]["credential_provider"] is opened
        with broker.connection_of(made, 5) as connection:
            channel = connection.default_channel
            for pool in (channel.pool, channel.async_pool):
                assert pool.connection_kwargs["credential_provider"] is opened
            assert channel.client.ping()
            changing.rotate()
            assert channel.client.ping()
        assert broker.waiting(made, 5) is None


def test_sentinels_of_a_broker_have_a_password_of_their_own(config: Config, tmp_path: Path) -> None:
    with sentinels(tmp_path, 1) as (url, servers), redis.Redis.from_url(servers[0].url) as primary:
        changing = Rotating(tmp_path / "password", primary)
        address = url.split("//")[1].split("/")[0]
        with redis.Redis.from_url(f"redis://{address}") as sentinel:
            theirs = Rotating(tmp_path / "sentinels", sentinel, user="default")
            source = Source(named(url), "here", PasswordFile(changing.file, USER), PasswordFile(theirs.file))
            for _ in range(2):
                assert broker.waiting(settings(config, source), 5) is None
                changing.rotate()
                theirs.rotate()
