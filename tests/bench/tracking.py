"""What ``lapse.track`` costs an application: time and CPU of a create, other paths, and what it remembers."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai

import lapse
from bench.figures import Figure
from lapse.sandbox.redis_server import EmbeddedRedis
from lapse.tracking.touches import MOST, Touches
from support.sandbox_process import SandboxProcess

LATENCY = "20ms"
POLICIES = {"conversation": "chat"}


def measure(rounds: int) -> list[Figure]:
    """Return every figure of tracking."""
    with EmbeddedRedis() as server:
        return [*_creates(server, rounds), *_other_paths(rounds), _remembered()]


@contextmanager
def _clients(server: EmbeddedRedis, url: str) -> Iterator[tuple[Any, Any]]:
    """Give a plain client and a tracked one of the same provider."""
    with lapse.Registry(server.url, provider="bench", timeout=5) as registry:
        plain, tracked = (openai.OpenAI(api_key="k", base_url=url) for _ in range(2))
        yield plain, lapse.track(tracked, policies=POLICIES, registry=registry)
        plain.close()
        tracked.close()


def _creates(server: EmbeddedRedis, rounds: int, count: int = 100) -> list[Figure]:
    added: list[float] = []
    cpu: list[float] = []
    with SandboxProcess(latency=LATENCY) as provider, _clients(server, provider.url) as clients:
        for i in range(rounds + 1):  # the first round warms up
            (plain, plain_cpu), (tracked, tracked_cpu) = (_create(client, count) for client in clients)
            added += [100 * (tracked - plain) / plain] if i else []
            cpu += [(tracked_cpu - plain_cpu) * 1e6] if i else []
    return [
        Figure(f"tracked create at {LATENCY}, % added", added, ("<=", 3)),
        Figure("tracked create, us of CPU added", cpu, ("<=", 150)),
    ]


def _create(client: Any, count: int) -> tuple[float, float]:
    """Return the median wall time and the mean CPU time of a create, in seconds."""
    taken = []
    began = time.process_time()
    for _ in range(count):
        at = time.perf_counter()
        client.conversations.create()
        taken.append(time.perf_counter() - at)
    return sorted(taken)[count // 2], (time.process_time() - began) / count


def _other_paths(rounds: int, count: int = 20_000) -> list[Figure]:
    http = httpx2.Client()
    client = openai.OpenAI(api_key="k", http_client=http)
    lapse.track(client, policies=POLICIES, registry=lapse.Registry("redis://127.0.0.1:1/0", provider="bench"))
    request = httpx2.Request("POST", f"{client.base_url}embeddings", headers=client.auth_headers, json={"input": ""})
    response = httpx2.Response(200, request=request, content=b"{}")
    hooks: list[tuple[Callable[[Any], None], Any]] = [
        (http.event_hooks["request"][0], request),
        (http.event_hooks["response"][0], response),
    ]
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        for hook, about in hooks * count:
            hook(about)
        taken.append((time.process_time() - began) / count * 1e6)
    client.close()
    return [Figure("another path of a tracked client, us of CPU", taken, ("<=", 5))]


def _remembered() -> Figure:
    tracemalloc.start()
    done = Touches()
    for number in range(MOST):
        done.done("conversation", f"conv_{number:048d}")
    held = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    return Figure(f"{MOST} touched ids, MiB", [held], ("<=", 20))
