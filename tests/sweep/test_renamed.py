"""A policy that is renamed keeps what an operator or a guard said of it under its old name."""

from dataclasses import replace
from typing import Any

import pytest

from lapse.policy import Pace, Rule, Share
from lapse.registry.model import Partition
from support.erasing import Erasing
from support.world import DAY, World

S = "user:1"
LONG_AGO = 1_600_000_000
SLOT = [("openai", "thread")]


def called(world: World, name: str, *formerly: str, **facts: Any) -> Rule:
    """Return the world's rule under another name."""
    at = replace(world.rule.partition, policy=name)
    return replace(world.rule, partition=at, formerly=formerly, digest=f"digest{name:0>6}", **facts)


async def swept(world: World, rule: Rule) -> str:
    """Sweep as a worker does that has this rule alone; return the result."""
    return (await world.sweep(partition=rule.partition, formerly=rule.formerly, digest=rule.digest)).result


# --- pauses


@pytest.mark.parametrize("enforce", [True, False], ids=["enforcing", "observing"])
async def test_a_pause_on_the_old_name_goes_with_the_policy_and_outlasts_formerly(world: World, enforce: bool) -> None:
    ids, control = set(world.seed(3)), world.context().control
    await control.pause("openai/thread/chat", "a complaint", "ann")

    world.rule = replace(world.rule, enforce=enforce)
    assert "paused" == await swept(world, called(world, "talk", "chat"))
    world.rule = replace(world.rule, enforce=True)
    assert "paused" == await swept(world, called(world, "talk"))

    assert ids == world.sandbox.alive("thread")
    pauses = await control.pauses()
    assert pauses["openai/thread/chat"] == pauses["openai/thread/talk"]
    (record,) = [record for record in world.audit() if record["event"] == "paused" and record["policy"] == "talk"]
    assert ("ann", "a complaint") == (record["actor"], record["why"])


async def test_a_pause_goes_through_two_renames_one_by_one_and_at_once(world: World) -> None:
    ids, control = set(world.seed(2)), world.context().control
    await control.pause("openai/thread/chat", "a complaint")

    assert "paused" == await swept(world, called(world, "talk", "chat"))
    assert "paused" == await swept(world, called(world, "words", "talk"))
    assert "paused" == await swept(world, called(world, "speech", "chat", "talk", "words"))
    assert ids == world.sandbox.alive("thread")


async def test_a_pause_that_ends_under_every_name_does_not_come_back(world: World) -> None:
    world.seed(2)
    control, talk = world.context().control, called(world, "talk", "chat")
    await control.pause("openai/thread/chat", "a complaint")
    assert "paused" == await swept(world, talk)

    await control.unpause("openai/thread/chat")
    assert "paused" == await swept(world, talk)
    await control.unpause("openai/thread/talk")
    assert "completed" == await swept(world, talk)
    assert set() == world.sandbox.alive("thread")


async def test_a_pause_of_an_old_name_that_is_lost_halts_the_new_one_after_formerly_too(world: World) -> None:
    ids = set(world.seed(2))
    await world.context().control.pause("openai/thread/chat", "a complaint")
    world.raw.delete("lapse:control")

    assert "halted" == await swept(world, called(world, "talk", "chat"))
    assert "halted" == await swept(world, called(world, "talk"))
    assert ["talk|registry_damaged"] == list(world.halts())
    assert ids == world.sandbox.alive("thread")


async def test_a_pause_on_an_old_name_is_seen_in_mid_sweep(world: World) -> None:
    control, talk = world.context().control, called(world, "talk", "chat")
    assert await control.stopped(talk.partition, talk.formerly) is None
    await control.pause("openai/thread/chat", "a complaint")
    assert ("paused", "lapse pause on openai/thread/chat") == await control.stopped(talk.partition, talk.formerly)


