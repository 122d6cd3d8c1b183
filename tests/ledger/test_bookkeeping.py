"""What stays behind a settled claim: tombstones, edges, quarantine and its undo, proofs, the shared budget."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from lapse.ledger.housekeeping.forgotten import anything_ends
from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.providers.outcomes import Limited, Outcome, Verdict
from lapse.registry.codec import dump
from lapse.registry.model import PURGED
from support.world import World

GONE = "thread_AAAAAAAAAAAAAAAAAAAAAAAA"
LONG_AGO = 1_600_000_000


async def operate(world: World, verb: str, *ids: str) -> list[str]:
    """Answer a quarantine as the command line does."""
    ledger = world.context().ledger
    call = ledger.on(
        world.rule.partition, "ledger/lua/quarantine", *ids, parse=lambda reply: [id_.decode() for id_ in reply]
    )
    head = (call.args[0], call.args[1], verb, dump("ann"), dump("test"), *ids)
    answered: list[str] = (await ledger.carrier.carry([replace(call, args=head)]))[0]
    return answered


async def settle_one_as_gone(world: World, **facts: Any) -> None:
    world.seed(1)
    world.registry.register("thread", GONE, "chat", created_at=LONG_AGO, last_active_at=LONG_AGO, **facts)
    report = await world.sweep()
    assert 1 == report.outcomes["already_gone"]


async def test_what_was_settled_as_gone_can_be_brought_back(world: World) -> None:
    await settle_one_as_gone(world, labels={"env": "dev"})

    assert [f"tracked|{GONE}"] == await operate(world, "undo", GONE)

    record = world.registry.get("thread", GONE)
    assert record
    assert ("tracked", {"env": "dev"}, LONG_AGO) == (record.state, record.labels, record.created_at.timestamp())  # type: ignore[union-attr]
    assert [f"registered|{GONE}"] == await operate(world, "undo", GONE)


async def test_what_comes_back_to_a_name_that_housekeeping_ended_is_found(world: World) -> None:
    await settle_one_as_gone(world)
    world.raw.hset(world.slot() + "graves", GONE, '{"p":"unmanaged","f":1}')
    assert not world.raw.sismember(world.slot() + "policies", "unmanaged")

    await operate(world, "undo", GONE)

    assert "tracked" == world.state(GONE)


@pytest.mark.parametrize("ends", ["given back", "its lease ran out"])
async def test_what_moved_while_claimed_to_a_name_that_housekeeping_ended_is_found(world: World, ends: str) -> None:
    (id_,) = world.seed(1)
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    world.settings = replace(world.settings, lease=0.2 if ends == "its lease ran out" else 10)
    (claim,) = (await ledger.claim(world.rule, world.settings, 1)).claims
    world.registry.register("thread", id_, "new")
    await ledger.end_tombstones("openai", "thread", 0)  # nothing stands under it yet

    if ends == "its lease ran out":
        await world.until(lambda: world.raw.time()[0] > claim.at // 1000 + 1)
        await ledger.end_tombstones("openai", "thread", 0)
    else:
        back = settlement(claim, Verdict(Outcome.LIMITED))
        await ledger.settle(world.rule.partition, OutcomeBatch([back], {}, 3, listable=False))

    assert world.raw.sismember(world.slot() + "policies", "new")
    assert "ok" == world.registry.hold("thread", id_, reason="a case")


async def test_what_a_purge_leased_and_its_worker_left_is_nobodys_and_may_be_registered(world: World) -> None:
    world.unpromised = {"unasked", "moved"}  # nobody purges here; and all is of one millisecond, perhaps
    ledger = world.context().ledger
    await world.watch.look()
    world.raw.hset(world.slot() + "marks", "purge", world.watch.epoch)
    at, lease = replace(world.rule.partition, policy=PURGED), replace(world.settings, lease=0.1)
    expected = (world.watch.epoch, "", "", 0)
    await ledger.tell_subjects("openai", "thread")
    (claim, _) = (await ledger.claim_purged(at, lease, ["thread_1", "thread_2"], "ann", expected=expected)).claims
    world.registry.register("thread", "thread_2", "chat")
    await world.until(lambda: world.raw.time()[0] > claim.at // 1000 + 1)
    assert await anything_ends(ledger, "openai", "thread", [replace(world.rule)])

    await ledger.end_tombstones("openai", "thread", 0)

    assert [None, "waiting"] == [world.state("thread_1"), world.state("thread_2")]
    assert not world.raw.hexists(world.slot() + "aside", "thread_1")


async def test_gone_keeps_its_edges_until_its_tombstone_ends(world: World) -> None:
    (used,) = world.seed(1)
    await settle_one_as_gone(world, uses=[("thread", used)])
    await world.sweep()
    assert "referenced" == world.state(used)

    ledger = world.context().ledger
    assert 1 == await ledger.end_tombstones("openai", "thread", round(time.time() * 1000) + 1000)
    assert 1 == await ledger.release_edges("openai", "thread")
    world.unpromised = {"referenced"}  # a tombstone that ended before its time
    await world.sweep()

    assert used not in world.sandbox.alive("thread")


async def test_a_retried_quarantine_is_tried_again(world: World) -> None:
    (id_,) = world.seed(1)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 422}])
    await world.sweep()
    assert "quarantined" == world.state(id_)
    world.sandbox.faults([])

    assert [id_] == await operate(world, "retry", id_)
    report = await world.sweep()

    assert 1 == report.outcomes["deleted"]


async def test_a_dropped_quarantine_is_no_longer_tracked_and_frees_what_it_used(world: World) -> None:
    (used,) = world.seed(1, days=1)
    (id_,) = world.seed(1)
    world.registry.register("thread", id_, "chat", uses=[("thread", used)])
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 422}])
    await world.sweep()

    assert [id_] == await operate(world, "drop", id_)
    await world.context().ledger.release_edges("openai", "thread")

    assert world.state(id_) is None
    assert () == world.registry.get("thread", used).used_by  # type: ignore[union-attr]


async def test_an_unrecognised_answer_quarantines_with_the_line_to_add(world: World) -> None:
    (id_,) = world.seed(1)
    world.sandbox.faults(
        [{"method": "DELETE", "effect": "error", "status": 404, "message": "Nothing is called that here"}]
    )

    await world.sweep()

    record = world.registry.get("thread", id_)
    assert record
    assert ("quarantined", "unrecognised") == (record.state, record.reason)
    assert 'not_found = ["Nothing is called that here"]' in world.audit()[-1]["detail"]


async def test_a_recogniser_turns_the_same_answer_into_gone(world: World) -> None:
    world.unpromised = {"living"}  # the answer is a fault's
    world.seed(1, days=1)
    (id_,) = world.seed(1)
    world.sandbox.faults(
        [{"method": "DELETE", "effect": "error", "status": 404, "message": "Nothing is called that here"}]
    )

    report = await world.sweep(context=world.context(not_found=("Nothing is called that here",)))

    assert {"already_gone": 1} == dict(report.outcomes)
    assert world.state(id_) is None


async def test_three_ids_with_an_unknown_answer_halt_the_kind(world: World) -> None:
    world.seed(10)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 404, "message": "Gone fishing"}])

    report = await world.sweep()

    assert "halted" == report.result
    assert 3 == len(world.deletes())
    assert ["*|unrecognised"] == list(world.halts())


async def test_an_answer_that_was_lost_and_a_404_after_it_are_gone_and_say_so(world: World) -> None:
    world.seed(1, days=1)
    (id_,) = world.seed(1)
    world.sandbox.faults([{"method": "DELETE", "effect": "reset", "execute": True}])
    await world.sweep()
    world.sandbox.faults([])
    world.raw.zadd(f"{world.slot()}chat:waiting", {id_: 0})

    report = await world.sweep()

    assert {"already_gone": 1} == dict(report.outcomes)
    last = world.audit()[-1]
    assert ("settled", "already_gone", True) == (last["event"], last["outcome"], last["after_unknown"])
    assert "deletions|chat|thread" not in world.counters()


async def test_a_hold_that_ends_by_itself_lets_go(world: World) -> None:
    (id_,) = world.seed(1)
    world.registry.hold("thread", id_, reason="case 7", until=time.time() + 3600)
    await world.sweep()
    assert "held" == world.state(id_)

    world.raw.zadd(f"{world.slot()}hold_ends", {id_: 1})
    world.unpromised = {"held"}
    await world.sweep()
    await world.sweep()

    assert set() == world.sandbox.alive("thread")


@pytest.mark.parametrize("rate", [5.0, 40.0])
async def test_the_bucket_is_one_for_all_workers(world: World, rate: float) -> None:
    flows = [world.context(rate=rate).throttle for _ in range(4)]
    granted, began = 0, asyncio.get_running_loop().time()

    while (passed := asyncio.get_running_loop().time() - began) < 2:
        granted += sum([(await throttle.take(10)).granted for throttle in flows])
        await asyncio.sleep(0.01)

    assert rate * passed * 0.8 <= granted <= rate * passed + rate + 1


async def test_tokens_given_back_can_be_taken_again(world: World) -> None:
    throttle = world.context(rate=10.0).throttle
    assert 10 == (await throttle.take(10)).granted
    await throttle.give_back(10)

    assert 10 == (await throttle.take(10)).granted


async def test_tokens_that_would_come_too_late_are_not_waited_for(world: World) -> None:
    throttle = world.context(rate=1 / 60).throttle
    await throttle.spend(1)

    with pytest.raises(Limited):
        await throttle.spend(1, within=0.2)


async def test_the_breaker_lets_one_request_through_and_closes_after_a_good_answer(world: World) -> None:
    world.seed(5)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 401}])
    await world.sweep()
    assert "breaker" == (await world.sweep()).result
    assert 1 == len(world.deletes())

    world.sandbox.faults([])
    world.raw.hset("lapse:{openai}:flow", "breaker_until", 0)
    report = await world.sweep()

    assert 5 == report.outcomes["deleted"]
    assert not world.raw.hexists("lapse:{openai}:flow", "breaker")


# --- edges of a source that has several lives


async def test_what_is_registered_again_keeps_what_it_uses(world: World) -> None:
    (used,) = world.seed(1)
    source = "thread_source"
    world.registry.register("thread", source, "other", uses=[("thread", used)])
    world.registry.forget("thread", source, release=True)
    world.registry.register("thread", source, "other", uses=[("thread", used)])

    await world.context().ledger.release_edges("openai", "thread")
    await world.sweep()

    assert "referenced" == world.state(used)


async def test_edges_of_every_life_end_with_it(world: World) -> None:
    first, second = world.seed(2)
    source = "thread_source"
    for used in (first, second):
        world.registry.register("thread", source, "other", uses=[("thread", used)])
        world.registry.forget("thread", source, release=True)

    await world.context().ledger.release_edges("openai", "thread")
    await world.sweep()

    assert set() == world.sandbox.alive("thread")


async def test_forgotten_while_claimed_and_registered_again_is_forgotten_no_more(world: World) -> None:
    (id_,) = world.seed(1)
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    await ledger.claim(world.rule, world.settings, 1)
    assert "too_late" == world.registry.forget("thread", id_)

    world.registry.register("thread", id_, "chat")

    assert world.raw.zscore(f"{world.slot()}forgotten", id_) is None


async def test_a_batch_whose_reply_was_lost_counts_once_when_it_is_sent_again(world: World) -> None:
    (id_,) = world.seed(1)
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    claims = await ledger.claim(world.rule, world.settings, 1)
    done = [settlement(claims.claims[0], Verdict(Outcome.DELETED))]
    counted = {"requests|delete|200": 7}

    for _ in range(2):
        again = await ledger.settle(world.rule.partition, OutcomeBatch(done, counted, 3, listable=False, name="b1"))
        assert () == again.refused

    assert "7" == world.raw.hget(f"{world.slot()}counters", "requests|delete|200")
    assert "1" == world.raw.hget(f"{world.slot()}counters", "settled|chat|deleted")
    assert ["intent", "settled"] == [one["event"] for one in world.audit() if one.get("id") == id_]
    world.unpromised = {"unconfirmed", "count", "uncounted", "living"}  # nothing was sent
