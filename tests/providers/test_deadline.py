"""A request dies with its lease: when its time is over nothing of it begins, and nothing of it leaves any more."""

import asyncio
import inspect
import os
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lapse.errors import ConfigError
from lapse.providers import transport
from lapse.providers.deadline import Deadline, Requests, current
from lapse.providers.outcomes import Outcome, classify, classify_item
from lapse.providers.provider import Provider
from lapse.providers.response import Reply
from lapse.providers.route import Route
from lapse.providers.transport import HttpTransport
from providers.actions import Budget
from providers.conftest import MakeProvider
from providers.rows import THREAD, gone
from providers.scripted import HANG, Server, answer
from providers.stalled import StalledPeer
from support.tls import Authority

FULL = b"\r\n\r\n"  # the end of a request without a body: before it, nobody can act on it
DELETED = answer(200, gone("thread", THREAD))
PLENTY = "o" * 60_000
"""In a header: more than a small window, and what lies between two kernels, take."""

REQUESTS: dict[str, tuple[Any, ...]] = {
    "delete": ("thread", THREAD),
    "read": ("thread", THREAD),
    "absence": ("thread", THREAD),
    "witness": ("thread", THREAD),
    "probe": ("file",),
    "create": ("thread", {}),
    "items": ("conversation", "conv_1"),
    "delete_item": ("conversation", "conv_1", "msg_1"),
    "part": ("cancel", "POST", "thread", THREAD, "/runs/run_1/cancel"),
    "listing": ("file", Budget()),
}
"""Every method of a provider that sends something, and what it is given; kinds by name."""


def within(begin: float, end: float = 30.0) -> Requests:
    """Return the requests of a claim that may begin and last so many seconds from now."""
    now = time.monotonic()
    return Requests(Deadline(now + begin, now + end))


async def remove(provider: Provider, requests: Requests, object_id: str = THREAD) -> Reply:
    with requests:
        return await provider.delete(provider.kinds["thread"], object_id)


def late(provider: Provider, reply: Reply) -> bool:
    """Return True if nothing was sent, and that is no attempt of the id."""
    verdict = classify(provider.kinds["thread"], THREAD, reply)
    return (reply.failure, reply.sent, verdict.outcome, verdict.unknown) == ("late", False, Outcome.LIMITED, False)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
    return made


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest, authority: Authority) -> ssl.SSLContext | None:
    return authority.server if request.param else None


@pytest.fixture
async def trusting(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiohttp trust the authority of this test, as an operator's SSL_CERT_FILE does for a process."""
    context = ssl.create_default_context(cafile=authority.ca)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)


