"""rediss+cluster:// is verified too, by the names that nodes announce: by applications, and by all that workers are."""

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from lapse import AsyncRegistry, Registry
from lapse.errors import RegistryUnavailable
from lapse.registry.pools.plain import client_of
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port
from support import acl
from support.clusters import rows
from support.deployment import HEAD, SLOT, Deployment, policy
from support.promql import anywhere
from support.recording import RecordingRegistry
from support.tls import Authority
from support.tls_cluster import TlsCluster

HOST = "127.1"
"""A name to TLS, which takes it for no address; every resolver knows it for loopback."""
LAPSE = Path(sys.executable).with_name("lapse")
Wait = Callable[..., None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), HOST)


@pytest.fixture(scope="module")
def cluster(
    clean_environment: None, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsCluster]:
    users = acl.options(tmp_path_factory.mktemp("acl"), acl.SHIPPED_CLUSTER)
    with TlsCluster(authority, HOST, *users) as made:
        yield made


@pytest.fixture
def deployment(
    cluster: TlsCluster, authority: Authority, tmp_path: Path, sandbox: Sandbox, wait_until: Wait
) -> Iterator[Deployment]:
    """Return a deployment whose programs are told the authority by the policy file alone."""
    for client in cluster.clients:
        client.flushall()
    made = Deployment(tmp_path, cluster.trusting, sandbox, wait_until)
    made.registry.close()
    made.registry = RecordingRegistry(acl.as_user(cluster.trusting, acl.APPLICATION), provider="openai", timeout=5)
    made.configure(policy(), head=HEAD.replace("[registry]\n", f'[registry]\ntls_ca = "{authority.ca}"\n'))
    yield made
    found = made.verdict()
    made.close()
    assert found == [], "\n".join(map(str, found))


@contextmanager
def exporter(deployment: Deployment, environ: dict[str, str]) -> Iterator[Callable[[], str]]:
    """Run one; give what asks it for its metrics, which is "" as long as it does not answer."""
    port = free_port()

    def shown() -> str:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            return str(page.read().decode())
        return ""

    command = die_with_parent(sys.executable, str(LAPSE), "metrics", "--port", str(port))
    with (
        (deployment.directory / "exporter.log").open("w") as log,
        subprocess.Popen(command, env=environ, cwd=deployment.directory, stdout=log, stderr=log) as process,
    ):
        try:
            yield shown
        finally:
            process.kill()


def programs(deployment: Deployment, url: str) -> dict[str, str]:
    """Return the environment of whoever has the policy file, and this URL as workers' user."""
    return deployment.environ | {"REDIS_URL": acl.as_user(url, acl.WORKER), "LAPSE_CONFIG": str(deployment.config)}


def status(deployment: Deployment, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, str(LAPSE), "status")
    return subprocess.run(
        command, env=environ, cwd=deployment.directory, capture_output=True, text=True, check=False, timeout=60
    )


def test_on_a_cluster_behind_tls_the_whole_job_is_done_and_a_slot_that_moved_is_followed_by_its_name(
    deployment: Deployment, cluster: TlsCluster, wait_until: Wait
) -> None:
    kept, *_ids = deployment.seed(4)
    assert deployment.registry.hold("thread", kept, reason="case 7")
    environ = programs(deployment, cluster.url)
    with EmbeddedRedis() as broker:
        worker = deployment.worker("--beat", environ=environ | {"CELERY_BROKER_URL": broker.url})
        wait_until(lambda: deployment.alive() == {kept}, what="3 deletions")
        cluster.migrating(SLOT, (cluster.owner(SLOT) + 1) % 3).finish()
        (later,) = deployment.provider.seed("thread", 1)
        with deployment.registry.recorded([{"kind": "thread", "id": later, "policy": "chat"}]):
            asyncio.run(registered(acl.as_user(cluster.trusting, acl.APPLICATION), later))
        wait_until(lambda: deployment.alive() == {kept}, what="the fourth deletion, where its slot is now")
        wait_until(lambda: deployment.counters().get("deletions|chat|thread") == 4, what="its outcome")
        with exporter(deployment, environ) as shown:
            wait_until(lambda: "lapse_registry_up 1" in anywhere(shown()), what="the exporter")
            counted = 'lapse_deletions_total{kind="thread",policy="chat",provider="openai"} 4'
            assert counted in anywhere(shown())
        told = status(deployment, environ)
        assert worker.stop()[0] == 0

    assert (0, "") == (told.returncode, told.stderr)
    assert "chat" in told.stdout
    assert worker.events(level="error") == []