@pytest.mark.parametrize("stands", ["before", "chat"])
async def test_an_erasure_stops_at_a_pause_on_any_name(world: World, stands: str) -> None:
    (mine,) = world.seed(1, subject=S, policy=stands)
    world.rule = replace(world.rule, formerly=("before",))
    await world.context().control.pause("openai/thread/before", "a look", slots=SLOT)
    erasing = Erasing(world)
    await erasing.ask(S)
    await erasing.work()
    assert {mine} == world.sandbox.alive("thread")


@pytest.mark.parametrize(
    ("scope", "left"), [("openai/file/before", 1), ("openai/file/chat", 1), ("openai/file/other", 0)]
)
@pytest.mark.parametrize("stands", ["before", "chat"])
async def test_a_cascade_stops_at_a_pause_on_any_name_of_the_childs_policy(
    world: World, stands: str, scope: str, left: int
) -> None:
    (file,) = world.seed(1, kind="file", policy=stands)
    (thread,) = world.sandbox.seed("thread", tool_resources={"code_interpreter": {"file_ids": [file]}})
    world.registry.register(
        "thread", thread, "chat", uses=[("file", file)], created_at=LONG_AGO, last_active_at=LONG_AGO
    )
    at = Partition("openai", "file", "chat")
    world.others = (replace(world.rule, partition=at, formerly=("before",), digest="digest00file"),)
    await world.context().ledger.adopt(world.others[0])
    await world.context().control.pause(scope, "a look")

    await world.sweep(cascade={"file": "delete"}, digest="digest00000c")

    assert left == len(world.sandbox.alive("file"))


# --- halts

WALL = Share(percent=20, at_least=3)
GONE = [f"file-{n:024d}" for n in range(40)]


def lost(world: World, n: int, policy: str = "chat", first: int = 0) -> None:
    """Register files that are at no provider, after one that is."""
    world.seed(1, kind="file", days=1, policy=policy)
    world.registry.register_many(
        {"kind": "file", "id": id_, "policy": policy, "created_at": LONG_AGO, "last_active_at": LONG_AGO}
        for id_ in GONE[first : first + n]
    )


async def files(world: World, name: str, *formerly: str, enforce: bool = True) -> str:
    """Sweep files under a policy of this name; return the result."""
    at, digest = Partition("openai", "file", name), f"digest{name:0>6}"
    report = await world.sweep(partition=at, formerly=formerly, digest=digest, enforce=enforce, max_already_gone=WALL)
    return report.result


def settled(world: World) -> int:
    return sum(n for name, n in world.counters("file").items() if name.endswith("|already_gone"))


async def answered(world: World, policy: str) -> None:
    """Lift a halt as an operator's answer does."""
    control = world.context().control
    for halt in await control.halts([("openai", "file")]):
        if halt.policy == policy:
            await control.lift(halt, "it is right", "ann")


@pytest.mark.parametrize("enforce", [True, False], ids=["enforcing", "observing"])
async def test_a_halt_goes_with_the_policy_and_outlasts_formerly(world: World, enforce: bool) -> None:
    lost(world, 9)
    assert "halted" == await files(world, "chat")
    stood = world.halts("file")["chat|gone_wall"]

    await files(world, "talk", "chat", enforce=enforce)
    assert {"chat|gone_wall": stood, "talk|gone_wall": stood} == world.halts("file")
    world.raw.hdel(f"{world.slot('file')}chat:rules", "renamed")
    assert "halted" == await files(world, "talk")

    assert 3 == settled(world)
    assert {"chat": 1} == {name.split("|")[1]: n for name, n in world.counters("file").items() if "gone_wall" in name}


async def test_a_halt_goes_through_two_renames_and_back(world: World) -> None:
    lost(world, 9)
    assert "halted" == await files(world, "chat")
    assert "halted" == await files(world, "talk", "chat")
    assert "halted" == await files(world, "words", "talk")
    assert "halted" == await files(world, "chat", "words")
    assert 3 == settled(world)


