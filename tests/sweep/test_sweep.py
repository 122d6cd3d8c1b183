"""The story against real parts: what is due goes, nothing else does, and every count is true."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.policy import Pace, Share
from lapse.providers.outcomes import Outcome, Verdict
from support.world import DAY, World


async def test_what_is_due_is_deleted_and_nothing_else(world: World) -> None:
    due, alive = world.seed(30), world.seed(20, days=1)

    report = await world.sweep()

    assert ("completed", 30) == (report.result, report.outcomes["deleted"])
    assert set(alive) == world.sandbox.alive("thread")
    assert sorted(due) == sorted(world.deletes())
    assert 30 == world.counters()["deletions|chat|thread"] == world.counters()["settled|chat|deleted"]
    assert 30 == world.counters()["requests||delete|200"]


async def test_an_empty_partition_sends_nothing(world: World) -> None:
    report = await world.sweep()

    assert ("completed", 0) == (report.result, report.due)
    assert [] == world.sandbox.requests()


async def test_every_deletion_has_its_intent_first_and_one_outcome(world: World) -> None:
    ids = world.seed(5)
    await world.sweep()

    for id_ in ids:
        events = [record["event"] for record in world.audit() if record["id"] == id_]
        assert ["intent", "settled"] == events


async def test_observing_deletes_nothing_and_says_what_it_would(world: World) -> None:
    ids = world.seed(12)

    report = await world.sweep(enforce=False)

    assert ("observed", 12) == (report.result, report.due)
    assert set(ids) == world.sandbox.alive("thread")
    assert [] == world.sandbox.requests()
    assert "12" == world.raw.hget(f"{world.slot()}chat:rules", "would")


async def test_a_touched_id_lives_on_under_an_idle_anchor_and_dies_under_a_creation_anchor(world: World) -> None:
    touched, idle = world.seed(2)
    world.registry.touch("thread", touched)

    await world.sweep(anchor="last_active_at")
    assert {touched} == world.sandbox.alive("thread")

    await world.sweep(anchor="created_at", digest="digest000002")
    assert set() == world.sandbox.alive("thread")
    assert [idle, touched] == world.deletes()


async def test_max_age_outlasts_no_touch(world: World) -> None:
    (id_,) = world.seed(1, days=400)
    world.registry.touch("thread", id_)

    await world.sweep(anchor="last_active_at", max_age=365 * DAY)

    assert set() == world.sandbox.alive("thread")


async def test_an_own_expiry_wins_over_the_ttl_both_ways(world: World) -> None:
    now, later = world.sandbox.seed("thread", 2)
    world.registry.register("thread", now, "chat", expires_in="1d")
    world.registry.expire("thread", now)
    world.registry.register(
        "thread", later, "chat", created_at=1_600_000_000, last_active_at=1_600_000_000, expires_in="1d"
    )

    await world.sweep()

    assert {later} == world.sandbox.alive("thread")


async def test_held_ids_live_and_do_not_block_the_others(world: World) -> None:
    held = world.seed(150, days=40)
    for id_ in held:
        world.registry.hold("thread", id_, reason="case 7")
    world.seed(10, days=30)
    world.settings = replace(world.settings, batch=50)

    report = await world.sweep()

    assert 10 == report.outcomes["deleted"]
    assert set(held) == world.sandbox.alive("thread")


async def test_what_something_live_refers_to_lives_until_that_is_deleted(world: World) -> None:
    (thread,) = world.seed(1, policy="other", days=1)
    (used,) = world.seed(1)
    world.registry.register("thread", thread, "other", uses=[("thread", used)])

    assert 0 == (await world.sweep()).outcomes["deleted"]
    assert "referenced" == world.state(used)

    world.registry.expire("thread", thread)
    rule = replace(world.rule, partition=replace(world.rule.partition, policy="other"))
    await world.sweep(partition=rule.partition)
    await world.sweep(partition=replace(rule.partition, policy="chat"))

    assert set() == world.sandbox.alive("thread")
    assert [thread, used] == world.deletes()


async def test_a_changed_ttl_applies_at_once_to_what_is_registered(world: World) -> None:
    ids = world.seed(3, days=3)
    await world.sweep()
    assert set(ids) == world.sandbox.alive("thread")

    await world.sweep(ttl=2 * DAY, digest="digest000002")

    assert set() == world.sandbox.alive("thread")


async def test_an_old_name_is_adopted_with_its_times(world: World) -> None:
    world.seed(3, policy="chat-v1")
    world.seed(2, policy="chat-v1", days=1)

    report = await world.sweep(formerly=("chat-v1",))

    assert 3 == report.outcomes["deleted"]
    assert 2 == report.registered - 3 == world.raw.zcard(f"{world.slot()}chat:fresh")


async def test_oldest_goes_first(world: World) -> None:
    young, old = world.seed(1, days=10), world.seed(1, days=20)

    await world.sweep(context=world.context(concurrency=1))

    assert [*old, *young] == world.deletes()


# --- answers that are no deletion


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "deleted_false": ({"effect": "deleted_false"}, "unconfirmed"),
    "empty": ({"effect": "empty"}, "unconfirmed"),
    "html": ({"effect": "html"}, "unconfirmed"),
    "500": ({"effect": "error", "status": 500}, "error"),
    "409": ({"effect": "error", "status": 409}, "conflict"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_answer_that_does_not_confirm_keeps_the_id_and_backs_off(world: World, fault: str) -> None:
    effect, outcome = FAULTS[fault]
    (id_,) = world.seed(1)
    world.sandbox.faults([{"method": "DELETE", **effect}])

    report = await world.sweep()

    assert {outcome: 1} == dict(report.outcomes)
    assert "waiting" == world.state(id_)
    assert "deletions|chat|thread" not in world.counters()
    assert 1 == len(world.deletes())


async def test_a_failing_id_is_quarantined_after_its_last_attempt(world: World) -> None:
    (id_,) = world.seed(1)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500}])

    for _ in range(3):
        await world.sweep()
        world.raw.zadd(f"{world.slot()}chat:waiting", {id_: 0}, xx=True)

    assert "quarantined" == world.state(id_)
    assert "attempts" == world.registry.get("thread", id_).reason  # type: ignore[union-attr]
    assert 3 == len(world.deletes())
    await world.sweep()
    assert 3 == len(world.deletes())


async def test_failing_ids_do_not_keep_others_waiting(world: World) -> None:
    bad = world.seed(40, days=40)
    good = world.seed(40, days=30)
    world.sandbox.faults([{"method": "DELETE", "ids": bad, "effect": "error", "status": 500}])
    world.settings = replace(world.settings, batch=50)

    report = await world.sweep(context=world.context(concurrency=4))

    assert (40, 40) == (report.outcomes["deleted"], report.outcomes["error"])
    assert set(bad) == world.sandbox.alive("thread")
    assert not set(good) & world.sandbox.alive("thread")


async def test_gone_already_is_believed_with_a_proof(world: World) -> None:
    ids = world.seed(2)
    gone = "thread_AAAAAAAAAAAAAAAAAAAAAAAA"
    world.registry.register("thread", gone, "chat", created_at=1_600_000_000, last_active_at=1_600_000_000)
    world.seed(1, days=1)

    report = await world.sweep()

    assert (2, 1) == (report.outcomes["deleted"], report.outcomes["already_gone"])
    assert 2 == world.counters()["deletions|chat|thread"]
    assert set(ids).isdisjoint(world.sandbox.alive("thread"))
    assert world.state(gone) is None


async def test_everything_gone_without_a_witness_settles_nothing_and_halts(world: World) -> None:
    ids = [f"thread_{i:024d}" for i in range(5)]
    world.registry.register_many(
        {"kind": "thread", "id": id_, "policy": "chat", "created_at": 1_600_000_000, "last_active_at": 1_600_000_000}
        for id_ in ids
    )

    results = []
    for _ in range(4):
        results.append((await world.sweep()).result)
        for id_ in ids:
            world.raw.zadd(f"{world.slot()}chat:waiting", {id_: 0}, xx=True)

    assert "halted" == results[-1]
    assert ["chat|no_witness"] == list(world.halts())
    assert all(world.state(id_) == "waiting" for id_ in ids)
    assert 0 == world.registry.get("thread", ids[0]).attempts  # type: ignore[union-attr]


async def test_a_wrong_project_loses_no_id(world: World) -> None:
    ids = world.seed(20)
    world.seed(5, days=1)
    world.sandbox.faults([{"effect": "wrong_project"}])

    for _ in range(4):
        await world.sweep()
        for id_ in ids:
            world.raw.zadd(f"{world.slot()}chat:waiting", {id_: 0}, xx=True)

    assert all(world.state(id_) for id_ in ids)
    assert 25 == len(world.sandbox.alive("thread"))


async def test_a_sunset_endpoint_halts_at_its_first_answer(world: World) -> None:
    ids = world.seed(20)
    world.sandbox.faults([{"effect": "sunset"}])

    report = await world.sweep()

    assert ("halted", 1) == (report.result, len(world.deletes()))
    assert ["*|endpoint_missing"] == list(world.halts())
    assert all(world.state(id_) == "tracked" for id_ in ids)
    assert "halted" == (await world.sweep()).result


async def test_credentials_that_are_refused_stop_the_provider_and_use_no_attempt(world: World) -> None:
    ids = world.seed(20)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 401}])

    report = await world.sweep()

    assert "breaker" == report.result
    assert 1 == len(world.deletes())
    assert all(world.record(id_).attempts == 0 for id_ in ids)
    assert "auth" == world.raw.hget("lapse:{openai}:flow", "breaker")


async def test_retry_after_holds_for_every_worker(world: World) -> None:
    world.seed(10)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 429, "headers": {"Retry-After": "300"}}])

    first = await world.sweep()
    second = await world.sweep()

    assert ["limited", "limited"] == [first.result, second.result]
    assert 1 == len(world.deletes())


async def test_conversations_lose_their_items_first(world: World) -> None:
    partition = replace(world.rule.partition, kind="conversation")
    world.seed(3, kind="conversation")

    report = await world.sweep(partition=partition)

    assert 3 == report.outcomes["deleted"]
    assert set() == world.sandbox.alive("conversation")


# --- limits


async def test_max_deletions_is_exact_and_goes_on_in_the_next_window(world: World) -> None:
    world.seed(30)

    first = await world.sweep(max_deletions=Pace(amount=12, window=3600))
    second = await world.sweep()

    assert ("limited", "limited") == (first.result, second.result)
    assert 12 == len(world.deletes()) == world.counters()["deletions|chat|thread"]
    world.raw.hset(f"{world.slot()}chat:rules", "pace_from", 0)
    await world.sweep()
    assert 24 == len(world.deletes())


async def test_max_deletions_is_exact_with_two_workers_racing(world: World) -> None:
    world.seed(200)
    world.rule = replace(world.rule, max_deletions=Pace(amount=77, window=3600))

    await asyncio.gather(*(world.sweep() for _ in range(4)))

    assert 77 == len(world.deletes()) == world.counters()["deletions|chat|thread"]


async def test_two_workers_delete_each_id_once(world: World) -> None:
    ids = world.seed(300)

    await asyncio.gather(*(world.sweep() for _ in range(3)))

    assert sorted(ids) == sorted(world.deletes())


async def test_the_ramp_deletes_ten_then_a_tenth_then_all(world: World) -> None:
    world.seed(300)
    world.settings = replace(world.settings, ramp=1000)
    world.unpromised = {"ramp"}  # time passes by hand
    rules = f"{world.slot()}chat:rules"

    counts = []
    for _ in range(3):
        await world.sweep()
        counts.append(len(world.deletes()))
        world.raw.hset(rules, "ramp_from", 0)

    assert [10, 39, 300] == counts


async def test_a_shortened_ttl_waits_for_approval(world: World) -> None:
    world.seed(200, days=3)
    limit = Share(percent=20, at_least=100)
    await world.sweep(max_newly_due=limit)
    assert [] == world.deletes()

    report = await world.sweep(ttl=2 * DAY, digest="digest000002")

    assert ("halted", []) == (report.result, world.deletes())
    (halt,) = world.halts().items()
    assert ("chat|cutoff_jumped", 12) == (halt[0], len(halt[1]["plan"]))


async def test_a_first_enforcement_of_much_waits_for_approval(world: World) -> None:
    world.seed(200)

    report = await world.sweep(max_newly_due=Share(percent=20, at_least=100))

    assert ("halted", []) == (report.result, world.deletes())


async def test_time_passing_never_trips_the_jump_guard(world: World) -> None:
    world.seed(50, days=1)
    await world.sweep(max_newly_due=Share(percent=20, at_least=10))
    rules = f"{world.slot()}chat:rules"
    # Ten days without a sweep: the clock moved on, and the cut-off with it.
    for name in ("base_at", "base_created"):
        world.raw.hincrby(rules, name, round(-10 * DAY * 1000))
    at = 1_000 * (1_700_000_000)
    world.raw.zadd(f"{world.slot()}chat:fresh", {f"thread_{i:024d}": at for i in range(3)})
    world.unpromised = {"unasked"}
    world.seed(200, days=12)

    assert "completed" == (await world.sweep()).result


# --- switches and rules


async def test_a_pause_stops_and_says_so(world: World) -> None:
    world.seed(5)
    context = world.context()
    for scope in ("*", "openai", "openai/thread", "openai/thread/chat"):
        await context.control.pause(scope, "deploy", "ann")
        assert "paused" == (await world.sweep()).result
        assert await context.control.unpause(scope)

    assert 5 == (await world.sweep()).outcomes["deleted"]


async def test_a_pause_under_load_leaves_what_is_claimed_and_not_begun(world: World) -> None:
    """An operator who pauses is looking at something that goes wrong: nothing but what is in flight may follow."""
    world.seed(400)
    world.sandbox.faults([{"latency": "100ms"}])
    context = world.context(concurrency=4)
    running = asyncio.create_task(world.sweep(context=context))
    await world.until(lambda: len(world.deletes()) >= 8)

    await context.control.pause("openai", "looking", "ann")
    report = await running

    assert "paused" == report.result
    assert len(world.deletes()) == report.outcomes["deleted"] < 200
    assert [] == world.raw.zrange(f"{world.slot()}chat:claims", 0, -1)


async def test_a_pause_stops_within_a_conversation(world: World) -> None:
    """It may have a thousand items, and a minute's lease for them."""
    world.seed(10, kind="conversation")
    partition = replace(world.rule.partition, kind="conversation")
    context = world.context(rate=2)
    running = asyncio.create_task(world.sweep(context=context, partition=partition))
    await world.until(lambda: len(world.sandbox.requests()) >= 2)

    await context.control.pause("*", "looking", "ann")

    assert "paused" == (await running).result
    assert len(world.sandbox.requests()) <= 12
    assert 6 <= len(world.sandbox.alive("conversation"))


