"""Registries whose password is not in their URL: it is in a file, or a provider says it, and it changes."""

import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse import AsyncRegistry, ConfigError, Registry, RegistryUnavailable
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.credentials.password_file import PasswordFile, tell
from lapse.registry.pools.plain import client_of
from lapse.registry.scripts import packed
from lapse.sandbox.redis_server import EmbeddedRedis
from support.clusters import Cluster, sentinels
from support.rotating import USER, Issuer, Rotating, named, token


@pytest.fixture(scope="module")
def server(clean_environment: None) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as made:
        yield made


@pytest.fixture
def admin(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client
        client.execute_command("ACL", "SETUSER", "default", "nopass")
        client.execute_command("ACL", "DELUSER", USER)
        client.flushall()


@pytest.fixture
def rotating(admin: redis.Redis, tmp_path: Path) -> Rotating:
    return Rotating(tmp_path / "password", admin)


def ids(admin: redis.Redis) -> set[str]:
    return {one["id"] for one in admin.client_list() if one["user"] == USER}


def test_a_password_is_read_anew_for_every_connection(
    make_registry: Any, server: EmbeddedRedis, rotating: Rotating
) -> None:
    registry = make_registry(named(server.url), password_file=rotating.file)
    for number in range(3):
        assert registry.register("thread", f"t{number}", "chat").new
        rotating.rotate()


def test_a_password_that_was_refused_is_asked_for_once_more(
    make_registry: Any, server: EmbeddedRedis, rotating: Rotating
) -> None:
    issuer = Issuer((USER, "before"), (USER, rotating.password))
    registry = make_registry(server.url, credential_provider=issuer)

    assert registry.touch("thread", "unknown") is not None
    assert ["before", rotating.password] == [said[-1] for said in issuer.said]


def test_a_password_that_stays_wrong_is_not_asked_for_for_ever(
    make_registry: Any, server: EmbeddedRedis, rotating: Rotating
) -> None:
    issuer = Issuer((USER, "wrong"))
    registry = make_registry(server.url, credential_provider=issuer)

    with pytest.raises(RegistryUnavailable, match="refused the user or password"):
        registry.touch("thread", "t1")
    assert 2 == len(issuer.said)


@pytest.mark.parametrize("make_registry", ["sync"], indirect=True)
def test_a_connection_that_nobody_is_behind_any_more_is_left_for_another(
    make_registry: Any, server: EmbeddedRedis, admin: redis.Redis, rotating: Rotating
) -> None:
    """RESET takes the user away from a connection, as the end of a token does elsewhere: NOAUTH is the answer then."""
    admin.execute_command("ACL", "SETUSER", "default", "resetpass")
    registry = make_registry(named(server.url), password_file=rotating.file)
    registry.touch("thread", "t1")
    assert [b"RESET"] == registry._pool.exchange([packed("RESET")])

    assert registry.register("thread", "t-noauth", "chat").new


async def test_so_is_one_of_an_event_loop(server: EmbeddedRedis, admin: redis.Redis, rotating: Rotating) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "resetpass")
    async with AsyncRegistry(named(server.url), provider="openai", timeout=5, password_file=rotating.file) as registry:
        await registry.touch("thread", "t1")
        await registry._carrier.run([("RESET",)])
        assert (await registry.register("thread", "t-noauth-async", "chat")).new


def test_a_connection_is_replaced_before_its_token_ends(
    make_registry: Any, server: EmbeddedRedis, admin: redis.Redis, rotating: Rotating, wait_until: Callable[..., None]
) -> None:
    short, long = token(0.6), token(3600)
    admin.execute_command("ACL", "SETUSER", USER, f">{short}", f">{long}")
    issuer = Issuer((USER, short), (USER, long))
    registry = make_registry(server.url, credential_provider=issuer)
    registry.touch("thread", "t1")
    before = ids(admin)

    wait_until(lambda: registry.touch("thread", "t1") is not None and not before & ids(admin), within=0.6)
    after = ids(admin)
    registry.touch("thread", "t1")
    assert (1, after) == (len(after), ids(admin)), "one whose token lasts stays"


