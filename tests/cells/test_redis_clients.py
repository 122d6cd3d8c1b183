"""Every reply of Redis to every call of an application's script: the first table of docs/testing.md."""

import pytest

from cells.line import Line
from cells.reached import Reached
from cells.replies import chosen, played
from cells.stories import STORIES

CELLS = [at for at in chosen() if at[0] not in STORIES]


@pytest.mark.parametrize(("name", "class_"), CELLS, ids=[" to ".join(at[::-1]) for at in CELLS])
async def test_a_call_that_redis_answers_so_loses_and_miscounts_nothing(
    reached: tuple[Reached, Line], name: str, class_: str
) -> None:
    await played(reached, name, class_)
