"""A cascade decides before it deletes: what is in the way is known first, and each attempt gets further."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from lapse.policy import Keep
from lapse.providers.outcomes import Limited
from lapse.providers.response import Reply
from lapse.registry.model import Partition
from lapse.registry.model import Resource as Named
from lapse.sweep.deletion.members import PAGE, Members, Unreadable
from support.world import World
from sweep.test_cascade import LONG_AGO, Family

CONVERSATION = Partition("openai", "conversation", "chat")
RESPONSE = Partition("openai", "response", "chat")


@pytest.fixture
def family(world: World) -> Family:
    return Family(world)


def conversation(world: World, n: int, **facts: Any) -> tuple[str, list[str]]:
    """Make a due conversation that responses use, and let its policy delete them with it."""
    world.unpromised.add("referenced")  # by what goes along with it
    (parent,) = world.seed(1, kind="conversation")
    responses = sorted(world.sandbox.seed("response", n, conversation=parent, status="completed"))
    world.registry.register_many(
        {"kind": "response", "id": id_, "policy": "chat", "uses": [("conversation", parent)], **facts}
        for id_ in responses
    )
    world.rule = replace(world.rule, partition=CONVERSATION, cascade={"response": "delete"}, digest="d1")
    world.others = (replace(world.rule, partition=RESPONSE, cascade={}, digest="d2"),)
    return parent, responses


def change(world: World, **rule: Any) -> None:
    world.others = (replace(world.others[0], **rule),)


def claim_by_another(world: World, id_: str, until: int = 2**53) -> None:
    """Lease a response to another worker, as its own sweep would; it is given back with ``until`` 1."""
    slot = world.slot("response")
    record = {"p": "chat", "s": "claimed", "f": 1, "t": 10**6, "d": until}
    for index in ("fresh", "claims"):
        world.raw.zrem(f"{slot}chat:{index}", id_)
    world.raw.hset(f"{slot}aside", id_, json.dumps(record))
    world.raw.zadd(f"{slot}chat:claims", {id_: until})


def quarantine(world: World, id_: str) -> None:
    slot = world.slot("response")
    world.raw.zrem(f"{slot}chat:fresh", id_)
    world.raw.hset(f"{slot}aside", id_, json.dumps({"p": "chat", "s": "quarantined", "f": 1, "d": 1, "r": "invalid"}))
    world.raw.zadd(f"{slot}chat:quarantine", {id_: 1})


async def retry(world: World, id_: str) -> None:
    ledger = world.context().ledger
    call = ledger.on(RESPONSE, "ledger/lua/quarantine", '"me"', '"why"', id_, parse=list)
    await ledger.carrier.carry([replace(call, args=(*call.args[:2], "retry", *call.args[3:]))])


async def pause(world: World, _id: str) -> None:
    await world.context().control.pause("openai/response", "maintenance")


async def unpause(world: World, _id: str) -> None:
    await world.context().control.unpause("openai/response")


async def halt(world: World, _id: str) -> None:
    await world.context().control.halt(RESPONSE, "endpoint_missing", "by hand")


async def resume(world: World, _id: str) -> None:
    control = world.context().control
    for one in await control.halts([("openai", "response")]):
        await control.lift(one, "mended")


In = Callable[[World, str], Any]
IN_THE_WAY: dict[str, tuple[In, In]] = {
    "held": (
        lambda world, id_: world.registry.hold("response", id_, reason="case 7"),
        lambda world, id_: world.registry.unhold("response", id_),
    ),
    "used": (
        lambda world, id_: world.registry.register("thread", "thread_1", "other", uses=[("response", id_)]),
        lambda world, _id: world.registry.forget("thread", "thread_1", release=True),
    ),
    "quarantined": (quarantine, retry),
    "observed": (lambda world, _id: change(world, enforce=False), lambda world, _id: change(world, enforce=True)),
    "paused": (pause, unpause),
    "halted": (halt, resume),
    "claimed": (claim_by_another, lambda world, id_: claim_by_another(world, id_, 1)),
}


async def carried_out(step: In, world: World, id_: str) -> None:
    said = step(world, id_)
    if isinstance(said, Awaitable):
        await said


@pytest.mark.parametrize("way", IN_THE_WAY)
async def test_nothing_is_touched_while_one_child_is_in_the_way_and_all_goes_at_the_next_sweep(
    world: World, way: str
) -> None:
    parent, responses = conversation(world, 3)
    put, end = IN_THE_WAY[way]
    await carried_out(put, world, responses[-1])

    await world.sweep()

    assert [] == world.deletes()
    named = [one["detail"] for one in world.audit("conversation") if one["event"] in {"kept", "retried"}]
    assert any(id_ in named[0] for id_ in responses)
    assert way in named[0]

    await world.sweep()
    assert [] == world.deletes()
    world.unpromised |= {"record", "counts"} if way in {"claimed", "quarantined"} else set()  # by this test's own hand
    await carried_out(end, world, responses[-1])
    await world.context().ledger.release_edges("openai", "thread")
    await world.sweep()

    assert {*responses, parent} == set(world.deletes())
    assert parent == world.deletes()[-1]
    assert {} == world.raw.hgetall(f"{world.slot('conversation')}blocked")


async def test_a_protected_child_holds_its_parent_no_longer_than_it_lives(family: Family) -> None:
    world = family.world
    (file,) = family.files()
    thread = family.parent(files=(file,))
    await world.sweep(cascade={"file": "protect"}, digest="d1")
    assert [] == world.deletes()

    world.registry.expire("file", file)
    rule = world.rule
    await world.sweep(partition=Partition("openai", "file", "chat"), cascade={}, digest="d2")
    world.registry.forget("thread", thread, release=True)
    world.registry.register("thread", thread, "chat", created_at=LONG_AGO, last_active_at=LONG_AGO)
    await world.context().ledger.release_edges("openai", "thread")
    await world.sweep(partition=Partition("openai", "file", "chat"), cascade={}, digest="d2")
    world.rule = rule
    await world.sweep()

    assert [file, thread] == world.deletes()


async def test_every_user_is_known_before_the_first_goes_however_many(world: World) -> None:
    parent, responses = conversation(world, 10_050)
    world.registry.hold("response", responses[-1], reason="case 7")

    report = await world.sweep()

    assert ({"kept": 1}, []) == (dict(report.outcomes), world.deletes())
    world.registry.unhold("response", responses[-1])
    world.settings = replace(world.settings, budget=3)
    report = await world.sweep()
    gone = len(world.deletes())
    assert 0 < gone < 10_050
    assert {parent} == world.sandbox.alive("conversation")
    assert 0 == world.record(parent, "conversation").attempts
    await world.sweep()
    assert gone < len(world.deletes())


async def test_one_childs_error_stops_no_other_and_is_no_attempt_of_its_parent(family: Family) -> None:
    world = family.world
    files = family.files(30)
    thread = family.parent(files=tuple(files))
    world.sandbox.faults([{"method": "DELETE", "ids": files[3:5], "effect": "error", "status": 500}])

    for attempt in (1, 2, 3):
        await world.sweep()
        assert ({thread}, set(files[3:5])) == (world.sandbox.alive("thread"), world.sandbox.alive("file"))
        assert (0, "waiting") == (world.record(thread).attempts, world.state(thread))
        assert {attempt} == {world.record(id_, "file").attempts for id_ in files[3:5]}
        said = [one["detail"] for one in world.audit() if one["event"] == "retried"]
        assert said[-1].startswith(f"its file {files[3]}: 500")
        assert said[-1].endswith("; and 1 more")
        family.again()
        family.again("file")


async def test_what_something_uses_that_failed_waits_for_it(family: Family) -> None:
    world = family.world
    parent, responses = conversation(world, 3)
    for one, other in pairwise(responses):
        world.registry.register("response", other, "chat", uses=[("response", one)])
    world.raw.zremrangebyrank(f"{world.slot('response')}chat:active", 0, -1)  # an activity of its own
    world.raw.zremrangebyrank(f"{world.slot('response')}chat:created", 0, -1)
    for id_ in responses:
        world.raw.zadd(f"{world.slot('response')}chat:fresh", {id_: 1})
    world.sandbox.faults([{"method": "DELETE", "ids": [responses[1]], "effect": "error", "status": 500, "first": 1}])

    await world.sweep()
    assert [responses[2], responses[1]] == world.deletes()

    for kind in ("response", "conversation"):
        family.again(kind)
    await world.sweep()
    assert [responses[1], responses[0], parent] == world.deletes()[2:]


class TestKeep:
    """A keep rule of the children's policy is read of all before one goes."""

    async def test_one_that_is_kept_keeps_all(self, world: World) -> None:
        _parent, responses = conversation(world, 3)
        change(world, keep=(Keep(None, {"pin": "true"}),))
        world.sandbox.faults()
        pinned = world.sandbox.seed("response", 1, metadata={"pin": "true"}, status="completed")
        world.registry.register(
            "response", pinned[0], "chat", uses=[("conversation", next(iter(world.sandbox.alive("conversation"))))]
        )

        assert {"kept": 1} == dict((await world.sweep()).outcomes)

        assert [] == world.deletes()
        assert "kept" == world.state(pinned[0], "response")
        assert {*responses, *pinned} == world.sandbox.alive("response")

    async def test_what_was_read_is_not_read_again_by_the_next_attempt(self, world: World) -> None:
        parent, responses = conversation(world, 60)
        change(world, keep=(Keep(None, {"pin": "true"}),))
        world.account = replace(world.account, rate=15.0)
        world.budget = 15.0
        world.settings = replace(world.settings, budget=1)

        for _ in range(2):
            await world.sweep()
        read = [one["path"] for one in world.sandbox.requests() if one["method"] == "GET" and "resp" in one["path"]]
        assert len(read) == len(set(read)) > 15
        assert [] == world.deletes()

        world.account = replace(world.account, rate=None)
        world.budget, world.settings = None, replace(world.settings, budget=20)
        await world.sweep()
        assert {*responses, parent} == set(world.deletes())


