"""Every reply of Redis to every call of a worker's or operator's script: the first table of docs/testing.md."""

import pytest

from cells.client_stories import ALL
from cells.line import CLASSES, Line
from cells.reached import Reached
from cells.replies import ALIKE, GOES_ON, HEADING, REFUSED, chosen, played
from cells.stories import STORIES
from support.documented import columns, rows, table
from support.lua import SCRIPTS

CELLS = [at for at in chosen() if at[0] in STORIES]


@pytest.mark.parametrize(("name", "class_"), CELLS, ids=[" to ".join(at[::-1]) for at in CELLS])
async def test_a_call_that_redis_answers_so_loses_and_miscounts_nothing(
    reached: tuple[Reached, Line], name: str, class_: str
) -> None:
    await played(reached, name, class_)


def test_the_document_has_every_script_and_every_reply() -> None:
    assert (set(SCRIPTS), set(SCRIPTS)) == (set(rows(HEADING)), set(ALL))
    assert CLASSES == tuple(columns(HEADING))
    assert {GOES_ON, REFUSED} == set(table(HEADING).values())


def test_every_call_is_refused_by_one_of_the_errors_that_are_alike_and_each_of_them_refuses_many() -> None:
    words, calls = table(HEADING), rows(HEADING)
    assert all(len({words[name, class_] for class_ in ALIKE}) == 1 for name in calls)
    met = {class_: [name for name, met in chosen() if met == class_] for class_ in CLASSES}
    assert all(len(met[class_]) > 15 for class_ in ALIKE)
    assert set(calls) == {name for class_ in ALIKE for name in met[class_]}
    assert all(met[class_] == calls for class_ in CLASSES if class_ not in ALIKE)
