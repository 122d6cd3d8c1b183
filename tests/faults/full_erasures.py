"""``make test-faults``: requests to erase subjects among everything else, story by story."""

import os

import pytest

from faults.erasures import Story
from support.sandbox_fixture import sandbox, sandbox_server
from support.world import World, world

__all__ = ["sandbox", "sandbox_server", "world"]
SEEDS = range(int(os.environ.get("LAPSE_TEST_FIRST", "0")), int(os.environ.get("LAPSE_TEST_LAST", "100")))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_story(world: World, seed: int) -> None:
    story = Story(world, seed)
    await story.begin()
    try:
        for _ in range(40):
            await story.step()
        await story.over()
    except BaseException as error:
        error.add_note(f"seed {seed}: {' '.join(story.said)}")
        raise
