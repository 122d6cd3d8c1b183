"""A sweep of each kind against the stand-in: deleted, gone already, and never looked at where looking changes it."""

import asyncio
import time
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from lapse.policy import Keep, Orphan
from lapse.registry.model import Partition
from support.world import DAY, World

KINDS = ["file", "vector_store", "response", "container", "chat_completion"]


def of(world: World, kind: str, **rule: Any) -> None:
    partition = Partition("openai", kind, "chat")
    world.rule = replace(world.rule, partition=partition, digest=f"digest-{kind[:5]}", **rule)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_due_is_deleted_and_counted(world: World, kind: str) -> None:
    of(world, kind)
    due, alive = world.seed(3, kind=kind), world.seed(2, kind=kind, days=1)

    report = await world.sweep()

    assert ("completed", 3) == (report.result, report.outcomes["deleted"])
    assert set(alive) == world.sandbox.alive(kind)
    assert sorted(due) == sorted(world.deletes())
    assert 3 == world.counters(kind)[f"deletions|chat|{kind}"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "chat_completion"])
async def test_what_others_deleted_is_gone_already(world: World, kind: str) -> None:
    of(world, kind)
    ids = world.seed(2, kind=kind)
    world.sandbox.reset()
    world.seed(1, kind=kind, days=1)  # it is there, which proves that this is the right place

    report = await world.sweep()

    assert {"already_gone": 2} == dict(report.outcomes)
    assert [None, None] == [world.state(id_, kind) for id_ in ids]


async def test_a_chat_completion_that_is_gone_waits_for_an_operator_unless_the_words_are_known(world: World) -> None:
    of(world, "chat_completion")
    (id_,) = world.seed(1, kind="chat_completion")
    world.sandbox.reset()
    world.unpromised = {"unconfirmed", "unproven", "count", "uncounted"}  # a reset forgets the traffic, too
    world.seed(1, kind="chat_completion")
    await world.sweep()

    assert "quarantined" == world.state(id_, "chat_completion")
    told = [record.get("detail", "") for record in world.audit("chat_completion") if record["id"] == id_]
    assert 'add not_found = ["Chat completion {id} was not found."]' in told[-1]

    (other,) = world.seed(1, kind="chat_completion")
    world.sandbox.reset()
    world.seed(1, kind="chat_completion", days=1)
    report = await world.sweep(context=world.context(not_found=("Chat completion {id} was not found.",)))

    assert 1 == report.outcomes["already_gone"]
    assert world.state(other, "chat_completion") is None


async def test_no_container_is_ever_read(world: World) -> None:
    """Not as a witness, since their list is one; not for a keep rule, not before it is deleted as an orphan."""
    of(world, "container")
    gone = world.seed(2, kind="container")
    world.sandbox.reset()
    world.seed(3, kind="container", days=1)
    report = await world.sweep()
    assert {"already_gone": 2} == dict(report.outcomes)
    assert {None} == {world.state(id_, "container") for id_ in gone}

    world.long_ago()
    orphan = Orphan(min_age=0.001, seen=2, max_share=None, uses_stated=True)
    keep = (Keep("container", {}),)
    of(world, "container", ttl=None, anchor=None, orphan=orphan, keep=(Keep("prod-*", {}),))
    await world.orphans(digest="digest000002")
    await world.orphans()
    assert set() == world.sandbox.alive("container")

    kept = world.seed(2, kind="container")
    for _ in range(3):
        await world.orphans(digest="digest000003", keep=keep)
    assert set(kept) == world.sandbox.alive("container")
    reads = [one for one in world.sandbox.requests() if one["method"] == "GET" and "cntr_" in one["path"].split("?")[0]]
    assert [] == reads


async def test_a_deleted_container_that_lingers_in_the_list_is_not_deleted_again(world: World) -> None:
    of(world, "container", ttl=None, anchor=None)
    world.long_ago()
    orphan = Orphan(min_age=0.001, seen=2, max_share=None, uses_stated=True)
    (id_,) = world.seed(1, kind="container")

    for _ in range(5):
        await world.orphans(orphan=orphan)

    assert [id_] == world.deletes()


async def test_an_expired_vector_store_is_deleted_like_any_other(world: World) -> None:
    of(world, "vector_store")
    after = {"anchor": "last_active_at", "days": 1}
    [id_] = world.sandbox.seed("vector_store", created_at=1_600_000_000, expires_after=after)
    world.registry.register("vector_store", id_, "chat", created_at=1_600_000_000, last_active_at=1_600_000_000)

    assert 1 == (await world.sweep()).outcomes["deleted"]