async def test_a_step_of_the_ramp_begins_anew_after_a_failure_or_a_guard(world: World) -> None:
    """Ten deletions prove nothing if the eleventh met an answer that nobody knows."""
    (bad,) = world.seed(1, days=40)
    world.seed(300)
    world.settings = replace(world.settings, ramp=1000)
    world.sandbox.faults([{"method": "DELETE", "ids": [bad], "effect": "error", "status": 400}])
    rules = f"{world.slot()}chat:rules"
    for trip in ("quarantine", "halt"):
        world.raw.hset(rules, mapping={"ramp_from": 1, "ramp_cap": 10})
        if trip == "halt":
            await world.context().control.halt(world.rule.partition, "no_witness", "test")
        else:
            await world.sweep()
        assert int(world.raw.hget(rules, "ramp_from")) > 1


async def test_a_stop_sends_no_further_delete_and_gives_claims_back(world: World) -> None:
    ids = world.seed(200)
    world.sandbox.faults([{"method": "DELETE", "latency": "50ms"}])
    context = world.context(concurrency=4)
    running = asyncio.create_task(world.sweep(context=context))
    await world.until(lambda: len(world.deletes()) >= 8)

    world.stop.on = True
    report = await running
    seen = len(world.deletes())

    assert "stopped" == report.result
    assert seen == report.outcomes["deleted"] < 100
    assert 200 - seen == sum(world.state(id_) == "tracked" for id_ in ids)


