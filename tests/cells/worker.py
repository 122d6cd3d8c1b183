"""One sweep in a process of its own, which a test kills: python -m cells.worker REDIS_URL PROVIDER_URL WHAT."""

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

from cells.work import WORK
from lapse.registry.aio import Carrier
from support.world import World


async def main(redis_url: str, provider_url: str, what: str) -> None:
    """Sweep once, and say when it is over."""
    provider: Any = SimpleNamespace(url=provider_url)
    await WORK[what].sweep(World(redis_url, provider, Carrier(redis_url, 5)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
