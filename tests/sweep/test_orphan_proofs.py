"""What it takes for a listed object to be an orphan, one condition at a time, and what a listing has to be."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.request import Request, urlopen

import pytest

from lapse.guards.listing import take_as_it_is
from lapse.ledger.settle import Act, OutcomeBatch, Settled
from lapse.policy import Keep, Orphan, Share
from lapse.providers.outcomes import Outcome
from lapse.registry.model import Partition
from oracle.history import Resource
from support.world import KEY, World

ORPHANS = Orphan(min_age=0.001, seen=3, max_share=None, uses_stated=True)
IDLE = Partition("openai", "assistant", "idle")


@pytest.fixture
def idle(world: World) -> World:
    """Return a world whose rule collects orphaned assistants."""
    world.rule = replace(world.rule, partition=IDLE, ttl=None, anchor=None, orphan=ORPHANS, digest="digest00000a")
    world.long_ago()
    return world


async def runs(world: World, n: int) -> list[str]:
    return [(await world.orphans()).result for _ in range(n)]


def states(world: World) -> dict[str, int]:
    return dict(json.loads(world.raw.hget(f"{world.slot('assistant')}idle:rules", "orphans")))


def seed_stamped(world: World, n: int) -> list[str]:
    """Create assistants with this registry's stamp, which nobody registers."""
    ids = [world.sandbox.seed("assistant", metadata=world.registry.stamp("idle"))[0] for _ in range(n)]
    world.stamped |= {Resource("openai", "assistant", id_) for id_ in ids}
    return ids


def sightings(world: World) -> dict[str, Any]:
    found = world.raw.hgetall(f"{world.slot('assistant')}idle:sightings")
    return {id_: json.loads(text) for id_, text in found.items()}


def change(world: World, id_: str, **body: Any) -> None:
    """Change an assistant as somebody at the provider would."""
    asked = Request(f"{world.sandbox.url}/assistants/{id_}", json.dumps(body).encode(), method="POST")
    asked.add_header("Authorization", f"Bearer {KEY}")
    asked.add_header("Content-Type", "application/json")
    asked.add_header("OpenAI-Beta", "assistants=v2")
    with urlopen(asked, timeout=10) as reply:
        assert 200 == reply.status


async def test_whose_stamp_it_is_decides_and_each_reason_is_counted(idle: World) -> None:
    await idle.context().control.epoch()
    ours = idle.registry.stamp("idle")["lapse"]
    namespace, epoch, _policy, nonce = ours.split("/")
    stamps = [f"other/{epoch}/idle", f"{namespace}/0123456789ab/idle", f"{namespace}/{epoch}/chat/{nonce}x", "no stamp"]
    stamps += [f"{namespace}/{epoch}/idle", ours]
    ids = [idle.sandbox.seed("assistant", 1, metadata={"lapse": stamp})[0] for stamp in stamps]
    idle.stamped.add(Resource("openai", "assistant", ids[-1]))
    (registered,) = idle.sandbox.seed("assistant", 1, metadata={"lapse": f"other/{epoch}/idle"})
    (again,) = idle.sandbox.seed("assistant", 1, metadata={"lapse": f"{namespace}/0123456789ab/idle"})
    for id_ in (registered, again):
        idle.registry.register("assistant", id_, "idle")

    await runs(idle, 3)

    assert {ids[-1], again} == set(idle.deletes())
    expected = {"other_namespace": 2, "old_epoch": 1, "other_policy": 1, "no_nonce": 1, "foreign": 1, "ripe": 2}
    assert expected == states(idle)


async def test_forget_and_drop_make_an_id_foreign_until_it_is_registered_again(idle: World) -> None:
    await idle.context().control.epoch()
    forgotten, dropped = seed_stamped(idle, 2)
    for id_ in (forgotten, dropped):
        idle.registry.register("assistant", id_, "idle")
    idle.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 400, "ids": [dropped]}])
    idle.registry.forget("assistant", forgotten)
    await runs(idle, 3)
    assert "quarantined" == idle.state(dropped, "assistant")
    ledger = idle.context().ledger
    drop = replace(IDLE, policy="drop")
    await ledger.carrier.carry([ledger.on(drop, "ledger/lua/quarantine", '"me"', '"why"', dropped, parse=list)])
    idle.sandbox.faults()

    await runs(idle, 4)
    assert {"forgotten": 2} == states(idle)
    assert {forgotten, dropped} == idle.sandbox.alive("assistant")
    idle.registry.register("assistant", forgotten, "idle")
    await runs(idle, 3)

    assert {dropped} == idle.sandbox.alive("assistant")


