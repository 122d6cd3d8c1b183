"""What preflight finds on real servers, and which findings refuse to start."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from lapse.guards.integrity import preflight
from lapse.guards.integrity.preflight import Facts, Finding, Level
from lapse.policy import Config, parse
from lapse.registry.aio import Carrier
from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.clusters import Cluster
from support.deployment import HEAD, policy

Start = Callable[..., EmbeddedRedis]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a way to start a server with options of its own."""
    with ExitStack() as servers:
        yield lambda *options, persistent=False: servers.enter_context(EmbeddedRedis(*options, persistent=persistent))


async def findings(
    url: str, *, enforcing: bool = True, allow_volatile: bool = False
) -> tuple[dict[str, Finding], str | None]:
    carrier = Carrier(url, 5)
    facts = await preflight.look(carrier)
    await carrier.aclose()
    found = preflight._judge(facts, enforcing=enforcing, allow_volatile=allow_volatile)
    return {finding.name: finding for finding in found}, preflight.refusal(found)


async def test_a_persistent_server_that_evicts_nothing_passes(start: Start) -> None:
    found, refusal = await findings(start(persistent=True).url)

    assert {finding.level for finding in found.values()} == {Level.OK}
    assert list(found) == ["version", "eviction", "persistence"]
    assert refusal is None


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_server_that_may_evict_registered_ids_is_refused(start: Start, policy: str) -> None:
    with Redis.from_url(start(persistent=True).url) as admin:
        admin.config_set("maxmemory-policy", policy)
        url = f"redis://127.0.0.1:{admin.connection_pool.connection_kwargs['port']}/0"
        found, refusal = await findings(url, enforcing=False)

    assert found["eviction"].level is Level.FATAL
    assert refusal is not None
    assert policy in refusal
    assert "noeviction" in refusal


async def test_volatile_eviction_is_accepted_and_reported(start: Start) -> None:
    found, refusal = await findings(start("--maxmemory-policy", "volatile-lru", persistent=True).url)

    assert found["eviction"].level is Level.WARNING
    assert "volatile-lru" in found["eviction"].detail
    assert refusal is None


@pytest.mark.parametrize(
    ("enforcing", "allow_volatile", "level"),
    [(True, False, Level.FATAL), (True, True, Level.WARNING), (False, False, Level.WARNING)],
)
async def test_no_persistence_is_refused_only_where_something_is_enforced(
    redis_url: str, *, enforcing: bool, allow_volatile: bool, level: Level
) -> None:
    found, refusal = await findings(redis_url, enforcing=enforcing, allow_volatile=allow_volatile)

    assert found["persistence"].level is level
    assert (refusal is not None) == (level is Level.FATAL)
    assert refusal is None or "allow_volatile = true" in refusal


async def test_snapshots_count_as_persistence_with_a_warning(start: Start) -> None:
    found, refusal = await findings(start("--save", "3600 1").url)

    assert found["persistence"].level is Level.WARNING
    assert "snapshots" in found["persistence"].detail
    assert refusal is None


async def test_where_config_is_denied_info_decides_and_the_rest_is_unknown(start: Start) -> None:
    server = start()
    with Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pass", "~*", "+@all", "-config")
    restricted = server.url.replace("redis://", "redis://app:pass@")

    before, refusal = await findings(restricted)
    with Redis.from_url(server.url) as admin:
        admin.bgsave()
        while admin.info("persistence")["rdb_bgsave_in_progress"]:
            pass
    after, _ = await findings(restricted)

    assert before["persistence"].level is Level.UNKNOWN
    assert before["eviction"].level is Level.OK
    assert refusal is None
    assert after["persistence"].level is Level.WARNING
    assert "snapshots" in after["persistence"].detail


async def test_where_info_is_denied_everything_is_unknown_and_nothing_refused(start: Start) -> None:
    server = start()
    with Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pass", "~*", "+@all", "-config", "-info")

    found, refusal = await findings(server.url.replace("redis://", "redis://app:pass@"))

    assert {finding.level for finding in found.values()} == {Level.UNKNOWN}
    assert len(found) == 3
    assert refusal is None


async def test_a_server_that_is_away_is_unknown_and_its_error_is_named() -> None:
    found, refusal = await findings(f"redis://127.0.0.1:{free_port()}/0")

    assert list(found) == ["server"]
    assert found["server"].level is Level.UNKNOWN
    assert "did not answer" in found["server"].detail
    assert refusal is None


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("6.0.16", Level.FATAL),
        ("5.0", Level.FATAL),
        ("6.2.0", Level.OK),
        ("7.2.4", Level.OK),
        ("10.0.1", Level.OK),
        ("", Level.UNKNOWN),
        ("next", Level.UNKNOWN),
    ],
)
def test_servers_below_the_oldest_supported_version_are_refused(version: str, level: Level) -> None:
    facts = Facts({"redis_version": version, "maxmemory_policy": "noeviction", "aof_enabled": "1"})

    found = preflight._judge(facts, enforcing=True, allow_volatile=False)

    assert found[0].level is level
    assert (preflight.refusal(found) is not None) == (level is Level.FATAL)


def test_a_refusal_names_every_reason_and_its_fix() -> None:
    facts = Facts({"redis_version": "4.0", "maxmemory_policy": "allkeys-lru", "aof_enabled": "0"}, save="")

    refusal = preflight.refusal(preflight._judge(facts, enforcing=True, allow_volatile=False))

    assert refusal is not None
    assert len(refusal.splitlines()) == 4
    for part in ("4.0", "6.2", "allkeys-lru", "appendonly yes"):
        assert part in refusal


@pytest.fixture(scope="module")
def cluster(clean_environment: None) -> Iterator[Cluster]:
    with Cluster(3, 0, "--appendonly", "yes") as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse(HEAD.format(directory=tmp_path, base_url="http://127.0.0.1:9/v1") + policy(), "retention.toml", {})


async def on(cluster: Cluster, config: Config) -> dict[str, Finding]:
    carrier = Carrier(cluster.url, 5)
    found = preflight.judge(await preflight.look(carrier), config)
    await carrier.aclose()
    return {one.name: one for one in found}


async def test_every_node_of_a_cluster_is_looked_at(cluster: Cluster, config: Config) -> None:
    assert {Level.OK} == {one.level for one in (await on(cluster, config)).values()}
    for node, client in zip(cluster.nodes, cluster.clients, strict=True):
        client.config_set("maxmemory-policy", "allkeys-lru")
        found = (await on(cluster, config))["eviction"]
        client.config_set("maxmemory-policy", "noeviction")
        assert (Level.FATAL, f"127.0.0.1:{node.port}: maxmemory-policy is allkeys-lru") == (
            found.level,
            found.detail.partition(": it may")[0],
        )


async def test_a_node_of_a_cluster_that_does_not_answer_is_told_and_refuses_nothing(
    cluster: Cluster, config: Config
) -> None:
    carrier = Carrier(cluster.url, 2)
    await preflight.look(carrier)
    cluster.nodes[1].stop(kill=True)
    facts = await preflight.look(carrier)
    await carrier.aclose()

    found = {one.name: one for one in preflight.judge(facts, config)}
    assert facts.error is None
    assert (Level.UNKNOWN, True) == (found["server"].level, str(cluster.nodes[1].port) in found["server"].detail)
    assert preflight.refusal(found.values()) is None
