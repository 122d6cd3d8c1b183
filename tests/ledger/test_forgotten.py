"""How long an application's word counts that an id is none of lapse's; and uses that it could not say."""

import time
from dataclasses import replace

import pytest

from lapse import InvalidResource
from lapse.ledger.housekeeping.forgotten import Unlisted, anything_ends, end_unlistable
from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.policy import Orphan
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.codec import dump
from lapse.registry.model import FORGOTTEN_MARKER, Partition
from oracle.history import Resource
from support.world import World

ORPHANS = Orphan(min_age=0.001, seen=3, max_share=None, uses_stated=True)


@pytest.fixture
def idle(world: World) -> World:
    """Return a world whose rule collects orphaned assistants."""
    partition = Partition("openai", "assistant", "idle")
    world.rule = replace(world.rule, partition=partition, ttl=None, anchor=None, orphan=ORPHANS, digest="digest00000a")
    world.seed(1, kind="assistant", policy="idle")
    return world


def vanished(world: World, n: int) -> list[str]:
    """Forget ids that the provider does not list."""
    ids = [f"asst_gone{i}" for i in range(n)]
    for id_ in ids:
        world.registry.register("assistant", id_, "idle")
        world.registry.forget("assistant", id_)
    return ids


def remembered(world: World, kind: str = "assistant") -> set[str]:
    return set(world.raw.zrange(f"{world.slot(kind)}forgotten", 0, -1)) - {FORGOTTEN_MARKER}


async def test_it_ends_with_the_second_complete_listing_that_does_not_show_the_id(idle: World) -> None:
    (listed,) = idle.seed(1, kind="assistant", policy="idle")
    idle.registry.forget("assistant", listed)
    gone = vanished(idle, 3)

    await idle.orphans()
    assert remembered(idle) == {listed, *gone}
    await idle.orphans()

    assert remembered(idle) == {listed}
    assert set(idle.raw.hkeys(f"{idle.slot('assistant')}unlisted")) == set()


async def test_a_listing_that_is_told_of_twice_is_one(idle: World) -> None:
    """A worker sends again what got no answer: Redis may have done it."""
    gone, ledger = vanished(idle, 2), idle.context().ledger
    listing = Unlisted(ledger, idle.rule.partition)
    await listing.begin(round(time.time() * 1000) + 1000)

    assert [0, 0] == [await listing.end(), await listing.end()]
    assert remembered(idle) == {*gone}

    await listing.begin(round(time.time() * 1000) + 2000)
    assert 2 == await listing.end()


async def test_listings_that_are_not_complete_end_nothing(idle: World) -> None:
    (gone,) = vanished(idle, 1)
    idle.sandbox.faults([{"method": "GET", "effect": "error", "status": 500}])

    for _ in range(4):
        await idle.orphans()

    assert remembered(idle) == {gone}