async def test_nothing_goes_before_the_registry_is_as_old_as_min_age(idle: World) -> None:
    ids = idle.sandbox.seed("assistant", 2, created_at=1_600_000_000)
    for id_ in ids:
        idle.registry.register("assistant", id_, "idle")
    idle.rule = replace(idle.rule, orphan=replace(ORPHANS, min_age=3600))
    idle.raw.hset("lapse:epoch", "created", round(time.time() * 1000))

    report = [await idle.orphans() for _ in range(4)][-1]

    assert ("completed", []) == (report.result, idle.deletes())
    assert "no orphan is deleted for another" in report.detail
    idle.long_ago()
    await runs(idle, 1)
    assert set(ids) == set(idle.deletes())


async def test_a_candidate_is_read_again_just_before_its_deletion(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")

    await runs(idle, 3)

    about = [one["method"] for one in idle.sandbox.requests() if one["path"].endswith(id_)]
    assert ["GET", "DELETE"] == about


LATE: dict[str, Callable[[World, str], object]] = {
    "held": lambda world, id_: world.registry.hold("assistant", id_, reason="case"),
    "touched": lambda world, id_: world.registry.touch("assistant", id_),
    "registered again": lambda world, id_: world.registry.register("assistant", id_, "idle"),
    "moved": lambda world, id_: world.registry.register("assistant", id_, "other"),
    "forgotten": lambda world, id_: world.registry.forget("assistant", id_),
    "named": lambda world, id_: world.registry.register("thread", "thread_1", "chat", uses=[("assistant", id_)]),
    "renamed": lambda world, id_: change(world, id_, name="prod-helper"),
    "stamped": lambda world, id_: change(world, id_, metadata={"lapse": "other/e1/idle"}),
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("stamped", [False, True])
async def test_what_is_said_between_listing_and_claim_wins(idle: World, late: str, *, stamped: bool) -> None:
    """While the first of two is being deleted, something is said of the other."""
    await idle.context().control.epoch()
    ids = seed_stamped(idle, 2) if stamped else idle.sandbox.seed("assistant", 2)
    for id_ in () if stamped else ids:
        idle.registry.register("assistant", id_, "idle")
    idle.rule = replace(idle.rule, keep=(Keep(name="prod-*", metadata={}),))
    await runs(idle, 2)
    idle.sandbox.faults([{"method": "DELETE", "latency": "600ms", "first": 1}])

    run = asyncio.create_task(idle.orphans())
    claims = f"{idle.slot('assistant')}idle:claims"
    await idle.until(lambda: idle.raw.zcard(claims) == 1)
    (first,) = idle.raw.zrange(claims, 0, -1)
    (other,) = set(ids) - {first}
    LATE[late](idle, other)
    await run

    assert [first] == idle.deletes()
    assert {other} == idle.sandbox.alive("assistant")


async def test_a_touch_between_listings_starts_the_count_over(idle: World) -> None:
    await idle.context().control.epoch()
    (registered,) = idle.seed(1, kind="assistant", policy="idle")
    (stamped,) = seed_stamped(idle, 1)
    await runs(idle, 2)
    for id_ in (registered, stamped):
        idle.registry.touch("assistant", id_)

    await runs(idle, 2)
    assert [] == idle.deletes()
    await runs(idle, 1)

    assert {registered, stamped} == set(idle.deletes())


async def test_a_lease_that_ran_out_alone_deletes_nothing(idle: World) -> None:
    """As after kill -9 between claim and DELETE: the next listing looks at the id again, and it is tried alone."""
    await idle.context().control.epoch()
    (registered,) = idle.seed(1, kind="assistant", policy="idle")
    (stamped,) = seed_stamped(idle, 1)
    await runs(idle, 2)
    idle.rule = replace(idle.rule, orphan=replace(ORPHANS, seen=2))
    wanted = {id_: one["first"] for id_, one in sightings(idle).items()}
    brief = replace(idle.settings, lease=0.05)
    claims = await idle.context().ledger.claim_orphans(idle.rule, brief, wanted, alone=False)
    assert {registered, stamped} == {claim.resource.id for claim in claims.claims}
    ((_id, deadline),) = idle.raw.zrange(f"{idle.slot('assistant')}idle:claims", -1, -1, withscores=True)
    await idle.until(lambda: idle.raw.time()[0] * 1000 > deadline)
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 500}])

    assert ["undecided"] * 2 == await runs(idle, 2)
    assert [] == idle.deletes()
    assert 2 == idle.counters("assistant")["crashes|idle"]
    idle.sandbox.faults()
    await runs(idle, 1)

    assert {registered, stamped} == set(idle.deletes())