async def test_a_superseded_rule_is_refused_until_a_running_worker_sees_the_change(world: World) -> None:
    world.seed(5, days=3)
    old = world.rule
    await world.sweep()
    await world.sweep(digest="digest000002")

    world.rule = old
    assert "divergence" == (await world.sweep(context=world.context(host="host-2"), ttl=2 * DAY)).result
    assert [] == world.deletes()
    assert ["chat|config_divergence"] == list(world.halts())
    world.seed(3, days=30)
    assert 3 == (await world.sweep(ttl=7 * DAY, digest="digest000002")).outcomes["deleted"]


async def test_a_running_worker_that_sees_the_old_rules_again_goes_back(world: World) -> None:
    world.seed(5)
    old = world.rule
    await world.sweep(enforce=False)
    await world.sweep(digest="digest000002")

    world.rule = replace(old, enforce=True)
    assert "completed" == (await world.sweep()).result


async def test_no_touch_ever_keeps_an_idle_policy_from_enforcing(world: World) -> None:
    ids = world.seed(5)

    report = await world.sweep(anchor="last_active_at")

    assert ("halted", []) == (report.result, world.deletes())
    assert ["chat|no_touches"] == list(world.halts())
    world.registry.touch("thread", ids[0])
    assert "completed" == (await world.sweep()).result
    assert {ids[0]} == world.sandbox.alive("thread")
    assert {} == world.halts()


