"""rediss:// is verified, for the registry and for the broker, unless somebody says otherwise."""

from collections.abc import Callable
from pathlib import Path

import pytest

from faults.proxy import Proxy
from lapse import Registry
from lapse.errors import RegistryUnavailable
from lapse.sandbox.redis_server import EmbeddedRedis
from support import acl
from support.deployment import HEAD, Deployment, policy
from support.tls import Authority

Wait = Callable[..., None]


def head(text: str) -> str:
    """Return the config's head with more below [registry]."""
    return HEAD.replace("[registry]\n", f"[registry]\n{text}\n")


def test_over_tls_as_the_shipped_users_the_whole_job_is_done(
    deployment: Deployment, door: str, authority: Authority, wait_until: Wait
) -> None:
    deployment.configure(policy(), head=head(f'tls_ca = "{authority.ca}"'))
    ids = deployment.seed(50)
    deployment.registry.hold("thread", ids[0], reason="a test")

    worker = deployment.worker("--beat", environ={"REDIS_URL": acl.as_user(door, acl.WORKER)})
    wait_until(lambda: deployment.alive() == {ids[0]}, what="49 deletions")
    wait_until(lambda: deployment.raw.hget("lapse:published", "beat"), what="beat's heartbeat")

    assert worker.stop()[0] == 0
    assert worker.events(level="error") == []
    assert deployment.counters()["deletions|chat|thread"] == 49


@pytest.mark.parametrize("where", ["registry", "broker"])
def test_a_certificate_that_nobody_vouches_for_is_refused(
    deployment: Deployment, door: str, wait_until: Wait, where: str
) -> None:
    deployment.configure(policy())
    ids = deployment.seed(5)
    strange = acl.as_user(door, acl.WORKER)
    environ = {"REDIS_URL": strange} if where == "registry" else {"CELERY_BROKER_URL": strange}

    worker = deployment.start("worker", "--beat", "--concurrency=1", environ=environ)
    wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in worker.stderr.upper().replace(" ", "_"), what="the refusal")

    assert deployment.alive() == set(ids)
    assert worker.events("sweep.finished") == []


def test_unverified_is_possible_and_has_to_be_said(deployment: Deployment, door: str, wait_until: Wait) -> None:
    deployment.configure(policy(), head=head("tls_verify = false"))
    deployment.seed(5)

    deployment.worker("--beat", environ={"REDIS_URL": acl.as_user(door, acl.WORKER)})

    wait_until(lambda: not deployment.alive(), what="5 deletions")


def test_an_application_refuses_a_server_that_nobody_vouches_for(door: str) -> None:
    with (
        Registry(acl.as_user(door, acl.APPLICATION), provider="openai", timeout=5) as registry,
        pytest.raises(RegistryUnavailable, match=r"(?i)certificate"),
    ):
        registry.touch("thread", "t1")


def test_a_certificate_of_another_server_is_refused(guarded: EmbeddedRedis, tmp_path: Path) -> None:
    other = Authority(tmp_path, "redis.example.com")
    with Proxy(guarded.port, tls=other.server) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={other.ca}"
        with (
            Registry(acl.as_user(url, acl.APPLICATION), provider="openai", timeout=5) as registry,
            pytest.raises(RegistryUnavailable, match=r"(?i)certificate|mismatch"),
        ):
            registry.touch("thread", "t1")
