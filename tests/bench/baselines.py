"""What lapse is compared with. Nothing of lapse is imported here.

As a program: ``baselines.py NAME URL CONCURRENCY < ids``, where NAME is

``openai``: a bare asyncio loop over AsyncOpenAI with its aiohttp backend.
``notebook``: ``for id in ids: client.beta.threads.delete(id)``.
``aiohttp``: a bare asyncio loop over aiohttp, which reads each answer.
``raw``: plain HTTP over asyncio streams, the least that a client can do. With a large CONCURRENCY it shows what the
stand-in can answer.
"""

import asyncio
import sys
import time
import warnings
from collections.abc import Sequence
from urllib.parse import urlsplit

import redis

KEY = "sk-bench-0123456789abcdef"
PIPELINE = 500
IMPORT = "import redis"


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


async def aiohttp_loop(url: str, concurrency: int, ids: Sequence[str]) -> None:
    """Delete with aiohttp, ``concurrency`` at a time."""
    import aiohttp  # noqa: PLC0415 - each baseline loads its own

    waiting = iter(ids)
    headers = {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"}
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def hand() -> None:
            for id_ in waiting:
                async with session.delete(f"{url}/threads/{id_}") as answer:
                    assert (await answer.json())["deleted"]

        await asyncio.gather(*(hand() for _ in range(concurrency)))


def notebook(url: str, ids: Sequence[str]) -> None:
    """Delete one after the other, as a notebook does."""
    from openai import OpenAI  # noqa: PLC0415 - each baseline loads its own

    client = OpenAI(base_url=url, api_key=KEY)
    for id_ in ids:
        client.beta.threads.delete(id_)


async def raw(url: str, concurrency: int, ids: Sequence[str]) -> None:
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


def add(client: redis.Redis, id_: str) -> None:
    """Remember one id: the least that an application can do."""
    client.zadd("raw", {id_: 1_700_000_000_000})


def add_many(client: redis.Redis, ids: Sequence[str]) -> float:
    """Remember ids in pipelines of 500; return ids a second."""
    began = time.perf_counter()
    for start in range(0, len(ids), PIPELINE):
        with client.pipeline(transaction=False) as pipe:
            for id_ in ids[start : start + PIPELINE]:
                pipe.zadd("raw", {id_: 1_700_000_000_000})
            pipe.execute()
    return len(ids) / (time.perf_counter() - began)


def main() -> None:
    """Run the baseline that the command line names."""
    warnings.simplefilter("ignore", DeprecationWarning)
    name, url, concurrency = sys.argv[1:]
    ids = sys.stdin.read().split()
    if name == "aiohttp":
        import aiohttp  # noqa: F401, PLC0415 - what its start takes is told, to be left out
    sys.stdout.write(str(time.process_time()))
    if name == "notebook":
        notebook(url, ids)
    else:
        asyncio.run({"openai": openai_loop, "aiohttp": aiohttp_loop, "raw": raw}[name](url, int(concurrency), ids))


if __name__ == "__main__":
    main()
