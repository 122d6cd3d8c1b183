"""Entra tokens: fetched once, renewed in time, and renewed once more where the provider refuses an old one."""

import asyncio
import base64
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from lapse.errors import ConfigError
from lapse.providers import entra
from lapse.providers.deadline import Deadline, Requests
from lapse.providers.outcomes import Outcome, classify
from lapse.providers.provider import Provider
from lapse.providers.response import Reply
from providers.conftest import MakeProvider
from providers.rows import THREAD, gone
from providers.scripted import Asked, Server, answer

NOW = 1_795_000_000.0
DELETED = answer(200, gone("thread", THREAD))
EXPIRED = answer(401, '{"error": {"code": "Unauthorized", "message": "Access token is expired."}}')


def jwt(serial: int = 0, **claims: Any) -> str:
    """Return what an access token looks like."""
    body = base64.urlsafe_b64encode(json.dumps({"tid": "tenant", "serial": serial, **claims}).encode()).decode()
    return f"eyJhbGciOiJub25lIn0.{body.rstrip('=')}.c2ln"


@dataclass(frozen=True, slots=True)
class Token:
    """An access token."""

    token: str
    expires_on: int


@dataclass(slots=True)
class Clock:
    """A clock that a test moves."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Source:
    """Where tokens come from: each lasts ``lasts`` seconds, and counts the ones before it."""

    clock: Clock
    lasts: float = 3600.0
    scopes: list[str] = field(default_factory=list)
    error: Exception | None = None
    closed: bool = False
    asked: int = 0
    takes: float = 0
    claims: dict[str, str] = field(default_factory=lambda: {"appid": "client"})

    async def get_token(self, *scopes: str) -> Token:
        self.asked += 1
        await asyncio.sleep(self.takes)
        if self.error:
            raise self.error
        self.scopes += scopes
        return Token(jwt(len(self.scopes), **self.claims), int(self.clock.now + self.lasts))

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Source:
    return Source(clock)


@pytest.fixture
async def provider(make: MakeProvider, server: Server, clock: Clock, source: Source) -> Provider:
    """Return a Foundry account that authenticates with tokens of ``source``."""
    server.say(DELETED)
    given = {"api_key_env": None, "auth": "entra", "clock": clock, "tokens": source}
    return make(server.url, type="foundry", api_version="v1", **given)


async def remove(provider: Provider) -> Reply:
    return await provider.delete(provider.kinds["thread"], THREAD)


def bearers(server: Server) -> list[str]:
    return [asked.headers["authorization"].removeprefix("Bearer ") for asked in server.asked]


def serial(token: str) -> int:
    found = entra._claims(token)["serial"]
    assert isinstance(found, int)
    return found


async def test_many_requests_share_one_token(provider: Provider, server: Server, source: Source) -> None:
    await asyncio.gather(*(remove(provider) for _ in range(20)))

    assert source.scopes == ["https://ai.azure.com/.default"]
    assert {jwt(1, appid="client")} == set(bearers(server))


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/openai/v1", "https://cognitiveservices.azure.com/.default"),
        ("/api/projects/p/openai/v1", "https://ai.azure.com/.default"),
    ],
)
async def test_azure_openai_gets_a_bearer_token_too(
    path: str, scope: str, make: MakeProvider, server: Server, clock: Clock, source: Source
) -> None:
    server.say(DELETED)
    base_url = server.url.removesuffix("/v1") + path
    given = {"api_key_env": None, "auth": "entra", "clock": clock, "tokens": source}

    await remove(make(base_url, type="azure-openai", **given))

    assert (source.scopes, [jwt(1, appid="client")]) == ([scope], bearers(server))
    assert "api-key" not in server.asked[0].headers


async def test_a_token_is_renewed_before_it_ends(
    provider: Provider, server: Server, clock: Clock, source: Source
) -> None:
    await remove(provider)
    clock.now += source.lasts - entra.RENEW_BEFORE - 1
    await remove(provider)
    clock.now += 2
    await remove(provider)

    assert [1, 1, 2] == [serial(token) for token in bearers(server)]


async def test_a_short_token_is_used_for_half_its_life(
    provider: Provider, server: Server, clock: Clock, source: Source
) -> None:
    source.lasts = 60
    for _ in range(3):
        await remove(provider)
        clock.now += 20

    assert [1, 1, 2] == [serial(token) for token in bearers(server)]


async def test_a_token_that_was_renewed_after_the_lease_is_not_sent(
    provider: Provider, server: Server, clock: Clock, source: Source
) -> None:
    """The refused DELETE did nothing; a second one would come when the id may be held, or another worker's."""
    await provider.identity()
    clock.now += source.lasts - entra.RENEW_BEFORE - 1
    source.takes = 0.4

    def respond(_: Asked) -> Any:
        clock.now += 2
        return EXPIRED

    server.respond = respond
    now = time.monotonic()

    with Requests(Deadline(now + 0.3, now + 10)):
        reply = await remove(provider)

    assert ("late", False, 2) == (reply.failure, reply.sent, source.asked)
    assert 1 == len(server.asked)