async def test_a_list_longer_than_an_attempt_is_read_to_its_end_and_deleted(family: Family) -> None:
    world = family.world
    files = family.files(150)
    [store] = world.sandbox.seed("vector_store", file_ids=files)
    uses = [("file", id_) for id_ in files]
    world.registry.register("vector_store", store, "chat", uses=uses, created_at=LONG_AGO, last_active_at=LONG_AGO)
    world.account = replace(world.account, rate=60.0)
    world.settings = replace(world.settings, budget=1)
    world.rule = replace(world.rule, partition=Partition("openai", "vector_store", "chat"))

    sweeps, before = 0, -1
    while world.sandbox.alive("vector_store"):
        await world.sweep()
        gone = len(world.deletes())
        assert gone > before, "an attempt that got no further"
        before, sweeps = gone, sweeps + 1

    assert sweeps > 3
    assert set() == world.sandbox.alive("file")
    assert 150 == world.counters("file")["deletions|chat|file"]
    assert "settled|chat|error" not in world.counters("vector_store")


class TestStrangers:
    """A child is known by what the application said, never by what stands in an object."""

    async def test_an_id_read_in_a_body_is_not_enough(self, family: Family) -> None:
        """Whoever may write a thread's tool_resources may name anybody's store there."""
        world = family.world
        store, (file,) = family.store(), family.files()
        [thread] = world.sandbox.seed(
            "thread",
            tool_resources={
                "file_search": {"vector_store_ids": [store]},
                "code_interpreter": {"file_ids": [file]},
            },
        )
        world.registry.register("thread", thread, "chat", created_at=LONG_AGO, last_active_at=LONG_AGO)

        await world.sweep()

        assert [thread] == world.deletes()
        assert {"unnamed": 2} == family.left()
        assert "tracked" == world.state(store, "vector_store") == world.state(file, "file")

    async def test_a_file_in_a_store_needs_a_use_as_well(self, family: Family) -> None:
        world = family.world
        named, other = family.files(2)
        [store] = world.sandbox.seed("vector_store", file_ids=[named, other])
        uses = [("file", named)]
        world.registry.register("vector_store", store, "chat", uses=uses, created_at=LONG_AGO, last_active_at=LONG_AGO)

        await world.sweep(partition=Partition("openai", "vector_store", "chat"))

        assert ({other}, {"unnamed": 1}) == (world.sandbox.alive("file"), family.left("vector_store"))

    async def test_what_was_used_after_its_parent_lives_under_its_own_policy(self, family: Family) -> None:
        world = family.world
        used, idle = family.files(2)
        world.registry.touch("file", used)
        thread = family.parent(files=(used, idle))

        await world.sweep()

        assert ([idle, thread], {used}) == (world.deletes(), world.sandbox.alive("file"))
        assert {"active": 1} == family.left()

    async def test_a_parent_used_last_takes_what_was_used_before(self, family: Family) -> None:
        world = family.world
        (file,) = family.files()
        world.registry.touch("file", file)
        [thread] = world.sandbox.seed("thread", tool_resources={"code_interpreter": {"file_ids": [file]}})
        world.registry.register("thread", thread, "chat", uses=[("file", file)])
        await world.until(lambda: _later(world, thread))

        await world.sweep(ttl=0.05)

        assert [file, thread] == world.deletes()

    async def test_a_file_taken_out_of_its_store_since_is_no_child(self, family: Family) -> None:
        world = family.world
        (file,) = family.files()
        store = family.store(file)
        world.sandbox.faults(
            [
                {
                    "kind": "vector_store_file",
                    "method": "DELETE",
                    "effect": "error",
                    "status": 404,
                    "message": f"No file found with id {file} in vector store {store}.",
                }
            ]
        )
        family.parent(stores=(store,))

        await world.sweep()

        assert {file} == world.sandbox.alive("file")
        assert {"foreign": 1} == family.left()

    async def test_a_file_that_was_taken_out_and_not_deleted_goes_at_the_next_attempt(self, family: Family) -> None:
        world = family.world
        (file,) = family.files()
        store = family.store(file)
        family.parent(stores=(store,))
        world.sandbox.faults([{"method": "DELETE", "kind": "file", "effect": "error", "status": 500, "first": 1}])

        await world.sweep()
        assert {store} == world.sandbox.alive("vector_store")
        for kind in ("thread", "file", "vector_store"):
            family.again(kind)
        await world.sweep()

        assert set() == world.sandbox.alive("file") | world.sandbox.alive("vector_store") | world.sandbox.alive(
            "thread"
        )


