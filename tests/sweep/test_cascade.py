"""What belongs to a deleted object: ours goes first, the rest stays, and nothing is lost on the way."""

import asyncio
import json
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lapse.cli.formatting import effort
from lapse.ledger.claim import ChildRequest
from lapse.metrics.snapshot import View
from lapse.policy import Keep, Pace
from lapse.providers.deadline import Deadline
from lapse.registry import model
from lapse.registry.model import Partition
from oracle.history import Resource
from support.world import World

BOTH = {"file": "delete", "vector_store": "delete"}
LONG_AGO = 1_600_000_000


class Family:
    """Threads under a cascade, with what their tool resources name."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.rule = replace(world.rule, cascade=BOTH, digest="digest00000c")

    def files(self, n: int = 1, *, ours: bool = True, **facts: Any) -> list[str]:
        ids = self.world.sandbox.seed("file", n)
        for id_ in ids if ours else []:
            self.world.registry.register("file", id_, "chat", **facts)
        return ids

    def store(self, *files: str, ours: bool = True, **body: Any) -> str:
        [id_] = self.world.sandbox.seed("vector_store", file_ids=list(files), **body)
        if ours:
            self.world.registry.register("vector_store", id_, "chat", uses=[("file", file) for file in files])
        return id_

    def parent(self, *, kind: str = "thread", files: tuple[str, ...] = (), stores: tuple[str, ...] = ()) -> str:
        resources: dict[str, Any] = {"code_interpreter": {"file_ids": list(files)}}
        resources |= {"file_search": {"vector_store_ids": list(stores)}}
        [id_] = self.world.sandbox.seed(kind, tool_resources=resources)
        uses = [("file", file) for file in files] + [("vector_store", store) for store in stores]
        self.world.registry.register(kind, id_, "chat", uses=uses, created_at=LONG_AGO, last_active_at=LONG_AGO)
        return id_

    def again(self, kind: str = "thread", most: int = 1000) -> None:
        """Let what was backed off be due, or so many of it."""
        for name in ("waiting", "suspects"):
            key = f"{self.world.slot(kind)}chat:{name}"
            for id_ in self.world.raw.zrange(key, 0, most - 1):
                self.world.raw.zadd(key, {id_: 1})
                record = self.world.raw.hget(f"{self.world.slot(kind)}aside", id_)
                moved = record.replace(record[record.index('"d":') :].split(",")[0].rstrip("}"), '"d":1')
                self.world.raw.hset(f"{self.world.slot(kind)}aside", id_, moved)

    def left(self, kind: str = "thread") -> dict[str, int]:
        counters = self.world.counters(kind)
        return {name.removeprefix("left||"): n for name, n in counters.items() if name.startswith("left|")}


@pytest.fixture
def family(world: World) -> Family:
    return Family(world)


async def test_a_thread_takes_its_files_and_vector_stores_with_it_children_first(family: Family) -> None:
    world = family.world
    (plain,), (inner,) = family.files(), family.files()
    store = family.store(inner)
    thread = family.parent(files=(plain,), stores=(store,))

    report = await world.sweep()

    assert {"deleted": 1} == dict(report.outcomes)
    assert [inner, inner, store, plain, thread] == world.deletes()
    paths = [one["path"] for one in world.sandbox.requests() if one["method"] == "DELETE"]
    assert [f"/v1/vector_stores/{store}/files/{inner}", f"/v1/files/{inner}"] == paths[:2]
    assert set() == world.sandbox.alive("file") | world.sandbox.alive("vector_store") | world.sandbox.alive("thread")
    assert 2 == world.counters("file")["deletions|chat|file"] == world.counters("file")["settled|chat|deleted"]
    assert 1 == world.counters("vector_store")["deletions|chat|vector_store"]
    assert ["intent", "settled"] == [one["event"] for one in world.audit("file") if one["id"] == inner]
    assert ["cascade"] == [one["by"] for one in world.audit("file") if one["id"] == inner and one["event"] == "intent"]


async def test_what_deletions_took_so_far_is_the_forecast_of_the_next(family: Family) -> None:
    world = family.world
    family.parent(files=tuple(family.files(3)))
    await world.sweep()
    for _ in range(2):
        family.parent(files=tuple(family.files(3)))

    seen = View(world.raw, "lapse").partitions([world.rule], {"openai": world.account})[0]

    assert (2, 5.0) == (seen.due, seen.extra)  # the thread's own look, its runs, and a DELETE of each file
    assert "about 12 requests, no rate limit" == effort(world.rule, world.account, seen)


async def test_without_a_word_about_them_children_stay(family: Family) -> None:
    world = family.world
    (file,) = family.files()
    thread = family.parent(files=(file,))

    await world.sweep(cascade={})

    assert [thread] == world.deletes()
    assert {file} == world.sandbox.alive("file")


async def test_what_is_not_ours_stays_and_is_counted_foreign(family: Family) -> None:
    world = family.world
    (ours,), (theirs,), (forgotten,) = family.files(), family.files(ours=False), family.files()
    world.registry.forget("file", forgotten)
    store = family.store(ours=False)
    thread = family.parent(files=(ours, theirs, forgotten), stores=(store,))

    await world.sweep()

    assert [ours, thread] == world.deletes()
    assert {"foreign": 3} == family.left()


async def test_a_stamped_vector_store_is_ours_without_a_registration(family: Family) -> None:
    world = family.world
    await world.context().control.epoch()
    ours = family.store(ours=False, metadata=world.registry.stamp("anything"))
    world.stamped.add(Resource("openai", "vector_store", ours))
    theirs = family.store(ours=False, metadata={"lapse": "other/e1/chat"})
    family.parent(stores=(ours, theirs))

    await world.sweep()

    assert {theirs} == world.sandbox.alive("vector_store")
    assert 1 == world.counters("vector_store")["deletions|anything|vector_store"]
    assert 2 == world.counters("vector_store")["requests||read|200"]


async def test_a_stamp_whose_policy_is_no_name_is_no_stamp(family: Family) -> None:
    """Metadata is written by whoever may: a text of theirs would stand in audit records and key names."""
    world = family.world
    epoch = await world.context().control.epoch()
    forged = family.store(ours=False, metadata={"lapse": f'lapse/{epoch}/x","outcome":"deleted'})
    thread = family.parent(stores=(forged,))

    await world.sweep()

    assert {forged} == world.sandbox.alive("vector_store")
    assert [thread] == world.deletes()
    assert {"foreign": 1} == family.left()


async def test_what_something_else_uses_stays(family: Family) -> None:
    world = family.world
    (shared,) = family.files()
    other = family.parent(files=(shared,))
    world.registry.hold("thread", other, reason="case 7")
    family.parent(files=(shared,))

    await world.sweep()
    assert {shared} == world.sandbox.alive("file")
    assert {"foreign": 1} == family.left()

    world.registry.unhold("thread", other)
    await world.sweep()
    assert set() == world.sandbox.alive("file")


async def test_two_parents_that_go_at_once_do_not_leave_a_child_to_each_other(family: Family) -> None:
    world = family.world
    world.seed(1, days=4000)  # the first answer is good: from then on several are claimed at once
    (shared,) = family.files()
    family.parent(files=(shared,)), family.parent(files=(shared,))
    world.sandbox.faults([{"method": "GET", "kind": "thread", "latency": "300ms"}])

    assert {"deleted": 1, "conflict": 2} == dict((await world.sweep()).outcomes)
    for _ in range(2):
        family.again(most=1)
        await world.sweep()

    assert set() == world.sandbox.alive("thread") | world.sandbox.alive("file")


@pytest.mark.parametrize("why", ["held", "quarantined", "observed", "kept"])
async def test_a_child_that_its_own_rules_protect_stays(family: Family, why: str) -> None:
    world = family.world
    [file] = world.sandbox.seed("file", name="prod.pdf")
    world.registry.register("file", file, "docs")
    keep = (Keep("prod*", {}),) if why == "kept" else ()
    partition = Partition("openai", "file", "docs")
    world.others = (replace(world.rule, partition=partition, keep=keep, enforce=why != "observed", digest="d2"),)
    if why == "held":
        world.registry.hold("file", file, reason="case 7")
    if why == "quarantined":
        world.sandbox.faults([{"method": "DELETE", "kind": "file", "effect": "error", "status": 400}])
    thread = family.parent(files=(file,))

    await world.sweep()
    if why == "quarantined":
        assert "conflict" in {one.get("outcome") for one in world.audit() if one["id"] == thread}
        family.again()
        await world.sweep()

    assert {file} == world.sandbox.alive("file")
    assert set() == world.sandbox.alive("thread")
    assert {why: 1} == family.left()
    assert world.registry.get("file", file) is not None


async def test_a_protected_child_keeps_its_parent(family: Family) -> None:
    world = family.world
    (file,) = family.files()
    family.parent(files=(file,))
    free = family.parent()

    report = await world.sweep(cascade={"file": "protect"})

    assert {"kept": 1, "deleted": 1} == dict(report.outcomes)
    assert [free] == world.deletes()


async def test_nothing_goes_before_it_is_known_that_nothing_protects_the_parent(family: Family) -> None:
    world = family.world
    store, (file,) = family.store(), family.files()
    family.parent(files=(file,), stores=(store,))

    assert {"kept": 1} == dict((await world.sweep(cascade={"file": "protect", "vector_store": "delete"})).outcomes)
    assert [] == world.deletes()


async def test_a_vector_store_takes_its_files_page_by_page_and_leaves_those_of_others(family: Family) -> None:
    world = family.world
    files = family.files(150)
    foreign = family.files(120, ours=False)
    mixed = [id_ for pair in zip(files, foreign, strict=False) for id_ in pair] + files[120:]
    [store] = world.sandbox.seed("vector_store", file_ids=mixed)
    uses = [("file", id_) for id_ in files]
    world.registry.register("vector_store", store, "chat", uses=uses, created_at=LONG_AGO, last_active_at=LONG_AGO)

    report = await world.sweep(partition=Partition("openai", "vector_store", "chat"))

    assert {"deleted": 1} == dict(report.outcomes)
    assert set(foreign) == world.sandbox.alive("file")
    assert {"foreign": 120} == family.left("vector_store")
    assert 150 == world.counters("file")["deletions|chat|file"]


async def test_an_assistant_takes_its_own(family: Family) -> None:
    world = family.world
    (file,) = family.files()
    store = family.store()
    assistant = family.parent(kind="assistant", files=(file,), stores=(store,))

    await world.sweep(partition=Partition("openai", "assistant", "chat"))

    assert [store, file, assistant] == world.deletes()


class TestConversation:
    """Responses that name it in ``uses`` go first, and then no longer protect it."""

    PARTITION = Partition("openai", "conversation", "chat")

    def seed(self, world: World) -> tuple[str, list[str]]:
        world.unpromised.add("referenced")  # by what goes along with it: that this is all is asserted below
        (conversation,) = world.seed(1, kind="conversation")
        responses = world.sandbox.seed("response", 2, conversation=conversation)
        for id_ in responses:
            world.registry.register("response", id_, "chat", uses=[("conversation", conversation)])
        return conversation, responses

    async def test_its_responses_go_with_it(self, family: Family) -> None:
        world = family.world
        conversation, responses = self.seed(world)
        assert {} == dict((await world.sweep(partition=self.PARTITION, cascade={}, digest="d1")).outcomes)
        assert "referenced" == world.state(conversation, "conversation")

        await world.sweep(cascade={"response": "delete"}, digest="d2")

        assert [*sorted(responses), conversation] == [*sorted(world.deletes()[:2]), *world.deletes()[2:]]
        assert {} == world.raw.hgetall(f"{world.slot('response')}released")

    async def test_a_held_response_keeps_it(self, family: Family) -> None:
        world = family.world
        conversation, responses = self.seed(world)
        world.registry.hold("response", responses[0], reason="case 7")

        report = await world.sweep(partition=self.PARTITION, cascade={"response": "delete"})

        assert {"kept": 1} == dict(report.outcomes)
        assert {conversation} == world.sandbox.alive("conversation")

    async def test_another_use_protects_it_all_the_same(self, family: Family) -> None:
        world = family.world
        conversation, _ = self.seed(world)
        (thread,) = world.seed(1, days=1)
        world.registry.register("thread", thread, "chat", uses=[("conversation", conversation)])

        await world.sweep(partition=self.PARTITION, cascade={"response": "delete"})

        assert "referenced" == world.state(conversation, "conversation")
        assert [] == world.deletes()


class TestTrouble:
    """A child that fails leaves its parent to be retried, and nothing is forgotten by half."""

    @pytest.mark.parametrize(("status", "outcome"), [(500, "error"), (409, "conflict"), (400, "conflict")])
    async def test_a_child_that_fails_keeps_its_parent(self, family: Family, status: int, outcome: str) -> None:
        world = family.world
        (file,) = family.files()
        thread = family.parent(files=(file,))
        world.sandbox.faults([{"method": "DELETE", "kind": "file", "effect": "error", "status": status}])

        report = await world.sweep()

        assert {outcome: 1} == dict(report.outcomes)
        assert ({thread}, {file}) == (world.sandbox.alive("thread"), world.sandbox.alive("file"))
        assert "waiting" == world.state(thread)
        assert world.registry.get("file", file) is not None
        detail = [one["detail"] for one in world.audit() if one["event"] == "retried"]
        assert detail[0].startswith(f"its file {file}: {status}")

    async def test_it_goes_on_where_it_stopped(self, family: Family) -> None:
        world = family.world
        first, second = family.files(2)
        thread = family.parent(files=(first, second))
        world.sandbox.faults([{"method": "DELETE", "ids": [second], "effect": "error", "status": 500, "first": 1}])

        await world.sweep()
        assert {second} == world.sandbox.alive("file")
        family.again()
        family.again("file")
        await world.sweep()

        assert [first, second, second, thread] == world.deletes()
        assert 2 == world.counters("file")["deletions|chat|file"]

    async def test_a_file_that_could_not_be_taken_out_of_its_store_is_not_deleted(self, family: Family) -> None:
        world = family.world
        (file,) = family.files()
        store = family.store(file)
        family.parent(stores=(store,))
        world.sandbox.faults([{"kind": "vector_store_file", "method": "DELETE", "effect": "error", "status": 500}])

        await world.sweep()

        assert ({file}, {store}) == (world.sandbox.alive("file"), world.sandbox.alive("vector_store"))
        assert (
            "waiting"
            == world.state(file, "file")
            == world.state(store, "vector_store")
            == world.state(next(iter(world.sandbox.alive("thread"))))
        )

    async def test_the_childs_own_pace_counts(self, family: Family) -> None:
        world = family.world
        files = family.files(3)
        partition = Partition("openai", "file", "chat")
        world.others = (replace(world.rule, partition=partition, max_deletions=Pace(2, 3600), digest="d2"),)
        family.parent(files=tuple(files))

        report = await world.sweep()

        assert {"conflict": 1} == dict(report.outcomes)
        assert {files[2]} == world.sandbox.alive("file")
        assert "limited" in next(one["detail"] for one in world.audit() if one["event"] == "retried")

    @pytest.mark.parametrize("scope", ["openai/file", "openai/file/chat"])
    async def test_a_pause_of_the_childs_policy_holds(self, family: Family, scope: str) -> None:
        world = family.world
        family.parent(files=tuple(family.files()))
        world.others = (replace(world.rule, partition=Partition("openai", "file", "chat"), digest="d2"),)
        await world.context().control.pause(scope, "maintenance")

        assert {"conflict": 1} == dict((await world.sweep()).outcomes)
        assert [] == world.deletes()

    async def test_a_file_that_others_deleted_needs_its_proof(self, family: Family) -> None:
        world = family.world
        world.unpromised.add("living")  # the answer is a fault's
        (gone,) = family.files()
        thread = family.parent(files=(gone,))
        world.sandbox.faults(
            [{"ids": [gone], "effect": "error", "status": 404, "message": f"No such File object: {gone}"}]
        )
        assert {"conflict": 1} == dict((await world.sweep()).outcomes)
        assert {thread} == world.sandbox.alive("thread")

        family.files()  # one that can be read: a witness
        family.again()
        family.again("file")
        await world.sweep()

        assert set() == world.sandbox.alive("thread")
        assert 1 == world.counters("file")["settled|chat|already_gone"]


async def test_a_lease_on_a_child_that_no_policy_sweeps_ends_in_housekeeping(family: Family) -> None:
    world = family.world
    (file,) = family.files()
    child = model.Resource("openai", "file", file)
    world.unpromised.add("unasked")  # the parent is claimed by nobody
    ledger, rules = world.context().ledger, {"policies": {}, "amount": -1, "window": 0, "paused": False}
    going = [model.Resource("openai", "thread", "thread_1")]
    status, _claim = await ledger.claim_child(ChildRequest(child, rules, going, 0.01, Deadline(0, 0), since=2**53))
    assert ("granted", "claimed") == (status, world.state(file, "file"))

    await world.until(lambda: _lapsed(world))
    await ledger.end_tombstones("openai", "file", 0)

    assert ("waiting", 1) == (world.state(file, "file"), world.record(file, "file").crashes)


def _lapsed(world: World) -> bool:
    ((_, until),) = world.raw.zrange(f"{world.slot('file')}chat:claims", 0, -1, withscores=True)
    seconds, micros = world.raw.time()
    return bool(seconds * 1000 + micros // 1000 > until)


# What the provider does with the last request before the end, and whether it carried it out.
STEPS = [("file", False), ("file", True), ("thread", False), ("thread", True)]


@pytest.mark.parametrize(("kind", "execute"), STEPS)
async def test_a_worker_killed_between_any_two_steps_loses_nothing(
    family: Family,
    kind: str,
    execute: bool,
) -> None:
    """Its leases run out; the next worker finds what is left, and counts each deletion once."""
    world = family.world
    world.unpromised |= {"count", "duplicate"}  # of requests: what was in flight is sent again
    (file,) = family.files()
    ids = {"thread": family.parent(files=(file,)), "file": file}
    world.sandbox.faults([{"method": "DELETE", "kind": kind, "effect": "hang", "execute": execute}])
    command = (sys.executable, "-m", "support.sweep_process", world.url, world.sandbox.url)
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[1])
    await world.until(lambda: _begun(world, kind, ids[kind], execute=execute))
    assert process.returncode is None
    process.kill()
    await process.wait()

    for name, id_ in ids.items():
        assert world.registry.get(name, id_) or id_ not in world.sandbox.alive(name), "it lives and nobody knows it"
    world.sandbox.faults([])
    # Witnesses for what was deleted, unseen by us.
    family.files()
    world.seed(1, days=1)
    await world.until(lambda: not _leased(world))
    for _ in range(3):
        family.again()
        family.again("file")
        await world.sweep()

    assert ids.keys() == {name for name, id_ in ids.items() if id_ not in world.sandbox.alive(name)}
    assert [None, None] == [world.registry.get(name, id_) for name, id_ in ids.items()]
    for name, id_ in ids.items():
        assert 1 == len([one for one in world.audit(name) if one["event"] == "settled" and one["id"] == id_])


def _begun(world: World, kind: str, id_: str, *, execute: bool) -> bool:
    """Return True once the provider has got the request that it hangs on."""
    if execute:
        return id_ not in world.sandbox.alive(kind)
    with urllib.request.urlopen(f"{world.sandbox.root}/sandbox/faults", timeout=10) as answer:
        return any(rule["hits"] for rule in json.load(answer)["rules"])


@pytest.mark.parametrize("said", ["hold", "touch", "use", "forget"])
async def test_what_is_said_of_a_child_before_its_claim_wins(family: Family, said: str) -> None:
    world, registry = family.world, family.world.registry
    (file,) = family.files()
    thread = family.parent(files=(file,))
    world.sandbox.faults([{"method": "GET", "kind": "thread", "latency": "500ms"}])
    sweeping = asyncio.create_task(world.sweep())
    await world.until(lambda: "claimed" == world.state(thread))
    if said == "hold":
        registry.hold("file", file, reason="case 7")
    elif said == "touch":
        assert registry.touch("file", file)
    elif said == "use":
        registry.register("thread", "thread_new", "chat", uses=[("file", file)])
    else:
        registry.forget("file", file)
    await sweeping

    assert [thread] == world.deletes()
    assert {file} == world.sandbox.alive("file")
    assert {{"hold": "held", "touch": "active"}.get(said, "foreign"): 1} == family.left()


def _leased(world: World) -> bool:
    now = int(world.raw.time()[0]) * 1000
    claims = [f"{world.slot(kind)}chat:claims" for kind in ("thread", "file")]
    return any(score > now for key in claims for _id, score in world.raw.zrange(key, 0, -1, withscores=True))
