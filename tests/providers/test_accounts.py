"""Whose request it is: keys, identities, and hosts that no longer serve a kind."""

import json
import ssl
from pathlib import Path

import pytest

from lapse.errors import ConfigError
from lapse.providers.outcomes import Outcome, classify
from lapse.providers.provider import Provider
from lapse.providers.response import Reply
from providers.conftest import KEY, MakeProvider, account
from providers.rows import THREAD, gone
from providers.scripted import Answer, Asked, Server, answer

DELETED = answer(200, gone("thread", THREAD))


async def remove(provider: Provider, object_id: str = THREAD) -> Reply:
    return await provider.delete(provider.kinds["thread"], object_id)


async def test_an_account_is_made_without_reading_the_certificates_of_all_authorities(
    make: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes 25 ms, for a client that sends nothing."""
    for reads in ("load_default_certs", "load_verify_locations"):
        monkeypatch.setattr(ssl.SSLContext, reads, None)
    assert "openai" == make("https://api.openai.com/v1").name


class TestCredential:
    """The key is looked up for every request."""

    async def test_a_key_in_the_environment_may_change(self, server: Server, make: MakeProvider) -> None:
        server.say(DELETED)
        environ = {"LAPSE_TEST_KEY": "sk-first-123456"}
        provider = make(server.url, environ=environ)
        before = await provider.identity()
        await remove(provider)

        environ["LAPSE_TEST_KEY"] = " sk-second-123456\n"
        await remove(provider)

        assert [asked.headers["authorization"] for asked in server.asked] == [
            "Bearer sk-first-123456",
            "Bearer sk-second-123456",
        ]
        assert await provider.identity() != before

    async def test_a_key_file_may_change(self, server: Server, make: MakeProvider, tmp_path: Path) -> None:
        server.say(DELETED)
        file = tmp_path / "key"
        file.write_text("sk-first-123456\n")
        provider = make(server.url, api_key_env=None, api_key_file=str(file))
        await remove(provider)

        replacement = tmp_path / "new"
        replacement.write_text("sk-other-123456\n")
        replacement.replace(file)
        await remove(provider)
        await remove(provider)

        assert [asked.headers["authorization"][-15:] for asked in server.asked] == [
            "sk-first-123456",
            "sk-other-123456",
            "sk-other-123456",
        ]

    @pytest.mark.parametrize("value", [None, "", "  \n"])
    async def test_a_missing_key_names_its_variable(
        self, value: str | None, server: Server, make: MakeProvider
    ) -> None:
        provider = make(server.url, environ={} if value is None else {"LAPSE_TEST_KEY": value})

        reply = await remove(provider)
        verdict = classify(provider.kinds["thread"], THREAD, reply)

        assert (verdict.outcome, verdict.unknown) == (Outcome.AUTH, False)
        assert verdict.detail == "credentials: LAPSE_TEST_KEY holds no key for provider 'openai': set it"
        assert server.asked == []
        assert provider.drain_counters() == {}

    @pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
    async def test_a_missing_key_names_its_file(
        self, content: bytes | None, server: Server, make: MakeProvider, tmp_path: Path
    ) -> None:
        file = tmp_path / "key"
        if content is not None:
            file.write_bytes(content)
        provider = make(server.url, api_key_env=None, api_key_file=str(file))

        verdict = classify(provider.kinds["thread"], THREAD, await remove(provider))

        assert verdict.outcome is Outcome.AUTH
        assert str(file) in verdict.detail

    @pytest.mark.parametrize("value", ["sk-a\r\nX-Evil: 1", "sk-a b", "sk-caf\u00e9", "sk-\x00"])
    async def test_a_key_that_no_header_can_carry_is_not_sent_and_not_shown(
        self, value: str, server: Server, make: MakeProvider
    ) -> None:
        reply = await remove(make(server.url, environ={"LAPSE_TEST_KEY": value}))

        assert reply.failure == "credentials"
        assert b"sk-" not in reply.body
        assert server.asked == []

    async def test_an_account_without_a_key_sends_none(self, server: Server, make: MakeProvider) -> None:
        server.say(DELETED)

        await remove(make(server.url, api_key_env=None))

        assert "authorization" not in server.asked[0].headers

    async def test_a_key_that_comes_back_in_an_answer_is_not_passed_on(
        self, server: Server, make: MakeProvider
    ) -> None:
        server.say(answer(401, json.dumps({"error": {"message": "no such key: hunter2-hunter2"}})))
        provider = make(server.url, environ={"LAPSE_TEST_KEY": "hunter2-hunter2"})

        verdict = classify(provider.kinds["thread"], THREAD, await remove(provider))

        assert "hunter2" not in verdict.detail

    async def test_the_identity_is_of_everything_that_decides_what_is_seen(self, make: MakeProvider) -> None:
        url = "http://127.0.0.1:9/v1"
        providers = [
            make(url),
            make("http://127.0.0.1:9/v2"),
            make(url, organization="org-1"),
            make(url, project="org-1"),
            make(url, environ={"LAPSE_TEST_KEY": "sk-other-123456"}),
        ]

        assert len({await provider.identity() for provider in providers}) == len(providers)
        assert all([len(await provider.identity()) == 16 for provider in providers])
        assert await make(url, name="other", concurrency=3).identity() == await providers[0].identity()


async def test_a_sunset_endpoint_is_refused_without_a_request(make: MakeProvider) -> None:
    provider = make("https://api.openai.com/v1")
    thread = provider.kinds["thread"]

    verdict = classify(thread, THREAD, await remove(provider))

    assert (verdict.outcome, verdict.unknown) == (Outcome.UNSUPPORTED, False)
    assert "api.openai.com shut threads down on 2026-08-26; use conversation instead" in verdict.detail
    assert provider.drain_counters() == {}


async def test_probe_and_witness_have_operations_of_their_own(server: Server, provider: Provider) -> None:
    def respond(asked: Asked) -> Answer:
        return answer(200, '{"data": []}' if "limit=1" in asked.target else json.dumps({"id": THREAD}))

    server.respond = respond
    thread = provider.kinds["thread"]

    probe = await provider.probe(thread)
    witness = await provider.witness(thread, THREAD)
    read = await provider.read(thread, THREAD)

    assert probe is not None
    assert [probe.status, witness.status, read.status] == [200, 200, 200]
    assert server.targets == ["GET /v1/assistants?limit=1", *[f"GET /v1/threads/{THREAD}"] * 2]
    counted = provider.drain_counters()["thread"]
    assert {f"requests||{op}|200" for op in ("probe", "witness", "read")} <= counted.keys()
    assert await provider.probe(provider.kinds["conversation"]) is None


async def test_an_unknown_type_is_refused_with_those_there_are(make: MakeProvider) -> None:
    with pytest.raises(ConfigError, match=r"\[providers.openai\] type 'opneai': use openai"):
        make("http://127.0.0.1:9/v1", type="opneai")


async def test_a_way_to_authenticate_that_does_not_exist_is_refused(make: MakeProvider) -> None:
    """Without this, the requests would go out without a credential."""
    with pytest.raises(ConfigError, match="auth = 'entra' does not exist for type 'openai': use api_key_env"):
        make("http://127.0.0.1:9/v1", auth="entra", api_key_env=None)


async def test_equal_base_urls_are_one_identity(make: MakeProvider) -> None:
    assert await make("https://Host.example:443/v1").identity() == await make("https://host.example/v1/").identity()


async def test_a_provider_closes_its_connections(server: Server) -> None:
    server.say(DELETED)

    async with Provider(account(server.url), {"LAPSE_TEST_KEY": KEY}) as provider:
        await remove(provider)

    with pytest.raises(RuntimeError, match="closed"):
        await remove(provider)
