"""One sweep of threads with a cascade, in a process of its own that a test can kill.

python -m support.sweep_process REDIS_URL PROVIDER_URL
"""

import asyncio
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from lapse.registry.aio import Carrier
from support.world import World

LEASE = 1.0


async def main(redis_url: str, provider_url: str) -> None:
    provider: Any = SimpleNamespace(url=provider_url)
    world = World(redis_url, provider, Carrier(redis_url, 5))
    world.settings = replace(world.settings, lease=LEASE)
    await world.sweep(cascade={"file": "delete", "vector_store": "delete"}, digest="digest00000c")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
