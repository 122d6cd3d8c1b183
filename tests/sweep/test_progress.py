"""Items of a conversation are counted while it is emptied: a worker that ends loses what is in flight, and no more."""

import asyncio
from dataclasses import replace

import pytest

from lapse.ledger.claim import Claim
from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.providers.deadline import TELL_EVERY
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.model import Partition
from lapse.sweep.deletion.recorder import progress
from support.world import World

AT = Partition("openai", "conversation", "chat")
ITEMS = "deletions|chat|conversation_item"


@pytest.fixture
def talk(world: World) -> str:
    """Return a due conversation of 30 items."""
    world.rule = replace(world.rule, partition=AT)
    world.decides(world.rule)
    (id_,) = world.sandbox.seed("conversation", 1, items=30)
    world.registry.register("conversation", id_, "chat", created_at=1_600_000_000, last_active_at=1_600_000_000)
    return id_


async def claimed(world: World) -> Claim:
    context = world.context()
    await context.ledger.adopt(world.rule)
    (claim,) = (await context.ledger.claim(world.rule, world.settings, 1)).claims
    return claim


async def test_they_are_counted_before_the_attempt_ends(world: World, talk: str) -> None:
    world.sandbox.latency(0.05)
    attempt = asyncio.create_task(world.sweep())

    await world.until(lambda: world.counters("conversation").get(ITEMS, 0) >= TELL_EVERY)
    assert not attempt.done()
    assert "deletions|chat|conversation" not in world.counters("conversation")

    await attempt
    assert 30 == world.counters("conversation")[ITEMS]
    assert set() == world.sandbox.alive("conversation")
    (line,) = [one for one in world.audit("conversation") if one["event"] == "settled"]
    assert (talk, 30) == (line["id"], line["items"])


async def test_a_count_that_is_sent_again_counts_once(world: World, talk: str) -> None:
    claim = await claimed(world)
    ledger = world.context().ledger
    for items in (8, 8, 16, 8):
        assert await progress(ledger, claim, items)

    assert (talk, 16) == (claim.resource.id, world.counters("conversation")[ITEMS])
    settled = settlement(claim, Verdict(Outcome.LIMITED, items=20))
    await ledger.settle(AT, OutcomeBatch([settled], {}, 3, listable=False))
    assert 20 == world.counters("conversation")[ITEMS]
    world.unpromised.add("uncounted")  # no item was ever asked for


async def test_what_a_worker_counted_before_it_ended_stands_with_its_lapse(world: World, talk: str) -> None:
    claim = await claimed(world)
    ledger = world.context().ledger
    await progress(ledger, claim, 8)
    world.raw.zadd(f"{world.slot('conversation')}chat:claims", {talk: 0})
    stored = world.raw.hget(f"{world.slot('conversation')}aside", talk)
    world.raw.hset(f"{world.slot('conversation')}aside", talk, stored.replace(f'"d":{claim.at + 10_000}', '"d":1'))
    await ledger.claim(world.rule, world.settings, 1, alone=True)

    assert not await progress(ledger, claim, 16)
    (lapsed,) = [one for one in world.audit("conversation") if one["event"] == "lapsed"]
    assert 8 == lapsed["items"]
    late = replace(settlement(claim, Verdict(Outcome.LIMITED, items=20)), told=8)
    await ledger.settle(AT, OutcomeBatch([late], {}, 3, listable=False))
    assert 20 == world.counters("conversation")[ITEMS]
    world.unpromised.add("uncounted")  # no item was ever asked for
