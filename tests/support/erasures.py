"""Requests to erase a subject, as workers store them."""

import uuid
from typing import Any

import redis

from lapse.ledger.erasure.request import ErasureRequest, State
from lapse.registry import keys

DAY = 86_400_000
"""In milliseconds."""
CONFIG = """
[providers.openai]
type = "openai"
api_key_env = "KEY"
[policies.chat]
kind = "conversation"
ttl = "7d"
anchor = "created_at"
"""
"""A policy file that says nothing of erasures."""


def now(client: redis.Redis) -> int:
    """Return registry time in milliseconds."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def request(at: int, *, age: int = 1, left: int = 29, **more: Any) -> ErasureRequest:
    """Return a request of so many days ago that has so many days left."""
    received = at - age * DAY
    said = {"subject": "user:42", "until": received + DAY, "received": received, "due": at + left * DAY}
    return ErasureRequest(str(uuid.uuid4()), at=received, **{**said, **more})


def store(client: redis.Redis, *requests: ErasureRequest) -> None:
    """Write requests as a worker does."""
    client.hset(keys.erasures("lapse"), mapping={one.id: one.stored() for one in requests})


def settled(at: int, n: int, state: State = State.COMPLETE) -> list[ErasureRequest]:
    """Return requests of which counts are all that is left."""
    return [request(at, subject="", state=state, counts={"erased": 3}) for _ in range(n)]