async def test_one_of_ours_that_the_provider_saw_used_is_counted_anew_registered_or_not(idle: World) -> None:
    await idle.context().control.epoch()
    (registered,) = idle.seed(1, kind="assistant", policy="idle")
    (stamped,) = seed_stamped(idle, 1)
    await runs(idle, 2)
    idle.rule = replace(idle.rule, orphan=replace(ORPHANS, seen=2))
    wanted = {id_: one["first"] for id_, one in sightings(idle).items()}
    ledger = idle.context().ledger
    claims = await ledger.claim_orphans(idle.rule, idle.settings, wanted, alone=False)
    used = [
        Settled(claim.resource.id, claim.token, claim.policy, claim.due, Act.TOUCH, Outcome.ACTIVE, active=claims.now)
        for claim in claims.claims
    ]
    idle.unpromised = {"unasked", "count"}  # nobody looked at the provider: that it was used is made up here

    assert () == (await ledger.settle(idle.rule.partition, OutcomeBatch(used, {}, 3, listable=True))).refused

    assert {registered, stamped} == {one.id for one in used}
    assert ("tracked", None) == (idle.state(registered, "assistant"), idle.state(stamped, "assistant"))
    assert stamped not in sightings(idle)
    assert [] == list(idle.raw.hkeys(f"{idle.slot('assistant')}aside"))
    await runs(idle, 1)
    assert [] == idle.deletes()


async def test_one_that_fails_is_tried_again_by_a_later_listing_alone(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    idle.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500, "first": 1}])
    await runs(idle, 4)
    assert [id_] == idle.deletes()
    aside = f"{idle.slot('assistant')}aside"
    idle.raw.hset(aside, id_, json.dumps(json.loads(idle.raw.hget(aside, id_)) | {"d": 1}))

    await idle.sweep(ttl=None)
    assert [id_] == idle.deletes()
    await runs(idle, 1)

    assert [id_, id_] == idle.deletes()
    assert set() == idle.sandbox.alive("assistant")


@pytest.mark.parametrize("why", ["touched", "held over a listing", "its policy collects no orphans any more"])
async def test_one_that_fails_waits_for_a_listing_only_while_one_can_show_it(idle: World, why: str) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    idle.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500, "first": 1}])
    await runs(idle, 3)
    partition = f"{idle.slot('assistant')}idle"
    assert [id_] == idle.raw.zrange(f"{partition}:tried", 0, -1)
    if why == "touched":
        idle.registry.touch("assistant", id_)
    elif why == "held over a listing":
        idle.registry.hold("assistant", id_, reason="case")
        await runs(idle, 1)
        idle.registry.unhold("assistant", id_)
    else:
        idle.rule = replace(idle.rule, orphan=None)
        await idle.sweep(ttl=86400.0, anchor="created_at", digest="plain0000001")

    assert [] == idle.raw.zrange(f"{partition}:tried", 0, -1)
    assert [id_] == idle.raw.zrange(f"{partition}:waiting", 0, -1)
    assert [id_] == idle.deletes()


async def test_what_is_listed_on_after_its_deletion_is_tried_again_once_its_tombstone_ended(idle: World) -> None:
    idle.unpromised = {"unasked", "duplicate"}  # it was registered once, and is there once more
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    await runs(idle, 3)
    idle.sandbox.seed("assistant", ids=[id_])
    await runs(idle, 4)
    assert ([id_], {"settled": 1}) == (idle.deletes(), states(idle))
    ledger = idle.context().ledger
    assert 1 == await ledger.end_tombstones("openai", "assistant", await idle.context().control.now() + 1)

    await runs(idle, 2)
    assert [id_] == idle.deletes()
    await runs(idle, 1)

    assert [id_, id_] == idle.deletes()
    assert 2 == idle.counters("assistant")["deletions|idle|assistant"]


async def test_sightings_end_with_the_listing_that_does_not_renew_them(idle: World) -> None:
    ids = idle.seed(3, kind="assistant", policy="idle")
    await runs(idle, 1)
    idle.registry.hold("assistant", ids[0], reason="case")

    await runs(idle, 1)

    assert {ids[1]: 2, ids[2]: 2} == {id_: one["times"] for id_, one in sightings(idle).items()}


