"""One id of a subject in every place where a request to erase it may find one, and how what is in the way ends."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cells.line import broken
from lapse.errors import RegistryRefused
from lapse.guards.context import SweepContext
from lapse.ledger.housekeeping.misnamed import Misnamed
from lapse.ledger.partition import Ledger
from lapse.policy import Keep, Orphan, Pace
from lapse.registry.aio import Carrier
from lapse.registry.facts import Registration
from lapse.registry.model import Partition, Resource
from lapse.registry.scripts import packed
from lapse.sweep.orphans import collect_orphans
from lapse.sweep.purge import inventory, purge, rule_of
from lapse.sweep.sweep import sweep
from support.lua import SCRIPTS, named
from support.world import DAY, World

MINE, OTHER, WITNESS = "user:42", "user:7", "user:9"
YOUNG, DUE = 3.0, 30.0
"""Days: before the request, and not due by the policy; and due by it."""
RESET = [{"method": "DELETE", "effect": "reset"}]
STRANGE = {"method": "DELETE", "effect": "error", "status": 404, "message": "unknown to this server"}


BY_SHA = {named(name).sha.encode(): name for name in SCRIPTS}


class KilledError(asyncio.CancelledError):
    """The process is no more; nothing that it does about errors is done any more."""


class Fate:
    """When a process dies: at its n-th exchange with Redis (``lost``: before the answer), or as it tells an outcome."""

    def __init__(self, pools: Any, left: float, *, lost: bool) -> None:
        self._pools = pools
        self._lost = lost
        self.left = left
        self.settles = True
        self.cut = 0
        """At which write the scripts of the last exchange end; the process then goes on: Redis ends none with it."""
        self.meanwhile: tuple[bytes, Callable[[], Awaitable[None]]] | None = None
        """What is done before the first command with these bytes is sent."""

    async def exchange(self, commands: list[bytes]) -> Any:
        """Pass on what a living process says."""
        if self.meanwhile and any(self.meanwhile[0] in one for one in commands):
            act, self.meanwhile = self.meanwhile[1], None
            await act()
        self.left -= 1
        if self.left < 0 or not (self.settles or all(named("settle").sha.encode() not in one for one in commands)):
            self.left = 0
            raise KilledError
        if self.cut and self.left < 1:
            commands, self.cut, self.left = [middle(one, self.cut) for one in commands], 0, float("inf")
        heard = await self._pools.exchange(commands)
        if self._lost and self.left < 1:
            raise KilledError
        return heard

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pools.aclose()


def middle(command: bytes, writes: int) -> bytes:
    """Return a call of a script as one that ends at the write after so many; another command as it is."""
    parts = command.split(b"\r\n", 5)
    name = BY_SHA.get(parts[4]) if parts[2] == b"EVALSHA" else None
    if name is None:
        return command
    called = packed("EVAL", broken(named(name).text, writes))
    return parts[0] + b"\r\n" + called.partition(b"\r\n")[2] + parts[5]


class Mortal(Carrier):
    """A worker's connections to Redis until it dies."""

    def __init__(self, url: str, left: float = float("inf"), *, lost: bool = False) -> None:
        super().__init__(url, 5)
        self.fate = Fate(self._pools, left, lost=lost)
        self._pools = self.fate  # type: ignore[assignment]

    async def dies(self, world: World, story: Coroutine[Any, Any, Any]) -> None:
        """Run a story that ends with the process."""
        try:
            with suppress(asyncio.CancelledError, RegistryRefused):
                await story
        finally:
            world.deaths.append(time.time())
            await self.aclose()


