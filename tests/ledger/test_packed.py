"""Two moments of a touched id in one score: neither is earlier than it was said, and nothing loses the creation."""

import json
import math
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lapse import AsyncRegistry
from lapse.ledger.housekeeping import creations
from lapse.ledger.known import STEP, creation_in, known_before, spread_before, tracked_before
from lapse.ledger.records import due_first
from lapse.policy import Share
from lapse.registry.model import Partition
from lapse.registry.scripts import script
from support.lua import PARTS
from support.rules import RULE
from support.world import DAY, World

SLOT = ("openai", "thread")
YEARS_38 = 38 * 365 * 86_400_000
SEPTEMBER_2039 = 2**41
BY_USE: dict[str, Any] = {"ttl": 30 * DAY, "anchor": "last_active_at", "touches_stated": True}
ASKED = """
local found = {}
for _, pair in ipairs(cjson.decode(ARGV[3])) do
  local active, created = unpacked(pack(pair[1], pair[2]))
  found[#found + 1] = { string.format('%.17g', pack(pair[1], pair[2])), active, created }
end
return cjson.encode(found)
"""

moments = st.integers(10**12, SEPTEMBER_2039 + 10**11)
ages = st.integers(0, YEARS_38) | st.integers(0, 3 * STEP) | st.just(0)


