"""When "not found" is believed: after a later positive answer under the same credential, and once more not found."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lapse.guards.absence.positives import ASKED
from lapse.guards.operator_proof import believe
from lapse.policy import Keep, Share
from support.world import World

GONE = [f"file-{n:024d}" for n in range(400)]
LONG_AGO = 1_600_000_000


@pytest.fixture(autouse=True)
def of_files(world: World) -> None:
    """Sweep files: nothing is asked about one but its own DELETE."""
    world.rule = replace(world.rule, partition=replace(world.rule.partition, kind="file"))


def gone(world: World, n: int, **facts: Any) -> list[str]:
    """Register ids that are at no provider."""
    world.registry.register_many(
        {"kind": "file", "id": id_, "policy": "chat", "created_at": LONG_AGO, "last_active_at": LONG_AGO, **facts}
        for id_ in GONE[:n]
    )
    return GONE[:n]


def again(world: World) -> None:
    """Let what is backed off be due."""
    waiting = f"{world.slot('file')}chat:waiting"
    for id_ in world.raw.zrange(waiting, 0, -1):
        world.raw.zadd(waiting, {id_: 0}, xx=True)


def asked(world: World, method: str) -> list[str]:
    return [one["path"].rsplit("/", 1)[1] for one in world.sandbox.requests() if one["method"] == method]


async def test_an_absence_is_settled_after_a_living_id_was_read_and_it_was_asked_once_more(world: World) -> None:
    (alive,) = world.seed(1, kind="file", days=1)
    (id_,) = gone(world, 1)

    report = await world.sweep()

    assert {"already_gone": 1} == dict(report.outcomes)
    order = [(one["method"], one["path"].rsplit("/", 1)[1]) for one in world.sandbox.requests()]
    assert [("DELETE", id_), ("GET", alive), ("DELETE", id_)] == order


async def test_one_proof_serves_all_that_wait_and_no_hand_waits_with_them(world: World) -> None:
    world.seed(1, kind="file", days=1)
    ids = gone(world, 30)
    world.sandbox.faults([{"latency": "20ms"}])

    report = await world.sweep(context=world.context(concurrency=2))

    assert {"already_gone": 30} == dict(report.outcomes)
    assert sorted(ids * 2) == sorted(asked(world, "DELETE"))
    assert 10 >= len(asked(world, "GET")), "one for all that wait when nothing else is in flight"


async def test_a_deletion_that_was_asked_for_before_the_absence_was_there_proves_nothing(world: World) -> None:
    """The key may have been replaced between the two: nothing that is due lives on to be read."""
    world.seed(1, kind="file", days=40)
    gone(world, 1, expires_at=time.time() - 1)

    assert {"deleted": 1, "unproven": 1} == dict((await world.sweep()).outcomes)


@pytest.mark.parametrize("said", ["forget", "expired by then", "registered since"])
async def test_what_the_registry_does_not_know_from_before_is_no_witness(world: World, said: str) -> None:
    (id_,) = gone(world, 1)
    (other,) = world.sandbox.seed("file", 1)
    context = world.context()
    if said == "forget":
        world.registry.register("file", other, "chat")
        world.registry.forget("file", other)
    if said == "registered since":
        asking = context.provider.delete

        async def delete(*of: Any, **more: Any) -> Any:
            world.registry.register("file", other, "chat", created_at=time.time(), last_active_at=time.time())
            return await asking(*of, **more)

        context.provider.delete = delete  # type: ignore[method-assign]

    assert {"unproven": 1} == dict((await world.sweep(context=context)).outcomes)
    assert "waiting" == world.state(id_, "file")
    assert 0 == world.record(id_, "file").attempts


async def test_what_answers_not_found_and_then_is_there_halts_the_kind(world: World) -> None:
    """An empty replica behind the same address: one of its answers is as good as any other's."""
    ids = world.seed(30, kind="file")
    world.seed(3, kind="file", days=1)
    world.sandbox.faults([{"method": "DELETE", "effect": "wrong_project", "every": 2}])

    report = await world.sweep()

    assert "halted" == report.result
    assert ["*|inconsistent_absence"] == list(world.halts("file"))
    assert 2 >= report.outcomes["already_gone"]  # asked twice, and both times by the empty one
    world.unpromised = world.unpromised | {"living"}
    assert set(ids) - set(world.deletes()) <= world.sandbox.alive("file")
    assert "halted" == (await world.sweep()).result


async def test_an_absence_that_a_later_sweep_belies_halts_too(world: World) -> None:
    """Nothing was there to prove it; when the id is deleted after all, the answer before was wrong."""
    (id_,) = world.seed(1, kind="file")
    world.sandbox.faults([{"effect": "wrong_project"}])
    assert {"unproven": 1} == dict((await world.sweep()).outcomes)
    world.sandbox.faults([])
    again(world)

    assert {"deleted": 1} == dict((await world.sweep()).outcomes)
    assert ["*|inconsistent_absence"] == list(world.halts("file"))
    assert 1 == world.counters("file")["deletions|chat|file"]
    assert id_ not in world.sandbox.alive("file")


async def test_registered_anew_between_is_no_contradiction(world: World) -> None:
    (id_,) = world.seed(1, kind="file")
    world.sandbox.faults([{"effect": "wrong_project"}])
    await world.sweep()
    world.sandbox.faults([])
    world.registry.register("file", id_, "chat", expires_at=time.time() - 1)
    again(world)

    assert {"deleted": 1} == dict((await world.sweep()).outcomes)
    assert {} == world.halts("file")


async def test_what_a_read_did_not_find_is_read_again_and_never_deleted_unseen(world: World) -> None:
    """Its name was never seen: a keep rule may protect it at the place where it is."""
    gone(world, 1)
    world.seed(1, kind="file", days=1)

    assert {"already_gone": 1} == dict((await world.sweep(keep=(Keep("prod-*", {}),))).outcomes)
    assert [] == world.deletes()


