"""What a registry has been through: much that was settled and forgotten, holds, and a person who was erased."""

import json
import time
import uuid

import redis

from lapse import Registry
from lapse.registry import keys
from lapse.registry.commands import Commands
from lapse.registry.subjects import Subjects

CROWD, CHUNK, HOLDS = 1_000_000, 5_000, 100
AMONG = f"among {CROWD:,} tombstones and forgotten ids, {HOLDS} holds, an erased subject"


def gather(registry: Registry, client: redis.Redis, slot: str) -> None:
    """Put in place what makes every call look further."""
    now = round(time.time() * 1000)
    for name in (keys.TOMBSTONES, keys.FORGOTTEN):
        for start in range(0, CROWD, CHUNK):
            client.zadd(slot + name, {f"{name}_{n:024d}": now - n for n in range(start, start + CHUNK)})
    for n in range(HOLDS):
        registry.hold("thread", f"thread_held_{n}", reason="case")
        registry.hold_subject(f"held:{n}", reason="case")
    request = str(uuid.uuid4())
    fact = json.dumps({"id": request, "at": now, "until": now + 86_400_000})
    registry.say(Subjects(Commands("lapse", None)).erase("erased:1", request, fact))
