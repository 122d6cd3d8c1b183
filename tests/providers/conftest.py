"""A scripted server, and providers that point at it or at the stand-in."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from lapse.providers.account import Account
from lapse.providers.provider import Provider
from providers.scripted import Server
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]

KEY = "sk-test-0123456789abcdef"

MakeProvider = Callable[..., Provider]


def account(base_url: str, **changes: Any) -> Account:
    """Return an account of type openai whose key is in LAPSE_TEST_KEY."""
    given = {
        "name": "openai",
        "type": "openai",
        "base_url": base_url,
        "api_key_env": "LAPSE_TEST_KEY",
        "api_key_file": None,
        "auth": None,
        "rate": None,
        "concurrency": 16,
        "not_found": (),
        "api_version": None,
        "organization": None,
        "project": None,
        "allow_plaintext": False,
    }
    return Account(**(given | changes))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Return a server that answers as scripted."""
    async with Server() as running:
        yield running


@pytest.fixture
async def make() -> AsyncIterator[MakeProvider]:
    """Return a maker of providers, which are closed when the test ends."""
    async with AsyncExitStack() as stack:

        def make(
            base_url: str, *, timeout: float = 5.0, environ: dict[str, str] | None = None, **changes: Any
        ) -> Provider:
            environ = {"LAPSE_TEST_KEY": KEY} if environ is None else environ
            seams = {name: changes.pop(name) for name in ("clock", "tokens") if name in changes}
            provider = Provider(account(base_url, **changes), environ, timeout=timeout, **seams)
            stack.push_async_callback(provider.aclose)
            return provider

        yield make


@pytest.fixture
async def provider(make: MakeProvider, server: Server) -> Provider:
    """Return a provider at the scripted server."""
    return make(server.url)