LISTS: dict[str, dict[str, Any]] = {
    "the second page is dropped": {"page": 2, "effect": "list_empty"},
    "an empty page that says it is the last": {"page": 2, "effect": "wrong_project"},
    "500 on the third page": {"page": 3, "effect": "error", "status": 500},
    "a cursor that leads in a circle": {"effect": "list_loop", "after": 1},
    "half a page": {"page": 2, "effect": "cut"},
}


@pytest.mark.parametrize("fault", LISTS)
async def test_a_broken_list_decides_nothing_and_counts_for_nothing(idle: World, fault: str) -> None:
    ids = idle.seed(450, kind="assistant", policy="idle")
    await runs(idle, 2)
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", **LISTS[fault]}])

    assert ["undecided"] == await runs(idle, 1)
    assert idle.raw.hget(f"{idle.slot('assistant')}idle:rules", "undecided")
    assert [] == idle.deletes()
    assert 1 == idle.counters("assistant")["sweeps|idle|undecided"]
    idle.sandbox.faults()
    await runs(idle, 1)

    assert set(ids) == set(idle.deletes())


async def test_a_list_cut_at_a_full_page_is_read_to_its_end_all_the_same(idle: World) -> None:
    ids = idle.seed(450, kind="assistant", policy="idle")
    await runs(idle, 2)
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "page": 2, "effect": "list_last"}])

    assert ["completed"] == await runs(idle, 1)
    assert set(ids) == set(idle.deletes())


async def test_an_empty_list_where_ids_are_registered_decides_nothing(idle: World) -> None:
    idle.seed(3, kind="assistant", policy="idle")
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "wrong_project"}])

    report = await idle.orphans()

    assert ("undecided", "0 objects") == (report.result, report.detail[16:25])


async def test_a_list_that_stays_shrunken_waits_for_an_operator_who_accepts_it(idle: World) -> None:
    idle.seed(150, kind="assistant", policy="idle")
    await runs(idle, 2)
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "wrong_project"}])
    assert ["undecided", "undecided", "halted", "halted"] == await runs(idle, 4)
    assert ["idle|listing_shrunk"] == list(idle.halts("assistant"))
    control = idle.context().control
    (halt,) = await control.halts([("openai", "assistant")])
    await take_as_it_is(idle.carrier, "lapse", IDLE)
    await control.lift(halt, "the project was emptied by hand")

    assert ["completed", "completed"] == await runs(idle, 2)
    assert [] == idle.deletes()


async def test_a_list_that_is_long_again_ends_its_own_halt(idle: World) -> None:
    idle.seed(150, kind="assistant", policy="idle")
    await runs(idle, 2)
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "wrong_project"}])
    await runs(idle, 4)
    assert ["idle|listing_shrunk"] == list(idle.halts("assistant"))

    idle.sandbox.faults()

    assert ["halted", "completed"] == await runs(idle, 2)
    assert {} == idle.halts("assistant")


async def test_a_share_that_is_small_again_ends_its_own_halt(idle: World) -> None:
    """The application says what uses them, late."""
    ids = idle.seed(4, kind="assistant", policy="idle")
    idle.rule = replace(idle.rule, orphan=replace(ORPHANS, max_share=Share(percent=20, at_least=1)))
    await runs(idle, 4)
    assert ["idle|orphan_share"] == list(idle.halts("assistant"))

    for id_ in ids:
        idle.registry.register("thread", f"thread_of_{id_}", "chat", uses=[("assistant", id_)])

    assert ["halted", "completed"] == await runs(idle, 2)
    assert ({}, set(ids)) == (idle.halts("assistant"), idle.sandbox.alive("assistant"))


@pytest.mark.parametrize("policy", ["idle", "expiring"])
async def test_what_lapse_deleted_itself_is_no_shrinking(idle: World, policy: str) -> None:
    """Under whichever policy of the kind."""
    idle.seed(9, kind="assistant", policy=policy)
    (kept,) = idle.sandbox.seed("assistant", 1)
    await runs(idle, 3)
    if policy == "expiring":
        rule, partition = idle.rule, replace(IDLE, policy="expiring")
        await idle.sweep(partition=partition, ttl=60, anchor="created_at", orphan=None, digest="digest00000b")
        idle.rule = rule
    assert (9, {kept}) == (len(idle.deletes()), idle.sandbox.alive("assistant"))

    assert ["completed"] == await runs(idle, 1)
