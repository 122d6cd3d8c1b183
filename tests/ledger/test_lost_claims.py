"""A claim whose reply is lost on the way: whoever sends it again gets what it leased, and nothing on top."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from faults.proxy import Proxy
from lapse.policy import Orphan
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.sandbox import Sandbox
from lapse.sweep.apply import apply
from lapse.sweep.plan import Doomed
from lapse.sweep.purge import inventory, purge, rule_of
from support.erasing import Erasing
from support.lua import SCRIPTS, named, source
from support.world import World

IDS = 3


class Loss:
    """Ends the connection that the next replies of one script come over, before they are passed on."""

    def __init__(self) -> None:
        self.sha = b""
        self.left = 0
        self.lost = 0

    def watcher(self) -> "Watching":
        return Watching(self)


class Watching:
    """One connection."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._asked = False

    def sent(self, data: bytes) -> None:
        self._asked = bool(self._loss.sha) and self._loss.sha in data

    def answered(self, data: bytes) -> None:
        if self._asked and self._loss.left and not data.startswith(b"-NOSCRIPT"):
            self._loss.left -= 1
            self._loss.lost += 1
            raise ConnectionResetError

    def ended(self) -> None:
        pass


@pytest.fixture
async def lossy(redis_url: str, sandbox: Sandbox) -> AsyncIterator[tuple[World, Loss]]:
    """Return a world whose worker talks to Redis over a line that can lose replies."""
    loss = Loss()
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(urlsplit(redis_url).port or 0, watch=loss.watcher))
        port = str(urlsplit(redis_url).port)
        carrier = Carrier(redis_url.replace(f":{port}", f":{proxy.port}"), 5)
        world = World(redis_url, sandbox, carrier)
        yield world, loss
        for provider in world.open:
            await provider.aclose()
        world.registry.close()
        world.raw.close()
        await carrier.aclose()


async def swept(world: World) -> None:
    world.seed(IDS)
    await world.sweep()


async def collected(world: World) -> None:
    world.long_ago()
    world.seed(IDS, kind="assistant", policy="idle")
    partition = Partition("openai", "assistant", "idle")
    orphan = Orphan(min_age=0.001, seen=1, max_share=None, uses_stated=True)
    await world.orphans(partition=partition, ttl=None, anchor=None, orphan=orphan, digest="digest00000a")


async def with_a_child(world: World) -> None:
    (file,) = world.sandbox.seed("file", 1)
    world.registry.register("file", file, "chat")
    (thread,) = world.sandbox.seed("thread", 1, tool_resources={"code_interpreter": {"file_ids": [file]}})
    ago = 1_600_000_000
    world.registry.register("thread", thread, "chat", uses=[("file", file)], created_at=ago, last_active_at=ago)
    await world.sweep(cascade={"file": "delete"}, digest="digest00000c")


async def circled(world: World) -> None:
    """Two stores that use each other, and nothing else does."""
    world.rule = replace(world.rule, partition=Partition("openai", "vector_store", "stores"), digest="digest00000s")
    await world.sweep()  # its rules have acted once
    one, other = world.sandbox.seed("vector_store", 2)
    for id_, used in ((one, other), (other, one)):
        uses, ago = [("vector_store", used)], 1_600_000_000
        world.registry.register("vector_store", id_, "stores", uses=uses, created_at=ago, last_active_at=ago)
    await world.sweep()


async def applied(world: World) -> None:
    context = world.context()
    await context.ledger.adopt(world.rule)
    doomed = [Doomed(id_, _due(world, id_), "ttl") for id_ in world.seed(IDS)]
    await apply(context, world.rule, doomed, "plan", dict)


def _due(world: World, id_: str) -> int:
    due = world.record(id_).due
    assert due
    return round(due.timestamp() * 1000)


async def purged(world: World) -> None:
    world.seed(IDS)
    context = world.context()
    await context.control.epoch()
    await context.watch.look()
    rule = rule_of(world.rule.partition, (), (world.rule,))
    things = await inventory(context, rule)
    await purge(context, rule, [thing.id for thing in things], "ann", lambda _gone: None)


async def erased(world: World) -> None:
    world.seed(IDS, subject="user:42", days=1)
    erasing = Erasing(world)
    await erasing.ask("user:42")
    await erasing.run()


Story = Callable[[World], Awaitable[None]]
STORIES: dict[str, tuple[Story, str]] = {
    "claim": (swept, "thread"),
    "claim_orphans": (collected, "assistant"),
    "claim_child": (with_a_child, "file"),
    "claim_circle": (circled, "vector_store"),
    "claim_planned": (applied, "thread"),
    "claim_purged": (purged, "thread"),
    "claim_erased": (erased, "thread"),
}


@pytest.mark.parametrize("times", [1, 2, 4], ids=["once", "twice", "four-times"])
@pytest.mark.parametrize("name", STORIES)
async def test_what_a_claim_leased_is_worked_on_though_its_reply_was_lost(
    name: str, times: int, lossy: tuple[World, Loss]
) -> None:
    world, loss = lossy
    story, kind = STORIES[name]
    loss.sha, loss.left = named(name).sha.encode(), times

    await story(world)

    assert times == loss.lost
    intents = [record["id"] for record in world.audit(kind) if record["event"] == "intent"]
    assert len(intents) == len(set(intents))
    assert set() == world.sandbox.alive(kind)
    assert not [name for name in world.counters(kind) if name.startswith("crashes|")]
    assert not [id_ for id_ in intents if world.registry.get(kind, id_)]


async def test_every_script_that_leases_is_among_them() -> None:
    assert STORIES.keys() == {name for name in SCRIPTS if re.search(r"\b(grant|lease)\(", source(name))}


async def test_another_question_gets_another_answer(lossy: tuple[World, Loss]) -> None:
    world, _loss = lossy
    world.seed(4)
    context = world.context()
    await world.context().ledger.adopt(world.rule)

    first = await context.ledger.claim(world.rule, world.settings, 2)
    second = await context.ledger.claim(world.rule, world.settings, 2)

    ids = [claim.resource.id for claim in (*first.claims, *second.claims)]
    assert 4 == len(set(ids))
