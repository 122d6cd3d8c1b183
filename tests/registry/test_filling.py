"""The registry that `make bench-scale` measures is one that applications could have made."""

import time
from functools import partial
from typing import Any

import pytest
import redis

from bench.scale.filling import TooLarge, check, conversations, fill
from lapse import Registry
from lapse.registry import keys
from lapse.registry.model import Partition

CHUNK = next(conversations(0, 40, round(time.time() * 1000), 20))


def stored(client: redis.Redis, provider: str) -> dict[str, Any]:
    """Return everything in a slot by the name of its key, and whether the slot is named."""
    slot = keys.slot("lapse", provider, "conversation")
    found: dict[str, Any] = {"named": client.sismember(keys.slots("lapse"), f"{provider}/conversation")}
    for name in client.scan_iter(f"{slot}*"):
        read: dict[Any, Any] = {
            b"set": client.smembers,
            b"hash": client.hgetall,
            b"zset": partial(client.zrange, start=0, end=-1, withscores=True),
        }
        found[name.decode().removeprefix(slot)] = read[client.type(name)](name)
    return found


def test_what_fills_a_registry_for_the_bench_is_what_registering_leaves(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, Registry(redis_url, provider="registered", timeout=5) as registry:
        fill(client, Partition("filled", "conversation", "chat"), CHUNK)
        client.hset(keys.partition("lapse", "registered", "conversation", "chat") + keys.RULES, "creations", "packed")
        registry.register_many(
            {
                "kind": "conversation",
                "id": id_,
                "policy": "chat",
                "created_at": created / 1000,
                "last_active_at": active / 1000,
            }
            for id_, created, active in CHUNK
        )
        filled = stored(client, "filled")
        assert filled == stored(client, "registered")
        assert {"named", "policies", "chat:rules", "chat:active"} == set(filled)
        assert len(CHUNK) == len(filled["chat:active"])


def test_more_than_the_free_memory_allows_is_refused_before_anything_is_written() -> None:
    assert "6.0 GB with a rewrite's copy; 11.0 GB are free" in check(10_000_000, 11 * 10**9)
    with pytest.raises(TooLarge, match="60% of them may be taken"):
        check(10_000_000, 9 * 10**9)
