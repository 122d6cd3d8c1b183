"""What the cells of docs/testing.md are played on: a real Redis behind a line, and the stand-in on a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cells.line import LATER, Line
from cells.reached import PATIENCE, SHORT, Reached
from lapse.providers.kinds import KINDS
from lapse.sandbox import Sandbox
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]


@pytest.fixture
async def reached(
    redis_url: str, sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Reached, Line]]:
    """Return a world and the line that it reaches Redis over; the oracle judges what happened there."""
    given_up = "class_" in request.fixturenames and request.getfixturevalue("class_") == LATER
    with Line(redis_url) as line:
        world = Reached(redis_url, line, sandbox, tmp_path, SHORT if given_up else PATIENCE)
        for kind in KINDS["openai"]:  # as after the first claim: every kind knows that no subject is held
            world.raw.hset(f"{world.slot(kind)}protected", "subjects", 0)
        yield world, line
        found = world.judge()
        await world.aclose()
        assert found == [], "\n".join(map(str, found))
