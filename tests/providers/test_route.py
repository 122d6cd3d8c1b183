"""How an account is reached: straight unless the file says otherwise, then by a real proxy; and whom it believes."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.proxy import Proxy
from lapse import log
from lapse.errors import ConfigError
from lapse.providers.deadline import Deadline, Requests
from lapse.providers.kinds import KINDS
from lapse.providers.outcomes import Outcome, classify
from lapse.providers.response import Reply, say
from lapse.sandbox.redis_server import free_port
from providers.conftest import KEY, MakeProvider
from providers.scripted import HANG, Server, answer
from support.forward_proxy import ForwardProxy
from support.tls import Authority

THREAD = KINDS["openai"]["thread"]
PASSWORD = "hunter2-of-the-proxy"
GONE = answer(200, json.dumps({"id": "t1", "object": "thread.deleted", "deleted": True}))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who signs the provider's certificate; nobody trusts it unless told."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def https(server: Server, authority: Authority) -> Iterator[str]:
    """Return the base URL of the scripted server behind TLS."""
    server.say(GONE)
    with Proxy(server.port, tls=authority.server) as door:
        yield f"https://127.0.0.1:{door.port}/v1"


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    """Return a proxy that wants a password."""
    with ForwardProxy(f"lapse:{PASSWORD}") as made:
        yield made


async def removed(make: MakeProvider, url: str, environ: dict[str, str] | None = None, **changes: Any) -> Reply:
    """Delete t1 there, and return the answer."""
    provider = make(url, timeout=20.0, environ={"LAPSE_TEST_KEY": KEY, **(environ or {})}, **changes)
    return await provider.delete(THREAD, "t1")


async def test_https_goes_by_connect_and_the_proxy_sees_no_key_nor_the_provider_its_password(
    make: MakeProvider, server: Server, https: str, proxy: ForwardProxy, authority: Authority
) -> None:
    provider = make(https, proxy=proxy.url, ca_file=str(authority.ca))
    for _ in range(3):
        assert classify(THREAD, "t1", await provider.delete(THREAD, "t1")).outcome is Outcome.DELETED

    (asked,) = proxy.asked
    assert asked[:2] == ("CONNECT", https.removeprefix("https://").removesuffix("/v1"))
    assert KEY not in str(asked)
    assert ["DELETE /v1/threads/t1"] * 3 == server.targets
    assert not any("proxy-authorization" in one.headers for one in server.asked)


async def test_http_goes_through_it_by_its_whole_url(make: MakeProvider, server: Server, proxy: ForwardProxy) -> None:
    server.say(GONE)
    assert (await removed(make, server.url, proxy=proxy.url)).status == 200
    assert [f"DELETE {server.url}/threads/t1"] == proxy.targets
    assert ["DELETE /v1/threads/t1"] == server.targets
    assert "proxy-authorization" not in server.asked[0].headers


async def test_off_is_the_default_whatever_the_environment_says(
    make: MakeProvider, server: Server, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.say(GONE)
    named = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "ALL_PROXY": "socks5://127.0.0.1:1"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert (await removed(make, server.url, named)).status == 200
    assert [] == proxy.asked


@pytest.mark.parametrize(
    ("environ", "through"),
    [
        ({"HTTPS_PROXY": "PROXY"}, True),
        ({"all_proxy": "PROXY"}, True),
        ({"HTTP_PROXY": "PROXY"}, False),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": "example.com, 127.0.0.0/8"}, False),
        ({}, False),
    ],
)
async def test_the_environment_is_followed_where_the_file_says_so(
    make: MakeProvider, https: str, authority: Authority, environ: dict[str, str], *, through: bool
) -> None:
    with ForwardProxy() as proxy:
        said = {name: value.replace("PROXY", proxy.url) for name, value in environ.items()}
        reply = await removed(make, https, said, proxy="env", ca_file=str(authority.ca))
        assert (200, through) == (reply.status, bool(proxy.asked))


async def test_what_the_proxy_refuses_never_reached_the_provider_and_tells_no_password(
    make: MakeProvider, server: Server, https: str, proxy: ForwardProxy, authority: Authority
) -> None:
    wrong = proxy.url.replace(PASSWORD, "some-other-password")
    reply = await removed(make, https, proxy=wrong, ca_file=str(authority.ca))
    assert ("connect", False) == (reply.failure, reply.sent)
    assert "the proxy lets nobody through: 407" in say(reply)
    proxy.answer = 503
    reply = await removed(make, https, proxy=proxy.url, ca_file=str(authority.ca))
    assert ("connect", False, True) == (reply.failure, reply.sent, "503" in say(reply))
    assert [] == server.asked
    assert "password" not in say(reply) + log.redact(wrong)


async def test_http_that_the_proxy_refuses_is_a_matter_of_credentials(
    make: MakeProvider, server: Server, proxy: ForwardProxy
) -> None:
    reply = await removed(make, server.url, proxy=f"http://{proxy.host}")
    assert classify(THREAD, "t1", reply).outcome is Outcome.AUTH
    assert [] == server.asked


async def test_a_proxy_that_is_away_is_named_and_nothing_was_sent(make: MakeProvider, server: Server) -> None:
    port = free_port()
    reply = await removed(make, server.url, proxy=f"http://user:{PASSWORD}@127.0.0.1:{port}")
    assert ("connect", False) == (reply.failure, reply.sent)
    assert f"the proxy: Cannot connect to host 127.0.0.1:{port}" in say(reply)
    assert PASSWORD not in reply.body.decode()


async def test_a_tunnel_that_breaks_under_a_deletion_leaves_its_end_unknown(
    make: MakeProvider, server: Server, https: str, proxy: ForwardProxy, authority: Authority
) -> None:
    server.say(HANG)
    asking = asyncio.create_task(removed(make, https, proxy=proxy.url, ca_file=str(authority.ca)))
    await asyncio.wait_for(server.arrival.wait(), 5)
    proxy.cut()
    reply = await asking
    assert ("reset", True) == (reply.failure, reply.sent)
    assert classify(THREAD, "t1", reply).unknown


async def test_a_proxy_that_says_nothing_takes_no_longer_than_the_lease(
    make: MakeProvider, server: Server, https: str, proxy: ForwardProxy, authority: Authority
) -> None:
    proxy.mute.set()
    provider, began = make(https, proxy=proxy.url, ca_file=str(authority.ca), timeout=60.0), time.monotonic()
    with Requests(Deadline.of(1.0)):
        reply = await provider.delete(THREAD, "t1")
    assert ("late", False) == (reply.failure, reply.sent)
    assert time.monotonic() - began < 10
    assert [] == server.asked


async def test_a_certificate_that_nobody_vouches_for_is_refused_through_a_proxy_too(
    make: MakeProvider, server: Server, https: str, proxy: ForwardProxy, authority: Authority
) -> None:
    routes: tuple[dict[str, Any], ...] = ({}, {"proxy": proxy.url})
    for route in routes:
        reply = await removed(make, https, **route)
        assert ("tls", False) == (reply.failure, reply.sent)
    assert [] == server.asked
    assert (await removed(make, https, ca_file=str(authority.ca))).status == 200


@pytest.mark.parametrize(
    ("holds", "said"), [(None, "cannot be read: No such file"), ("no PEM", "holds no certificate")]
)
async def test_a_file_of_authorities_that_is_none_is_named(
    make: MakeProvider, tmp_path: Path, holds: str | None, said: str
) -> None:
    file = tmp_path / "ca.pem"
    if holds:
        file.write_text(holds)
    with pytest.raises(ConfigError, match=rf"\[providers.openai\] ca_file: {file} {said}"):
        make("https://llm.example.com/v1", ca_file=str(file))
