"""Whose subject is held loses nothing, whatever comes between; and nobody else waits for it."""

import asyncio
import time
from collections.abc import Callable

import pytest

from lapse.ledger.housekeeping import creations, subjects
from lapse.ledger.housekeeping.forgotten import anything_ends
from lapse.registry.subjects import Subjects
from support.world import DAY, World

S = "user:42"


def seeded(world: World, subject: str = S, n: int = 1) -> list[str]:
    return world.seed(n, subject=subject)


async def housekept(world: World) -> None:
    await subjects.keep(world.context().ledger, [("openai", "thread"), ("openai", "file")], time.monotonic() + 20)


async def test_a_held_subjects_ids_stay_and_go_when_the_hold_ends(world: World) -> None:
    mine, (other,) = seeded(world, n=3), seeded(world, "user:7")
    assert 3 == world.registry.hold_subject(S, reason="case 7").changed

    await world.sweep()
    assert set(mine) == world.sandbox.alive("thread")
    assert [other] == world.deletes()

    world.registry.unhold_subject(S)
    await world.sweep()
    assert set() == world.sandbox.alive("thread")


async def test_a_claim_in_a_slot_that_nobody_told_is_told_first(world: World) -> None:
    """The hold is acknowledged before the slot exists; no hold is ever copied there but by its first claim."""
    world.registry.hold_subject(S, reason="case 7")
    (mine,), (other,) = seeded(world), seeded(world, "user:7")
    world.raw.delete(f"{world.slot()}subject_holds")
    world.raw.hdel(f"{world.slot()}protected", "subjects")

    await world.sweep()

    assert {mine} == world.sandbox.alive("thread")
    assert [other] == world.deletes()
    assert "held" == world.state(mine)


@pytest.mark.parametrize("hold_first", [True, False])
async def test_a_hold_that_races_the_first_registration_and_claim_of_a_slot(world: World, *, hold_first: bool) -> None:
    """Whichever is first, the other finds it: a slot is named before a list is read, a list stands before slots are."""
    context = world.context()
    if hold_first:
        world.raw.hset("lapse:held_subjects", S, '{"reason":"case 7","actor":"ann","since":1}')
        world.raw.hincrby("lapse:held_subjects", "\x1f", 1)  # and the holder has read the slots: there were none
        (mine,) = seeded(world)
        await world.sweep(context=context)
    else:
        await context.ledger.tell_subjects("openai", "thread")
        (mine,) = seeded(world)
        world.registry.hold_subject(S, reason="case 7")
        await world.sweep(context=context)

    assert {mine} == world.sandbox.alive("thread")


async def test_a_hold_whose_copies_were_cut_short_is_finished_by_the_next_claim(world: World) -> None:
    (thread,), (file,) = seeded(world), world.seed(1, kind="file", subject=S)
    await housekept(world)
    world.raw.hset("lapse:held_subjects", S, '{"reason":"case 7","actor":"ann","since":1}')
    world.raw.hincrby("lapse:held_subjects", "\x1f", 1)
    await world.context().ledger.tell_subjects("openai", "file")

    await world.sweep()

    assert {thread} == world.sandbox.alive("thread")
    assert "hold" == world.record(file, "file").governed_by


async def test_a_kind_that_cannot_be_told_deletes_nothing(world: World) -> None:
    (mine,), (other,) = seeded(world), seeded(world, "user:7")
    world.raw.set(f"{world.slot()}subject_holds", "not a hash")
    assert not world.registry.hold_subject(S, reason="case 7")

    with pytest.raises(Exception, match="WRONGTYPE"):
        await world.sweep()
    assert {mine, other} == world.sandbox.alive("thread")

    world.raw.delete(f"{world.slot()}subject_holds")
    await world.sweep()
    assert {mine} == world.sandbox.alive("thread")


async def test_what_an_application_writes_among_the_slots_keeps_no_hold_from_being_told(world: World) -> None:
    (mine,) = seeded(world)
    world.raw.sadd("lapse:slots", b"\xff/thread", "nonsense", "a/b/c")
    world.raw.sadd(f"{world.slot()}policies", b"\xff")

    assert world.registry.hold_subject(S, reason="case 7")
    await housekept(world)
    await creations.keep(world.context().ledger, [("openai", "thread")], time.monotonic() + 20)
    assert await anything_ends(world.context().ledger, "openai", "thread", [world.rule]) is False
    await world.sweep()

    assert {mine} == world.sandbox.alive("thread")