class TestBeginning:
    """Where the first byte is written, it is not too late."""

    async def test_in_time(self, server: Server, provider: Provider) -> None:
        server.say(DELETED)
        requests = within(5)

        reply = await remove(provider, requests)

        assert (200, True) == (reply.status, requests.deleting)
        assert current() is None

    async def test_too_late_from_the_start(self, server: Server, provider: Provider) -> None:
        requests = within(-0.001)

        assert late(provider, await remove(provider, requests))

        assert ([], False) == (server.asked, requests.deleting)
        assert {} == provider.drain_counters()

    async def test_while_it_waits_for_a_slot(self, server: Server, make: MakeProvider) -> None:
        server.say(HANG)
        provider = make(server.url, concurrency=1)
        first = asyncio.create_task(remove(provider, within(5)))
        await server.arrival.wait()
        began = time.monotonic()

        assert late(provider, await remove(provider, within(0.2)))

        assert time.monotonic() - began < 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert 1 == len(server.asked)

    async def test_a_slot_that_was_waited_for_in_vain_is_free_again(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, gone("thread", THREAD), delay=0.4), DELETED)
        provider = make(server.url, concurrency=1)

        first, *others = await asyncio.gather(
            remove(provider, within(5)), *(remove(provider, within(0.1)) for _ in range(3))
        )

        assert 200 == first.status
        assert all(late(provider, reply) for reply in others)
        assert 200 == (await remove(provider, within(5))).status

    @pytest.mark.usefixtures("trusting")
    async def test_while_the_handshake_of_tls_stalls(self, authority: Authority, make: MakeProvider) -> None:
        with StalledPeer(authority.server, stall_handshake=True) as peer:
            provider = make(peer.url)

            assert late(provider, await remove(provider, within(0.3)))

            peer.go_on()
        assert b"" == peer.told

    @pytest.mark.usefixtures("trusting")
    async def test_when_the_handshake_ends_too_late(self, authority: Authority, make: MakeProvider) -> None:
        """The process may have been stopped in between: no timer of its own rang before the connection was there."""
        with StalledPeer(authority.server, stall_handshake=True) as peer:
            provider = make(peer.url)
            removing = asyncio.create_task(remove(provider, within(0.5)))
            await asyncio.to_thread(peer.accepted.wait)
            peer._reading.set()
            time.sleep(0.8)  # noqa: ASYNC251 - as a process does that is stopped

            assert late(provider, await removing)
        assert b"" == peer.told

    @pytest.mark.parametrize("method", REQUESTS)
    async def test_whatever_is_asked(self, method: str, server: Server, make: MakeProvider) -> None:
        provider = make(server.url, concurrency=1)
        args = REQUESTS[method]

        with within(-1) as requests:
            given = [
                provider.kinds[each] if isinstance(each, str) and each in provider.kinds else each for each in args
            ]
            said = await getattr(provider, method)(*given)

        assert ([], {}, False) == (server.asked, provider.drain_counters(), requests.deleting)
        if method == "listing":
            assert (False, Outcome.LIMITED) == (said.complete, said.verdict.outcome)
        else:
            assert ("late", False) == (said.failure, said.sent)

    def test_which_are_all_requests_there_are(self) -> None:
        asking = {name for name, found in vars(Provider).items() if inspect.iscoroutinefunction(found)}

        assert REQUESTS.keys() | {"identity", "aclose"} == {name for name in asking if not name.startswith("_")}

    def test_a_late_item_is_a_limit_of_its_parents(self, provider: Provider) -> None:
        item = Reply(failure="late", sent=False)

        verdict = classify_item(provider.kinds["conversation"], "conv_1", "msg_1", item)

        assert (Outcome.LIMITED, False) == (verdict.outcome, verdict.unknown)

    async def test_an_item_is_not_the_id_itself(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, '{"id": "conv_1", "object": "conversation"}'))

        with within(5) as requests:
            await provider.delete_item(provider.kinds["conversation"], "conv_1", "msg_1")

        assert (1, False) == (len(server.asked), requests.deleting)

    async def test_tasks_that_are_begun_inside_are_under_it(self, server: Server, provider: Provider) -> None:
        with within(-1):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(provider.delete(provider.kinds["thread"], THREAD))

        assert late(provider, task.result())
        assert [] == server.asked

    async def test_what_is_for_no_claim_has_no_deadline(self, server: Server, provider: Provider) -> None:
        server.say(DELETED)

        with within(-1):
            pass

        assert 200 == (await provider.delete(provider.kinds["thread"], THREAD)).status

    async def test_a_connection_that_a_short_lease_used_serves_a_long_one(
        self, server: Server, make: MakeProvider
    ) -> None:
        """What the kernel was told for the one request must not end the next."""
        server.say(DELETED, answer(200, gone("thread", THREAD), delay=0.6))
        provider = make(server.url, concurrency=1)

        await remove(provider, within(0.2, 0.3))

        assert 200 == (await remove(provider, within(5))).status
        assert [1, 1] == [asked.connection for asked in server.asked]