def _later(world: World, thread: str) -> bool:
    seconds, micros = world.raw.time()
    created = world.raw.zscore(f"{world.slot()}chat:fresh", thread)
    return bool(seconds * 1000 + micros // 1000 > created + 60)


class TestMembers:
    """A list read over several attempts."""

    @staticmethod
    def page(ids: list[str], *, more: bool) -> Reply:
        return Reply(200, {}, json.dumps({"data": [{"id": id_} for id_ in ids], "has_more": more}).encode())

    def members(self, world: World) -> Members:
        return Members(world.carrier, "lapse", Named("openai", "vector_store", "vs_1"))

    async def test_the_next_attempt_goes_on_and_the_memory_ends(self, world: World) -> None:
        ids = [f"file-{n}" for n in range(250)]
        provider, asked = world.context().provider, list[str]()
        kind = provider.kinds["vector_store"]

        async def fetch(after: str, limit: int) -> Reply:
            if len(asked) == limit:
                raise Limited
            asked.append(after)
            begin = ids.index(after) + 1 if after else 0
            return self.page(ids[begin : begin + PAGE], more=False)  # a full page is never the last

        with pytest.raises(Limited):
            await self.members(world).read(provider, kind, lambda after: fetch(after, 2))
        again = self.members(world)
        found = await again.read(provider, kind, lambda after: fetch(after, 9))

        assert (ids, ["", "file-99", "file-199"], True) == (found, asked, again.stale)
        assert 0 < world.raw.pttl("lapse:{openai:vector_store}:members:vs_1") <= 6 * 3600 * 1000
        assert found == await self.members(world).read(provider, kind, lambda after: fetch(after, 3))
        await again.forget()
        assert 0 == world.raw.exists("lapse:{openai:vector_store}:members:vs_1")

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(500, {}, b"{}"),
            Reply(200, {}, b"{}"),
            Reply(200, {}, b'{"data": [], "has_more": true}'),
            Reply(200, {}, b'{"data": [{"id": "file-0"}], "has_more": true}'),
        ],
    )
    async def test_what_is_no_list_decides_nothing(self, world: World, reply: Reply) -> None:
        provider = world.context().provider
        first = self.page(["file-0"], more=True)

        async def fetch(after: str) -> Reply:
            return reply if after else first

        with pytest.raises(Unreadable):
            await self.members(world).read(provider, provider.kinds["vector_store"], fetch)