@pytest.mark.parametrize("name", ["chat", "talk"])
async def test_the_answer_under_either_name_ends_a_halt_under_both(world: World, name: str) -> None:
    lost(world, 9)
    await files(world, "chat")
    await files(world, "talk", "chat")

    await answered(world, name)

    assert {} == world.halts("file")
    events = [record["policy"] for record in world.audit("file") if record["event"] == "resumed"]
    assert ["chat", "talk"] == events


async def test_the_answer_leaves_a_halt_of_another_policy_alone(world: World) -> None:
    lost(world, 9)
    await files(world, "chat")
    stood = world.raw.hget(f"{world.slot('file')}halts", "chat|gone_wall")
    world.raw.hset(f"{world.slot('file')}halts", "other|gone_wall", stood)
    await files(world, "talk", "chat")

    await answered(world, "talk")

    assert ["other|gone_wall"] == list(world.halts("file"))


async def test_the_answers_before_the_rename_count_with_those_after(world: World) -> None:
    lost(world, 3)
    assert "completed" == await files(world, "chat")
    lost(world, 6, first=3)

    assert "halted" == await files(world, "talk", "chat")

    assert 3 == settled(world)
    assert ["talk|gone_wall"] == list(world.halts("file"))


async def test_what_a_worker_with_the_old_name_finds_halts_the_new_one_at_once(world: World) -> None:
    """Its last answers came in when the new name's sweep was open already."""
    lost(world, 9)
    await files(world, "chat", enforce=False)
    context = world.context()
    world.rule = replace(world.rule, partition=Partition("openai", "file", "talk"), formerly=("chat",), enforce=True)
    await context.ledger.adopt(world.rule)
    await context.control.halt(Partition("openai", "file", "chat"), "gone_wall", "too many")

    assert "halted" == (await context.ledger.claim(world.rule, world.settings, 1)).status
    assert ("halted", "gone_wall") == await context.control.stopped(world.rule.partition, world.rule.formerly)


async def test_an_older_workers_divergence_stops_no_worker_with_the_new_name(world: World) -> None:
    world.seed(3, kind="file")
    await files(world, "chat", enforce=False)
    chat = world.rule
    await files(world, "talk", "chat", enforce=False)
    await world.context().control.halt(chat.partition, "config_divergence", "rules digest of worker old are older")

    assert "completed" == await files(world, "talk", "chat")
    assert ["chat|config_divergence"] == list(world.halts("file"))


# --- max_deletions


async def paced(world: World, name: str, *formerly: str, amount: int = 3) -> tuple[str, int]:
    """Sweep under a policy of this name; return the result, and how many objects are left."""
    at, digest = Partition("openai", "thread", name), f"digest{name:0>6}"
    report = await world.sweep(partition=at, formerly=formerly, digest=digest, max_deletions=Pace(amount, DAY))
    return report.result, len(world.sandbox.alive("thread"))


async def test_a_window_of_max_deletions_goes_on_under_the_new_name(world: World) -> None:
    world.seed(9)
    assert ("limited", 6) == await paced(world, "chat")
    assert ("limited", 6) == await paced(world, "talk", "chat")
    assert ("limited", 6) == await paced(world, "words", "chat", "talk")
    assert ("limited", 5) == await paced(world, "speech", "chat", "talk", "words", amount=4)
    for name in ("chat", "talk", "words", "speech"):
        world.raw.hset(f"{world.slot()}{name}:rules", "pace_from", 1)
    assert ("limited", 2) == await paced(world, "last", "chat", "speech", "talk", "words"), (
        "a window that is over ends under the new name too"
    )


async def test_a_policys_own_window_lets_no_more_go_by_taking_another_name_over(world: World) -> None:
    world.seed(9)
    assert ("limited", 6) == await paced(world, "chat")
    world.seed(3, policy="older")
    assert ("limited", 8) == await paced(world, "older", amount=1)

    assert ("limited", 8) == await paced(world, "chat", "older")
