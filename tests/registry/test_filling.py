"""The registry that `make bench-scale` measures is one that applications could have made."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import redis

from bench.scale.filling import TooLarge, check, conversations, fill
from lapse import Registry
from lapse.ledger.housekeeping import creations
from lapse.ledger.partition import Ledger
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from support.rules import RULE

NOW = round(time.time() * 1000)
CHUNK = next(conversations(0, 40, NOW, 20))


def stored(client: redis.Redis, provider: str) -> dict[str, Any]:
    """Return everything in a slot by the name of its key, and whether the slot is named."""
    slot = keys.slot("lapse", provider, "conversation")
    found: dict[str, Any] = {"named": client.sismember(keys.slots("lapse"), f"{provider}/conversation")}
    read: dict[Any, Any] = {
        b"set": client.smembers,
        b"hash": client.hgetall,
        b"zset": partial(client.zrange, start=0, end=-1, withscores=True),
    }
    for name in client.scan_iter(f"{slot}*"):
        if (kind := client.type(name)) in read:
            found[name.decode().removeprefix(slot)] = read[kind](name)
    return found


async def test_what_fills_a_registry_for_the_bench_is_what_registering_and_a_worker_leave(redis_url: str) -> None:
    registered, carrier = Partition("registered", "conversation", "chat"), Carrier(redis_url, 5)
    with redis.Redis.from_url(redis_url) as client, Registry(redis_url, provider="registered", timeout=5) as registry:
        fill(client, Partition("filled", "conversation", "chat"), CHUNK, NOW)
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
        ledger = Ledger(carrier, "lapse", "worker-1", max_pending=1000)
        await ledger.adopt(replace(RULE, partition=registered, anchor="last_active_at"))
        assert not await creations.step(ledger, ("registered", "conversation"))
        filled, left = stored(client, "filled"), stored(client, "registered")
    await carrier.aclose()

    names = {"named", "policies", "chat:created", "chat:active"}
    assert {name: filled[name] for name in names} == {name: left[name] for name in names}
    assert filled["chat:rules"].items() <= left["chat:rules"].items()
    assert 0 < len(filled["chat:created"]) < len(filled["chat:active"]) == len(CHUNK)


def test_more_than_the_free_memory_allows_is_refused_before_anything_is_written() -> None:
    assert "6.0 GB with a rewrite's copy; 11.0 GB are free" in check(10_000_000, 11 * 10**9)
    with pytest.raises(TooLarge, match="60% of them may be taken"):
        check(10_000_000, 9 * 10**9)
