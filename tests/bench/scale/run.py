"""``make bench-scale N=10000000``: each thing that lapse does against the size of one registry, in one run."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import redis

from bench.scale import durability, report
from bench.scale.filling import TooLarge, check, conversations, fill, free_memory
from bench.scale.parts import CONFIG, SLOW, Parts, Slowest, Timings
from lapse import Registry
from lapse.ledger.partition import Ledger
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.sandbox.redis_server import EmbeddedRedis

SIZES = (100_000, 1_000_000)
DAYS = 20  # within the policy's ttl: nothing of the crowd is due
DOCUMENT = Path(__file__).parents[3] / "docs" / "sizing.md"
CHART = DOCUMENT.with_name("sizing.svg")
BEGIN, END = "<!-- make bench-scale writes from here -->\n", "<!-- to here -->\n"
OPTIONS = ("--slowlog-log-slower-than", str(SLOW), "--slowlog-max-len", "1000", "--auto-aof-rewrite-percentage", "0")


def main() -> None:
    """Measure, print a table, and with --write put it into docs/sizing.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", type=int, help="how many ids")
    parser.add_argument("--write", action="store_true", help="write the table and the chart into docs/")
    chosen = parser.parse_args()
    try:
        sys.stderr.write(check(chosen.size, free_memory()) + "\n")
    except TooLarge as error:
        sys.exit(str(error))
    figures: dict[str, dict[int, float]] = defaultdict(dict)
    slowest: dict[str, dict[int, Slowest]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(*OPTIONS, persistent=True) as server:
        (Path(folder) / "retention.toml").write_text(CONFIG.format(url=server.url), encoding="utf-8")
        there = 0
        for size in sorted({*(one for one in SIZES if one < chosen.size), chosen.size}):
            timings, disk = _at(server, Path(folder), there, size)
            there = size
            for name, value in (timings.figures | disk).items():
                figures[name][size] = value
            for name, worst in timings.slowest.items():
                slowest[name][size] = worst
    text = report.table(figures, slowest)
    sys.stdout.write(text)
    for line in report.missed(figures, slowest):
        sys.stdout.write(f"missed: {line}\n")
    if chosen.write:
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")
        CHART.write_text(report.chart(figures), encoding="utf-8")


def _at(server: EmbeddedRedis, home: Path, there: int, size: int) -> tuple[Timings, dict[str, float]]:
    """Let the registry grow to a size, and measure it."""
    began = time.monotonic()
    with redis.Redis.from_url(server.url) as client:
        now = round(time.time() * 1000)
        for chunk in conversations(there, size, now, DAYS):
            fill(client, Partition("bench", "conversation", "chat"), chunk, now)
        sys.stderr.write(f"{size:,} ids are there after {time.monotonic() - began:.0f} s\n")
        timings = asyncio.run(_measured(server, client, home, size))
        timings.figures["load of the machine meanwhile"] = os.getloadavg()[0]
        sys.stderr.write(f"measured after {time.monotonic() - began:.0f} s\n")
        return timings, durability.measure(server, client)


async def _measured(server: EmbeddedRedis, client: redis.Redis, home: Path, size: int) -> Timings:
    carrier = Carrier(server.url, 30)
    ledger = Ledger(carrier, "lapse", "bench", max_pending=100_000_000)
    with Registry(server.url, provider="bench", timeout=30) as registry:
        timings = await Parts(client, ledger, home, size).measure(registry)
    await carrier.aclose()
    return timings


if __name__ == "__main__":
    main()
