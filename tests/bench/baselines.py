"""What lapse is compared with. Nothing of lapse is imported here.

``baselines.py openai URL CONCURRENCY < ids``: a bare asyncio loop over AsyncOpenAI, aiohttp backend.
``baselines.py notebook URL < ids``: for id in ids: client.beta.threads.delete(id).
``baselines.py ceiling URL CONCURRENCY < ids``: raw HTTP over asyncio streams, which the stand-in has to keep up with.
"""

import asyncio
import sys
import warnings
from collections.abc import Sequence
from urllib.parse import urlsplit

KEY = "sk-bench-0123456789abcdef"


async def openai_loop(url: str, concurrency: int, ids: Sequence[str]) -> None:
    """Delete with AsyncOpenAI, ``concurrency`` at a time."""
    from openai import AsyncOpenAI, DefaultAioHttpClient  # noqa: PLC0415 - each baseline loads its own

    waiting = iter(ids)
    async with AsyncOpenAI(
        base_url=url, api_key=KEY, max_retries=0, timeout=30, http_client=DefaultAioHttpClient()
    ) as client:

        async def hand() -> None:
            for id_ in waiting:
                assert (await client.beta.threads.delete(id_)).deleted

        await asyncio.gather(*(hand() for _ in range(concurrency)))


def notebook(url: str, ids: Sequence[str]) -> None:
    """Delete one after the other, as a notebook does."""
    from openai import OpenAI  # noqa: PLC0415 - each baseline loads its own

    client = OpenAI(base_url=url, api_key=KEY)
    for id_ in ids:
        client.beta.threads.delete(id_)


async def ceiling(url: str, concurrency: int, ids: Sequence[str]) -> None:
    """Send DELETEs over plain sockets."""
    parts, waiting = urlsplit(url), iter(ids)
    head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {KEY}\r\nOpenAI-Beta: assistants=v2\r\n\r\n"

    async def hand() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for id_ in waiting:
            writer.write(f"DELETE {parts.path}/threads/{id_} HTTP/1.1\r\n{head}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            assert b'"deleted":true' in (await reader.readexactly(length)).replace(b" ", b"")
        writer.close()

    await asyncio.gather(*(hand() for _ in range(concurrency)))


def main() -> None:
    """Run the baseline that the command line names."""
    warnings.simplefilter("ignore", DeprecationWarning)
    name, url, *rest = sys.argv[1:]
    ids = sys.stdin.read().split()
    if name == "notebook":
        notebook(url, ids)
    else:
        asyncio.run({"openai": openai_loop, "ceiling": ceiling}[name](url, int(rest[0]), ids))


if __name__ == "__main__":
    main()
