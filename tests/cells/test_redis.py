"""Every reply of Redis to every call of a worker's or operator's script: the first table of docs/testing.md."""

import pytest

from cells.client_stories import ALL
from cells.line import CLASSES, Line
from cells.reached import Reached
from cells.replies import GOES_ON, HEADING, REFUSED, played
from cells.stories import STORIES
from support.documented import cells, columns, rows, table
from support.lua import SCRIPTS

CELLS = [at for at in cells(HEADING) if at[0] in STORIES]


@pytest.mark.parametrize(("name", "class_"), CELLS, ids=[" to ".join(at[::-1]) for at in CELLS])
async def test_a_call_that_redis_answers_so_loses_and_miscounts_nothing(
    reached: tuple[Reached, Line], name: str, class_: str
) -> None:
    await played(reached, name, class_)


def test_the_document_has_every_script_and_every_reply() -> None:
    assert (set(SCRIPTS), set(SCRIPTS)) == (set(rows(HEADING)), set(ALL))
    assert CLASSES == tuple(columns(HEADING))
    assert {GOES_ON, REFUSED} == set(table(HEADING).values())
