"""Connections to a cluster: a pool for each node, by what ``routing`` says; of threads, and of event loops."""

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import redis

from lapse.errors import LapseError
from lapse.registry.connection import translated
from lapse.registry.pools.address import Node
from lapse.registry.pools.aiopool import LoopPools
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.pool import Pool
from lapse.registry.pools.routing import Pause, Router, Send, TimeLeft
from lapse.registry.pools.steps import Steps, taken

P = TypeVar("P", Pool, LoopPools)


class ClusterNodes(ABC, Generic[P]):
    """The connections of one registry to the nodes of its cluster."""

    def __init__(
        self, endpoint: RedisEndpoint, timeout: float, connect_timeout: float, most: int, *, resend: bool = False
    ) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._most = most
        self._router = Router(endpoint.addresses, resend=resend)
        self._nodes: dict[Node, P] = {}
        self._opened(endpoint.addresses[0])  # what is wrong with the URL is said at once

    @abstractmethod
    def _opened(self, address: Node) -> P:
        """Return the connections to one node."""

    @abstractmethod
    def _paused(self, seconds: float) -> Any:
        """Wait; see ``Steps``."""

    def _said(self, commands: list[bytes]) -> Steps[list[Any]]:
        by = TimeLeft(self._timeout)
        talk = self._router.exchange(commands, by)
        try:
            step = next(talk)
            while True:
                try:
                    heard = yield from self._heard(step, by)
                except (redis.RedisError, OSError) as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(heard)
        except StopIteration as end:
            replies: list[Any] = end.value
            return replies

    def _heard(self, step: Send | Pause, by: TimeLeft) -> Steps[Any]:
        if isinstance(step, Pause):
            yield self._paused(max(0.0, min(step.seconds, by.left)))
            return None
        known = self._nodes.get(step.to)
        pool: Any = known or self._nodes.setdefault(step.to, self._opened(step.to))
        if known or self._router.failed:
            return (yield pool.exchange(step.commands, by.until))
        # The first commands to a node: connecting has a time of its own, but for what a failure led to.
        began = time.monotonic()
        replies = yield pool.exchange(step.commands, by.until + self._connect_timeout)
        by.spare(time.monotonic() - began)
        return replies


class ClusterPool(ClusterNodes[Pool]):
    """Those of threads; see ``Pool``."""

    def exchange(self, commands: list[bytes]) -> list[Any]:
        """Send packed commands, each to the node that serves its key, and return a reply each, as ``Pool`` does.

        Raises:
            redis.RedisError, OSError: no connection, or no reply in time.

        """
        replies: list[Any] = taken(self._said(commands), awaits=False)
        return replies

    def close(self) -> None:
        """Close all connections, those in use when their call ends. The next call opens new ones."""
        for pool in list(self._nodes.values()):
            pool.close()

    def _opened(self, address: Node) -> Pool:
        return Pool(self._endpoint.at(address), self._timeout, self._connect_timeout, self._most)

    def _paused(self, seconds: float) -> None:
        time.sleep(seconds)


class ClusterLoops(ClusterNodes[LoopPools]):
    """Those of event loops; see ``LoopPools``."""

    @property
    def most(self) -> int:
        """How many connections to a node a loop has at most."""
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        self._most = most
        for pools in self._nodes.values():
            pools.most = most

    async def exchange(self, commands: list[bytes]) -> list[Any]:
        """Send packed commands, each to the node that serves its key, and return a reply each, as ``LoopPools`` does.

        Raises:
            redis.RedisError, OSError: no connection, or no reply in time.

        """
        replies: list[Any] = await taken(self._said(commands), awaits=True)
        return replies

    async def everywhere(self, commands: list[bytes]) -> dict[str, list[Any] | LapseError]:
        """Send packed commands to every node known to serve hash slots; return what it answers, by HOST:PORT."""
        nodes = self._router.primaries
        said = await asyncio.gather(*(self._there(one, commands) for one in nodes))
        return {f"{node.host}:{node.port}": replies for node, replies in zip(nodes, said, strict=True)}

    async def _there(self, address: Node, commands: list[bytes]) -> list[Any] | LapseError:
        try:
            return list(await taken(self._heard(Send(address, commands), TimeLeft(self._timeout)), awaits=True) or ())
        except (redis.RedisError, OSError) as error:
            return translated(error)

    async def aclose(self) -> None:
        """Close the connections; see ``LoopPools.aclose``."""
        for pools in self._nodes.values():
            await pools.aclose()

    def _opened(self, address: Node) -> LoopPools:
        return LoopPools(self._endpoint.at(address), self._timeout, self._connect_timeout, self._most, resend=False)

    def _paused(self, seconds: float) -> Any:
        return asyncio.sleep(seconds)
