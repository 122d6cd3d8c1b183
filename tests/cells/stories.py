"""One story for each script that a worker or an operator calls: what is there, what calls it, and how it ends."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cells.erasure_stories import ERASED
from cells.reached import Reached
from cells.told import LONG_AGO, Story, Told
from lapse.audit.shipper import FileSink, Mover
from lapse.cli.transfer.backfill import Backfilled, backfill
from lapse.guards.edits.adoption import retire
from lapse.guards.operator_proof import believe
from lapse.ledger.halts import Halts
from lapse.ledger.housekeeping import creations, subjects
from lapse.ledger.housekeeping.misnamed import Misnamed
from lapse.ledger.records import due_pages
from lapse.policy import Keep, Orphan, Share
from lapse.registry.commands import Commands, Operation
from lapse.registry.facts import Registration
from lapse.registry.model import Partition, Resource
from lapse.runtime.host import Host
from lapse.runtime.jobs import Work
from lapse.sweep.apply import apply
from lapse.sweep.plan import Doomed
from lapse.sweep.purge import inventory, purge, rule_of
from support.world import DAY, KEY

IDLE = Partition("openai", "assistant", "idle")


def result(world: Reached, **rule: Any) -> Callable[[], Awaitable[str]]:
    """Return an act: one sweep, under a rule with these changes."""

    async def act() -> str:
        return (await world.sweep(**rule)).result

    return act


async def swept(world: Reached) -> Told:
    """Three due threads that use a file, and one that is not due."""
    (file,) = world.seed(1, kind="file", policy="files", days=1)
    due = world.seed(3, uses=[("file", file)])
    young = world.seed(1, days=1)

    async def free() -> None:
        await world.context().ledger.release_edges("openai", "thread")
        record = world.record(file, "file")
        assert record.used_by == ()

    return Told(result(world), {"thread": due}, {"thread": young, "file": [file]}, free)


async def failing(world: Reached) -> Told:
    """Prepare: the provider fails once."""
    told = await swept(world)
    world.sandbox.faults([{"method": "DELETE", "first": 1, "effect": "error", "status": 500}])
    return told


async def emptied(world: Reached) -> Told:
    """Two conversations, of more items than are counted at a time."""
    ids = world.sandbox.seed("conversation", 2, items=12)
    for id_ in ids:
        world.registry.register("conversation", id_, "chat", created_at=LONG_AGO, last_active_at=LONG_AGO)

    async def counted() -> None:
        assert 24 == world.counters("conversation")["deletions|chat|conversation_item"]

    partition = Partition("openai", "conversation", "chat")
    return Told(result(world, partition=partition), {"conversation": ids}, {}, counted)


async def collected(world: Reached) -> Told:
    """Three assistants that nothing uses, one that is used, and one that was forgotten and is not listed any more."""
    world.long_ago()
    orphans = world.seed(3, kind="assistant", policy="idle")
    (used,) = world.seed(1, kind="assistant", policy="idle")
    world.registry.register("thread", "thread_that_uses", "chat", uses=[("assistant", used)])
    world.registry.register("assistant", "asst_forgotten", "idle")
    world.registry.forget("assistant", "asst_forgotten")
    orphan = Orphan(min_age=0.001, seen=1, max_share=None, uses_stated=False)

    async def act() -> str:
        rule = {"partition": IDLE, "ttl": None, "anchor": None, "orphan": orphan, "digest": "digest00000a"}
        done = [(await world.orphans(**rule)).result for _ in range(3)]
        return next((one for one in done if one != "completed"), "completed")

    async def ended() -> None:
        await act()
        assert "asst_forgotten" not in world.raw.zrange(f"{world.slot('assistant')}forgotten", 0, -1)

    return Told(act, {"assistant": orphans}, {"assistant": [used]}, ended)


async def used_again(world: Reached) -> Told:
    """Prepare: an assistant that one listing found unused, and that is used since."""
    world.long_ago()
    (orphan,) = world.seed(1, kind="assistant", policy="idle")
    rule = {
        "partition": IDLE,
        "ttl": None,
        "anchor": None,
        "digest": "digest00000a",
        "orphan": Orphan(min_age=0.001, seen=2, max_share=None, uses_stated=True),
    }
    await world.orphans(**rule)
    world.registry.register("thread", "thread_that_uses", "chat", uses=[("assistant", orphan)])

    async def act() -> str:
        return (await world.orphans(**rule)).result

    async def unseen() -> None:
        assert {} == world.raw.hgetall(f"{world.slot('assistant')}idle:sightings")

    return Told(act, {}, {"assistant": [orphan]}, unseen)


async def with_children(world: Reached) -> Told:
    """Prepare: a thread whose file and store go with it, and a file of its store."""
    (inner,), (file,) = world.sandbox.seed("file", 1), world.sandbox.seed("file", 1)
    (store,) = world.sandbox.seed("vector_store", 1, file_ids=[inner])
    resources = {"code_interpreter": {"file_ids": [file]}, "file_search": {"vector_store_ids": [store]}}
    (thread,) = world.sandbox.seed("thread", 1, tool_resources=resources)
    for id_ in (inner, file):
        world.registry.register("file", id_, "chat")
    world.registry.register("vector_store", store, "chat", uses=[("file", inner)])
    uses = [("file", file), ("vector_store", store)]
    world.registry.register("thread", thread, "chat", uses=uses, created_at=LONG_AGO, last_active_at=LONG_AGO)
    cascade = {"file": "delete", "vector_store": "delete"}
    gone = {"thread": [thread], "file": [inner, file], "vector_store": [store]}
    return Told(result(world, cascade=cascade, digest="digest00000c"), gone)


async def with_users(world: Reached) -> Told:
    """Prepare: a conversation whose response goes with it unless it is to be kept, so that it is read before."""
    (conversation,), (response,) = world.sandbox.seed("conversation", 1, items=1), world.sandbox.seed("response", 1)
    chat = Partition("openai", "conversation", "chat")
    user = Partition("openai", "response", "chat")
    world.others = (replace(world.rule, partition=user, keep=(Keep(None, {"pin": "true"}),), digest="digest00000k"),)
    await world.context().ledger.adopt(world.others[0])
    ago = {"created_at": LONG_AGO, "last_active_at": LONG_AGO}
    world.registry.register("conversation", conversation, "chat", **ago)
    world.registry.register("response", response, "chat", uses=[("conversation", conversation)], **ago)
    world.unpromised = {"referenced"}  # by what goes along with it
    act = result(world, partition=chat, cascade={"response": "delete"}, digest="digest00000c")
    return Told(act, {"conversation": [conversation], "response": [response]})


async def in_the_way(world: Reached) -> Told:
    """Prepare: a thread whose file stood under a halt, so that it waits, and does no more."""
    (file,) = world.sandbox.seed("file", 1)
    (thread,) = world.sandbox.seed("thread", 1, tool_resources={"code_interpreter": {"file_ids": [file]}})
    world.registry.register("file", file, "chat")
    world.registry.register(
        "thread", thread, "chat", uses=[("file", file)], created_at=LONG_AGO, last_active_at=LONG_AGO
    )
    rule: dict[str, Any] = {"cascade": {"file": "delete"}, "digest": "digest00000c"}
    await Halts(world.carrier, "lapse").halt(Partition("openai", "file", "chat"), "listing_shrunk", "a test")
    await world.sweep(**rule)
    world.raw.delete(f"{world.slot('file')}halts")
    return Told(result(world, **rule), {"thread": [thread], "file": [file]})


async def circled(world: Reached) -> Told:
    """Prepare: a store and a file that use each other, both due."""
    stores = replace(
        world.rule, partition=Partition("openai", "vector_store", "stores"), digest="digest00000s", touches_stated=True
    )
    files = replace(
        world.rule, partition=Partition("openai", "file", "files"), digest="digest00000f", touches_stated=True
    )
    rules = (stores, files)

    async def act() -> str:
        done = []
        for rule, other in (rules, rules[::-1]):
            world.rule, world.others = rule, (other,)
            done.append((await world.sweep()).result)
        return next((one for one in done if one != "completed"), "completed")

    await act()  # both have a baseline
    (store,), (file,) = world.sandbox.seed("vector_store"), world.sandbox.seed("file")
    for kind, id_, other in (("vector_store", store, ("file", file)), ("file", file, ("vector_store", store))):
        policy = "files" if kind == "file" else "stores"
        world.registry.register(kind, id_, policy, uses=[other], created_at=LONG_AGO, last_active_at=LONG_AGO)
    return Told(act, {"vector_store": [store], "file": [file]})


async def applied(world: Reached) -> Told:
    """Prepare: three ids that a plan names."""
    ids = world.seed(3)
    await world.context().ledger.adopt(world.rule)

    async def act() -> str:
        context = world.context()
        found = sorted([one async for page in due_pages(context.ledger, world.rule) for one in page])
        doomed = [Doomed(one.id, one.due, one.by, one.alone) for one in found]
        report = await apply(context, world.rule, doomed, "plan", dict)
        return report.result

    return Told(act, {"thread": ids})


async def purged(world: Reached) -> Told:
    """Prepare: a purge of all threads, one of them held."""
    ids = world.seed(3)
    (held,) = world.seed(1)
    world.registry.hold("thread", held, reason="case 7")

    async def act() -> str:
        context = world.context()
        await context.control.epoch()
        await context.watch.look()
        rule = rule_of(world.rule.partition, (), (world.rule,))
        # The held one last: a call that claims nothing has no second write to end at.
        things = sorted((thing.id for thing in await inventory(context, rule)), key=lambda id_: id_ == held)
        report, _gone, _left = await purge(context, rule, things, "ann", lambda _gone: None)
        return report.result

    return Told(act, {"thread": ids}, {"thread": [held]})


async def adopted(world: Reached) -> Told:
    """Ids of an old name, under a policy that says that it was called so."""
    ids = world.seed(3, policy="old")
    return Told(result(world, formerly=("old",), digest="digest00000r"), {"thread": ids})


async def edited(world: Reached) -> Told:
    """Prepare: a ttl that an edit made shorter, by activity and age together."""
    rule: dict[str, Any] = {
        "anchor": "last_active_at",
        "max_age": 90 * DAY,
        "touches_stated": True,
        "max_newly_due": Share(100, 100),
    }
    await world.sweep(**rule, digest="digest00000m")
    ids = world.seed(3, days=4)
    world.unpromised = {"jump"}  # registered as older than the edit
    return Told(result(world, **rule | {"ttl": 2 * DAY, "max_age": 3 * DAY, "digest": "digest00000n"}), {"thread": ids})


async def counted(world: Reached) -> Told:
    """Prepare: an edit that two indexes decide: what is idle by the new ttl is due by its age already, or not."""
    rule: dict[str, Any] = {
        "anchor": "last_active_at",
        "max_age": 60 * DAY,
        "touches_stated": True,
        "max_newly_due": Share(60, 1),
    }
    now = time.time()
    old, idle, busy = ([f"thread_{name}{n}" for n in range(2)] for name in ("old", "idle", "busy"))
    world.sandbox.seed("thread", ids=[*old, *idle, *busy])
    await world.sweep(**rule, ttl=30 * DAY, digest="digest00000m")
    for ids, created, active in ((old, 100, 20), (idle, 50, 20), (busy, 10, 1)):
        for id_ in ids:
            world.registry.register(
                "thread", id_, "chat", created_at=now - created * DAY, last_active_at=now - active * DAY
            )
    world.unpromised = {"jump"}  # registered as older than the edit
    act = result(world, **rule, ttl=10 * DAY, digest="digest00000n")
    return Told(act, {"thread": [*old, *idle]}, {"thread": busy})


async def retired(world: Reached) -> Told:
    """Prepare: a policy that the file no longer has."""
    ids = world.seed(3, days=1)
    await world.sweep()
    ledger = world.context().ledger

    async def act() -> None:
        await retire(ledger, (), [("openai", "thread")])

    async def over() -> None:
        assert "superseded" == (await ledger.claim(world.rule, world.settings, 10)).status

    return Told(act, {}, {"thread": ids}, over)


async def believed(world: Reached) -> Told:
    """Prepare: an id that is not there, and that an operator says is gone."""
    world.registry.register("thread", "thread_gone", "chat", created_at=LONG_AGO)
    await world.sweep()
    (identity,) = world.known("thread_gone")["v"]
    world.unpromised = {"unproven"}  # an operator said so

    async def act() -> str:
        await believe(world.context().ledger, world.rule.partition, identity)
        world.raw.delete(f"{world.slot()}halts")
        world.ripen()
        return (await world.sweep()).result

    async def settled() -> None:
        assert 1 == world.counters()["settled|chat|already_gone"]

    return Told(act, {"thread": ["thread_gone"]}, {}, settled)


async def misnamed(world: Reached) -> Told:
    """Prepare: an older client's hold, id and use, all under the plural of the kind."""
    commands = Commands("lapse", "openai")
    held, used = world.sandbox.seed("conversation", 2)
    wrong = Resource("openai", "conversations", held)
    facts = {"created": LONG_AGO * 1000}
    uses = {"uses": [f"openai|conversations|{used}"]}
    said: list[Operation[Any]] = [
        commands.hold(wrong, "case 7", None, None),
        commands.register(Registration(wrong, "chat", facts, ())),
        commands.register(
            Registration(
                Resource("openai", "thread", "thread_t"), "chat", uses, (Resource("openai", "conversations", used),)
            )
        ),
    ]
    for one in said:
        await world.carrier.carry(one.calls)
    world.registry.register("conversation", used, "chat", created_at=LONG_AGO)

    async def act() -> None:
        await Misnamed(world.carrier, "lapse").run({"openai"}, time.monotonic() + 5)

    async def protects() -> None:
        world.unpromised |= {"lost", "unasked"}  # the older client's calls are not in the log
        await world.sweep(partition=Partition("openai", "conversation", "chat"), digest="digest00000v")

    return Told(act, {}, {"conversation": [held, used]}, protects)


