"""What exists already: a file of ids through ``lapse import``, to the same ids through a pipeline.

``LAPSE_BENCH_ROWS`` says how many, a million if it is not set.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from bench import baselines
from bench.figures import Figure, ratio
from lapse.sandbox.redis_server import EmbeddedRedis

ROWS = int(os.environ.get("LAPSE_BENCH_ROWS", "1000000"))
SCRIPT = Path(sys.executable).with_name("lapse")
COMMAND = ("import", "ids.csv", "--provider", "bench", "--kind", "thread", "--policy", "chat")


def measure(rounds: int) -> list[Figure]:
    """Return the rates of the whole command, its start included, and of pipelined ZADDs."""
    ours: list[float] = []
    theirs: list[float] = []
    ids = [f"thread_{n:024d}" for n in range(ROWS)]
    with TemporaryDirectory() as folder, EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        rows = (f"{id_},2026-03-01\n" for id_ in ids)
        (Path(folder) / "ids.csv").write_text("id,created_at\n" + "".join(rows), encoding="utf-8")
        for _ in range(rounds):
            client.flushall()
            began = time.perf_counter()
            subprocess.run([SCRIPT, *COMMAND], cwd=folder, env={**os.environ, "REDIS_URL": server.url}, check=True)
            ours.append(ROWS / (time.perf_counter() - began))
            client.flushall()
            theirs.append(baselines.add_many(client, ids))
    return [
        Figure(f"lapse import of {ROWS:,} rows, rows/s", ours, None),
        Figure("pipelined ZADD of the same, ids/s", theirs, None),
        ratio("lapse import to pipelined ZADD", ours, theirs, ">=", 0.5),
    ]


__all__ = ["measure"]
