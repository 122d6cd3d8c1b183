"""Requests as they are sent, and every way in which one can end."""

import asyncio
import gzip
import socket

import pytest

from lapse import __version__
from lapse.providers.outcomes import Outcome, classify
from lapse.providers.provider import Provider
from lapse.providers.response import Reply
from lapse.providers.transport import BODY_BYTES
from lapse.registry.keys import ID
from lapse.sandbox.redis_server import free_port
from providers.conftest import KEY, MakeProvider
from providers.rows import THREAD, gone
from providers.scripted import CLOSE, HANG, RESET, Answer, Server, answer

DELETED = answer(200, gone("thread", THREAD))


async def remove(provider: Provider, object_id: str = THREAD) -> Reply:
    return await provider.delete(provider.kinds["thread"], object_id)


class TestRequest:
    """What the provider sees."""

    async def test_headers(self, server: Server, provider: Provider) -> None:
        server.say(DELETED)

        await remove(provider)

        headers = server.asked[0].headers
        request_id = headers.pop("x-client-request-id")
        assert request_id.startswith("lapse-")
        assert headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "user-agent": f"lapse/{__version__}",
            "authorization": f"Bearer {KEY}",
            "openai-beta": "assistants=v2",
            "content-length": "0",
        }

    async def test_conversations_take_no_beta_header(self, server: Server, provider: Provider) -> None:
        server.say(answer(404))

        await provider.delete(provider.kinds["conversation"], "conv_1")

        assert "openai-beta" not in server.asked[0].headers

    async def test_organisation_and_project(self, server: Server, make: MakeProvider) -> None:
        server.say(DELETED)

        await remove(make(server.url, organization="org-1", project="proj_1"))

        assert server.asked[0].headers["openai-organization"] == "org-1"
        assert server.asked[0].headers["openai-project"] == "proj_1"

    async def test_request_ids_are_unique(self, server: Server, make: MakeProvider) -> None:
        server.say(DELETED)

        for provider in (make(server.url), make(server.url)):
            await remove(provider)
            await remove(provider)

        assert len({asked.headers["x-client-request-id"] for asked in server.asked}) == 4

    async def test_nothing_comes_from_the_environment(
        self, server: Server, make: MakeProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another program's settings must not redirect or re-sign a deletion."""
        elsewhere = f"http://127.0.0.1:{free_port()}"
        for name, value in {
            "OPENAI_BASE_URL": f"{elsewhere}/v1",
            "OPENAI_API_KEY": "sk-of-another-program",
            "OPENAI_ADMIN_KEY": "sk-admin-of-another-program",
            "OPENAI_ORG_ID": "org-other",
            "OPENAI_PROJECT_ID": "proj-other",
            "OPENAI_CUSTOM_HEADERS": "OpenAI-Project: proj-other\nX-Other: 1\nAuthorization: Bearer other",
            "HTTP_PROXY": elsewhere,
            "http_proxy": elsewhere,
            "ALL_PROXY": elsewhere,
        }.items():
            monkeypatch.setenv(name, value)
        server.say(DELETED)
        provider = make(server.url)
        identity = await provider.identity()
        for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            monkeypatch.delenv(name)

        reply = await remove(provider)

        assert reply.status == 200
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
        assert {"openai-organization", "openai-project", "x-other"}.isdisjoint(server.asked[0].headers)
        assert await make(server.url).identity() == identity

    @pytest.mark.parametrize(
        ("object_id", "path"),
        [("a:b", "a%3Ab"), ("a=b", "a%3Db"), ("a+b", "a%2Bb"), ("...", "..."), ("x" * 1024, "x" * 1024)],
    )
    async def test_ids_are_encoded_once(self, object_id: str, path: str, server: Server, provider: Provider) -> None:
        server.say(answer(404))

        await remove(provider, object_id)

        assert server.targets == [f"DELETE /v1/threads/{path}"]

    @pytest.mark.parametrize(
        "object_id",
        [
            "",
            ".",
            "..",
            "../files/x",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "a\n",
            "a%2fb",
            "é",
            "x" * 1025,
            "a\r\nX: 1",
        ],
    )
    async def test_an_id_that_is_none_is_never_sent(self, object_id: str, server: Server, provider: Provider) -> None:
        assert ID.fullmatch(object_id) is None or object_id in {".", ".."}

        replies = [
            await remove(provider, object_id),
            await provider.read(provider.kinds["thread"], object_id),
            await provider.items(provider.kinds["conversation"], object_id),
            await provider.delete_item(provider.kinds["conversation"], "conv_1", object_id),
        ]

        for reply in replies:
            verdict = classify(provider.kinds["thread"], object_id, reply)
            assert (verdict.outcome, verdict.unknown) == (Outcome.INVALID, False)
        assert server.asked == []
        assert provider.drain_counters() == {}

    async def test_a_slash_after_the_base_url_changes_nothing(self, server: Server, make: MakeProvider) -> None:
        server.say(DELETED)

        await remove(make(f"{server.url}/"))

        assert server.targets == [f"DELETE /v1/threads/{THREAD}"]
        assert await make(f"{server.url}/").identity() == await make(server.url).identity()

    async def test_cookies_are_not_kept(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, gone("thread", THREAD), {"Set-Cookie": "session=1; Path=/"}))

        await remove(provider)
        await remove(provider)

        assert "cookie" not in server.asked[1].headers

    async def test_no_more_in_flight_than_configured(self, server: Server, make: MakeProvider) -> None:
        server.respond = lambda _: answer(200, gone("thread", THREAD), delay=0.05)
        provider = make(server.url, concurrency=3)

        await asyncio.gather(*(remove(provider) for _ in range(12)))

        assert server.most_in_flight == 3
        assert len({asked.connection for asked in server.asked}) == 3

    async def test_waiting_for_a_slot_is_not_part_of_the_timeout(self, server: Server, make: MakeProvider) -> None:
        server.respond = lambda _: answer(200, gone("thread", THREAD), delay=0.3)
        provider = make(server.url, concurrency=1, timeout=1.0)

        replies = await asyncio.gather(*(remove(provider) for _ in range(5)))

        assert [reply.status for reply in replies] == [200] * 5
        assert all(0.2 < reply.seconds < 1.0 for reply in replies)


