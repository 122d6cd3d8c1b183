"""One sweep of files whose requests are longer than a stalled link takes, in a process of its own that a test can stop.

python -m support.sweep_stalled REDIS_URL PROVIDER_URL
"""

import asyncio
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from lapse.registry.aio import Carrier
from support.world import World

LEASE = 3.0
LONGER = "o" * 60_000


async def main(redis_url: str, provider_url: str) -> None:
    provider: Any = SimpleNamespace(url=provider_url)
    world = World(redis_url, provider, Carrier(redis_url, 5))
    world.account = replace(world.account, organization=LONGER)
    world.settings = replace(world.settings, lease=LEASE, budget=5)
    await world.sweep(partition=replace(world.rule.partition, kind="file"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
