"""Every edit of an orphan rule: the old rule and the new one over the same listing."""

import json
from dataclasses import replace
from typing import Any

import pytest

from lapse.policy import Keep, Orphan, Share
from lapse.registry.model import Partition
from support.world import DAY, World

LIMIT = Share(percent=5, at_least=2)
RULE = Orphan(min_age=2 * DAY, seen=2, max_share=None, uses_stated=True)
PIN = (Keep(None, {"pin": "true"}),)
IDLE = Partition("openai", "assistant", "idle")


@pytest.fixture
def idle(world: World) -> World:
    """Return a world with 6 old assistants, 6 young ones and 6 that are pinned, all unused."""
    world.rule = replace(
        world.rule, partition=IDLE, ttl=None, anchor=None, orphan=RULE, max_newly_due=LIMIT, digest="digest000001"
    )
    now = world.raw.time()[0]
    world.raw.hset("lapse:epoch", mapping={"id": "e1", "created": 1})
    for name, days, metadata in (("young", 1.5, {}), ("pinned", 30, {"pin": "true"})):
        for id_ in world.sandbox.seed("assistant", 6, name=name, created_at=int(now - days * DAY), metadata=metadata):
            world.registry.register("assistant", id_, "idle", created_at=now - days * DAY)
    return world


EDITS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "min_age shorter": ({}, {"orphan": replace(RULE, min_age=DAY)}, 6),
    "min_age longer": ({}, {"orphan": replace(RULE, min_age=9 * DAY)}, 0),
    "keep taken away": ({}, {"keep": ()}, 6),
    "keep mistyped": ({}, {"keep": (Keep(None, {"pin": "ture"}),)}, 6),
    "keep added": ({}, {"keep": (*PIN, Keep("x*", {}))}, 0),
    "all at once": ({}, {"keep": (), "orphan": replace(RULE, min_age=DAY)}, 12),
    "seen on fewer listings": (
        {"orphan": replace(RULE, seen=9, min_age=DAY), "keep": ()},
        {"orphan": replace(RULE, min_age=DAY), "keep": ()},
        12,
    ),
    "an orphan rule in place of a ttl": (
        {"orphan": None, "ttl": 90 * DAY, "anchor": "created_at", "keep": ()},
        {"ttl": None, "anchor": None, "orphan": RULE, "keep": ()},
        6,
    ),
    "no limit in the same edit": ({}, {"keep": (), "max_newly_due": None}, 6),
    "max_share": ({}, {"orphan": replace(RULE, max_share=Share(50, 50))}, 0),
    "uses stated": ({"orphan": replace(RULE, uses_stated=False)}, {"orphan": RULE}, -1),
}


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_halts_exactly_if_it_makes_more_orphans_than_allowed(idle: World, edit: str) -> None:
    before, after, count = EDITS[edit]
    idle.raw.hset(f"{idle.slot('assistant')}marks", "edges", 1)
    first = {"keep": PIN} | before
    for _ in range(3):
        await (idle.sweep(**first) if first.get("ttl") else idle.orphans(**first))
    assert [] == idle.deletes()

    for _ in range(3):
        await idle.orphans(**{"keep": PIN} | after, digest="digest000002")

    assert [] == idle.deletes()
    halts = idle.halts("assistant")
    assert (["idle|cutoff_jumped"] if count else []) == list(halts)
    if count > 0:
        assert f"{count} of 12 listed would become orphans at once" in halts["idle|cutoff_jumped"]["detail"]
        assert 12 == len(halts["idle|cutoff_jumped"]["plan"])
    elif count:
        assert 'uses = "none" is added' in halts["idle|cutoff_jumped"]["detail"]


async def test_time_alone_makes_any_number_orphans(idle: World) -> None:
    """The young ones of yesterday are old enough today, by the same rule."""
    await idle.orphans(keep=PIN)
    rules = f"{idle.slot('assistant')}idle:rules"
    younger = idle.raw.hget(rules, "enforced")
    assert '"min_age":172800.0' in younger
    aged = json.loads(younger)
    aged["rules"][0]["orphan"]["min_age"] = DAY  # as if the rule of both days had been this one
    idle.raw.hset(rules, "enforced", json.dumps(aged))
    idle.rule = replace(idle.rule, orphan=replace(RULE, min_age=DAY))
    for _ in range(3):
        await idle.orphans(keep=PIN)

    assert {} == idle.halts("assistant")
    assert 6 == len(idle.deletes())


async def test_orphans_that_were_approved_go_up_to_a_tenth_and_ten_more(idle: World) -> None:
    await idle.orphans(keep=PIN)
    for _ in range(2):
        await idle.orphans(keep=(), digest="digest000002")
    rules = f"{idle.slot('assistant')}idle:rules"
    idle.raw.delete(f"{idle.slot('assistant')}halts")  # as lapse approve does
    for digest, gone in (("digest000009", 0), ("digest000002", 6)):
        idle.raw.hset(rules, "orphans_ok", f"{digest} 16")
        await idle.orphans(keep=(), digest="digest000002")
        assert gone == len(idle.deletes())
        idle.raw.delete(f"{idle.slot('assistant')}halts")

    assert not idle.raw.hexists(rules, "orphans_ok")
    # From now on, what the new rule makes orphans is time's doing.
    await idle.orphans(keep=(), digest="digest000002")
    assert {} == idle.halts("assistant")