class TestEnd:
    """No byte leaves later."""

    async def test_the_answer_is_waited_for_to_the_leases_end_at_most(self, server: Server, make: MakeProvider) -> None:
        server.say(HANG)
        provider, requests, began = make(server.url, timeout=20), within(1.0, 1.5), time.monotonic()

        reply = await remove(provider, requests)

        assert ("timeout", True, True) == (reply.failure, reply.sent, requests.deleting)
        assert 1 < time.monotonic() - began < 5

    @pytest.mark.usefixtures("trusting")
    async def test_what_a_stalled_peer_did_not_take_is_thrown_away(
        self, tls: ssl.SSLContext | None, make: MakeProvider
    ) -> None:
        with StalledPeer(tls) as peer:
            provider = make(peer.url, timeout=0.5, organization=PLENTY)

            reply = await remove(provider, within(5))
            await asyncio.sleep(0.1)  # the loop closes what was aborted in its next round
            await asyncio.to_thread(peer.go_on)

        assert ("timeout", True) == (reply.failure, reply.sent)
        assert FULL not in peer.told
        assert "closed" != peer.how

    async def test_what_the_kernel_does_not_take_whole_is_not_sent_at_all(self, make: MakeProvider) -> None:
        """The rest would wait in this process, and leave when it goes on after a stop."""
        with StalledPeer() as peer:
            provider, began = make(peer.url, timeout=20, organization=PLENTY * 200), time.monotonic()

            reply = await remove(provider, within(30, 30))

            assert ("reset", True) == (reply.failure, reply.sent)
            assert time.monotonic() - began < 10
            await asyncio.to_thread(peer.go_on)
        assert FULL not in peer.told

    @pytest.mark.usefixtures("trusting")
    async def test_nor_what_was_cancelled(self, tls: ssl.SSLContext | None, make: MakeProvider) -> None:
        with StalledPeer(tls) as peer:
            provider, requests = make(peer.url, organization=PLENTY), within(5)
            removing = asyncio.create_task(remove(provider, requests))
            async with asyncio.timeout(5):
                while not requests.deleting:
                    await asyncio.sleep(0.01)
            removing.cancel()
            await asyncio.gather(removing, return_exceptions=True)
            await asyncio.sleep(0.1)  # as above
            await asyncio.to_thread(peer.go_on)

        assert FULL not in peer.told
        assert "closed" != peer.how


class TestStopped:
    """The process stands still, and what it wrote lies in the kernel's buffer."""

    LEASE = 2.0

    async def test_the_kernel_throws_it_away(self, tls: ssl.SSLContext | None, authority: Authority) -> None:
        with StalledPeer(tls) as peer:
            command = (sys.executable, "-m", "providers.sending", peer.url, str(self.LEASE), PLENTY)
            sender = await asyncio.create_subprocess_exec(
                *command,
                cwd=Path(__file__).parents[1],
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "SSL_CERT_FILE": str(authority.ca)},
            )
            assert sender.stdout
            leased = float(await sender.stdout.readline())  # this machine's clock, and all its processes'
            sender.send_signal(signal.SIGSTOP)
            assert time.monotonic() < leased + self.LEASE / 2, "it was not stopped in time"
            await asyncio.sleep(leased + self.LEASE - time.monotonic())

            await asyncio.to_thread(peer.go_on)
            sender.send_signal(signal.SIGCONT)
            said = await sender.stdout.read()
            assert 0 == await sender.wait()

        assert b"" != peer.told or tls
        assert FULL not in peer.told
        assert said.decode().split() in (["reset", "True"], ["timeout", "True"])


class TestSeam:
    """What of aiohttp is not public is looked at before anything is sent."""

    def test_the_one_installed_is_as_lapse_knows_it(self) -> None:
        transport.demand.__wrapped__()

    @pytest.mark.parametrize(
        ("moved", "name"),
        [
            ("gone", "ClientRequest.send"),
            ("not async", "ClientRequest.send"),
            ("other parameters", "ClientRequest.send"),
            ("no transport", "Connection.transport"),
            ("no retry switch", "ClientSession._retry_connection"),
        ],
    )
    async def test_another_is_refused_and_named(self, moved: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(_self: Any, conn: Any) -> Any:
            return conn

        async def send(_self: Any, _writer: Any) -> None:
            pass

        transport.demand.cache_clear()
        match moved:
            case "gone":
                monkeypatch.delattr(aiohttp.ClientRequest, "send")
            case "not async":
                monkeypatch.setattr(aiohttp.ClientRequest, "send", write)
            case "other parameters":
                monkeypatch.setattr(aiohttp.ClientRequest, "send", send)
            case "no transport":
                monkeypatch.delattr("aiohttp.connector.Connection.transport")
            case _:
                monkeypatch.setattr(aiohttp.ClientSession, "ATTRS", frozenset())

        with pytest.raises(
            ConfigError, match=rf"aiohttp .* does not have {name} as .* install the release .* aiohttp 3"
        ):
            HttpTransport(concurrency=1, timeout=1, route=Route("openai"))
        monkeypatch.undo()
        transport.demand.cache_clear()
