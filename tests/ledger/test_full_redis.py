"""A Redis that is full: new ids are refused, and everything that frees, protects or stops goes on."""

import time
from collections.abc import Callable, Iterator

import pytest

from lapse import Answer, RegistryRefused
from lapse.ledger.halts import Halts
from support.world import World


@pytest.fixture
def fill(world: World) -> Iterator[Callable[[], None]]:
    """Return what fills the registry's server up to its limit."""

    def full() -> None:
        world.raw.config_set("maxmemory", 1)

    yield full
    world.raw.config_set("maxmemory", 0)


async def test_new_ids_are_refused_at_once_and_what_is_due_is_deleted(world: World, fill: Callable[[], None]) -> None:
    ids = world.seed(30)
    fill()

    began = time.monotonic()
    with pytest.raises(RegistryRefused, match="maxmemory"):
        world.registry.register("thread", "thread_late", "chat")
    assert time.monotonic() - began < 1

    report = await world.sweep()
    assert ("completed", 30) == (report.result, report.outcomes["deleted"]), report
    assert not set(ids) & world.sandbox.alive("thread")


async def test_what_the_application_says_of_tracked_ids_is_taken(world: World, fill: Callable[[], None]) -> None:
    used, kept, ended, again = world.seed(4, days=1)
    fill()

    assert Answer.OK == world.registry.touch("thread", used)
    assert Answer.OK == world.registry.hold("thread", kept, reason="case 7")
    assert Answer.OK == world.registry.expire("thread", ended)
    assert not world.registry.register("thread", again, "chat").new

    report = await world.sweep()
    assert {"deleted": 1} == dict(report.outcomes)
    assert ended not in world.sandbox.alive("thread")
    assert Answer.OK == world.registry.unhold("thread", kept)
    assert Answer.OK == world.registry.forget("thread", used)


async def test_new_ids_among_many_keep_no_tracked_one_from_being_touched(
    world: World, fill: Callable[[], None]
) -> None:
    (used,) = world.seed(1, days=1)
    fill()

    said = [{"kind": "thread", "id": id_, "policy": "chat"} for id_ in (used, "thread_late", "thread_later")]
    world.registry.register_many(said)

    report = await world.sweep()
    assert ({}, used in world.sandbox.alive("thread")) == (dict(report.outcomes), True)


async def test_an_operator_can_stop_everything(world: World, fill: Callable[[], None]) -> None:
    world.seed(3)
    control = Halts(world.carrier, "lapse")
    fill()

    await control.pause("*", "out of memory")
    assert "paused" == (await world.sweep()).result
    await control.unpause("*")
    assert await control.halt(world.rule.partition, "unrecognised", "by hand")
    assert "halted" == (await world.sweep()).result