async def moved(world: Reached) -> Told:
    """Prepare: records of an audit on their way to a file."""
    ids = world.seed(3)
    await world.sweep()
    lines = world.raw.xlen(f"{world.slot()}audit")
    world.moved = file = Path(world.directory / "audit.jsonl")

    async def act() -> None:
        await Mover(world.carrier, "lapse", FileSink(file)).move("openai", "thread", at_most=1000)

    async def there() -> None:
        assert 0 == world.raw.xlen(f"{world.slot()}audit")
        assert lines == len({json.loads(line)["seq"] for line in _lines(file)})

    return Told(act, {"thread": ids}, {}, there)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


async def kept_house(world: Reached) -> Told:
    """Tombstones that are old enough to end."""
    world.registry.register("thread", "thread_gone", "chat", created_at=LONG_AGO)
    living = world.seed(1, days=1)
    await world.sweep()
    assert 1 == world.raw.zcard(f"{world.slot()}tombstones")

    async def act() -> None:
        await world.context().ledger.end_tombstones("openai", "thread", int(time.time() * 1000) + 60_000)

    async def ended() -> None:
        assert 0 == world.raw.zcard(f"{world.slot()}tombstones")
        assert {} == world.raw.hgetall(f"{world.slot()}graves")

    return Told(act, {}, {"thread": living}, ended)