async def test_files_are_kept_by_their_filename(world: World) -> None:
    of(world, "file")
    [kept] = world.sandbox.seed("file", name="prod-handbook.pdf")
    [other] = world.sandbox.seed("file", name="scratch.txt")
    for id_ in (kept, other):
        world.registry.register("file", id_, "chat", created_at=1_600_000_000)

    report = await world.sweep(keep=(Keep("prod-*", {}),))

    assert {"deleted": 1, "kept": 1} == dict(report.outcomes)
    assert {kept} == world.sandbox.alive("file")


async def test_eleven_thousand_files_are_listed_in_two_pages(world: World) -> None:
    world.sandbox.seed("file", 11_000)

    async def spend(requests: int = 1) -> None:
        assert requests == 1

    provider = world.context().provider
    listing = await provider.listing(provider.kinds["file"], spend)

    assert (11_000, True) == (len(listing.items), listing.complete)
    assert 2 == len(world.sandbox.requests())


async def test_a_vector_store_that_the_provider_saw_used_lives_on_without_a_touch(world: World) -> None:
    """The later one of registry and provider wins; what the provider said is recorded in the registry."""
    of(world, "vector_store", anchor="last_active_at", touches_stated=True)
    at = int(time.time())
    [used] = world.sandbox.seed("vector_store", last_active_at=at - 3600)
    [idle] = world.sandbox.seed("vector_store", last_active_at=at - 8 * 86400)
    for id_ in (used, idle):
        world.registry.register("vector_store", id_, "chat", created_at=at - 30 * DAY, last_active_at=at - 30 * DAY)

    report = await world.sweep()

    assert {"active": 1, "deleted": 1} == dict(report.outcomes)
    assert {used} == world.sandbox.alive("vector_store")
    record = world.record(used, "vector_store")
    assert (at - 3600, 0) == (record.last_active_at and record.last_active_at.timestamp(), record.attempts)
    assert ["intent", "active"] == [one["event"] for one in world.audit("vector_store") if one["id"] == used]
    assert 1 == world.counters("vector_store")["settled|chat|active"]
    assert {} == dict((await world.sweep()).outcomes)

    await world.sweep(max_age=20 * DAY, digest="digest000002")
    assert set() == world.sandbox.alive("vector_store")


async def test_a_hold_on_what_was_seen_active_stays(world: World) -> None:
    of(world, "vector_store", anchor="last_active_at", touches_stated=True)
    (id_,) = world.seed(1, kind="vector_store")
    world.sandbox.faults([{"method": "GET", "latency": "300ms"}])
    sweeping = asyncio.create_task(world.sweep())
    await world.until(lambda: "claimed" == world.state(id_, "vector_store"))
    world.registry.hold("vector_store", id_, reason="case 7")

    assert 1 == (await sweeping).outcomes["active"]
    assert "held" == world.state(id_, "vector_store")


async def test_the_activity_of_containers_is_read_from_their_list(world: World) -> None:
    of(world, "container", anchor="last_active_at", touches_stated=True, ttl=600.0)
    at = int(time.time())
    [used] = world.sandbox.seed("container", last_active_at=at - 60)
    [idle] = world.sandbox.seed("container", last_active_at=at - 700)
    for id_ in (used, idle):
        world.registry.register("container", id_, "chat", created_at=at - 3600, last_active_at=at - 3600)

    report = await world.sweep()

    assert {"active": 1, "deleted": 1} == dict(report.outcomes)
    assert {used} == world.sandbox.alive("container")
    assert ["list"] == [one["answer"][:4] for one in world.sandbox.requests() if one["method"] == "GET"]


async def test_a_thread_with_a_run_waits_until_it_is_cancelled(world: World) -> None:
    (id_,) = world.seed(1)
    start_run(world, id_)

    assert {"conflict": 1} == dict((await world.sweep()).outcomes)
    assert 0 == world.record(id_).attempts
    for _ in range(2):
        world.raw.zadd(f"{world.slot()}chat:waiting", {id_: 0})
        await world.sweep(cancel=True, digest="digest000002")

    assert set() == world.sandbox.alive("thread")
    assert [id_] == world.deletes()


def start_run(world: World, thread: str) -> None:
    headers = {"Authorization": "Bearer k", "OpenAI-Beta": "assistants=v2"}
    request = urllib.request.Request(f"{world.sandbox.url}/threads/{thread}/runs", b"{}", headers)
    urllib.request.urlopen(request, timeout=10).close()
