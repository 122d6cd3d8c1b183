"""Clients of the stand-in on real sockets: plain HTTP, and the openai library as applications use it."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import openai
import pytest

from lapse.sandbox import Sandbox
from sandbox.asking import KEY, Asker
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]


@pytest.fixture
async def ask(sandbox: Sandbox) -> AsyncIterator[Asker]:
    """Return a plain client of the stand-in."""
    async with aiohttp.ClientSession() as session:
        yield Asker(sandbox.root, session)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[openai.OpenAI]:
    """Return the provider's own client library, which retries nothing."""
    with openai.OpenAI(base_url=sandbox.url, api_key=KEY, max_retries=0, timeout=10) as opened:
        yield opened