class TestAnswer:
    """What arrives."""

    async def test_status_headers_and_body(self, server: Server, provider: Provider) -> None:
        server.say(answer(418, "short", {"X-Request-ID": "req_7", "Retry-After": "3"}))

        reply = await remove(provider)

        assert (reply.status, reply.body) == (418, b"short")
        assert (reply.headers["x-request-id"], reply.headers["retry-after"]) == ("req_7", "3")
        assert reply.failure is None
        assert reply.sent

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, status: int, server: Server, provider: Provider) -> None:
        """A followed 302 turns a DELETE into the GET of a login page, whose 200 looks fine."""
        server.say(answer(status, "", {"Location": "/v1/elsewhere"}), DELETED)

        assert (await remove(provider)).status == status
        assert len(server.asked) == 1

    async def test_compressed(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, gzip.compress(gone("thread", THREAD).encode()), {"Content-Encoding": "gzip"}))

        assert (await remove(provider)).body == gone("thread", THREAD).encode()

    async def test_a_long_body_is_cut(self, server: Server, provider: Provider) -> None:
        server.say(answer(404, "x" * 5_000_000), DELETED)

        reply = await remove(provider)

        assert (reply.status, len(reply.body)) == (404, BODY_BYTES)
        assert (await remove(provider)).status == 200

    async def test_a_body_that_swells_is_cut(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, gzip.compress(b"0" * 50_000_000), {"Content-Encoding": "gzip"}))

        assert len((await remove(provider)).body) == BODY_BYTES

    async def test_chunked(self, server: Server, provider: Provider) -> None:
        body = gone("thread", THREAD).encode()
        parts = (body[:7], body[7:], b"")
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        server.say(Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks))

        assert (await remove(provider)).body == body


