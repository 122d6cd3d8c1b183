"""The registry's contract runs twice: over Registry, and over AsyncRegistry on an event loop of its own."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from lapse import AsyncRegistry, Registry


class Blocking:
    """AsyncRegistry with its methods run to their end, so that one test reads the same for both."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._runner = asyncio.Runner()
        self._registry = AsyncRegistry(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._registry, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                answer = method(*args, **kwargs)
                return await answer if inspect.isawaitable(answer) else answer

            return self._runner.run(run())

        return call

    def close(self) -> None:
        self._runner.run(self._registry.aclose())
        self._runner.close()


@pytest.fixture(params=["sync", "async"])
def make_registry(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Any]:
    """Return a maker of registries; what it made is closed at the end."""
    made: list[Any] = []

    def make(url: str = redis_url, **options: Any) -> Any:
        registry = (Registry if request.param == "sync" else Blocking)(
            url, **{"provider": "openai", "timeout": 5, **options}
        )
        made.append(registry)
        return registry

    yield make
    for registry in made:
        registry.close()


@pytest.fixture
def registry(make_registry: Any) -> Any:
    """Return a registry whose calls go to provider openai."""
    return make_registry()