async def indexed(world: Reached) -> Told:
    """Prepare: what an older client registered is to be found by its subject."""
    living = world.seed(1, days=1, subject="user:42")
    world.raw.delete(f"{world.slot()}subjects")

    async def act() -> None:
        await subjects.keep(world.context().ledger, [("openai", "thread")], time.monotonic() + 20)

    async def ended() -> None:
        assert living == [one.resource.id for one in world.registry.resources(subject="user:42").records]

    return Told(act, {}, {"thread": living}, ended)


async def packed(world: Reached) -> Told:
    """Prepare: ids that were touched, under rules that count nothing from their creation."""
    at = time.time()
    living = world.sandbox.seed("thread", 3)
    for id_ in living:
        world.registry.register("thread", id_, "chat", created_at=at - 100 * DAY, last_active_at=at)
    await world.sweep(anchor="last_active_at", touches_stated=True)

    async def act() -> None:
        await creations.keep(world.context().ledger, [("openai", "thread")], time.monotonic() + 20)

    async def ended() -> None:
        assert not world.raw.exists(f"{world.slot()}chat:created")
        for id_ in living:
            created = world.record(id_).created_at
            assert created is not None
            assert 0 <= created.timestamp() - (at - 100 * DAY) + 0.001 < 600

    return Told(act, {}, {"thread": living}, ended)