async def registered(url: str, id_: str) -> None:
    """Register an id as an application with asyncio does."""
    async with AsyncRegistry(url, provider="openai", timeout=5) as registry:
        assert (await registry.register("thread", id_, "chat")).new


WRONG = {
    "an authority that nobody knows": (
        lambda cluster, other: f"{cluster.url}/?ssl_ca_certs={other}",
        "(?i)certificate",
    ),
    "another name than the certificate's": (
        lambda cluster, _: cluster.trusting.replace(HOST, "127.0.0.1"),
        "(?i)not valid for '127.0.0.1'",
    ),
    "a URL without TLS": (lambda cluster, _: cluster.url.replace("rediss", "redis"), "its URL begins with rediss"),
}


@pytest.mark.parametrize(("url", "why"), WRONG.values(), ids=WRONG)
def test_what_is_not_verified_is_refused_and_says_why(
    deployment: Deployment, cluster: TlsCluster, tmp_path: Path, url: Callable[[TlsCluster, Path], str], why: str
) -> None:
    (strange := tmp_path / "strange").mkdir()
    wrong = url(cluster, Authority(strange, HOST).ca)
    for one in (wrong, acl.as_user(wrong, acl.APPLICATION)):
        with Registry(one, provider="openai", timeout=5) as registry, pytest.raises(RegistryUnavailable, match=why):
            registry.touch("thread", "t1")
        with pytest.raises(RegistryUnavailable, match=why):
            asyncio.run(registered(one, "t1"))
        with pytest.raises(RegistryUnavailable, match=why):
            client_of(one)


def test_nodes_are_verified_by_what_they_announce(cluster: TlsCluster, wait_until: Wait) -> None:
    url = acl.as_user(cluster.trusting, acl.WORKER)
    with announcing(cluster, wait_until, "cluster-preferred-endpoint-type", "ip", "hostname"):
        refused(url, "not valid for '127.0.0.1'")
    with announcing(cluster, wait_until, "cluster-announce-hostname", "", HOST):
        refused(url, "announces no hostname: set cluster-announce-hostname")
    with announcing(cluster, wait_until, "cluster-preferred-endpoint-type", "unknown-endpoint", "hostname"):
        with Registry(url, provider="openai", timeout=5) as registry:  # they are where they were asked
            assert registry.register("thread", "t1", "chat").new
        with client_of(url) as client:
            assert client.exists(f"{SLOT}policies")


@contextmanager
def announcing(cluster: TlsCluster, wait_until: Wait, name: str, value: str, usual: str) -> Iterator[None]:
    """Have nodes announce themselves in another way."""
    for client in cluster.clients:
        client.config_set(name, value)
    try:
        wait_until(lambda: not any(named(client) for client in cluster.clients), what="what they announce")
        yield
    finally:
        for client in cluster.clients:
            client.config_set(name, usual)
        wait_until(lambda: all(named(client) for client in cluster.clients), what="their names again")


def named(client: Any) -> bool:
    """Return True if a node tells clients the others by name."""
    return any(first[0] == HOST for _, _, first in rows(client.execute_command("CLUSTER SLOTS")))


def refused(url: str, why: str) -> None:
    with Registry(url, provider="openai", timeout=5) as registry, pytest.raises(RegistryUnavailable, match=why):
        registry.register("thread", "t1", "chat")


def test_workers_and_exporter_delete_nothing_on_a_cluster_that_nobody_vouches_for(
    deployment: Deployment, cluster: TlsCluster, wait_until: Wait
) -> None:
    ids = deployment.seed(3)
    deployment.configure(policy())
    environ = programs(deployment, cluster.url)
    with EmbeddedRedis() as broker, exporter(deployment, environ) as shown:
        worker = deployment.start("worker", "--beat", environ=environ | {"CELERY_BROKER_URL": broker.url})
        wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in worker.stderr, what="the refusal")
        log = deployment.directory / "exporter.log"
        wait_until(lambda: shown() or "CERTIFICATE_VERIFY_FAILED" in log.read_text(), what="the exporter")
        told = status(deployment, environ)

    assert "lapse_registry_up 1" not in anywhere(shown())
    assert told.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in told.stderr
    assert deployment.alive() == set(ids)
    assert worker.events("sweep.finished") == []
