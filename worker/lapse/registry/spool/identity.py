"""What a registry says of itself: its clock and its epoch. No I/O."""

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

    """

    ahead: int
    epoch: str


def asking(namespace: str) -> list[bytes]:
    """Return the commands whose replies ``read`` takes."""
    return [packed("TIME"), packed("HGET", keys.epoch(namespace), "id")]


def read(replies: list[Any]) -> Identity:
    """Return what a registry says of itself.

    Raises:
        RegistryUnavailable, RegistryRefused: it does not say it.

    """
    for reply in replies:
        if isinstance(reply, redis.RedisError):
            raise translated(reply)
    (seconds, micros), epoch = replies
    ahead = int(seconds) * 1000 + int(micros) // 1000 - codec.now_millis()
    return Identity(ahead, epoch.decode() if epoch else "")