async def test_touches_stated_enforces_without_one(world: World) -> None:
    world.seed(5)

    assert 5 == (await world.sweep(anchor="last_active_at", touches_stated=True)).outcomes["deleted"]


# --- claims


async def test_a_lapsed_lease_returns_by_itself_and_counts_a_crash(world: World) -> None:
    (id_,) = world.seed(1)
    context = world.context()
    await context.ledger.adopt(world.rule)
    claims = await context.ledger.claim(world.rule, world.settings, 10)
    assert [id_] == [claim.resource.id for claim in claims.claims]
    world.raw.zadd(f"{world.slot()}chat:claims", {id_: 0})

    report = await world.sweep(context=context)

    assert 1 == report.outcomes["deleted"]
    assert 1 == world.counters()["crashes|chat"]
    assert ["intent", "lapsed", "intent", "settled"] == [one["event"] for one in world.audit() if one["id"] == id_]


@pytest.mark.parametrize("outcome", [Outcome.ALREADY_GONE, Outcome.ERROR, Outcome.KEPT, Outcome.LIMITED])
async def test_an_outcome_after_the_lease_was_taken_over_is_refused(world: World, outcome: Outcome) -> None:
    (id_,) = world.seed(1)
    context = world.context()
    await context.ledger.adopt(world.rule)
    zombie = await context.ledger.claim(world.rule, world.settings, 10)
    world.raw.zadd(f"{world.slot()}chat:claims", {id_: 0})
    await context.ledger.claim(world.rule, world.settings, 10)
    await context.ledger.claim(world.rule, world.settings, 1, alone=True)

    late = [settlement(zombie.claims[0], Verdict(outcome))]
    refused = await context.ledger.settle(world.rule.partition, OutcomeBatch(late, {}, 3, listable=False))

    assert (id_,) == refused.refused
    assert "claimed" == world.state(id_)
    assert "deletions|chat|thread" not in world.counters()


@pytest.mark.parametrize("said", ["hold", "touch", "forget", "expire"])
async def test_what_is_said_of_a_claimed_id_is_too_late_and_kept_for_the_next_attempt(world: World, said: str) -> None:
    (id_,) = world.seed(1)
    context = world.context()
    await context.ledger.adopt(world.rule)
    await context.ledger.claim(world.rule, world.settings, 10)
    arguments: dict[str, Any] = {"reason": "case 7"} if said == "hold" else {}

    assert "too_late" == getattr(world.registry, said)("thread", id_, **arguments)

    world.raw.zadd(f"{world.slot()}chat:claims", {id_: 0})
    await world.sweep(anchor="last_active_at", touches_stated=True, digest="digest000002")
    assert (said == "expire") == (id_ not in world.sandbox.alive("thread"))