class Places:
    """The ids, by the name of their place."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.context = world.context()
        self.ids: dict[str, Resource] = {}
        self.witnesses: set[str] = set()
        """Somebody else's ids, of every kind: they live."""

    def put(self, place: str, *, kind: str = "thread", policy: str = "chat", days: float = YOUNG, **facts: Any) -> str:
        """Create an object that many days ago, of ``MINE`` if nothing else is said, and register it."""
        id_, said = self.made(kind, facts), {"subject": MINE, **facts}
        at = time.time() - days * DAY
        self.world.registry.register(kind, id_, policy, created_at=at, last_active_at=at, **said)
        if MINE in said["subject"]:
            self.ids[place] = Resource("openai", kind, id_)
        elif WITNESS in said["subject"]:
            self.witnesses.add(id_)
        return id_

    def made(self, kind: str, facts: dict[str, Any]) -> str:
        """Return an object of the provider's; with ``there=False`` one that it does not have any more."""
        if not facts.pop("there", True):
            return f"{kind}_gone{len(self.ids)}"
        (id_,) = self.world.sandbox.seed(kind, 1, metadata=facts.pop("metadata", {}))
        return str(id_)

    async def build(self) -> "Places":
        """Put one id into each place, by what leads there."""
        for kind in ("thread", "conversation", "file", "assistant", "vector_store"):
            self.put(f"witness {kind}", kind=kind, subject=WITNESS)
        await self._swept()
        await self._died()
        self._plain()
        await self._observed()
        return self

    async def _swept(self) -> None:
        world = self.world
        for place in ("waiting", "quarantined", "tombstone", "forgotten"):
            self.put(place, days=DUE)
        self.put("kept", days=DUE, metadata={"keep": "yes"})
        self.put("grave", days=DUE, there=False)
        world.registry.forget("thread", self.ids["forgotten"].id)
        fails = {"method": "DELETE", "effect": "error", "status": 500, "ids": [self.ids["waiting"].id]}
        world.sandbox.faults([fails, {**STRANGE, "ids": [self.ids["quarantined"].id]}])
        await world.sweep(keep=(Keep(metadata={"keep": "*"}),), digest="digest00000k")
        world.sandbox.faults()
        states = {place: world.state(one.id) for place, one in self.ids.items()}
        assert {"waiting": "waiting", "quarantined": "quarantined", "kept": "kept"}.items() <= states.items(), states
        assert [None] * 3 == [states[place] for place in ("grave", "tombstone", "forgotten")], states

    async def _died(self) -> None:
        """Let workers die while they have one id each in hand: its DELETE is sent, and never answered."""
        world, chat = self.world, self.world.rule
        self.put("suspect", days=DUE)
        await self.dies("suspect")
        lapse_leases(world)
        await self.context.ledger.claim(chat, world.settings, 10)
        for place in ("claimed", "lapsed"):
            self.put(place, days=DUE)
            await self.dies(place)
        world.raw.zadd(f"{world.slot()}chat:claims", {self.ids["lapsed"].id: 0})
        orphan = Orphan(min_age=0.001, seen=1, max_share=None, uses_stated=True)
        at = Partition("openai", "assistant", "idle")
        idle = replace(chat, partition=at, ttl=None, anchor=None, orphan=orphan, keep=(), digest="digest00000a")
        stores = replace(chat, partition=Partition("openai", "vector_store", "stores"), keep=(), digest="digest00000s")
        files = replace(chat, partition=Partition("openai", "file", "files"), keep=(), digest="digest00000f")
        world.others = (idle, stores, files)
        world.long_ago()
        for rule in world.others:
            world.decides(rule)
            await self.context.ledger.adopt(rule)
        self.put("orphan", kind="assistant", policy="idle")
        await self.dies("orphan", idle)
        self.put("purged", kind="vector_store", policy="stores", days=DUE)
        await self.dies("purged", rule_of(stores.partition, (), (stores,)))

    async def dies(self, place: str, rule: Any = None) -> None:
        """Let a worker die that has an id in hand: no answer came to its DELETE, and nothing was written of it."""
        world, doomed, mine, mortal = self.world, self.ids[place], self.world.carrier, Mortal(self.world.url)
        mortal.fate.settles = False
        world.carrier = mortal
        context = world.context(watch=type(world.watch)(mortal, "lapse"))
        world.carrier = mine
        world.sandbox.faults(RESET)
        if place == "orphan":
            await mortal.dies(world, collect_orphans(context, rule))
        elif place == "purged":
            await context.control.epoch()
            await context.watch.look()
            await inventory(context, rule)
            await mortal.dies(world, purge(context, rule, [doomed.id], "ann", lambda _gone: None))
        else:
            await mortal.dies(world, sweep(context, world.rule))
        world.sandbox.faults()
        assert "claimed" == world.state(doomed.id, doomed.kind)

    def _plain(self) -> None:
        said = self.world.registry
        self.put("fresh")
        said.touch("thread", self.put("touched"))
        self.put("expiry", expires_in="30d")
        said.hold("thread", self.put("held"), reason="case 7")
        self.put("shared", subject=[MINE, OTHER])
        self.put("user", subject=OTHER, uses=[("file", self.put("used", kind="file", policy="files"))])
        self.put("formerly", policy="old")
        self.put("nobodys", policy="nobodys")

    async def _observed(self) -> None:
        """Let the policy observe, and be slow; what is due from then on stays."""
        world = self.world
        slow = replace(world.rule, max_deletions=Pace(1, DAY), formerly=("old",), digest="digest00000o")
        world.rule = replace(slow, enforce=False)
        world.decides(world.rule)
        await self.context.ledger.adopt(world.rule)
        self.put("due", days=DUE)
        await self._misnamed()

    async def _misnamed(self) -> None:
        """Register an id as a client did that took any name for a kind."""
        world, commands = self.world, self.context.ledger.commands
        (id_,) = world.sandbox.seed("thread", 1)
        at = time.time() - YOUNG * DAY
        checked = commands.registration("thread", id_, "chat", provider="openai", subject=MINE, created_at=at)
        said = replace(checked, resource=Resource("openai", "threads", id_))
        assert isinstance(said, Registration)
        with world.registry.recorded(
            [{"kind": "thread", "id": id_, "policy": "chat", "created_at": at, "subject": MINE}]
        ):
            await world.carrier.carry(commands.register(said).calls)
        self.ids["misnamed"] = Resource("openai", "thread", id_)

    async def moved(self) -> None:
        """Let housekeeping move what stands under a wrong kind."""
        await Misnamed(self.world.carrier, "lapse").run(["openai"], time.monotonic() + 20)

    def later(self) -> None:
        """Register what was created before the request and comes after it, in a slot that did not exist."""
        self.put("later", kind="conversation", policy="chat")


