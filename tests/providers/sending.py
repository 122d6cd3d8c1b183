"""One DELETE under a lease, in a process of its own that a test can stop.

python -m providers.sending BASE_URL LEASE ORGANIZATION
"""

import asyncio
import sys
import time

from lapse.providers.deadline import Deadline, Requests
from lapse.providers.provider import Provider
from providers.conftest import KEY, account


async def main(url: str, lease: str, organization: str) -> None:
    """Say, once its first byte was written, when it was leased on the monotonic clock; then what became of it."""
    given = account(url, organization=organization)
    async with Provider(given, {"LAPSE_TEST_KEY": KEY}, timeout=60) as provider:
        leased = time.monotonic()
        with Requests(Deadline.of(float(lease))) as requests:
            removing = asyncio.create_task(provider.delete(provider.kinds["thread"], "thread_1"))
            while not requests.deleting and not removing.done():
                await asyncio.sleep(0.01)
            print(leased, flush=True)
            reply = await removing
        print(reply.failure, reply.sent, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
