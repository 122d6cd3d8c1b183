"""The guards around an account: is it the one whose ids these are, and does it answer? Each names its accident."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from lapse.policy import Orphan, Share
from support.world import DAY, World


@pytest.mark.parametrize(
    "change", [{"project": "proj_other"}, {"organization": "org-other"}, {"base_url": "http://127.0.0.1:9/v1"}]
)
async def test_another_account_under_the_same_name_halts_before_any_request(
    world: World, change: dict[str, Any]
) -> None:
    """A config that is edited to another project: there, every id of this one answers 404, as if it were gone."""
    world.seed(3)
    await world.sweep()
    ids = set(world.seed(3))
    sent = len(world.sandbox.requests())

    report = await world.sweep(context=world.context(**change))

    assert ("halted", sent) == (report.result, len(world.sandbox.requests()))
    assert ["*|identity_changed"] == list(world.halts())
    assert ids == world.sandbox.alive("thread")
    assert 1 == world.counters()["guard_trips|chat|identity_changed"]
    assert 3 == (await world.sweep()).outcomes["deleted"], "the account that is put back ends its halt"
    assert {} == world.halts()


async def test_a_rotated_key_is_the_same_account(world: World) -> None:
    world.seed(3)
    await world.sweep()
    world.seed(3)

    assert 3 == (await world.sweep(context=world.context(key="sk-test-another-0123456789"))).outcomes["deleted"]


async def test_observing_writes_no_account_down(world: World) -> None:
    """Whoever looks first with a wrong file must not halt those who delete later with the right one."""
    world.seed(3)
    await world.sweep(context=world.context(project="proj_other"), enforce=False)

    assert 3 == (await world.sweep(enforce=True)).outcomes["deleted"]


async def test_a_shorter_max_age_waits_for_approval_where_ids_have_their_own_expiry(world: World) -> None:
    """The cap alone can make everything due, and no ttl reads the index that it reads."""
    world.seed(20, days=3, expires_in="300d")
    await world.sweep(max_age=365 * DAY, max_newly_due=Share(percent=20, at_least=10))
    assert [] == world.deletes()

    report = await world.sweep(max_age=DAY, digest="digest000002")

    assert ("halted", []) == (report.result, world.deletes())
    assert ["chat|cutoff_jumped"] == list(world.halts())


# --- the breaker


FLOW = "lapse:{openai}:flow"
DOWN = [{"effect": "error", "status": 503}]


async def test_an_outage_opens_the_breaker_for_all_workers_together_and_costs_no_id_its_attempts(world: World) -> None:
    """Forty processes that each count twenty failures of their own would hit a provider that is down 800 times."""
    ids = world.seed(100)
    world.sandbox.faults(DOWN)

    for _ in range(3):
        await asyncio.gather(*(world.sweep(context=world.context()) for _ in range(3)))

    assert 20 <= len(world.sandbox.requests()) <= 20 + 3
    assert "outage" == world.raw.hget(FLOW, "breaker")
    for _ in range(10):
        world.raw.hset(FLOW, "breaker_until", 0)
        world.raw.zadd(f"{world.slot()}chat:waiting", dict.fromkeys(ids, 0), xx=True)
        await world.sweep()
    assert 30 <= len(world.sandbox.requests()) <= 33
    assert {0, 1} >= {world.record(id_).attempts for id_ in ids}

    world.sandbox.faults([])
    world.raw.hset(FLOW, "breaker_until", 0)
    world.raw.zadd(f"{world.slot()}chat:waiting", dict.fromkeys(ids, 0), xx=True)
    assert 100 == (await world.sweep()).outcomes["deleted"]
    assert not world.raw.hexists(FLOW, "breaker")


async def test_an_outage_that_only_few_ids_meet_opens_it_after_five_seconds(world: World) -> None:
    """A policy with one due id would try it eight times in an outage of an hour, and quarantine it.

    What it was charged before anybody knew that it was an outage is taken back.
    """
    (id_,) = world.seed(1)
    world.sandbox.faults(DOWN)
    waiting = f"{world.slot()}chat:waiting"

    for _ in range(2):
        await world.sweep()
        world.raw.zadd(waiting, {id_: 0}, xx=True)
    assert not world.raw.hexists(FLOW, "breaker")
    world.raw.hincrby(FLOW, "errors_since", -5000)
    await world.sweep()

    assert "outage" == world.raw.hget(FLOW, "breaker")
    assert 0 == world.record(id_).attempts


async def test_failures_of_single_ids_among_good_answers_are_no_outage(world: World) -> None:
    bad, good = world.seed(30, days=40), world.seed(30)
    world.sandbox.faults([{"method": "DELETE", "ids": bad[:10], "effect": "error", "status": 503}])

    report = await world.sweep()

    assert 50 == report.outcomes["deleted"]
    assert not world.raw.hexists(FLOW, "breaker")
    assert int(world.raw.hget(FLOW, "errors") or 0) < 10
    assert set(good).isdisjoint(world.sandbox.alive("thread"))


async def test_a_row_of_failures_ends_after_two_minutes_without_one(world: World) -> None:
    world.seed(3)
    world.sandbox.faults(DOWN)
    world.raw.hset(FLOW, mapping={"errors": 19, "errors_since": 1, "errors_at": 1})

    await world.sweep()

    assert "3" == world.raw.hget(FLOW, "errors")
    assert not world.raw.hexists(FLOW, "breaker")


async def test_the_attempt_that_is_let_through_may_empty_a_conversation(world: World) -> None:
    """It takes several requests: if the second one met the open breaker, it would never close."""
    world.seed(2, kind="conversation")
    world.sandbox.faults([{"effect": "error", "status": 401}])
    partition = replace(world.rule.partition, kind="conversation")
    await world.sweep(partition=partition)
    assert "auth" == world.raw.hget(FLOW, "breaker")
    assert "breaker" == (await world.sweep()).result

    world.sandbox.faults([])
    world.raw.hset(FLOW, "breaker_until", 0)

    assert 2 == (await world.sweep(context=world.context(rate=100))).outcomes["deleted"]
    assert not world.raw.hexists(FLOW, "breaker")


async def test_a_good_listing_closes_the_breaker_where_only_orphans_are_collected(world: World) -> None:
    world.seed(1, kind="assistant", policy="idle", days=1)
    world.raw.hset(FLOW, mapping={"breaker": "outage", "breaker_since": 1, "breaker_until": 0})

    report = await world.orphans(
        partition=replace(world.rule.partition, kind="assistant", policy="idle"),
        ttl=None,
        anchor=None,
        orphan=Orphan(min_age=0, seen=2, max_share=None, uses_stated=True),
    )

    assert "completed" == report.result
    assert not world.raw.hexists(FLOW, "breaker")


async def test_another_provider_goes_on(world: World) -> None:
    world.unpromised = {
        "record",
        "unconfirmed",
        "count",
        "uncounted",
    }  # both accounts are one stand-in, whose traffic counts as one's
    world.seed(2)
    other = world.sandbox.seed("thread", 2)
    for id_ in other:
        world.registry.register("thread", id_, "chat", provider="other", created_at=1_600_000_000)
    world.raw.hset(FLOW, mapping={"breaker": "auth", "breaker_since": 1, "breaker_until": 9_000_000_000_000})

    assert "breaker" == (await world.sweep()).result
    report = await world.sweep(
        context=world.context(name="other"), partition=replace(world.rule.partition, provider="other")
    )

    assert 2 == report.outcomes["deleted"]
    assert sorted(other) == sorted(world.deletes())