def lapse_leases(world: World) -> None:
    """Let the time of every lease be over."""
    for key in world.raw.scan_iter("lapse:*:claims"):
        for id_ in world.raw.zrange(key, 0, -1):
            world.raw.zadd(key, {id_: 0})


def wait_out(world: World) -> None:
    """Let the time of every back-off, Retry-After and breaker be over."""
    for name in ("waiting", "suspects", "tried"):
        for key in world.raw.scan_iter(f"lapse:*:{name}"):
            slot = key.rpartition("}:")[0] + "}:"
            for id_ in world.raw.zrange(key, 0, -1):
                record = json.loads(world.raw.hget(f"{slot}aside", id_))
                world.raw.hset(f"{slot}aside", id_, json.dumps(record | {"d": 1}))
                world.raw.zadd(key, {id_: 1})
    for key in world.raw.scan_iter("lapse:*:marks"):
        if world.raw.hexists(key, "shut_until"):
            world.raw.hset(key, "shut_until", 1)
    world.raw.delete("lapse:{openai}:flow")


async def answered(world: World, context: SweepContext) -> None:
    """Let an operator lift every halt and try again what is quarantined."""
    control, ledger = context.control, context.ledger
    slots = [tuple(one.split("/", 1)) for one in sorted(world.raw.smembers("lapse:slots"))]
    for halt in await control.halts(slots):
        await control.lift(halt, "mended")
    for key in list(world.raw.scan_iter("lapse:*:quarantine")):
        await retried(ledger, key, world.raw.zrange(key, 0, -1))


async def retried(ledger: Ledger, key: str, ids: list[str]) -> None:
    """Answer ``lapse quarantine retry``."""
    slot = key[key.index("{") + 1 : key.index("}")].split(":")
    call = ledger.on_slot("ledger/lua/quarantine", *slot, "retry", '"ann"', '"mended"', *ids, parse=list)
    await ledger.carrier.carry([call])
