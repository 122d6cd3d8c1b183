"""A Redis far away: what a sweep looks at first must not take the time in which it deletes."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from faults.proxy import Proxy
from lapse.registry.aio import Carrier
from lapse.sweep.session import Session
from lapse.sweep.sweep import sweep
from support.world import World

AWAY = 0.06  # seconds, there and back
SLICE = 1.0  # seconds: less than the twenty round trips of an opening, more than a claim and a deletion need


@pytest.fixture
async def far(world: World, redis_url: str) -> AsyncIterator[World]:
    """Return a world whose registry is that far away."""
    with Proxy(urlsplit(redis_url).port or 0) as proxy:
        proxy.latency = AWAY / 2
        near, world.carrier = world.carrier, Carrier(f"redis://127.0.0.1:{proxy.port}/0", 5)
        yield world
        await world.carrier.aclose()
        world.carrier = near


async def test_a_slice_that_opening_would_take_whole_deletes(far: World) -> None:
    ids = far.seed(5)

    report = await sweep(far.context(), far.rule, budget=SLICE)

    assert SLICE < report.seconds
    assert set() < set(far.deletes()) <= set(ids)


async def test_what_opens_a_sweep_cannot_make_it_outlast_its_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lapse.sweep.budget.OPENING", 0.0)
    session = Session(world.context(), world.rule, None)
    await world.until(lambda: session.budget.spent() > 0.05)
    before = session.budget.left()

    session.budget.opened()

    assert session.budget.left() <= before