def test_a_connection_is_replaced_before_it_is_as_old_as_the_server_lets_it_be(
    server: EmbeddedRedis, admin: redis.Redis, rotating: Rotating
) -> None:
    issuer = Issuer((USER, rotating.password))
    issuer.connection_lifetime = 0.2  # type: ignore[attr-defined]
    with client_of(RedisEndpoint(server.url, issuer)) as client:
        client.ping()
        before = ids(admin)
        time.sleep(0.1)
        client.ping()
        assert not before & ids(admin)


async def test_every_node_of_a_cluster_is_opened_by_it(clean_environment: None, tmp_path: Path) -> None:
    with Cluster(3) as cluster:
        rotating = Rotating(tmp_path / "password", *cluster.clients)
        endpoint = RedisEndpoint(named(cluster.url), PasswordFile(rotating.file, USER))
        calls = Registry(endpoint, provider="openai", timeout=5)
        loops = AsyncRegistry(endpoint, provider="openai", timeout=5)
        client = client_of(endpoint)
        for kind, turn in product(("thread", "file", "assistant", "vector_store"), range(2)):
            assert calls.register(kind, f"{turn}", "chat").new
            assert not (await loops.register(kind, f"{turn}", "chat")).new
            assert client.get(f"lapse:{{openai:{kind}}}:nothing") is None
            rotating.rotate()
        calls.close()
        client.close()
        await loops.aclose()


def test_sentinels_and_the_primary_that_they_name_have_a_password_each(
    make_registry: Any, clean_environment: None, tmp_path: Path
) -> None:
    with sentinels(tmp_path, 1) as (url, servers), redis.Redis.from_url(servers[0].url) as primary:
        rotating = Rotating(tmp_path / "password", primary)
        address = url.split("//")[1].split("/")[0]
        with redis.Redis.from_url(f"redis://{address}") as sentinel:
            theirs = Rotating(tmp_path / "sentinels", sentinel, user="default")
            endpoint = RedisEndpoint(named(url), PasswordFile(rotating.file, USER), PasswordFile(theirs.file))
            registry = make_registry(endpoint)
            client = client_of(endpoint)
            for number in range(2):
                assert registry.register("thread", f"s{number}", "chat").new
                assert client.ping()
                theirs.rotate()
                rotating.rotate()


def test_a_password_that_is_read_is_told_to_what_hides_it(server: EmbeddedRedis, rotating: Rotating) -> None:
    heard: list[str] = []
    tell(heard.append)
    with Registry(named(server.url), provider="openai", timeout=5, password_file=rotating.file) as registry:
        registry.touch("thread", "t1")
    assert {rotating.password} == set(heard)


def test_what_does_not_go_together_is_said_at_once(tmp_path: Path, rotating: Rotating) -> None:
    path, provider = rotating.file, Issuer(("password",))
    empty = tmp_path / "empty"
    empty.write_text("\n")
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo\n")
    large = tmp_path / "large"
    large.write_bytes(b"x" * 70_000)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for url, given, why in (
        (
            "redis://127.0.0.1",
            {"password_file": tmp_path / "none"},
            r"password_file .*none cannot be read \(No such file",
        ),
        ("redis://127.0.0.1", {"password_file": tmp_path}, "cannot be read"),
        ("redis://127.0.0.1", {"password_file": empty}, "password_file .*empty is empty"),
        ("redis://127.0.0.1", {"password_file": lines}, "holds more than a password"),
        ("redis://127.0.0.1", {"password_file": large}, "more than 65536 bytes"),
        ("redis://127.0.0.1", {"password_file": binary}, "holds more than a password"),
        (
            "redis://u:p@127.0.0.1",
            {"password_file": path},
            "password_file is set, and the registry's URL has a password",
        ),
        ("redis://:p@127.0.0.1", {"credential_provider": provider}, "credential_provider is set, and the"),
        ("redis://127.0.0.1", {"credential_provider": provider, "password_file": path}, "give one of them"),
        ("redis://127.0.0.1", {"credential_provider": "secret"}, "is no redis.CredentialProvider"),
    ):
        with pytest.raises(ConfigError, match=why) as refused:
            Registry(url, provider="openai", **given)
        assert rotating.password not in str(refused.value)


def test_a_registry_of_the_environment_has_its_password_there_too(
    make_registry: Any, server: EmbeddedRedis, rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAPSE_REGISTRY__URL", named(server.url))
    monkeypatch.setenv("LAPSE_REGISTRY__PASSWORD_FILE", str(rotating.file))
    assert make_registry(None).touch("thread", "t-of-the-environment") is not None
