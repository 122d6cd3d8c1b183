"""An application that creates conversations all the time, eight at once, until it is told to end.

python -m faults.creating REDIS_URL PROVIDER_URL SPOOL PER_SECOND
"""

import asyncio
import signal
import sys

import httpx2

import lapse

IN_FLIGHT = 8


async def main(redis_url: str, provider_url: str, spool: str, per_second: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    registry = lapse.AsyncRegistry(redis_url, provider="openai", on_error="spool", spool=spool)
    async with httpx2.AsyncClient(base_url=provider_url, headers={"Authorization": "Bearer k"}) as http:
        lapse.track_http(http, policies={"conversation": "chat"}, registry=registry)
        await asyncio.gather(*(creates(http, IN_FLIGHT / float(per_second), ended) for _ in range(IN_FLIGHT)))
    await registry.aclose()


async def creates(http: httpx2.AsyncClient, every: float, ended: asyncio.Event) -> None:
    """Create one conversation after another, so many seconds apart."""
    while not ended.is_set():
        pause = asyncio.ensure_future(asyncio.sleep(every))
        (await http.post("conversations", json={})).raise_for_status()
        await pause


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
