"""The keys that a script really touches, to those that its call declares on a cluster."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cells.client_stories import ALL
from cells.reached import Reached
from cells.replies import ended, outcome
from cells.told import Story
from lapse.providers.kinds import KINDS
from lapse.registry import scripts
from lapse.sandbox import Sandbox
from support.clusters import Cluster
from support.monitored import Asked, monitored

STORIES = {story: [name for name, told in ALL.items() if told is story] for story in ALL.values()}
"""Each story, and the scripts that it calls."""
CALLS = {b"EVALSHA", b"EVAL"}


@pytest.fixture(scope="session")
def cluster(clean_environment: None) -> Iterator[Cluster]:
    """Return one node that serves every hash slot."""
    with Cluster(1) as made:
        yield made


@pytest.fixture
async def world(cluster: Cluster, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Reached]:
    """Return a world whose worker, operator and application know that it is a cluster."""
    cluster.clients[0].flushall()
    world = Reached(cluster.nodes[0].url, cast("Any", SimpleNamespace(url=cluster.url)), sandbox, tmp_path)
    for kind in KINDS["openai"]:
        world.raw.hset(f"{world.slot(kind)}protected", "subjects", 0)
    yield world
    found = world.judge()
    await world.aclose()
    assert found == [], "\n".join(map(str, found))


def declared(asked: Asked) -> set[bytes]:
    return set(asked.parts[3 : 3 + int(asked.parts[2])])


def named(asked: Asked) -> str:
    """Return the name of the script that was called."""
    found = [one for one in map(scripts.script, PATHS) if asked.parts[1] in {one.sha.encode(), one.text.encode()}]
    return found[0].name if found else "another"


PATHS = [path.relative_to(scripts.PACKAGE).with_suffix("").as_posix() for path in scripts.PACKAGE.rglob("lua/**/*.lua")]


@pytest.mark.parametrize("story", STORIES, ids=[names[0] for names in STORIES.values()])
async def test_a_script_declares_every_key_that_it_touches(world: Reached, story: Story) -> None:
    told = await story(world)

    with monitored(world.url) as asked:
        await outcome(told)
        await ended(world, told)

    calls = [one for one in asked if one.parts[0].upper() in CALLS]
    assert set() == {(named(one), key) for one in calls for key in one.touched - declared(one)}
    assert set(STORIES[story]) <= {named(one) for one in calls}
