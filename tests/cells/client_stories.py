"""One story for each script that an application's client calls."""

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from cells.erasure_stories import S
from cells.reached import Reached
from cells.stories import STORIES
from cells.told import LONG_AGO, Story, Told
from lapse.errors import RegistryRefused, TooManyUses
from lapse.ledger.erasure.request import ErasureRequest
from lapse.registry import keys
from lapse.registry.commands import Commands
from lapse.registry.model import Partition
from support.erasing import Erasing
from support.world import DAY


def saying(say: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
    """Return an act: one call of the client."""

    async def act() -> None:
        say()

    return act


def then_swept(world: Reached, **rule: Any) -> Callable[[], Awaitable[object]]:
    """Return an end: two sweeps, after which what has to be gone is gone."""

    async def then() -> None:
        await world.sweep(**rule)
        await world.sweep()

    return then


async def told_as(world: Reached, told: Mapping[str, str]) -> Callable[[], Awaitable[None]]:
    """Prepare: a request to erase a subject; return an end: what became of each id for it."""
    erasing = Erasing(world)
    request = await erasing.ask(S)

    async def then() -> None:
        assert told == await erasing.fates(request)

    return then


async def registers(world: Reached) -> Told:
    """Prepare: an id that uses a file is registered and due at once, late: its subject is erased, and was all gone."""
    (thread,), (file,) = world.sandbox.seed("thread", 1), world.seed(1, kind="file")
    said = {"uses": [("file", file)], "created_at": LONG_AGO, "subject": S}
    world.seed(1, days=1)
    told, swept = await told_as(world, {thread: "erased"}), then_swept(world)
    world.raw.delete(f"{world.slot()}joined")

    async def then() -> None:
        assert {S} == world.raw.smembers(f"{world.slot()}joined")
        await swept()
        await told()

    say = saying(lambda: world.registry.register("thread", thread, "chat", **said))
    return Told(say, {"thread": [thread]}, {}, then)


async def refers(world: Reached) -> Told:
    """Prepare: a file is used from now on."""
    (file,) = world.seed(1, kind="file")
    (thread,) = world.seed(1, days=1)
    rule = {"partition": Partition("openai", "file", "chat"), "digest": "digest00000f"}
    return Told(
        saying(lambda: world.registry.register("thread", thread, "chat", uses=[("file", file)])),
        {},
        {"file": [file], "thread": [thread]},
        then_swept(world, **rule),
    )


async def counts(world: Reached) -> Told:
    """So many uses that they are counted before they are said."""
    (file,) = world.seed(1, kind="file")
    (thread,) = world.seed(1, days=1)
    uses = [("file", file), *(("file", f"file-{number}") for number in range(150))]
    rule = {"partition": Partition("openai", "file", "chat"), "digest": "digest00000f"}
    say = saying(lambda: world.registry.register("thread", thread, "chat", uses=uses))
    return Told(say, {}, {"file": [file], "thread": [thread]}, then_swept(world, **rule))


async def uses_many(world: Reached) -> Told:
    """More uses than one call may name are refused, and the orphan rules they concern halt."""
    (file,) = world.seed(1, kind="file", policy="idle")
    uses = [("file", f"file-{number}") for number in range(1001)]

    def say() -> None:
        with pytest.raises(TooManyUses):
            world.registry.register("thread", "thread_with_many", "chat", uses=uses)

    async def told() -> None:
        assert world.raw.exists(f"{world.slot('file')}unsaid") or world.raw.hexists(
            f"{world.slot('file')}said", "unsaid"
        )

    return Told(saying(say), {}, {"file": [file]}, told)


async def touches(world: Reached) -> Told:
    """Prepare: a thread is used."""
    ids = world.seed(1, days=30)
    rule = {"anchor": "last_active_at", "touches_stated": True, "digest": "digest00000t"}
    return Told(saying(lambda: world.registry.touch("thread", ids[0])), {}, {"thread": ids}, then_swept(world, **rule))


async def holds(world: Reached) -> Told:
    """Prepare: a due thread is held."""
    ids = world.seed(1)
    say = saying(lambda: world.registry.hold("thread", ids[0], reason="case 7"))
    return Told(say, {}, {"thread": ids}, then_swept(world))


async def unholds(world: Reached) -> Told:
    """Prepare: a held thread is held no more."""
    ids = world.seed(1)
    world.registry.hold("thread", ids[0], reason="case 7")
    return Told(saying(lambda: world.registry.unhold("thread", ids[0])), {"thread": ids}, {}, then_swept(world))


async def forgets(world: Reached) -> Told:
    """Prepare: a due thread is none of lapse's any more, and its subject is erased."""
    ids = world.seed(1, subject=S)
    told, swept = await told_as(world, {ids[0]: "unprovable"}), then_swept(world)

    async def then() -> None:
        await swept()
        await told()

    return Told(saying(lambda: world.registry.forget("thread", ids[0])), {}, {"thread": ids}, then)


async def expires(world: Reached) -> Told:
    """Prepare: a young thread is to go at once."""
    ids = world.seed(1, days=1)
    return Told(saying(lambda: world.registry.expire("thread", ids[0])), {"thread": ids}, {}, then_swept(world))


async def deletes(world: Reached) -> Told:
    """Prepare: the application says that it deleted a thread itself; nobody asks the provider for it any more."""
    (file,) = world.seed(1, kind="file")
    (thread,) = world.seed(1, uses=[("file", file)], subject=S)
    told, swept = await told_as(world, {thread: "already_gone"}), then_swept(world)

    async def then() -> None:
        await swept()
        await told()

    return Told(saying(lambda: world.registry.deleted("thread", thread)), {}, {"thread": [thread]}, then)


async def uses_more(world: Reached) -> Told:
    """Prepare: a thread that is tracked uses a file from now on."""
    (file,), (thread,) = world.seed(1, kind="file"), world.seed(1, days=1)
    rule = {"partition": Partition("openai", "file", "chat"), "digest": "digest00000f"}
    say = saying(
        lambda: world.registry.say(
            world.registry.protocol.answer(Commands.use, "thread", thread, "openai", uses=[("file", file)])
        )
    )
    return Told(say, {}, {"file": [file], "thread": [thread]}, then_swept(world, **rule))


async def unexpires(world: Reached) -> Told:
    """Prepare: a thread that was to go at once lives by its policy again."""
    ids = world.seed(1, days=1)
    world.registry.expire("thread", ids[0])
    say = saying(
        lambda: world.registry.say(world.registry.protocol.answer(Commands.unexpire, "thread", ids[0], "openai"))
    )
    return Told(say, {}, {"thread": ids}, then_swept(world))


async def asks_whether_it_is_new(world: Reached) -> Told:
    """Somebody asks whether an id was ever known."""
    ids = world.seed(1, days=1)

    def say() -> None:
        assert not world.registry.say(world.registry.protocol.never_knew("thread", ids[0], "openai"))

    return Told(saying(say), {}, {"thread": ids})


async def asks_how_often_to_touch(world: Reached) -> Told:
    """Somebody asks for the shortest time to live of a kind."""
    ids = world.seed(1, days=1)

    def say() -> None:
        assert (
            world.registry.say(world.registry.protocol.shortest_ttl("thread", "openai")) is None
        )  # nothing was swept yet

    return Told(saying(say), {}, {"thread": ids})


async def reads(world: Reached) -> Told:
    """Somebody looks at an id."""
    ids = world.seed(1, days=1)
    at = world.began

    def say() -> None:
        record = world.registry.get("thread", ids[0])
        assert record
        assert record.created_at
        assert abs(record.created_at.timestamp() - at + DAY) < 60

    return Told(saying(say), {}, {"thread": ids})


async def holds_a_subject(world: Reached) -> Told:
    """Prepare: all of somebody's ids are held; what is somebody else's goes."""
    mine, others = world.seed(1, subject="user:42"), world.seed(1, subject="user:7")
    assert world.registry.hold_subject("user:1", reason="the kinds know of one hold")

    def say() -> None:
        answer = world.registry.hold_subject("user:42", reason="case 7")
        if not answer:
            raise RegistryRefused(answer.failed[0])

    return Told(saying(say), {"thread": others}, {"thread": mine}, then_swept(world))


async def finds_by_subject(world: Reached) -> Told:
    """Somebody asks what there is of somebody."""
    ids = world.seed(1, days=1, subject="user:42")

    def say() -> None:
        assert ids == [one.resource.id for one in world.registry.resources(subject="user:42").records]

    return Told(saying(say), {}, {"thread": ids})


async def asks_for_an_erasure(world: Reached) -> Told:
    """Prepare: an application asks that somebody be erased, where it may."""
    mine, others = world.seed(1, subject=S, days=1), world.seed(1, subject="user:7", days=1)
    world.raw.hset(keys.published("lapse"), "erasure", "by_application")
    id_ = str(uuid.uuid4())
    erasing = Erasing(world, by_application=True)

    async def then() -> None:
        (asked,) = world.raw.hgetall(keys.asked_erasures("lapse")).values()
        world.registry.erased(S, json.loads(asked)["at"] / 1000 + DAY)
        await erasing.work()
        assert dict.fromkeys(mine, "erased") == await erasing.fates(ErasureRequest(id_, S, 0, 0, 0, 0))

    say = saying(lambda: world.registry.erase(S, id_, reason="a letter"))
    return Told(say, {"thread": mine}, {"thread": others}, then)


ALL: dict[str, Story] = STORIES | {
    "register": registers,
    "refer": refers,
    "count_uses": counts,
    "unsaid": uses_many,
    "touch": touches,
    "hold": holds,
    "unhold": unholds,
    "forget": forgets,
    "expire": expires,
    "get": reads,
    "deleted": deletes,
    "use": uses_more,
    "unexpire": unexpires,
    "never_knew": asks_whether_it_is_new,
    "shortest_ttl": asks_how_often_to_touch,
    **dict.fromkeys(("say_subject", "copy_subjects", "apply_subject"), holds_a_subject),
    "ids_of_subject": finds_by_subject,
    "ask_erasure": asks_for_an_erasure,
}
"""Script -> the story that calls it."""