async def test_many_due_ids_of_a_held_subject_keep_nobody_waiting(world: World) -> None:
    old = time.time() - 40 * DAY
    facts = {"policy": "chat", "created_at": old, "last_active_at": old, "subject": S}
    world.registry.hold_subject("user:7", reason="so that a claim has to look")
    for start in range(0, 100_000, 10_000):
        world.registry.register_many(
            {"kind": "thread", "id": f"thread_held_{n:06d}", **facts} for n in range(start, start + 10_000)
        )
    others = seeded(world, "user:8", n=100)

    answer = world.registry.hold_subject(S, reason="case 7")
    assert (10_000, 90_000) == (answer.changed, answer.remaining)
    await world.sweep()

    assert sorted(others) == sorted(world.deletes())


async def test_a_hold_that_ends_by_itself_is_over_for_claims_and_lets_go(world: World) -> None:
    mine = seeded(world, n=2)
    world.registry.hold_subject(S, reason="case 7", until=time.time() + 1)
    await world.until(lambda: world.record(mine[0]).hold is None)
    assert "held" == world.state(mine[0])

    await housekept(world)
    assert "tracked" == world.state(mine[0])
    await world.sweep()
    assert set() == world.sandbox.alive("thread")


async def test_an_unhold_that_was_cut_short_is_finished_by_housekeeping(world: World) -> None:
    (mine,) = seeded(world)
    world.registry.hold_subject(S, reason="case 7")
    world.raw.hdel("lapse:held_subjects", S)
    world.raw.hincrby("lapse:held_subjects", "\x1f", 1)

    await housekept(world)

    assert "tracked" == world.state(mine)
    assert not world.raw.hexists(f"{world.slot()}subject_holds", S)


async def test_what_an_older_client_registered_is_found_after_housekeeping(world: World) -> None:
    (mine,) = seeded(world)
    world.raw.delete(f"{world.slot()}subjects")
    assert () == world.registry.resources(subject=S).records

    before = world.registry.resources(subject=S)
    await housekept(world)
    page = world.registry.resources(subject=S)

    assert ([mine], [False, True]) == ([one.resource.id for one in page.records], [before.whole, page.whole])
    progress = await subjects.index_progress(world.context().ledger, [("openai", "thread")])
    assert (1, 1, True) == progress


async def test_the_index_is_walked_in_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "FACTS_A_STEP", 100)
    mine = seeded(world, n=1500)
    world.raw.delete(f"{world.slot()}subjects")
    ledger, slot = world.context().ledger, ("openai", "thread")
    call = ledger.on_slot("ledger/lua/housekeeping/index_subjects", *slot, 100, 0, parse=int)

    assert [1] == await ledger.carrier.carry([call])
    progress = await subjects.index_progress(ledger, [slot])
    assert 0 < progress.looked < progress.facts
    assert not progress.whole
    await housekept(world)
    assert len(mine) == world.raw.zcard(f"{world.slot()}subjects")


async def test_a_hold_during_a_sweep_counts_or_comes_too_late(world: World) -> None:
    seeded(world, n=400)
    seen: list[int] = []

    def hold_now() -> None:
        if not seen and world.deletes():
            seen.append(world.registry.hold_subject(S, reason="case 7").changed)

    await swept_while(world, hold_now)

    held = world.sandbox.alive("thread")
    assert seen
    assert held
    assert {"held"} == {world.state(id_) for id_ in held}


async def swept_while(world: World, act: Callable[[], None]) -> None:
    sweeping = asyncio.create_task(world.sweep())
    while not sweeping.done():
        act()
        await asyncio.sleep(0)
    await sweeping


async def test_a_hold_that_is_said_anew_while_the_old_one_is_taken_away_stands(world: World) -> None:
    (mine,) = seeded(world)
    world.registry.hold_subject(S, reason="case 7", until=time.time() + 0.5)
    stored = world.raw.hget("lapse:held_subjects", S)
    await world.until(lambda: world.record(mine).hold is None)
    world.registry.hold_subject(S, reason="case 8")

    await world.carrier.say(Subjects(world.context().ledger.commands).end(S, stored))
    await world.sweep()

    assert {mine} == world.sandbox.alive("thread")