def in_lua(raw: redis.Redis, *pairs: tuple[int, int]) -> list[tuple[float, int, int]]:
    said: Any = raw.eval(script(PARTS["packed"]).text + ASKED, 1, "lapse:{openai:thread}:", *SLOT, json.dumps(pairs))
    return [(float(score), active, created) for score, active, created in json.loads(said)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(active=moments, age=ages, later=st.integers(0, 10**9))
@example(active=2_199_968_400_001, age=614_399_400_001, later=0)  # a step older than can be said from 2039 on
def test_no_moment_is_earlier_than_it_was_said_nor_much_later(
    raw: redis.Redis, active: int, age: int, later: int
) -> None:
    created = active - age
    (score, seen, since), (touched, _, kept) = in_lua(raw, (active, created), (active + later, created))

    assert active <= seen < active + 1000
    # What is older than a score can say is taken for the oldest that it can.
    steps = 500 * (4096 if active < SEPTEMBER_2039 - 1000 else 2048) - 1
    assert created <= since < max(created, -(-seen // STEP) * STEP - steps * STEP) + STEP
    assert 0 <= score - seen < 1000
    assert since == creation_in(score)
    assert touched >= score
    # Its creation is the same after any touch; but for one that was less than a step old, it is not moved at all.
    _, (_, _, again) = in_lua(raw, (active + later, created), (active + later, int(kept)))
    assert again == kept >= since


def test_ids_that_are_older_than_a_score_can_say_are_taken_for_younger(raw: redis.Redis) -> None:
    active = 1_800_000_000_000
    ((score, seen, since),) = in_lua(raw, (active, active - 2 * YEARS_38))

    assert (active, False) == (seen, score.is_integer())
    assert active - 2 * YEARS_38 < since < active - YEARS_38


def test_a_score_that_is_a_whole_number_of_milliseconds_is_no_packed_one() -> None:
    assert [None, None] == [creation_in(1_800_000_000_000.0), creation_in(1_800_000_000_123.0)]


def touched(world: World, n: int, *, days: float, idle: float = 0, policy: str = "chat") -> list[str]:
    """Register ids that are so many days old and were last used later."""
    ids, now = world.sandbox.seed("thread", n), time.time()
    world.registry.register_many(
        {
            "kind": "thread",
            "id": id_,
            "policy": policy,
            "created_at": now - days * DAY,
            "last_active_at": now - idle * DAY,
        }
        for id_ in ids
    )
    return ids


async def settled(world: World) -> int:
    """Bring the creations into the form that the rules need; return in how many steps."""
    steps, ledger = 1, world.context().ledger
    while await creations.step(ledger, SLOT):
        steps += 1
    return steps


def since(world: World, id_: str) -> datetime:
    """Return since when an id is tracked."""
    created = world.record(id_).created_at
    assert created is not None
    return created


def stored(world: World, name: str, policy: str = "chat") -> dict[str, float]:
    return dict(world.raw.zrange(f"{world.slot()}{policy}:{name}", 0, -1, withscores=True))


async def test_where_nothing_counts_from_creations_touched_ids_take_one_entry_and_keep_their_creation(
    world: World,
) -> None:
    ids = touched(world, 600, days=100)
    before = {id_: since(world, id_) for id_ in ids[:5]}
    await world.sweep(**BY_USE)
    assert {} != stored(world, "created")

    assert 3 == await settled(world)

    assert {} == stored(world, "created")
    assert len(ids) == len(stored(world, "active"))
    for id_, was in before.items():
        assert was <= since(world, id_) < was + timedelta(milliseconds=STEP)
    # Whatever becomes of them, their creation stays; what stood elsewhere meanwhile is packed by the next round.
    first, second, third = (since(world, id_) for id_ in ids[:3])
    world.registry.touch("thread", ids[0])
    world.registry.register("thread", ids[1], "chat")
    assert {} == stored(world, "created")
    world.registry.hold("thread", ids[2], reason="case 7")
    world.registry.unhold("thread", ids[2])
    assert {ids[2]} == set(stored(world, "created"))
    assert [first, second, third] == [since(world, id_) for id_ in ids[:3]]
    assert 1 == await settled(world)
    assert {} == stored(world, "created")
    assert [first, second, third] == [since(world, id_) for id_ in ids[:3]]


async def test_an_id_is_compared_to_the_millisecond_as_long_as_anything_may_come_late(world: World) -> None:
    """A spool keeps what was said for 7 days: it is compared with the creation of an id that may have a new life."""
    young, old = touched(world, 2, days=7.9), touched(world, 2, days=8.1)
    await world.sweep(**BY_USE)
    before = [since(world, id_) for id_ in young]

    await settled(world)

    assert set(young) == set(stored(world, "created"))
    assert before == [since(world, id_) for id_ in young]
    assert {creation_in(stored(world, "active")[id_]) is None for id_ in old} == {False}


async def test_a_subjects_id_belongs_to_a_request_by_the_millisecond_however_old_it_is(world: World) -> None:
    (id_,), made = world.sandbox.seed("thread", 1), round((time.time() - 9 * DAY) * 1000)
    at = {"created_at": made / 1000, "last_active_at": time.time()}
    world.registry.register("thread", id_, "chat", subject="user:42", **at)
    await world.sweep(**BY_USE)
    await settled(world)
    world.registry.touch("thread", id_)
    world.registry.register("thread", id_, "chat", labels={"plan": "free"})
    ledger = world.context().ledger

    async def found(before: int) -> list[str]:
        call = ledger.on_slot("ledger/lua/erasure/members", *SLOT, "user:42", before, "", 10, parse=list)
        (_, *ids) = (await ledger.carrier.carry([call]))[0]
        return [one.decode() for one in ids]

    assert {} == stored(world, "created")
    assert [[], [id_]] == [await found(made), await found(made + 1)]


async def test_what_is_due_by_its_last_use_is_deleted_and_nothing_else(world: World) -> None:
    young, old = touched(world, 3, days=100, idle=29), touched(world, 3, days=100, idle=31)
    await world.sweep(**BY_USE | {"ttl": 60 * DAY})
    await settled(world)

    report = await world.sweep(**BY_USE, digest="digest2", max_newly_due=None)

    assert ("completed", sorted(old)) == (report.result, sorted(world.deletes()))
    assert sorted(young) == sorted(world.sandbox.alive("thread"))


async def test_rules_that_begin_to_count_from_creations_wait_for_the_index_and_then_ask(world: World) -> None:
    old, young = touched(world, 300, days=100), touched(world, 300, days=10)
    await world.sweep(**BY_USE)
    await settled(world)
    rules = BY_USE | {"max_age": 50 * DAY, "digest": "digest2", "max_newly_due": Share(percent=20, at_least=10)}

    assert "refused" == (await world.sweep(**rules)).result
    planned = await due_first(world.context().ledger, world.rule, 10)
    assert 10 == len({one.id for one in planned} & set(old))
    await creations.step(world.context().ledger, SLOT)
    (row,) = await creations.building(world.context().ledger, [world.rule.partition])
    assert 0 < row.indexed < row.ids == 600
    assert "refused" == (await world.sweep(**rules)).result
    world.registry.touch("thread", young[0])
    assert ([], 600) == (world.deletes(), len(stored(world, "active")))

    await settled(world)

    assert set(stored(world, "active")) == set(stored(world, "created"))
    assert [] == await creations.building(world.context().ledger, [world.rule.partition])
    assert "halted" == (await world.sweep(**rules)).result
    assert "300 of 600 ids would become due at once" in world.halts()["chat|cutoff_jumped"]["detail"]
    assert [] == world.deletes()


async def test_a_policy_that_counts_from_creations_asks_of_the_ids_that_it_takes_over_too(world: World) -> None:
    """They are counted under their old name, where their creations are packed."""
    touched(world, 300, days=100, policy="long")
    long, short = (Partition(*SLOT, name) for name in ("long", "short"))
    await world.sweep(partition=long, **BY_USE)
    await settled(world)
    assert {} == stored(world, "created", "long")
    named = {"partition": short, "formerly": ("long",), "digest": "digest0short"}
    rules = BY_USE | named | {"max_age": 50 * DAY, "max_newly_due": Share(percent=20, at_least=10)}

    assert "refused" == (await world.sweep(**rules)).result
    await settled(world)

    assert 300 == len(stored(world, "created", "long"))
    assert "halted" == (await world.sweep(**rules)).result
    assert "300 of 300 ids would become due at once" in world.halts()["short|cutoff_jumped"]["detail"]
    assert [] == world.deletes()


async def test_where_no_touched_id_is_left_nothing_is_waited_for(world: World) -> None:
    (id_,) = touched(world, 1, days=100)
    await world.sweep(**BY_USE)
    await settled(world)
    world.registry.forget("thread", id_)
    world.seed(1, days=60)

    report = await world.sweep(**BY_USE, max_age=50 * DAY, digest="digest2", max_newly_due=None)

    assert ("completed", {"deleted": 1}) == (report.result, dict(report.outcomes))


async def test_rules_that_count_no_more_keep_the_index_until_they_were_enforced(world: World) -> None:
    touched(world, 3, days=10)
    await world.sweep(**BY_USE, max_age=50 * DAY)
    assert 1 == await settled(world)
    assert 3 == len(stored(world, "created"))
    await world.sweep(**BY_USE, max_age=None, digest="digest2", enforce=False)
    await settled(world)
    assert 3 == len(stored(world, "created"))

    await world.sweep(enforce=True)
    await settled(world)

    assert {} == stored(world, "created")


async def test_a_policy_that_no_file_has_is_left_as_it_is(world: World) -> None:
    touched(world, 3, days=10, policy="nobodys")

    await settled(world)

    assert 3 == len(stored(world, "created", "nobodys"))


async def test_a_touch_of_an_older_client_costs_the_creation_and_makes_nothing_due_sooner(world: World) -> None:
    (id_,) = touched(world, 1, days=100)
    await world.sweep(**BY_USE)
    await settled(world)
    now = math.floor(time.time() * 1000) + 5000
    world.raw.zadd(f"{world.slot()}chat:active", {id_: now}, gt=True)  # as touch.lua was

    assert now == round(since(world, id_).timestamp() * 1000)
    assert world.record(id_).last_active_at == since(world, id_)
    await world.sweep(**BY_USE, max_age=50 * DAY, digest="digest2", max_newly_due=None)
    await settled(world)
    await world.sweep()
    assert [] == world.deletes()


@pytest.mark.parametrize("packed", [False, True])
async def test_ids_that_stand_for_the_registry_are_found_by_their_creation(world: World, packed: bool) -> None:
    old, new = touched(world, 40, days=100), touched(world, 60, days=5)
    await world.sweep(**BY_USE)
    if packed:
        await settled(world)
        assert set(new) == set(stored(world, "created"))
    before = round((time.time() - 50 * DAY) * 1000)
    where = (world.carrier, "lapse", world.rule.partition)

    spread, known = await spread_before(*where, before), await known_before(*where, before)

    assert set() < set(spread) <= set(old)
    assert set() < set(known) <= set(old)
    assert await tracked_before(*where, old[0], before)
    assert not await tracked_before(*where, new[0], before)
    assert not await tracked_before(*where, "thread_nobody_knows", before)


async def test_an_id_of_the_very_millisecond_stands_for_nothing(world: World) -> None:
    """It may have been registered after what it is to prove."""
    (id_,), made = world.sandbox.seed("thread", 1), round((time.time() - DAY) * 1000)
    world.registry.register("thread", id_, "chat", created_at=made / 1000, last_active_at=made / 1000)
    where = (world.carrier, "lapse", world.rule.partition)

    assert ([], []) == (await spread_before(*where, made), await known_before(*where, made))
    assert not await tracked_before(*where, id_, made)
    assert [id_] == await spread_before(*where, made + 1) == await known_before(*where, made + 1)
    assert await tracked_before(*where, id_, made + 1)


async def test_an_asyncio_application_finds_the_same(world: World) -> None:
    (id_,) = touched(world, 1, days=100)
    await world.sweep(**BY_USE)
    await settled(world)
    async with AsyncRegistry(world.url, provider="openai", timeout=5) as registry:
        record = await registry.get("thread", id_)

    assert record == world.record(id_)
    assert RULE.partition.policy == record.policy
