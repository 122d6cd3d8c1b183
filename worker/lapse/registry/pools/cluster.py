"""Connections of threads to a cluster: a pool for each node, by what ``routing`` says."""

import time
from typing import Any

import redis

from lapse.registry.connection import MOST
from lapse.registry.pools.address import Node
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.pool import Pool
from lapse.registry.pools.routing import Pause, Router, Send, TimeLeft


class ClusterPool:
    """The connections of one registry to the nodes of its cluster; see ``Pool``."""

    def __init__(self, endpoint: RedisEndpoint, timeout: float, connect_timeout: float, most: int = MOST) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._most = most
        self._router = Router(endpoint.addresses)
        self._pools: dict[Node, Pool] = {}
        Pool(endpoint.at(endpoint.addresses[0]), timeout, connect_timeout)  # what is wrong with the URL is said at once

    def exchange(self, commands: list[bytes]) -> list[Any]:
        """Send packed commands, each to the node that serves its key, and return a reply each, as ``Pool`` does.

        Raises:
            redis.RedisError, OSError: no connection, or no reply in time.

        """
        by = TimeLeft(self._timeout)
        talk = self._router.exchange(commands, by)
        try:
            step = next(talk)
            while True:
                try:
                    heard = self._heard(step, by)
                except (redis.RedisError, OSError) as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(heard)
        except StopIteration as end:
            replies: list[Any] = end.value
            return replies

    def close(self) -> None:
        """Close all connections, those in use when their call ends. The next call opens new ones."""
        for pool in list(self._pools.values()):
            pool.close()

    def _heard(self, step: Send | Pause, by: TimeLeft) -> list[Any] | None:
        if isinstance(step, Pause):
            time.sleep(max(0.0, min(step.seconds, by.left)))
            return None
        if (pool := self._pools.get(step.to)) is None:
            pool = self._opened(step.to)
            if not self._router.failed:
                return self._first(pool, step.commands, by)
        return pool.exchange(step.commands, by.until)

    def _first(self, pool: Pool, commands: list[bytes], by: TimeLeft) -> list[Any]:
        """Send the first commands to a node: connecting has a time of its own, but for what a failure led to."""
        began = time.monotonic()
        replies = pool.exchange(commands, by.until + self._connect_timeout)
        by.spare(time.monotonic() - began)
        return replies

    def _opened(self, address: Node) -> Pool:
        made = Pool(self._endpoint.at(address), self._timeout, self._connect_timeout, self._most)
        return self._pools.setdefault(address, made)