async def test_an_id_that_a_list_shows_again_begins_anew(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    idle.registry.forget("assistant", id_)
    since = idle.raw.zscore(f"{idle.slot('assistant')}forgotten", id_)
    idle.raw.hset(f"{idle.slot('assistant')}unlisted", id_, f"{since:.0f}")

    await idle.orphans()

    assert not idle.raw.hexists(f"{idle.slot('assistant')}unlisted", id_)
    assert remembered(idle) == {id_}


async def test_an_id_forgotten_anew_begins_anew(idle: World) -> None:
    (gone,) = vanished(idle, 1)
    await idle.orphans()
    idle.registry.forget("assistant", gone)

    await idle.orphans()
    assert remembered(idle) == {gone}
    await idle.orphans()
    assert remembered(idle) == set()


async def test_of_a_kind_that_no_list_shows_it_ends_after_a_time(world: World) -> None:
    for name in ("one", "two"):
        world.registry.forget("thread", f"thread_{name}")
        await world.until(lambda: world.raw.time()[0] > 0)
    after = world.raw.zscore(f"{world.slot()}forgotten", "thread_two") + 1

    assert await end_unlistable(world.context().ledger, "openai", "thread", round(after - 10_000)) == 0
    assert await end_unlistable(world.context().ledger, "openai", "thread", round(after)) == 2
    assert remembered(world, "thread") == set()


async def test_of_a_slot_in_which_nothing_ends_with_time_that_is_known(world: World) -> None:
    ledger, rules = world.context().ledger, [world.rule]
    world.registry.register("thread", "thread_tracked", world.rule.partition.policy)

    assert not await anything_ends(ledger, "openai", "thread", rules)
    assert await anything_ends(ledger, "openai", "thread", ())


@pytest.mark.parametrize("left", ["deletes", "finds_gone", "forgets", "lets_go", "claims", "mistypes"])
async def test_of_a_slot_whatever_ends_with_time_is_known(world: World, left: str) -> None:
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    (id_,) = world.seed(1)
    match left:
        case "deletes":
            await world.sweep()
        case "finds_gone":
            world.raw.zadd(f"{world.slot()}tombstones", {id_: 1})
        case "forgets":
            world.registry.forget("thread", id_)
        case "lets_go":
            world.raw.hset(f"{world.slot()}released", "thread_1", "[]")
        case "claims":
            assert (await ledger.claim(world.rule, world.settings, 1)).claims
        case "mistypes":
            world.registry.register("thread", "thread_1", "chta")

    assert await anything_ends(ledger, "openai", "thread", [world.rule])


async def test_uses_that_could_not_be_said_halt_the_orphan_rule_until_it_is_resumed(idle: World) -> None:
    (candidate,) = idle.seed(1, kind="assistant", policy="idle")
    for _ in range(2):
        await idle.orphans()
    with pytest.raises(InvalidResource):
        idle.registry.register("thread", "thread_1", "chat", uses=[("assistant", f"asst_{n}") for n in range(1001)])

    for _ in range(3):
        report = await idle.orphans()
        assert report.result == "halted"
    assert list(idle.halts("assistant")) == ["idle|uses_exceeded"]
    assert "thread_1" in idle.halts("assistant")["idle|uses_exceeded"]["detail"]
    assert idle.deletes() == []

    control = idle.context().control
    (halt,) = await control.halts([("openai", "assistant")])
    await control.lift(halt, "the application says all again")
    idle.registry.register("thread", "thread_1", "chat", uses=[("assistant", candidate)])
    reports = [await idle.orphans() for _ in range(3)]

    assert [report.result for report in reports] == ["completed"] * 3
    assert candidate in idle.sandbox.alive("assistant")


async def test_no_orphan_is_claimed_once_uses_could_not_be_said(idle: World) -> None:
    ids = idle.seed(1, kind="assistant", policy="idle")
    for _ in range(2):
        await idle.orphans()
    first = int(time.time() * 1000)
    with pytest.raises(InvalidResource):
        idle.registry.register("thread", "thread_1", "chat", uses=[("assistant", f"asst_{n}") for n in range(1001)])

    ledger = idle.context().ledger
    claims = await ledger.claim_orphans(idle.rule, idle.settings, dict.fromkeys(ids, first), alone=False)

    assert claims.status == "halted"
    assert Resource("openai", "assistant", ids[0]).id in idle.sandbox.alive("assistant")


UNDELETED = sorted(set(Outcome) - {Outcome.DELETED, Outcome.ALREADY_GONE})


async def answer(world: World, verb: str, id_: str) -> list[str]:
    """Answer a quarantine, or what was settled as already gone, as the command line does."""
    at = world.rule.partition
    said = (verb, dump("ann"), dump("test"), id_)
    ledger = world.context().ledger
    call = ledger.on_slot(
        "ledger/lua/quarantine", at.provider, at.kind, *said, parse=lambda reply: [one.decode() for one in reply]
    )
    changed: list[str] = (await ledger.carrier.carry([call]))[0]
    return changed


async def forgotten_under_a_claim(world: World, outcome: Outcome, *, attempts: int = 3) -> str:
    """Return an id that was forgotten while a worker waited for the answer to its DELETE."""
    (id_,) = world.seed(1)
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    claims = await ledger.claim(world.rule, world.settings, 1)
    assert "too_late" == world.registry.forget("thread", id_)
    settled = [settlement(claims.claims[0], Verdict(outcome, active_at=time.time()))]
    assert not (await ledger.settle(world.rule.partition, OutcomeBatch(settled, {}, attempts, listable=False))).refused
    return id_


@pytest.mark.parametrize("outcome", UNDELETED, ids=str)
async def test_what_was_forgotten_under_a_claim_is_tracked_no_more_whatever_its_answer(
    world: World, outcome: Outcome
) -> None:
    id_ = await forgotten_under_a_claim(world, outcome, attempts=1)

    assert world.registry.get("thread", id_) is None
    assert [] == await answer(world, "retry", id_)
    await world.sweep()
    assert {id_} == world.sandbox.alive("thread")


async def test_what_an_older_worker_put_into_quarantine_though_it_was_forgotten_is_dropped_by_a_retry(
    world: World,
) -> None:
    world.unpromised = {"lost"}  # what an older worker left is made by hand
    (used,) = world.seed(1, days=1)
    (id_,) = world.seed(1, uses=[("thread", used)])
    at = world.slot()
    world.raw.zadd(f"{at}forgotten", {id_: 1})
    world.raw.zrem(f"{at}chat:fresh", id_)
    world.raw.zadd(f"{at}chat:quarantine", {id_: 1})
    world.raw.hset(f"{at}aside", id_, '{"p":"chat","s":"quarantined","f":1000,"d":1,"g":1,"r":"unrecognised"}')

    assert [] == await answer(world, "retry", id_)

    assert world.registry.get("thread", id_) is None
    assert "dropped" == world.audit()[-1]["event"]
    assert [f"{used}|openai|thread|{id_}"] == world.raw.zrangebylex(f"{at}edges", "-", "(~")
    await world.sweep()
    assert {id_, used} == world.sandbox.alive("thread")


async def test_what_an_older_worker_lets_wait_though_it_was_forgotten_is_never_claimed(world: World) -> None:
    world.unpromised = {"lost"}
    (id_,) = world.seed(1)
    at = world.slot()
    world.raw.zrem(f"{at}chat:fresh", id_)
    world.raw.zadd(f"{at}chat:waiting", {id_: 1})
    world.raw.hset(f"{at}aside", id_, '{"p":"chat","s":"waiting","f":1000,"d":1,"g":1}')

    await world.sweep()

    assert world.registry.get("thread", id_) is None
    assert {id_} == world.sandbox.alive("thread")


@pytest.mark.parametrize("when", ["under the claim", "since"])
async def test_undo_never_brings_back_what_was_forgotten_also_when_no_list_needs_to_remember_it(
    world: World, when: str
) -> None:
    world.unpromised = {"unconfirmed", "unproven", "living"}  # nobody was asked
    (id_,) = world.seed(1)
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    claims = await ledger.claim(world.rule, world.settings, 1)
    if when == "under the claim":
        world.registry.forget("thread", id_)
    gone = [settlement(claims.claims[0], Verdict(Outcome.ALREADY_GONE))]
    await ledger.settle(world.rule.partition, OutcomeBatch(gone, {}, 3, listable=False))
    if when == "since":
        world.registry.forget("thread", id_)
    assert 1 == await end_unlistable(ledger, "openai", "thread", world.raw.time()[0] * 1000 + 60_000)

    assert [f"forgotten|{id_}"] == await answer(world, "undo", id_)

    await world.sweep()
    assert {id_} == world.sandbox.alive("thread")
