"""A mistake that is put back ends its own halt: by the same worker, one that was restarted, and another host."""

from dataclasses import replace
from typing import Any

import pytest

from lapse.guards.integrity.monitor import Watch
from lapse.guards.recovery import diverged
from lapse.policy import Share
from support.world import DAY, World

LIMIT = Share(percent=20, at_least=2)


def worker(world: World, host: str, *, fresh: bool) -> Any:
    watch = Watch(world.carrier, "lapse") if fresh else world.watch
    return world.context(watch=watch, host=host)


WHO = {"the same worker": ("host-1", False), "restarted": ("host-1", True), "another host": ("host-9", True)}


@pytest.mark.parametrize("who", WHO)
async def test_an_edit_that_is_put_back_ends_the_halt_it_brought_about(world: World, who: str) -> None:
    world.seed(2)
    alive = set(world.seed(20, days=3))
    assert "completed" == (await world.sweep(max_newly_due=LIMIT)).result
    right = world.rule

    assert "halted" == (await world.sweep(ttl=DAY, digest="digest000002")).result
    assert ["chat|cutoff_jumped"] == list(world.halts())
    world.rule = right
    host, fresh = WHO[who]
    report = await world.sweep(context=worker(world, host, fresh=fresh))

    assert ("completed", {}, alive) == (report.result, world.halts(), world.sandbox.alive("thread"))
    # The worker that still has the mistake is the old one now.
    if who == "another host":
        world.rule = replace(right, ttl=DAY, digest="digest000002")
        assert "divergence" == (await world.sweep()).result
        assert alive == world.sandbox.alive("thread")
        world.rule = right
        assert "completed" == (await world.sweep()).result
        assert {} == world.halts(), "its own halt ends when it has the file of the others"


async def test_an_edit_that_is_made_worse_halts_again(world: World) -> None:
    alive = set(world.seed(20, days=3))
    await world.sweep(max_newly_due=LIMIT)
    await world.sweep(ttl=2 * DAY, digest="digest000002")
    first = world.halts()["chat|cutoff_jumped"]

    assert "halted" == (await world.sweep(ttl=DAY, digest="digest000003")).result
    assert first["since"] < world.halts()["chat|cutoff_jumped"]["since"]
    assert alive == world.sandbox.alive("thread")


async def test_rules_of_long_ago_are_old_without_a_halt(world: World) -> None:
    """Only while those in force wait for an approval are the ones last enforced not old."""
    world.seed(1)
    await world.sweep()
    old = world.rule
    await world.sweep(ttl=5 * DAY, digest="digest000002")
    world.rule = old

    assert "divergence" == (await world.sweep(context=worker(world, "host-9", fresh=True))).result
    assert diverged(old, "host-9") == world.halts()["chat|config_divergence"]["detail"]
    world.rule = replace(old, ttl=5 * DAY, digest="digest000002")
    await world.sweep()
    assert "chat|config_divergence" in world.halts(), "another worker's rules say nothing of host-9's"
    await world.sweep(context=worker(world, "host-9", fresh=True))
    assert {} == world.halts()


@pytest.mark.parametrize("reason", ["no_witness", "endpoint_missing"])
@pytest.mark.parametrize("seen", [True, False])
async def test_what_can_be_read_again_ends_a_halt_of_the_wrong_place(world: World, reason: str, *, seen: bool) -> None:
    world.seed(2)
    await world.sweep(enforce=False)
    await world.context().control.halt(world.rule.partition, reason, "a wrong key", whole_kind=reason != "no_witness")
    if not seen:
        world.sandbox.faults([{"method": "GET", "effect": "error", "status": 500}])
    report = await world.sweep(enforce=True)

    assert (report.result == "completed", world.halts() == {}) == (seen, seen)
