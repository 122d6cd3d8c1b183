"""A Redis behind TLS that knows the shipped users, a provider, and a deployment that uses both."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.proxy import Proxy
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis
from support import acl
from support.deployment import Deployment
from support.recording import RecordingRegistry
from support.sandbox_fixture import sandbox, sandbox_server
from support.tls import Authority

__all__ = ["sandbox", "sandbox_server"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who signs the server's certificate; nobody trusts it unless told."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """Return a server that knows the shipped users."""
    with EmbeddedRedis(*acl.options(tmp_path_factory.mktemp("acl"))) as server:
        yield server


@pytest.fixture(scope="module")
def door(guarded: EmbeddedRedis, authority: Authority) -> Iterator[str]:
    """Return the URL of that server behind TLS."""
    with Proxy(guarded.port, tls=authority.server) as proxy:
        yield f"rediss://127.0.0.1:{proxy.port}/0"


@pytest.fixture
def deployment(
    tmp_path: Path,
    guarded: EmbeddedRedis,
    door: str,
    authority: Authority,
    sandbox: Sandbox,
    wait_until: Callable[..., None],
) -> Iterator[Deployment]:
    """Return a deployment whose application registers through TLS as its own user; workers are to be told how."""
    made = Deployment(tmp_path, guarded.url, sandbox, wait_until)
    made.raw.flushall()
    made.registry.close()
    made.registry = RecordingRegistry(
        f"{acl.as_user(door, acl.APPLICATION)}?ssl_ca_certs={authority.ca}", provider="openai", timeout=5
    )
    yield made
    made.close()