async def test_a_token_that_ended_in_flight_is_renewed_and_the_request_sent_again(
    provider: Provider, server: Server, clock: Clock, source: Source
) -> None:
    """The provider's clock is a little ahead, so that it ended there first."""
    await remove(provider)
    clock.now += source.lasts - entra.RENEW_BEFORE - 1
    server.asked.clear()
    refused = jwt(1, appid="client")

    def respond(asked: Asked) -> Any:
        if asked.headers["authorization"].endswith(refused):
            clock.now += 2
            return EXPIRED
        return DELETED

    server.respond = respond
    replies = await asyncio.gather(*(remove(provider) for _ in range(10)))

    verdicts = [classify(provider.kinds["thread"], THREAD, reply) for reply in replies]
    assert {Outcome.DELETED} == {verdict.outcome for verdict in verdicts}
    assert len(source.scopes) == 2
    assert {1, 2} == {serial(token) for token in bearers(server)}
    counted = provider.drain_counters()["thread"]
    assert counted["requests||delete|200"] == 11
    assert counted["requests||delete|401"] == len(server.asked) - 10


async def test_a_young_token_that_is_refused_is_not_renewed(provider: Provider, server: Server, source: Source) -> None:
    """It is refused for another reason: a role that is missing, another tenant."""
    server.say(EXPIRED)

    verdict = classify(provider.kinds["thread"], THREAD, await remove(provider))

    assert (verdict.outcome, verdict.unknown) == (Outcome.AUTH, False)
    assert len(server.asked) == len(source.scopes) == 1


async def test_a_new_token_that_is_refused_too_is_the_answer(
    provider: Provider, server: Server, clock: Clock, source: Source
) -> None:
    await remove(provider)
    clock.now += source.lasts - entra.RENEW_BEFORE - 1

    def respond(_asked: Asked) -> Any:
        clock.now += 2
        return EXPIRED

    server.respond = respond
    reply = await remove(provider)

    assert (reply.status, len(server.asked), len(source.scopes)) == (401, 3, 2)


async def test_a_token_that_cannot_be_renewed_yet_is_used_on(
    provider: Provider, server: Server, clock: Clock, source: Source
) -> None:
    await remove(provider)
    clock.now += source.lasts - 100
    source.error = RuntimeError("the identity endpoint is away")

    assert (await remove(provider)).status == 200

    server.say(EXPIRED)
    assert (await remove(provider)).status == 401
    clock.now += 101
    ended = await remove(provider)

    assert (ended.failure, ended.sent) == ("credentials", False)
    assert ended.body.startswith(b"no Entra token for provider 'openai': the identity endpoint is away (")
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("tenant\nand a trace"), "tenant"), (RuntimeError(""), "RuntimeError"), (TimeoutError(), "Timeout")],
)
async def test_no_token_is_a_matter_of_credentials(
    error: Exception, said: str, provider: Provider, server: Server, source: Source
) -> None:
    source.error = error

    verdict = classify(provider.kinds["thread"], THREAD, await remove(provider))

    assert (verdict.outcome, verdict.unknown) == (Outcome.AUTH, False)
    assert said in verdict.detail
    assert "trace" not in verdict.detail
    assert server.asked == []
    with pytest.raises(ConfigError, match="no Entra token for provider"):
        await provider.identity()


async def test_a_failure_is_not_asked_for_again_by_each_request_that_waits(
    provider: Provider, server: Server, clock: Clock, source: Source
) -> None:
    source.error = RuntimeError("the identity endpoint is away")

    replies = await asyncio.gather(*(remove(provider) for _ in range(16)))
    asked = source.asked
    clock.now += entra.ASK_AGAIN
    source.error = None
    later = await remove(provider)

    assert {"credentials"} == {reply.failure for reply in replies}
    assert (asked, source.asked) == (1, 2)
    assert (later.status, len(server.asked)) == (200, 1)


async def test_the_identity_is_of_tenant_and_client_and_not_of_the_token(
    make: MakeProvider, server: Server, clock: Clock
) -> None:
    async def identity(environ: dict[str, str] | None = None, **claims: str) -> str:
        source = Source(clock, claims=claims or {"appid": "client"})
        given = {"api_key_env": None, "auth": "entra", "clock": clock, "tokens": source}
        return await make(server.url, type="foundry", environ=environ, **given).identity()

    one = await identity()

    assert one == await identity(jti="other", appid="client")
    assert one == await identity(azp="client", appid="")
    assert one == await identity({"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client"})
    assert len({one, await identity(tid="other"), await identity(appid="other"), await identity({})}) == 3


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", "a.W10.c", "a.\u00e9.c"])
async def test_a_token_that_says_nothing_of_itself_is_one_all_the_same(token: str) -> None:
    assert entra._claims(token) == {}


async def test_the_source_is_closed(make: MakeProvider, server: Server, clock: Clock, source: Source) -> None:
    given = {"api_key_env": None, "auth": "entra", "clock": clock, "tokens": source}
    async with make(server.url, type="foundry", **given):
        pass

    assert source.closed


async def test_a_token_never_stands_in_a_log(provider: Provider, server: Server) -> None:
    server.respond = lambda asked: answer(401, json.dumps({"error": {"message": asked.headers["authorization"]}}))

    verdict = classify(provider.kinds["thread"], THREAD, await remove(provider))

    assert "eyJ" not in verdict.detail


def test_a_missing_extra_is_told_with_the_line_that_installs_it() -> None:
    """In a Python of its own, where azure cannot be imported."""
    program = (
        "import sys; sys.modules['azure.identity.aio'] = None\n"
        "from providers.conftest import account\n"
        "from lapse.providers.provider import Provider\n"
        "Provider(account('https://h', type='foundry', api_key_env=None, auth='entra'), {})\n"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="tests", check=False)

    assert ended.returncode == 1
    assert (
        'ConfigError: [providers.openai] auth = "entra" needs azure-identity, which is not installed: '
        "pip install 'PATH/TO/lapse[worker,entra]'"
    ) in ended.stderr
