"""What was said or written down of an erasure up to some write is brought to its end, also if nobody says it again."""

import uuid
from contextlib import suppress

import pytest

from cells.erasure_stories import ERASED, S
from cells.line import MIDDLE, Line
from cells.reached import Reached
from cells.replies import ended, outcome
from lapse.errors import LapseError
from lapse.ledger.erasure.request import ErasureRequest
from support.erasing import Erasing
from support.world import DAY


@pytest.mark.parametrize(
    ("name", "writes"), [("say_erasure", 0), ("say_erasure", 1), ("copy_subjects", 0), ("copy_subjects", 1)]
)
async def test_a_request_of_a_command_that_died_is_carried_out(
    reached: tuple[Reached, Line], name: str, writes: int
) -> None:
    world, line = reached
    mine = world.seed(2, subject=S, days=1)
    erasing, id_ = Erasing(world), str(uuid.uuid4())
    line.break_(name, MIDDLE, writes=writes)

    with suppress(LapseError, AssertionError):
        await erasing.ask(S, id_=id_)

    assert line.hits == 1
    world.registry.erased(S, world.began + DAY)
    await erasing.work()
    assert dict.fromkeys(mine, "erased") == await erasing.fates(ErasureRequest(id_, S, 0, 0, 0, 0))


@pytest.mark.parametrize("writes", [0, 1, 2])
async def test_a_completed_request_opens_again_for_what_stands_in_a_slot_that_hears_of_it_late(
    reached: tuple[Reached, Line], writes: int
) -> None:
    world, line = reached
    world.seed(1, subject=S, days=5)
    erasing = Erasing(world)
    request = await erasing.ask(S, ago=3 * DAY)
    await erasing.work()
    assert "complete" == await erasing.state(request)
    (late,) = world.seed(1, kind="file", subject=S, days=4)
    line.break_("copy_subjects", MIDDLE, writes=writes)

    with suppress(LapseError):
        await erasing.housekeep()
    await erasing.work()

    assert (line.hits, "erased") == (1, (await erasing.fates(request))[late])
    assert "complete" == await erasing.state(request)


@pytest.mark.parametrize(
    ("name", "writes"), [*(("settle", n) for n in range(2, 12)), *(("quarantine", n) for n in range(2, 6))]
)
async def test_an_outcome_stands_in_the_end_wherever_its_script_had_ended(
    reached: tuple[Reached, Line], name: str, writes: int
) -> None:
    world, line = reached
    told = await ERASED[name](world)
    line.break_(name, MIDDLE, writes=writes)

    await outcome(told)

    assert line.hits == 1
    line.break_(name, "ok")
    await ended(world, told)
