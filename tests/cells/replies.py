"""One call that meets one reply of Redis: the first table of docs/testing.md."""

import os

from cells.client_stories import ALL
from cells.line import MIDDLE, Line
from cells.reached import Reached
from cells.stories import STORIES
from cells.told import Told
from lapse.errors import LapseError
from support.documented import cells, rows, table

HEADING = "Replies of Redis"
GOES_ON, REFUSED = "goes on", "refused"
ALIKE = ("BUSY", "NOREPLICAS", "OOM", "MISCONF", "NOPERM", "MOVED")
"""Errors of which a call that they refuse knows nothing but that it was refused."""
WHOLE = os.environ.get("LAPSE_TEST_CELLS") == "all"
AGAIN = 6
WRITES = 6
"""At which of its writes a call of an application ends in the middle, one after the other."""


def chosen() -> list[tuple[str, str]]:
    """Return the cells to play: of the errors that are alike, a call that is refused meets one, each call the next."""
    words, names = table(HEADING), rows(HEADING)

    def one_of_many(name: str, class_: str) -> bool:
        alike = class_ in ALIKE and words[name, class_] == REFUSED
        return alike and class_ != ALIKE[names.index(name) % len(ALIKE)]

    return [at for at in cells(HEADING) if WHOLE or not one_of_many(*at)]


async def outcome(told: Told) -> str:
    """Return how an act ended, in the document's words."""
    try:
        word = await told.act()
    except LapseError:
        return REFUSED
    return GOES_ON if word in {None, "completed"} else f"named {word}"


async def ended(world: Reached, told: Told) -> None:
    """Act again, as the next tick or the application does, and assert that all is as it has to be."""
    for _ in range(AGAIN):
        world.ripen()
        if await outcome(told) == GOES_ON and all_gone(world, told):
            break
    if told.then:
        await told.then()
    assert all_gone(world, told)
    for kind, ids in told.kept.items():
        assert set(ids) <= world.sandbox.alive(kind)


def all_gone(world: Reached, told: Told) -> bool:
    return not any(set(ids) & world.sandbox.alive(kind) for kind, ids in told.gone.items())


async def played(reached: tuple[Reached, Line], name: str, class_: str) -> None:
    """Let one call of a script meet a reply, and assert that nothing is lost or counted otherwise than it was."""
    world, line = reached
    told = await ALL[name](world)
    line.break_(name, class_)

    seen = await outcome(told)

    assert (1, table(HEADING)[name, class_]) == (line.hits, seen)
    await world.until(lambda: not line.late)
    for writes in range(2, WRITES) if class_ == MIDDLE and name not in STORIES else ():
        world.ripen()
        line.break_(name, class_, writes=writes)
        await outcome(told)
    line.break_(name, "ok")
    await ended(world, told)
