"""Stories of subjects that are erased: what workers and operators say of that, and what else has to count for it."""

import uuid

from cells.reached import Reached
from cells.told import LONG_AGO, Story, Told
from lapse.registry.codec import dump
from lapse.runtime.erasures import lease
from support.erasing import Erasing

S = "user:42"


async def erased(world: Reached) -> Told:
    """Prepare: a request to erase a subject, of whose threads one is held; what is somebody else's lives."""
    mine, others = world.seed(3, subject=S, days=1), world.seed(1, subject="user:7", days=1)
    (held,) = world.seed(1, subject=S, days=1)
    world.registry.hold("thread", held, reason="case 7")
    erasing = Erasing(world)
    request = await erasing.ask(S)

    async def all_told() -> None:
        assert {**dict.fromkeys(mine, "erased"), held: "held"} == await erasing.fates(request)

    return Told(erasing.run, {"thread": mine}, {"thread": [held, *others]}, all_told)


async def in_turn(world: Reached) -> Told:
    """Prepare: the same, by a worker that lets others erase before and after it."""
    told, ledger = await erased(world), world.context().ledger

    async def act() -> str:
        if not await lease(ledger, 30):
            return "not in turn"
        await told.act()
        await lease(ledger, 0)
        return "completed"

    return Told(act, told.gone, told.kept, told.then)


async def said(world: Reached) -> Told:
    """Prepare: a second request, while one is open; both have to have all of it."""
    mine = world.seed(2, subject=S, days=1)
    erasing = Erasing(world)
    first, id_ = await erasing.ask(S), str(uuid.uuid4())

    async def act() -> None:
        await erasing.ask(S, id_=id_)
        await erasing.run()

    async def both() -> None:
        second = await erasing.ask(S, id_=id_)
        assert dict.fromkeys(mine, "erased") == await erasing.fates(first) == await erasing.fates(second)

    return Told(act, {"thread": mine}, {}, both)


async def due_anyway(world: Reached) -> Told:
    """Prepare: what is due goes by its policy while its subject is erased: that has it told all the same."""
    (file,) = world.seed(1, kind="file", policy="files", days=1)
    due, young = world.seed(3, uses=[("file", file)], subject=S), world.seed(1, days=1)
    world.registry.register("thread", "thread_gone", "chat", created_at=LONG_AGO, subject=S)
    erasing = Erasing(world)
    request = await erasing.ask(S)

    async def act() -> str:
        return (await world.sweep()).result

    async def all_told() -> None:
        await world.context().ledger.release_edges("openai", "thread")
        assert world.record(file, "file").used_by == ()
        assert {**dict.fromkeys(due, "erased"), "thread_gone": "already_gone"} == await erasing.fates(request)
        assert world.raw.zcard(f"{world.slot()}subjects") == 0
        assert "thread_gone" not in world.raw.hkeys(f"{world.slot()}facts")

    return Told(act, {"thread": due}, {"thread": young, "file": [file]}, all_told)


async def undone(world: Reached) -> Told:
    """Prepare: what was settled as gone, as its subject is erased, and an operator takes it back."""
    world.registry.register("thread", "thread_gone", "chat", created_at=LONG_AGO, subject=S)
    living = world.seed(1, days=1)
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await world.sweep()
    assert {"thread_gone": "already_gone"} == await erasing.fates(request)
    context = world.context()

    async def act() -> None:
        call = context.ledger.commands.on_slot(
            "ledger/lua/quarantine", "openai", "thread", "undo", dump("ann"), dump("why"), "thread_gone", parse=list
        )
        await world.carrier.carry([call])

    async def back() -> None:
        await erasing.housekeep()
        assert "tracked" == world.state("thread_gone")
        assert S == world.record("thread_gone").subject
        assert {"thread_gone": "pending"} == await erasing.fates(request)

    return Told(act, {}, {"thread": living}, back)


async def moved(world: Reached) -> Told:
    """Prepare: a due thread is said to be somebody else's, who is held; nothing but its subject's hold keeps it."""
    (mine,), due = world.seed(1, subject="user:7"), world.seed(1, subject="user:7")
    assert world.registry.hold_subject(S, reason="case 7")
    ledger = world.context().ledger

    async def act() -> None:
        said = (mine, dump(S), dump("ann"), dump("a mistake"))
        await world.carrier.carry([ledger.on_slot("ledger/lua/erasure/move_subject", "openai", "thread", *said)])

    async def held() -> None:
        assert "held" == world.state(mine)
        assert [mine] == [one.resource.id for one in world.registry.resources(subject=S).records]
        await world.sweep()
        assert set(due).isdisjoint(world.sandbox.alive("thread"))

    world.unpromised = {"lost"}  # of whom it is now, the log of calls does not say
    return Told(act, {}, {"thread": [mine]}, held)


ERASED: dict[str, Story] = {
    **dict.fromkeys(("claim_erased", "members"), erased),
    "erasing": in_turn,
    "say_erasure": said,
    "move_subject": moved,
    "settle": due_anyway,
    "quarantine": undone,
}
"""Script -> the story that calls it."""
