"""Connections of event loops to a cluster: those of a loop to each node, by what ``routing`` says."""

import asyncio
import time
from typing import Any

import redis

from lapse.errors import LapseError
from lapse.registry.connection import CONNECT_TIMEOUT, MOST, translated
from lapse.registry.pools.address import Node
from lapse.registry.pools.aiopool import LoopPools
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.routing import Pause, Router, Send, TimeLeft
from lapse.registry.scripts import packed


class ClusterLoops:
    """The connections of one registry to the nodes of its cluster; see ``LoopPools``."""

    def __init__(
        self,
        endpoint: RedisEndpoint,
        timeout: float,
        connect_timeout: float = CONNECT_TIMEOUT,
        most: int = MOST,
        *,
        resend: bool = False,
        **more: Any,
    ) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._more = more
        self._most = most
        self._router = Router(endpoint.addresses, resend=resend)
        self._nodes: dict[Node, LoopPools] = {}
        LoopPools(endpoint.at(endpoint.addresses[0]), timeout, connect_timeout, **more)  # what is wrong is said at once

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
            RegistryUnavailable: no connection, or no reply in time.

        """
        try:
            return await self.said(commands)
        except (redis.RedisError, OSError) as error:
            raise translated(error) from None

    async def said(self, commands: list[bytes]) -> list[Any]:
        """Do so, and let errors be redis-py's."""
        by = TimeLeft(self._timeout)
        talk = self._router.exchange(commands, by)
        try:
            step = next(talk)
            while True:
                try:
                    heard = await self._heard(step, by)
                except (redis.RedisError, OSError) as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(heard)
        except StopIteration as end:
            replies: list[Any] = end.value
            return replies

    async def everywhere(self, commands: list[bytes]) -> dict[str, list[Any] | LapseError]:
        """Send packed commands to every node that serves hash slots; return what it answers, by HOST:PORT.

        Raises:
            RegistryUnavailable: no node says which there are.

        """
        await self.exchange([packed("PING")])
        nodes = self._router.primaries
        return dict(
            zip(map(_named, nodes), await asyncio.gather(*(self._there(one, commands) for one in nodes)), strict=True)
        )

    async def _there(self, address: Node, commands: list[bytes]) -> list[Any] | LapseError:
        by = TimeLeft(self._timeout)
        try:
            return list(await self._heard(Send(address, commands), by) or ())
        except (redis.RedisError, OSError) as error:
            return translated(error)

    async def aclose(self) -> None:
        """Close the connections; see ``LoopPools.aclose``."""
        for pools in self._nodes.values():
            await pools.aclose()

    async def _heard(self, step: Send | Pause, by: TimeLeft) -> list[Any] | None:
        if isinstance(step, Pause):
            await asyncio.sleep(max(0.0, min(step.seconds, by.left)))
            return None
        if (pools := self._nodes.get(step.to)) is None:
            pools = self._opened(step.to)
            if not self._router.failed:
                return await self._first(pools, step.commands, by)
        return await pools.said(step.commands, by.until)

    async def _first(self, pools: LoopPools, commands: list[bytes], by: TimeLeft) -> list[Any]:
        """Send the first commands to a node: connecting has a time of its own, but for what a failure led to."""
        began = time.monotonic()
        replies = await pools.said(commands, by.until + self._connect_timeout)
        by.spare(time.monotonic() - began)
        return replies

    def _opened(self, address: Node) -> LoopPools:
        made = LoopPools(self._endpoint.at(address), self._timeout, self._connect_timeout, self._most, **self._more)
        return self._nodes.setdefault(address, made)


def _named(address: Node) -> str:
    return f"{address.host}:{address.port}"
