"""Redis TIME against this host's clock and the provider's: far from both it deletes nothing, at a start too."""

import time
from typing import Any

import pytest

from lapse.guards.integrity import clocks
from lapse.guards.integrity.monitor import Watch
from lapse.ledger.halts import Halts
from lapse.providers.response import Reply
from lapse.sweep.apply import apply
from lapse.sweep.plan import Doomed
from support.world import DAY, World

MONTH = 30 * 86_400_000


class Elsewhere:
    """Sets this host's clock and the provider's off: to this process, Redis TIME is as far away the other way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own = self.provider = 0
        self.silent = False
        wall, date = clocks.wall, clocks.date_of
        monkeypatch.setattr(clocks, "wall", lambda: wall() + self.own)
        monkeypatch.setattr(clocks, "date_of", lambda reply: self._date(date(reply)))

    def _date(self, date: int | None) -> int | None:
        return None if date is None or self.silent else date + self.provider


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    return Elsewhere(monkeypatch)


def started(world: World) -> Any:
    """Return the means of a worker that was started just now: it has seen no clock before."""
    return world.context(watch=Watch(world.carrier, "lapse"), host="host-2")


@pytest.mark.parametrize("away", [-MONTH, MONTH, 400_000, -400_000])
async def test_redis_far_from_both_others_halts_at_a_start_and_goes_on_by_itself(
    world: World, elsewhere: Elsewhere, away: int
) -> None:
    """Redis comes up a month ahead, and so do the workers: 400 of 400 were deleted early, with no halt."""
    ids = set(world.seed(3))
    elsewhere.own = elsewhere.provider = away

    assert "halted" == (await world.sweep(context=started(world))).result
    assert ([], ids) == (world.deletes(), world.sandbox.alive("thread"))
    assert "far from every other clock" in world.halts()["*|clock_jumped"]["detail"]

    elsewhere.own = elsewhere.provider = 0
    assert 3 == (await world.sweep(context=started(world))).outcomes["deleted"]
    assert {} == world.halts()


@pytest.mark.parametrize(
    ("own", "provider"), [(MONTH, 0), (-MONTH, 0), (0, MONTH), (MONTH, -200_000), (200_000, 200_000)]
)
async def test_one_clock_that_is_wrong_changes_nothing(
    world: World, elsewhere: Elsewhere, own: int, provider: int
) -> None:
    world.seed(3)
    elsewhere.own, elsewhere.provider = own, provider

    assert 3 == (await world.sweep()).outcomes["deleted"]
    assert {} == world.halts()


async def test_two_clocks_that_differ_without_a_third_decide_nothing(world: World, elsewhere: Elsewhere) -> None:
    world.seed(3)
    elsewhere.own, elsewhere.silent = MONTH, True

    report = await world.sweep()

    assert ("refused", [], {}) == (report.result, world.deletes(), world.halts())
    assert "which of them is right" in report.detail


async def test_a_provider_that_has_no_token_left_is_not_asked(world: World, elsewhere: Elsewhere) -> None:
    world.seed(3)
    elsewhere.own = MONTH
    context = world.context()
    await context.throttle._block(600, "")

    assert "refused" == (await world.sweep(context=context)).result
    assert [] == world.deletes()


async def test_a_plan_is_not_applied_under_a_clock_that_is_astray(world: World, elsewhere: Elsewhere) -> None:
    (id_,) = world.seed(1)
    await world.sweep(enforce=False)
    elsewhere.own = elsewhere.provider = MONTH

    doomed = [Doomed(id_, round((time.time() - DAY) * 1000), "ttl")]
    report = await apply(world.context(), world.rule, doomed, "p", dict)

    assert ("halted", []) == (report.result, world.deletes())


async def test_observing_asks_nobody(world: World, elsewhere: Elsewhere) -> None:
    world.seed(3)
    elsewhere.own = MONTH

    assert "observed" == (await world.sweep(enforce=False)).result
    assert [] == world.sandbox.requests()


async def test_a_worker_that_knew_the_wrong_clock_goes_on_with_the_right_one(
    world: World, elsewhere: Elsewhere
) -> None:
    """What the registry says of times that never were is taken back with the halt."""
    world.seed(3)
    elsewhere.own = elsewhere.provider = -MONTH
    await world.sweep()
    world.raw.hincrby("lapse:epoch", "at", MONTH)

    elsewhere.own = elsewhere.provider = 0

    assert 3 == (await world.sweep()).outcomes["deleted"]
    assert {} == world.halts()
    assert ("completed", []) == ((await world.sweep()).result, list(await Halts(world.carrier, "lapse").halts([])))


DATES = {"": None, "soon": None, "Sat, 99 Foo 2026 00:00:00 GMT": None, "Sun, 06 Nov 1994 08:49:37 GMT": 784111777000}


@pytest.mark.parametrize("text", DATES)
def test_a_date_is_read_or_there_is_none(text: str) -> None:
    assert DATES[text] == clocks.date_of(Reply(status=200, headers={"date": text} if text else {}, body=b""))
