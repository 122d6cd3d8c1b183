"""What a registry of one size is on disk: its append-only file, the pause of a fork, and a restart."""

import time
from collections.abc import Callable
from typing import Any

import redis

from lapse.sandbox.redis_server import EmbeddedRedis

PATIENCE = 1800.0  # seconds
GIGA = 1e9


def measure(server: EmbeddedRedis, client: redis.Redis) -> dict[str, float]:
    """Rewrite the append-only file, save a snapshot, and start the server again; return what that took."""
    found = {"memory, GB": _info(client, "memory")["used_memory"] / GIGA}
    client.bgrewriteaof()
    _wait(lambda: not _info(client, "persistence")["aof_rewrite_in_progress"])
    persistence = _info(client, "persistence")
    found["AOF after a rewrite, GB"] = persistence["aof_current_size"] / GIGA
    found["rewrite, s"] = persistence["aof_last_rewrite_time_sec"]
    client.bgsave()
    _wait(lambda: not _info(client, "persistence")["rdb_bgsave_in_progress"])
    found["pause of the fork for an RDB, ms"] = _info(client, "stats")["latest_fork_usec"] / 1000
    client.connection_pool.disconnect()
    server.stop()
    began = time.perf_counter()
    server.start(within=PATIENCE)
    found["restart from the AOF, s"] = time.perf_counter() - began
    return found


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    return dict(client.info(section))


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not done within {PATIENCE:.0f} s")
        time.sleep(0.05)
