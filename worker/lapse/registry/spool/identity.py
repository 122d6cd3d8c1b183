"""What a registry says of itself: its clock, its epoch and its replicas. No I/O."""

from typing import Any, NamedTuple

import redis

from lapse.registry import codec, keys
from lapse.registry.connection import translated
from lapse.registry.scripts import packed


class Identity(NamedTuple):
    """A registry as it was met.

    Attributes:
        ahead: How far Redis TIME is ahead of this host's clock, in milliseconds.
        epoch: Id of its epoch; "" before a worker has opened it.
        replicas: How many have to have what must not be lost, as workers published it; 0 for a user who may not ask.

    """

    ahead: int
    epoch: str
    replicas: int = 0


def asking(namespace: str) -> list[bytes]:
    """Return the commands whose replies ``read`` takes."""
    return [
        packed("TIME"),
        packed("HGET", keys.epoch(namespace), "id"),
        packed("HGET", keys.published(namespace), "replicas"),
    ]


def read(replies: list[Any]) -> Identity:
    """Return what a registry says of itself.

    Raises:
        RegistryUnavailable, RegistryRefused: it does not say it.

    """
    *told, replicas = replies
    for reply in told:
        if isinstance(reply, redis.RedisError):
            raise translated(reply)
    (seconds, micros), epoch = told
    ahead = int(seconds) * 1000 + int(micros) // 1000 - codec.now_millis()
    return Identity(ahead, epoch.decode() if epoch else "", _number(replicas))


def _number(reply: Any) -> int:
    return 0 if isinstance(reply, redis.RedisError) else int(reply or 0)
