"""Assistants that nothing uses: deleted after several complete listings, and never on a doubt."""

import time
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.policy import Keep, Orphan, Share
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.model import Partition
from oracle.history import Resource
from support.world import World

ORPHANS = Orphan(min_age=0.001, seen=3, max_share=None, uses_stated=False)


@pytest.fixture
def idle(world: World) -> World:
    """Return a world whose rule collects orphaned assistants, with one assistant that a thread uses."""
    partition = Partition("openai", "assistant", "idle")
    world.rule = replace(world.rule, partition=partition, ttl=None, anchor=None, orphan=ORPHANS, digest="digest00000a")
    world.long_ago()
    (used,) = world.seed(1, kind="assistant", policy="idle")
    (thread,) = world.seed(1, days=1)
    world.registry.register("thread", thread, "chat", uses=[("assistant", used)])
    return world


async def runs(world: World, n: int) -> list[str]:
    return [(await world.orphans()).result for _ in range(n)]


async def test_an_orphan_goes_after_three_listings_and_a_used_one_stays(idle: World) -> None:
    used = idle.sandbox.alive("assistant")
    idle.seed(5, kind="assistant", policy="idle")

    await runs(idle, 2)
    assert [] == idle.deletes()
    report = await idle.orphans()

    assert 5 == report.outcomes["deleted"]
    assert used == idle.sandbox.alive("assistant")
    assert 5 == idle.counters("assistant")["deletions|idle|assistant"]


async def test_every_page_is_read(idle: World) -> None:
    idle.seed(450, kind="assistant", policy="idle")

    await runs(idle, 3)

    assert 1 == len(idle.sandbox.alive("assistant"))


async def test_one_that_failed_and_expires_by_itself_is_due_without_a_listing(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    idle.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500}])
    await runs(idle, 3)
    where = idle.slot("assistant") + "idle:"
    assert [id_] == idle.raw.zrange(where + "tried", 0, -1)

    idle.registry.expire("assistant", id_)

    assert [] == idle.raw.zrange(where + "tried", 0, -1)
    assert [id_] == idle.raw.zrange(where + "waiting", 0, -1)


async def test_a_foreign_assistant_is_never_touched(idle: World) -> None:
    foreign = idle.sandbox.seed("assistant", 5)

    await runs(idle, 4)

    assert [] == idle.deletes()
    assert set(foreign) < idle.sandbox.alive("assistant")


async def test_a_stamped_assistant_is_ours_without_a_registration(idle: World) -> None:
    await idle.context().control.epoch()
    (ours,) = idle.sandbox.seed("assistant", 1, metadata=idle.registry.stamp("idle"))
    idle.stamped.add(Resource("openai", "assistant", ours))
    (theirs,) = idle.sandbox.seed("assistant", 1, metadata={"lapse": "other/e1/idle"})

    await runs(idle, 3)

    assert [ours] == idle.deletes()
    assert theirs in idle.sandbox.alive("assistant")


