"""Workers, beat, their broker and an application, while the password of their Redis changes again and again."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
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
from support.issuing import Azure
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


def test_nothing_is_lost_while_a_password_changes_every_second(
    rotating: tuple[str, Rotating], deployment: Deployment
) -> None:
    _, changing = rotating
    head = HEAD.replace("[schedule]", f'password_file = "{changing.file}"\n[schedule]')
    deployment.configure(policy(), head=head)
    beat, worker = deployment.beat(), deployment.worker()
    ended = threading.Event()

    def change() -> None:
        while not ended.wait(EVERY):
            changing.rotate()

    with_change = threading.Thread(target=change)
    with_change.start()
    try:
        deleted_all(deployment, 10)
    finally:
        ended.set()
        with_change.join()

    assert worker.alive()
    assert beat.alive()
    assert [] == worker.events(level="critical") + beat.events(level="critical")
    assert "password-" not in "\n".join(one.stdout + one.stderr for one in (worker, beat))
    config = ConfigFile(deployment.config, {}).current()
    assert ["ok", "ok"] == [
        one.level.value for one in running.broker(config, broker_source(config, {"REDIS_URL": deployment.url}))
    ]


def test_nothing_is_lost_and_no_connection_closed_while_tokens_end(
    rotating: tuple[str, Rotating], deployment: Deployment
) -> None:
    """Azure's endpoint and its Redis are stand-ins; what renews the tokens is redis-entraid. One lasts 3 s."""
    url, _ = rotating
    deployment.configure(policy(), head=HEAD.replace("[schedule]", 'auth = "entra"\n[schedule]'))
    with redis.Redis.from_url(url, decode_responses=True) as admin, Azure(admin, 3) as azure:
        given = azure.environ | {"REDIS_URL": url}
        beat, worker = deployment.beat(environ=given), deployment.worker(environ=given)
        deleted_all(deployment, 21)
        closed, issued = azure.closed, len(azure.issued)
        said = "\n".join(one.stdout + one.stderr for one in (worker, beat))
        assert [] == worker.events(level="error") + beat.events(level="error")
        assert "Connection to broker lost" not in said
        assert not [one for one in azure.issued if one in said]
        worker.stop()
        beat.stop()
    assert (0, True) == (closed, issued > 6)


def deleted_all(deployment: Deployment, rounds: int) -> None:
    """Register five ids in each round, and return once all of them are deleted and counted."""
    wait_until, registered = deployment.wait_until, 5 * rounds
    for _ in range(rounds):
        ids = deployment.provider.seed("thread", 5)
        wait_until(partial(taken, deployment, ids), what="a registration")
        time.sleep(0.2)
    wait_until(lambda: not deployment.alive(), 30, what="every deletion")
    wait_until(lambda: deployment.counters()["deletions|chat|thread"] == registered, what="all of them counted")
    assert registered == len({line["path"] for line in deployment.deletes()})


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
            assert (channel.brpop_timeout, channel.client.ping()) == (1, True)
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