class TestFailure:
    """What does not arrive. ``sent`` says whether the DELETE may have been executed."""

    @staticmethod
    def check(provider: Provider, reply: Reply, failure: str, *, sent: bool) -> None:
        verdict = classify(provider.kinds["thread"], THREAD, reply)

        assert (failure, sent, None) == (reply.failure, reply.sent, reply.status)
        assert (Outcome.ERROR, sent) == (verdict.outcome, verdict.unknown)
        assert verdict.detail.startswith(f"{failure}: ")
        assert len(verdict.detail) > len(failure) + 2
        assert provider.drain_counters()["thread"][f"requests||delete|{failure}"] == 1

    async def test_refused(self, make: MakeProvider) -> None:
        provider = make(f"http://127.0.0.1:{free_port()}/v1")

        self.check(provider, await remove(provider), "connect", sent=False)

    async def test_no_such_host(self, make: MakeProvider) -> None:
        provider = make("http://nowhere.invalid/v1")

        self.check(provider, await remove(provider), "connect", sent=False)

    async def test_no_tls_there(self, make: MakeProvider) -> None:
        async def answer_in_clear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer_in_clear, "127.0.0.1", 0) as clear:
            provider = make(f"https://127.0.0.1:{clear.sockets[0].getsockname()[1]}/v1")

            self.check(provider, await remove(provider), "tls", sent=False)

    async def test_connecting_takes_too_long(self, make: MakeProvider) -> None:
        """The TLS handshake is never answered: no request was sent."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            provider = make(f"https://127.0.0.1:{silent.getsockname()[1]}/v1", timeout=0.3)

            self.check(provider, await remove(provider), "timeout", sent=False)

    async def test_no_answer_in_time(self, server: Server, make: MakeProvider) -> None:
        server.say(HANG)
        provider = make(server.url, timeout=0.3)

        self.check(provider, await remove(provider), "timeout", sent=True)

    async def test_half_an_answer_in_time(self, server: Server, make: MakeProvider) -> None:
        server.say(Answer(b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"id": ', then="hang"))
        provider = make(server.url, timeout=0.3)

        self.check(provider, await remove(provider), "timeout", sent=True)

    @pytest.mark.parametrize("end", [CLOSE, RESET], ids=["close", "reset"])
    async def test_connection_lost(self, end: Answer, server: Server, provider: Provider) -> None:
        server.say(end)

        self.check(provider, await remove(provider), "reset", sent=True)

    async def test_connection_lost_in_the_body(self, server: Server, provider: Provider) -> None:
        server.say(Answer(b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"id": ', then="close"))

        self.check(provider, await remove(provider), "reset", sent=True)

    async def test_no_http(self, server: Server, provider: Provider) -> None:
        server.say(Answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", then="close"))

        self.check(provider, await remove(provider), "protocol", sent=True)

    async def test_not_compressed_as_it_says(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, gone("thread", THREAD), {"Content-Encoding": "gzip"}))

        self.check(provider, await remove(provider), "reset", sent=True)

    async def test_a_kept_connection_that_breaks_is_not_retried_unseen(
        self, server: Server, provider: Provider
    ) -> None:
        """The first DELETE may have been executed; a second one would find nothing and hide that."""
        server.say(DELETED, CLOSE, DELETED)
        await remove(provider)
        provider.drain_counters()

        reply = await remove(provider)

        assert [asked.connection for asked in server.asked] == [1, 1]
        self.check(provider, reply, "reset", sent=True)

    async def test_cancelled(self, server: Server, provider: Provider) -> None:
        """It is counted: the provider may have it in its log."""
        server.say(HANG)
        task = asyncio.create_task(remove(provider))
        async with asyncio.timeout(5):
            await server.arrival.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

        assert provider.drain_counters()["thread"]["requests||delete|cancelled"] == 1