async def woken(world: Reached) -> Told:
    """Prepare: a tick's message reaches a worker."""
    ids = world.seed(3)
    config = world.directory / "retention.toml"
    world.moved = world.directory / "audit.jsonl"
    config.write_text(
        f'[registry]\nallow_volatile = true\n[sweep]\nramp = "off"\n[audit]\nsink = "file:{world.moved}"\n'
        f'[providers.openai]\ntype = "openai"\nbase_url = "{world.sandbox.url}"\napi_key_env = "KEY"\n'
        'rate = "unlimited"\n'
        '[policies.chat]\nkind = "thread"\nttl = "7d"\nanchor = "created_at"\nmode = "enforce"\n'
        'max_newly_due = "unlimited"\n'
    )

    async def act() -> str:
        at = {"REDIS_URL": world.line, "CELERY_BROKER_URL": world.url}
        host = Host({"KEY": KEY, "LAPSE_CONFIG": str(config), **at}, world.directory)
        work = Work(host)
        try:
            await work.sweep(world.rule.partition, int(time.time() * 1000))
        finally:
            await work.aclose()
        return "completed"

    return Told(act, {"thread": ids})


async def halted(world: Reached) -> Told:
    """Prepare: a guard trips."""
    due = world.seed(2)
    at, halts = world.rule.partition, world.context().control

    async def act() -> None:
        await halts.halt(at, "no_witness", "nothing can be read")

    async def once() -> None:
        assert ["no_witness"] == [one.reason for one in await halts.halts([("openai", "thread")])]
        assert ("halted", "no_witness") == await halts.stopped(at)
        assert "1" == world.raw.hget(f"{world.slot()}counters", "guard_trips|chat|no_witness")
        assert ["halted"] == [one["event"] for one in world.audit() if one["event"] == "halted"]

    return Told(act, {}, {"thread": due}, once)


