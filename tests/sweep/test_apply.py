"""What an applied plan deletes: its ids, and of what belongs to them nothing that it does not name."""

from dataclasses import replace

import pytest

from lapse.registry.model import Resource
from lapse.sweep.apply import apply
from lapse.sweep.companions import PlannedCompanions
from support.planned import planned
from support.world import World

LONG_AGO = 1_600_000_000


def family(world: World) -> tuple[str, str, str, str]:
    """Return a due thread with a file and a store with a file, all ours, and all four."""
    plain, inner = world.sandbox.seed("file", 2)
    (store,) = world.sandbox.seed("vector_store", file_ids=[inner])
    resources = {"code_interpreter": {"file_ids": [plain]}, "file_search": {"vector_store_ids": [store]}}
    (thread,) = world.sandbox.seed("thread", tool_resources=resources)
    for id_ in (plain, inner):
        world.registry.register("file", id_, "chat")
    world.registry.register("vector_store", store, "chat", uses=[("file", inner)])
    uses = [("file", plain), ("vector_store", store)]
    world.registry.register("thread", thread, "chat", uses=uses, created_at=LONG_AGO, last_active_at=LONG_AGO)
    return thread, store, plain, inner


def cascades(world: World, *, enforce: bool = True) -> None:
    """Let the world's threads take along what belongs to them."""
    cascade = {"file": "delete", "vector_store": "delete"}
    world.rule = replace(world.rule, cascade=cascade, digest="digest00000c", enforce=enforce)
    world.decides(replace(world.rule, enforce=True))  # a plan is confirmed, whatever the mode


@pytest.mark.parametrize("enforce", [True, False])
async def test_a_plan_takes_nothing_along_that_it_does_not_name(world: World, *, enforce: bool) -> None:
    cascades(world, enforce=enforce)
    thread, store, plain, inner = family(world)
    plan, left = await planned(world, world.rule), dict[str, str]()
    assert [thread] == [one.id for one in plan]

    with PlannedCompanions() as companions:
        context = replace(world.context(), companions=companions)
        report = await apply(context, world.rule, plan, "plan", left.update)
        stayed = dict(companions.stayed())

    assert {"deleted": 1} == dict(report.outcomes)
    assert [thread] == world.deletes()
    assert {} == left
    assert {store, plain} == set(stayed)  # what the store uses is not even looked at: it stays with it
    assert f"a file of thread {thread}" in stayed[plain]
    assert {"left||unplanned": 2} == {name: n for name, n in world.counters("thread").items() if "left|" in name}
    for kind, id_ in (("file", plain), ("file", inner), ("vector_store", store)):
        assert "chat" == world.record(id_, kind).policy
    edges = world.raw.zrange(f"{world.slot('file')}edges", 0, -1)
    assert [f"{inner}|openai|vector_store|{store}"] == [edge for edge in edges if "|" in edge]


async def test_without_a_word_about_children_a_plan_takes_none(world: World) -> None:
    cascades(world)
    thread, *_children = family(world)
    await apply(world.context(), world.rule, await planned(world, world.rule), "plan", print)
    assert [thread] == world.deletes()


def test_a_child_is_noted_once_with_the_first_parent_that_it_was_met_at() -> None:
    child = Resource("openai", "file", "file-1")
    with PlannedCompanions() as companions:
        for parent in ("vs_1", "vs_2", "vs_1"):
            assert not companions.may_go(child, Resource("openai", "vector_store", parent), uses=False)
        [(id_, why)] = companions.stayed()
    assert "file-1" == id_
    assert "vector_store vs_1" in why