async def test_a_forgotten_assistant_is_foreign(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    idle.registry.forget("assistant", id_)

    await runs(idle, 4)

    assert [] == idle.deletes()


async def test_one_named_in_uses_between_two_listings_starts_over(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    await runs(idle, 2)
    (thread,) = idle.seed(1, days=1)
    idle.registry.register("thread", thread, "chat", uses=[("assistant", id_)])
    await runs(idle, 2)
    idle.registry.forget("thread", thread, release=True)
    await idle.context().ledger.release_edges("openai", "thread")

    assert [] == idle.deletes()
    await runs(idle, 2)
    assert [] == idle.deletes()
    await runs(idle, 1)
    assert [id_] == idle.deletes()


async def test_what_a_forgotten_thread_uses_stays_until_that_is_let_go_of(idle: World) -> None:
    """The thread lives on at the provider, and whoever forgot it may go on using it."""
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    (thread,) = idle.seed(1, days=1)
    idle.registry.register("thread", thread, "chat", uses=[("assistant", id_)])
    assert idle.registry.forget("thread", thread)
    await idle.context().ledger.release_edges("openai", "thread")
    await runs(idle, 4)
    assert [] == idle.deletes()

    assert idle.registry.forget("thread", thread, release=True)
    assert "unknown" == idle.registry.forget("thread", thread, release=True)
    await idle.context().ledger.release_edges("openai", "thread")
    await runs(idle, 3)

    assert [id_] == idle.deletes()


@pytest.mark.parametrize("release", [False, True])
async def test_what_was_forgotten_under_a_claim_keeps_what_it_uses_as_well(idle: World, *, release: bool) -> None:
    (used,), (source,) = idle.seed(1, kind="assistant", policy="idle"), idle.seed(1)
    idle.registry.register("thread", source, "chat", uses=[("assistant", used)])
    chat = replace(idle.rule, partition=Partition("openai", "thread", "chat"), ttl=1, anchor="created_at", orphan=None)
    idle.decides(chat)
    context = idle.context()
    await context.ledger.adopt(chat)
    claims = await context.ledger.claim(chat, idle.settings, 1)
    assert "too_late" == idle.registry.forget("thread", source, release=release)

    unsure = settlement(claims.claims[0], Verdict(Outcome.CONFLICT))
    await context.ledger.settle(chat.partition, OutcomeBatch([unsure], {}, 3, listable=False))
    await context.ledger.release_edges("openai", "thread")
    await runs(idle, 4)

    assert ([used] if release else []) == idle.deletes()


async def test_a_young_assistant_waits(idle: World) -> None:
    idle.seed(1, kind="assistant", policy="idle")
    idle.rule = replace(idle.rule, orphan=replace(ORPHANS, min_age=3600))

    await runs(idle, 4)

    assert [] == idle.deletes()


async def test_a_kept_name_stays(idle: World) -> None:
    (kept,) = idle.sandbox.seed("assistant", 1, name="prod-helper")
    (other,) = idle.sandbox.seed("assistant", 1, name="test-helper")
    for id_ in (kept, other):
        idle.registry.register("assistant", id_, "idle")
    idle.rule = replace(idle.rule, keep=(Keep(name="prod-*", metadata={}),))

    await runs(idle, 3)

    assert [other] == idle.deletes()


async def test_a_held_one_stays(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    idle.registry.hold("assistant", id_, reason="case 7")

    await runs(idle, 4)

    assert [] == idle.deletes()


@pytest.mark.parametrize("fault", ["list_empty", "list_loop", "empty_object", "html", "error"])
async def test_a_listing_that_is_not_complete_decides_nothing(idle: World, fault: str) -> None:
    idle.seed(150, kind="assistant", policy="idle")
    await runs(idle, 2)
    rule = {"method": "GET", "path": "/v1/assistants", "effect": fault} | ({"status": 500} if fault == "error" else {})
    idle.sandbox.faults([rule])

    assert ["undecided"] * 3 == await runs(idle, 3)
    assert [] == idle.deletes()


async def test_a_key_that_a_listing_is_refused_with_opens_the_breaker_and_is_told(idle: World) -> None:
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 401}])

    with capture_logs() as said:
        await runs(idle, 1)

    assert "auth" == idle.raw.hget("lapse:{openai}:flow", "breaker")
    assert [("auth", "openai")] == [
        (one["outcome"], one["provider"]) for one in said if one["event"] == "breaker.opened"
    ]


async def test_a_listing_that_shrank_by_half_decides_nothing(idle: World) -> None:
    idle.seed(250, kind="assistant", policy="idle")
    await runs(idle, 2)
    idle.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "page": 2, "effect": "wrong_project"}])

    assert ["undecided"] == await runs(idle, 1)
    assert [] == idle.deletes()


async def test_too_large_a_share_waits_for_an_operator(idle: World) -> None:
    idle.seed(50, kind="assistant", policy="idle")
    idle.rule = replace(idle.rule, orphan=replace(ORPHANS, max_share=Share(percent=20, at_least=10)))

    assert "halted" == (await runs(idle, 3))[-1]
    assert [] == idle.deletes()
    assert ["idle|orphan_share"] == list(idle.halts("assistant"))


async def test_without_any_uses_ever_recorded_nothing_is_an_orphan(world: World) -> None:
    world.long_ago()
    world.rule = replace(
        world.rule,
        partition=Partition("openai", "assistant", "idle"),
        ttl=None,
        anchor=None,
        orphan=ORPHANS,
        digest="digest00000a",
    )
    world.seed(3, kind="assistant", policy="idle")

    assert "halted" == (await runs(world, 4))[-1]
    assert [] == world.deletes()
    world.rule = replace(world.rule, orphan=replace(ORPHANS, uses_stated=True))
    await runs(world, 3)
    assert set() == world.sandbox.alive("assistant")


async def test_observing_orphans_deletes_none_and_shows_them(idle: World) -> None:
    idle.seed(5, kind="assistant", policy="idle")
    idle.rule = replace(idle.rule, enforce=False)

    await runs(idle, 4)

    assert [] == idle.deletes()


async def test_deleted_orphans_that_the_list_still_shows_are_not_deleted_again(idle: World) -> None:
    (id_,) = idle.seed(1, kind="assistant", policy="idle")
    await runs(idle, 3)
    assert [id_] == idle.deletes()
    assert idle.raw.zscore(f"{idle.slot('assistant')}tombstones", id_) == pytest.approx(time.time() * 1000, abs=60_000)