async def lifted(world: Reached) -> Told:
    """Prepare: an operator answers a halt."""
    due = world.seed(2)
    halts = world.context().control
    await halts.halt(world.rule.partition, "no_witness", "nothing can be read")
    (halt,) = await halts.halts([("openai", "thread")])

    async def act() -> None:
        await halts.lift(halt, "mended", "ann")

    async def over() -> None:
        assert [] == await halts.halts([("openai", "thread")])

    return Told(act, {}, {"thread": due}, over)


async def filled(world: Reached) -> Told:
    """Prepare: threads that existed before the registry knew them come in: a due one, a young one, a held one."""
    due, young, held = world.sandbox.seed("thread", 3)
    world.registry.hold("thread", held, reason="case 7")
    now, old = int(time.time() * 1000), LONG_AGO * 1000
    chosen = [
        Backfilled(due, old, old + 1, '{"subject":"user:42"}'),
        Backfilled(young, now, now),
        Backfilled(held, old, old),
    ]
    said = [
        {"kind": "thread", "id": one.id, "policy": "chat", "created_at": one.created / 1000,
         "last_active_at": one.active / 1000}
        for one in chosen
    ]  # fmt: skip

    async def act() -> None:
        with world.registry.recorded(said):
            await backfill(world.context().ledger, {world.rule.partition: chosen})

    async def then() -> None:
        await world.sweep()
        await world.sweep()

    return Told(act, {"thread": [due]}, {"thread": [young, held]}, then)


STORIES: dict[str, Story] = {
    "backfill": filled,
    "halt": halted,
    "lift": lifted,
    **dict.fromkeys(
        (
            "adopt",
            "survey",
            "claim",
            "take",
            "look",
            "inspect",
            "write",
            "principal",
            "leave",
            "unrefer",
            "let_go",
        ),
        swept,
    ),
    "block": failing,
    "progress": emptied,
    **dict.fromkeys(("claim_orphans", "vet", "sight", "listed", "unlisted"), collected),
    "unsight": used_again,
    **dict.fromkeys(("check_children", "claim_child"), with_children),
    "remember": with_users,
    "unblock": in_the_way,
    **dict.fromkeys(("look_circle", "claim_circle"), circled),
    **dict.fromkeys(("claimable", "claim_planned"), applied),
    **dict.fromkeys(("describe", "claim_purged"), purged),
    "rename": adopted,
    "count_ranges": edited,
    "count_page": counted,
    "retire": retired,
    "believe": believed,
    **dict.fromkeys(("misnamed", "resay"), misnamed),
    **dict.fromkeys(("audit_read", "audit_trim"), moved),
    "housekeep": kept_house,
    "index_subjects": indexed,
    "creations": packed,
    "wake": woken,
    **ERASED,
}
"""Script -> the story that calls it."""
