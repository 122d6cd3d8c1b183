"""One AsyncRegistry on many event loops and threads; Registry on greenlets."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis
import uvloop

from faults.proxy import Proxy
from lapse import AsyncRegistry, RegistryUnavailable
from lapse.registry.aio import Carrier

LOOPS = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@pytest.fixture
def between(redis_url: str) -> Iterator[Proxy]:
    """Return a proxy to the registry."""
    with Proxy(urlsplit(redis_url).port or 0) as proxy:
        yield proxy


def connections(raw: redis.Redis) -> int:
    return int(raw.info("clients")["connected_clients"])


@LOOPS
@pytest.mark.parametrize("on_error", ["raise", "log"])
def test_loops_after_each_other_share_a_registry(
    redis_url: str, raw: redis.Redis, make_loop: asyncio.AbstractEventLoop, on_error: str
) -> None:
    before = connections(raw)
    registry = AsyncRegistry(redis_url, provider="openai", timeout=5, on_error=on_error)

    async def use(number: int) -> bool:
        return (await registry.register("thread", f"thread_{number}", "chat")).new

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            with asyncio.Runner(loop_factory=make_loop) as runner:  # type: ignore[arg-type]
                assert runner.run(use(number))
        gc.collect()

    assert connections(raw) == before


@LOOPS
def test_threads_with_a_loop_each_share_a_registry(redis_url: str, make_loop: asyncio.AbstractEventLoop) -> None:
    registry = AsyncRegistry(redis_url, provider="openai", timeout=5)
    said: list[object] = []

    async def use(number: int) -> None:
        answers = await asyncio.gather(*(registry.register("thread", f"t_{number}_{n}", "chat") for n in range(50)))
        said.extend(answer.new for answer in answers)

    def work(number: int) -> None:
        try:
            with asyncio.Runner(loop_factory=make_loop) as runner:  # type: ignore[arg-type]
                runner.run(use(number))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test says so
            said.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [True] * 400 == said


def test_a_loop_closed_without_a_word_does_not_stop_the_next(redis_url: str) -> None:
    registry = AsyncRegistry(redis_url, provider="openai", timeout=5)

    async def use(number: int) -> bool:
        return (await registry.register("thread", f"thread_{number}", "chat")).new

    with warnings.catch_warnings():  # such a loop leaves its transports open, as it would anybody's
        warnings.simplefilter("ignore", ResourceWarning)
        for number in range(3):
            loop = asyncio.new_event_loop()
            assert loop.run_until_complete(use(number))
            loop.close()
        del loop
        registry = None  # type: ignore[assignment]
        gc.collect()


async def test_calls_wait_for_a_connection_within_their_time(between: Proxy, raw: redis.Redis) -> None:
    before = connections(raw)
    between.latency = 0.005
    carrier = Carrier(f"redis://127.0.0.1:{between.port}/0", 10, most=5)

    replies = await asyncio.gather(*(carrier.run([("ECHO", n)]) for n in range(300)))

    assert [[str(n).encode()] for n in range(300)] == replies
    assert connections(raw) - before <= 5
    await carrier.aclose()


async def test_cancelled_calls_mix_up_no_replies_and_use_up_no_connection(between: Proxy) -> None:
    carrier = Carrier(f"redis://127.0.0.1:{between.port}/0", 5, most=3)
    between.latency = 0.002
    mixed = []

    async def ask(number: int) -> None:
        (reply,) = await carrier.run([("ECHO", number)])
        if reply != str(number).encode():
            mixed.append((number, reply))

    for turn in range(150):
        tasks = [asyncio.create_task(ask(turn * 10 + n)) for n in range(6)]
        await asyncio.sleep(turn % 7 * 0.001)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert mixed == []
    assert [b"PONG"] == await carrier.run([("PING",)])
    await carrier.aclose()


async def test_nothing_answers_and_only_the_first_call_waits_longer() -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    over = asyncio.Event()
    mute = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{mute.sockets[0].getsockname()[1]}/0"
    registry = AsyncRegistry(url, provider="openai", timeout=0.1, connect_timeout=0.6)

    async def wait() -> float:
        began = time.monotonic()
        await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def call() -> float:
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="timeout="):
            await registry.touch("thread", "thread_1")
        return time.monotonic() - began

    assert 0.1 < await call() < 1.0
    both = [await asyncio.gather(*(act() for act in [call, wait] * 32)) for _ in range(10)]
    taken, waited = (sorted(one for turn in both for one in turn[first::2]) for first in (0, 1))

    # The second: how late this machine is anyway.
    late, anyway = (seconds[int(len(seconds) * 0.99)] - 0.1 for seconds in (taken, waited))
    assert late <= 2 * max(0, anyway) + 0.02
    await registry.aclose()
    over.set()
    mute.close()


GREEN = """
{patch}
import threading, time
from lapse import Registry
registry = Registry({url!r}, provider="openai", timeout=5)
said, ticks = [], []
def use(number):
    for n in range(20):
        said.append(registry.register("thread", f"thread_{{number}}_{{n}}", "chat").new)
def tick():
    while len(said) < 200:
        time.sleep(0.002)
        ticks.append(len(said))
threads = [threading.Thread(target=use, args=(number,)) for number in range(10)]
threads.append(threading.Thread(target=tick))
for thread in threads: thread.start()
for thread in threads: thread.join()
assert said == [True] * 200, said
assert len(set(ticks)) > 3, "a call held up the others"
print("answered")
"""


@pytest.mark.parametrize(
    "patch",
    [
        "from gevent import monkey; monkey.patch_all()",
        "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()",
        "import lapse; from gevent import monkey; monkey.patch_all()",
    ],
    ids=["gevent", "eventlet", "gevent, patched late"],
)
def test_greenlets_share_a_registry(between: Proxy, patch: str) -> None:
    between.latency = 0.003
    url = f"redis://127.0.0.1:{between.port}/0"

    ran = subprocess.run(
        [sys.executable, "-c", GREEN.format(patch=patch, url=url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (0, "answered\n"), ran.stderr
