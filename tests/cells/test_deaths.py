"""Every point at which a process may die, in every kind of work: the last table of docs/testing.md."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cells.death import POINTS, Death
from cells.line import Line
from cells.reached import Reached
from cells.work import WORK
from support.documented import cells, columns, rows, table

HEADING = "Deaths of a process"
WORDS = {"deleted", "already gone", "counted", "stays registered"}
SWEEPS = 5


def seen(world: Reached, kind: str, id_: str) -> str:
    """Return what became of the id, in the document's words."""
    records = [one for one in world.audit(kind) if one.get("id") == id_]
    last = next((one for one in records if one["event"] == "settled"), None)
    if last is None:
        return "stays registered" if world.state(id_, kind) else "lost"
    if not any(one["event"] == "lapsed" for one in records):
        return "counted"
    return str(last["outcome"]).replace("_", " ")


@pytest.fixture
def deaths() -> Iterator[list[Death]]:
    """Return where deaths are noted that have to be cleaned up after."""
    made: list[Death] = []
    yield made
    for death in made:
        death.close()


@pytest.mark.parametrize(("point", "what"), cells(HEADING), ids=[" of ".join(at) for at in cells(HEADING)])
async def test_a_process_that_dies_loses_and_miscounts_nothing(
    reached: tuple[Reached, Line], deaths: list[Death], point: str, what: str
) -> None:
    world, _line = reached
    work = WORK[what]
    id_ = work.seed(world)
    world.rule = replace(world.rule, **work.rule)
    world.decides(world.rule)  # from before the process begins
    deaths.append(death := Death(point, id_, world.url, world.sandbox.url))

    world.account = replace(world.account, base_url=death.provider_url)  # the account that the ids are registered at

    code = await asyncio.to_thread(death.of, what)

    assert code < 0
    assert death.at, "it came to the point"
    world.deaths.append(death.at)
    for _ in range(SWEEPS):
        world.lapse()
        world.ripen()
        await work.sweep(world)
    assert id_ not in world.sandbox.alive(work.kind)
    assert table(HEADING)[point, what] == seen(world, work.kind, id_)


def test_the_document_has_every_point_and_all_work() -> None:
    assert (tuple(rows(HEADING)), tuple(columns(HEADING))) == (POINTS, tuple(WORK))
    assert set(table(HEADING).values()) <= WORDS
