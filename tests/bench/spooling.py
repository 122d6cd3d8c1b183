"""What an event loop notices of a Redis that answers nothing: it goes on, whatever the disk does."""

import asyncio
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lapse
from bench.figures import Figure
from lapse.registry.spool.store import SpoolStore

PER_SECOND = 500
SECONDS = 4.0
LOOKED = 0.002
SLOW = 0.02
"""Seconds that the slow disk takes for a write, however much is in it."""


def measure(rounds: int) -> list[Figure]:
    """Return every figure of the spool."""
    lag, took = [], []
    for _ in range(rounds):
        with _black_hole() as url, _slow_disk(), tempfile.TemporaryDirectory() as folder:
            lags, calls = asyncio.run(_creating(url, Path(folder) / "one.spool"))
            lag.append(_percentile(lags, 99) * 1000)
            took.append(_percentile(calls, 50) * 1000)
    idle = [_percentile(asyncio.run(_lag_of(asyncio.sleep(SECONDS))), 99) * 1000 for _ in range(rounds)]
    return [
        Figure(f"loop lag p99 with {PER_SECOND} creates/s, Redis silent, disk slow, ms", lag, ("<=", 5)),
        Figure("loop lag p99 of an idle loop beside it, ms", idle, None),
        Figure(f"a registration into a spool, disk of {SLOW * 1000:g} ms, ms", took, None),
    ]


@contextmanager
def _black_hole() -> Iterator[str]:
    """Give the URL of a Redis that takes every connection, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@contextmanager
def _slow_disk() -> Iterator[None]:
    fast = SpoolStore.append

    def append(self: SpoolStore, statements: Any) -> int:
        time.sleep(SLOW)
        return fast(self, statements)

    SpoolStore.append = append  # type: ignore[method-assign]
    try:
        yield
    finally:
        SpoolStore.append = fast  # type: ignore[method-assign]


async def _creating(url: str, path: Path) -> tuple[list[float], list[float]]:
    """Return by how much the loop was late, and how long calls took, while so many are made a second."""
    registry = lapse.AsyncRegistry(url, provider="bench", on_error="spool", spool=path)
    took: list[float] = []
    lags = await _lag_of(_calls(registry, took))
    await registry.aclose()
    return lags, took


async def _calls(registry: lapse.AsyncRegistry, took: list[float]) -> None:
    async def one(number: int) -> None:
        began = time.perf_counter()
        answer = await registry.register("conversation", f"conv_{number:024d}", "chat", subject="user:1")
        took.append(time.perf_counter() - began)
        if answer.governed_by != "spooled":
            raise RuntimeError(f"it was to go into the spool: {answer.governed_by}")

    began, running = time.perf_counter(), set()
    for number in range(int(PER_SECOND * SECONDS)):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
        running.add(asyncio.ensure_future(one(number)))
    await asyncio.gather(*running)


async def _lag_of(work: Any) -> list[float]:
    """Return by how many seconds each look at the clock came too late, while something is done."""
    lags: list[float] = []
    doing = asyncio.ensure_future(work)
    while not doing.done():
        wanted = time.perf_counter() + LOOKED
        await asyncio.sleep(LOOKED)
        lags.append(time.perf_counter() - wanted)
    await doing
    return lags


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]