# --- how many requests it may take


def newest_gone(world: World) -> None:
    """Register living ids, and then five that somebody deleted."""
    world.seed(3, kind="file", days=2)
    now = time.time()
    for n in range(5):
        world.registry.register("file", GONE[-1 - n], "chat", created_at=now - n, last_active_at=now - n)


def one_alive(world: World) -> None:
    world.seed(1, kind="file", days=1)


@dataclass(frozen=True)
class Bound:
    """How a registry of ids that are gone ends: after so many requests at most, and how."""

    absent: int
    alive: Callable[[World], object]
    requests: int
    ends: str


BOUNDS = {
    "the five newest are gone": Bound(1, newest_gone, 2 * 2 + 5 + 1, "already_gone"),
    "nothing lives": Bound(3, World.deletes, 3 * 3 + ASKED, "no_witness"),
    "one is due": Bound(1, one_alive, 3, "already_gone"),
}


@pytest.mark.parametrize("name", BOUNDS)
async def test_every_absence_ends_within_a_stated_number_of_requests(world: World, name: str) -> None:
    """At 6 requests a minute too, where a sweep has no more than a handful."""
    bound = BOUNDS[name]
    bound.alive(world)
    ids = gone(world, bound.absent)
    throttle = "lapse:{openai}:flow"

    for _ in range(12):
        world.raw.delete(throttle)
        context = world.context(rate=5.0)
        await world.sweep(context=context)
        again(world)
        if world.halts("file") or not any(world.state(id_, "file") for id_ in ids):
            break

    ended = "already_gone" if not any(world.state(id_, "file") for id_ in ids) else ",".join(world.halts("file"))
    assert bound.ends in ended
    assert bound.requests >= len(world.sandbox.requests())


async def test_without_tokens_it_is_unproven_and_no_try(world: World) -> None:
    """What could not be asked counts neither against the id nor towards the halt for want of a witness."""
    world.seed(1, kind="file", days=1)
    (id_,) = gone(world, 1)
    for _ in range(4):
        world.raw.delete("lapse:{openai}:flow")
        world.settings = replace(world.settings, lease=2.0, budget=2.0)
        assert {"unproven": 1} == dict((await world.sweep(context=world.context(rate=0.1))).outcomes)
        again(world)

    assert {} == world.halts("file")
    assert 0 == world.record(id_, "file").attempts


async def test_an_operators_word_settles_exactly_the_ids_that_wait_under_this_credential(world: World) -> None:
    waiting = gone(world, 2)
    for _ in range(3):
        await world.sweep()
        again(world)
    assert ["chat|no_witness"] == list(world.halts("file"))
    context = world.context()
    identity = await context.provider.identity()

    assert 2 == await believe(context.ledger, world.rule.partition, identity)
    world.raw.delete(f"{world.slot('file')}halts")
    world.registry.register("file", GONE[9], "chat", created_at=LONG_AGO, last_active_at=LONG_AGO)
    world.unpromised = {"unproven"}  # that is what the operator's word stands in for
    report = await world.sweep()

    assert {"already_gone": 2, "unproven": 1} == dict(report.outcomes)
    assert [None, None, "waiting"] == [world.state(id_, "file") for id_ in (*waiting, GONE[9])]


# --- the wall


async def test_more_absences_than_the_wall_allows_halt_however_long_they_took(world: World) -> None:
    """The provider has lost them, or somebody else deletes: nobody knows which, and an operator has to say."""
    world.seed(1, kind="file", days=1)
    ids = gone(world, 40)

    report = await world.sweep(max_already_gone=Share(percent=50, at_least=20))

    assert "halted" == report.result
    assert 20 == world.counters("file")["settled|chat|already_gone"]
    assert ["chat|gone_wall"] == list(world.halts("file"))
    assert 20 == sum(world.state(id_, "file") is not None for id_ in ids)
    assert 1 == world.counters("file")["guard_trips|chat|gone_wall"]


async def test_deletions_between_keep_the_wall_up(world: World) -> None:
    world.seed(1, kind="file", days=1)
    for round_ in range(5):
        world.seed(10, kind="file")
        world.registry.register_many(
            {"kind": "file", "id": id_, "policy": "chat", "created_at": LONG_AGO, "last_active_at": LONG_AGO}
            for id_ in GONE[round_ * 8 : round_ * 8 + 8]
        )
        await world.sweep(max_already_gone=Share(percent=50, at_least=20))

    assert {} == world.halts("file")
    assert 40 == world.counters("file")["settled|chat|already_gone"]


@pytest.mark.parametrize("why", ["an earlier attempt ended unknown", "it was due before an accepted rollback"])
async def test_an_absence_that_is_expected_is_not_held_against_the_policy(world: World, why: str) -> None:
    world.seed(1, kind="file", days=1)
    ids = gone(world, 30)
    await world.context().watch.look()
    if why.startswith("an earlier"):
        for id_ in ids:
            world.raw.hset(
                f"{world.slot('file')}aside",
                id_,
                f'{{"p":"chat","s":"waiting","f":{LONG_AGO}000,"u":1,"r":"error","d":0}}',
            )
            world.raw.zrem(f"{world.slot('file')}chat:fresh", id_)
            world.raw.zadd(f"{world.slot('file')}chat:waiting", {id_: 0})
    else:
        world.raw.hset("lapse:epoch", "rolled_back", round(time.time() * 1000))

    report = await world.sweep(max_already_gone=Share(percent=50, at_least=20))

    assert {"already_gone": 30} == dict(report.outcomes)
    assert {} == world.halts("file")
