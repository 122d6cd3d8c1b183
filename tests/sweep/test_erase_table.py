"""A request to erase a subject, wherever its ids stand, whatever the provider says, and whatever comes between.

Always: an id of the request has one fate; it is erased if and only if the provider confirmed that, already_gone only
with its proof; nobody else's is deleted; and when what stood in the way is over, the request is complete.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest

from lapse.errors import ConfigError, LapseError
from lapse.guards.context import SweepContext
from lapse.ledger.erasure.request import ErasureAccount, ErasureRequest
from lapse.registry.model import Partition, Record, Resource
from lapse.runtime.erasures import EraseRun
from support import evidence
from support.erased_places import MINE, OTHER, STRANGE, WITNESS, Mortal, Places, answered, lapse_leases, wait_out
from support.erasing import Erasing
from support.world import DAY, KEY, World

ERASED = "fresh touched expiry due kept waiting quarantined suspect lapsed formerly nobodys later"
AT_ONCE = (
    dict.fromkeys(ERASED.split(), "erased")
    | dict.fromkeys(("claimed", "orphan", "purged"), "pending")
    | dict.fromkeys(("used", "shared"), "in_use")
    | dict.fromkeys(("grave", "forgotten", "tombstone"), "- already_gone")
    | {"held": "held", "misnamed": "erased"}
)
"""What becomes of an id in a minute of one worker, if the provider does what it is told; ``-``: not of the request."""

ROUNDS = 12
"""In how many tries an obstacle that is over is also forgotten: a breaker lets one through at a time."""
LIVING = {place for place, fates in AT_ONCE.items() if fates != "- already_gone"}


class Table:
    """A world with an id in every place, and a request about them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.erasing = Erasing(world)
        self.places = Places(world)
        self.requests: list[ErasureRequest] = []
        self.details: dict[str, object] = {}
        self.by_app: set[str] = set()
        """What the application deleted itself."""

    async def ask(self) -> ErasureRequest:
        """Say the request, as of two days ago: what was created before belongs to it, and ``late`` has passed."""
        request = await self.erasing.ask(MINE, ago=2 * DAY, late=DAY)
        self.requests.append(request)
        self.places.later()
        return request

    async def seen(self, request: ErasureRequest) -> dict[str, str]:
        """Return the fate of each place; what has to be true at any time is."""
        account = await self.erasing.account(request)
        self.holds(account)
        self.details = {one.resource.id: (one.detail, one.status) for one in account.ids}
        fates = {(one.resource.kind.removesuffix("s"), one.resource.id): str(one.fate) for one in account.ids}
        return {place: fates.get((one.kind, one.id), "-") for place, one in self.places.ids.items()}

    def holds(self, account: ErasureAccount) -> None:
        """Assert what is true at any time."""
        ids = [one.resource for one in account.ids]
        assert sorted(set(ids)) == sorted(ids), "an id has one fate"
        requests = evidence.traffic(self.world.sandbox.requests(), "openai")
        confirmed = {one.path.rsplit("/", 1)[1] for one in requests if one.confirmed} - self.by_app
        counted = sum(
            int(n)
            for key in self.world.raw.scan_iter("lapse:*:counters")
            for name, n in self.world.raw.hgetall(key).items()
            if name.startswith("deletions|")
        )
        assert len(confirmed) == counted, "what is counted was confirmed"
        alive = self.alive()
        assert self.places.witnesses <= alive, "nobody asked for these to go"
        for one in account.ids:
            if one.fate == "erased":
                assert one.resource.id in confirmed, one
                assert one.status in {200, 204}, one
            elif one.fate == "already_gone":
                assert one.detail, one
                assert one.resource.id not in alive, one
            else:
                assert one.resource.id not in confirmed, one
                assert one.detail, one
        for record in self.tracked():
            made = record.created_at.timestamp() * 1000 if record.created_at else 0
            assert made >= account.request.until or record.resource in ids, "all of it is in it"

    def tracked(self) -> Sequence[Record]:
        """Return what is registered as the subject's."""
        return self.world.registry.resources(subject=MINE, limit=1000).records

    def alive(self) -> set[str]:
        """Return the ids that the provider has."""
        kinds = ("thread", "file", "assistant", "vector_store", "conversation")
        return set().union(*(self.world.sandbox.alive(kind) for kind in kinds))

    async def work(self) -> None:
        """Do what a worker does in a minute."""
        await self.places.moved()
        rules = (self.world.rule, *self.world.others)
        await self.erasing.work(replace(self.places.context, rules=rules))

    async def over(self) -> None:
        """Let all that stood in the way be over, and a worker have its time."""
        self.world.sandbox.faults()
        lapse_leases(self.world)
        self.world.registry.unhold("thread", self.places.ids["held"].id)
        for resource in self.places.ids.values():
            self.world.registry.unhold(resource.kind, resource.id)
        self.world.registry.unhold_subject(MINE)
        await self.erasing.ask(OTHER, ago=2 * DAY, late=DAY)
        for _ in range(ROUNDS):
            await answered(self.world, self.places.context)
            wait_out(self.world)
            await self.work()
            if not self.tracked():
                return

    async def completes(
        self, request: ErasureRequest, *, gone: str = "erased", to_the_end: bool = True, **differs: str
    ) -> None:
        """Assert that the request is complete once nothing stands in its way; ``differs``: places with other fates."""
        await self.over()
        fates = await self.seen(request)
        bad = wrong(fates, dict.fromkeys(LIVING, gone) | {"misnamed": gone} | differs)
        assert not bad, {p: (*b, self.details.get(self.places.ids[p].id)) for p, b in bad.items()}
        for one in self.requests:
            assert fates == await self.seen(one)
            assert ("complete" if to_the_end else "open") == await self.erasing.state(one)


def wrong(fates: dict[str, str], expected: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return where a fate is none of those that it may be."""
    return {
        place: (fate, expected[place])
        for place, fate in fates.items()
        if place in expected and fate not in expected[place].split()
    }


@pytest.fixture
async def table(world: World) -> Table:
    """Return a world with an id in every place."""
    made = Table(world)
    await made.places.build()
    return made


async def test_every_place(table: Table) -> None:
    request = await table.ask()
    await table.work()
    fates = await table.seen(request)
    assert not wrong(fates, AT_ONCE)
    assert "open" == await table.erasing.state(request)
    await table.completes(request)


def error(status: int, **more: Any) -> dict[str, Any]:
    return {"method": "DELETE", "effect": "error", "status": status, **more}


def effect(name: str, **more: Any) -> dict[str, Any]:
    return {"method": "DELETE", "effect": name, **more}


ANSWERS: dict[str, dict[str, Any]] = {
    "401": error(401),
    "404 in words that nobody knows": STRANGE,
    "404, as everything is in this project": {"effect": "wrong_project"},
    "429": error(429, headers={"Retry-After": "60"}),
    "500": error(500),
    "page": effect("html"),
    "reset": effect("reset"),
    "another id": effect("other_id"),
}
"""What a provider may say that confirms nothing."""


@pytest.mark.parametrize("said", ANSWERS)
async def test_an_answer_that_confirms_nothing(table: Table, said: str) -> None:
    request = await table.ask()
    table.world.sandbox.faults([ANSWERS[said]])
    await table.work()
    fates = await table.seen(request)
    waits = "pending unprovable" if said.endswith("project") else "pending"
    assert not wrong(fates, AT_ONCE | dict.fromkeys(ERASED.split(), waits) | {"misnamed": waits})
    await table.completes(request)


@pytest.mark.parametrize("said", ["cut", "html"])
async def test_a_deletion_that_was_carried_out_and_not_confirmed(table: Table, said: str) -> None:
    request = await table.ask()
    table.world.sandbox.faults([effect(said, **({} if said == "cut" else {"execute": True}))])
    await table.work()
    fates = await table.seen(request)
    assert not wrong(fates, AT_ONCE | dict.fromkeys(ERASED.split(), "pending") | {"misnamed": "pending"})
    await table.completes(request, gone="erased already_gone")


# --- what happens meanwhile: to every id, after the request and before the worker

UNTRACKED = ("grave", "forgotten", "tombstone")
GONE = "- already_gone"


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody does, the fates that it makes, then and when all is over, and how it is undone (``back``)."""

    act: Callable[[Table], Any]
    at_once: Mapping[str, str] = field(default_factory=dict)
    at_last: Mapping[str, str] = field(default_factory=dict)
    back: Callable[[Table], Any] = lambda _table: None
    completes: bool = True


def each(table: Table, *chosen: str) -> Iterator[Resource]:
    """Return the ids of these places, of all but the one under a wrong kind if none is said."""
    for place, one in table.places.ids.items():
        if place in chosen or (not chosen and place != "misnamed"):
            yield one


def say(verb: str, *chosen: str, **said: Any) -> Callable[[Table], None]:
    """Return what says something of every id."""

    def act(table: Table) -> None:
        for one in each(table, *chosen):
            getattr(table.world.registry, verb)(one.kind, one.id, **said)

    return act


def again(subject: str, **facts: Any) -> Callable[[Table], None]:
    """Return what registers every id again, as made now."""

    def act(table: Table) -> None:
        for one in each(table):
            table.world.registry.register(one.kind, one.id, "chat", subject=subject, **facts)

    return act


def pause(table: Table) -> Any:
    return table.erasing.control.pause("*", "looking into it")


def resume(table: Table) -> Any:
    return table.erasing.control.unpause("*")


async def halt(table: Table) -> None:
    for kind in ("thread", "conversation"):
        await table.erasing.control.halt(Partition("openai", kind, "chat"), "listing_shrank", "fewer", whole_kind=True)


async def undo(table: Table) -> None:
    (one,) = each(table, "grave")
    table.world.sandbox.seed("thread", 1, ids=[one.id])  # whoever said that it was gone was wrong
    said = ("undo", '"ann"', '"it is there"', one.id)
    call = table.erasing.ledger.on_slot("ledger/lua/quarantine", "openai", "thread", *said, parse=list)
    await table.erasing.ledger.carrier.carry([call])


async def second(table: Table) -> None:
    """Ask for the same subject under another id; both requests have to come to their end."""
    table.requests.append(await table.erasing.ask(MINE, ago=2 * DAY, late=DAY))


async def same_id_other_subject(table: Table) -> None:
    with pytest.raises(LapseError):
        await table.erasing.ask(WITNESS, ago=2 * DAY, late=DAY, id_=table.requests[0].id)


def deleted_by_app(table: Table) -> None:
    """Delete every object as an application does, and say so."""
    world = table.world
    world.unpromised |= {"record", "uncounted", "early"}  # whose DELETE it was is not in the provider's log
    world.unpromised |= {"lost"}  # what was claimed is given up by the next sweep, and there is none
    with httpx2.Client(headers={"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"}) as client:
        for one in each(table):
            if client.delete(f"{world.sandbox.url}/{one.kind}s/{one.id}").status_code == 200:
                table.by_app.add(one.id)
                world.registry.deleted(one.kind, one.id)


def hold_mine(table: Table) -> None:
    table.world.registry.hold_subject(MINE, reason="case 7")


WAITING = {
    **dict.fromkeys((*ERASED.split(), "misnamed"), "pending"),
    "used": "pending in_use",
    "shared": "pending in_use",
}
HELD = {
    **dict.fromkeys((*ERASED.split(), "misnamed"), "held"),
    **dict.fromkeys(("used", "shared"), "held in_use"),
}
FORGOTTEN = dict.fromkeys(LIVING - {"misnamed"}, "unprovable")
DELETED = dict.fromkeys(LIVING - {"misnamed"}, "unprovable already_gone")
CLAIMED = ("claimed", "orphan", "purged", "lapsed")
EVENTS = {
    "touch": Event(say("touch"), {"grave": "- already_gone erased"}),
    "hold": Event(say("hold", reason="case 7"), HELD | {"misnamed": "erased"} | dict.fromkeys(CLAIMED, "pending held")),
    "hold of the subject": Event(hold_mine, HELD | dict.fromkeys(CLAIMED, "pending held")),
    "pause": Event(pause, WAITING, back=resume),
    "halt": Event(halt, WAITING),
    "own again": Event(again(MINE)),
    "another's": Event(again(OTHER)),
    "forget": Event(say("forget"), FORGOTTEN | dict.fromkeys(CLAIMED, "pending erased unprovable"),
                    FORGOTTEN | dict.fromkeys(CLAIMED, "erased unprovable"), completes=False),
    "deleted": Event(deleted_by_app, DELETED | dict.fromkeys(CLAIMED, "pending erased unprovable already_gone"),
                     DELETED | dict.fromkeys(CLAIMED, "erased unprovable already_gone")),
    "undo": Event(undo, {"grave": "erased"}),
    "second request": Event(second),
    "the id for another subject": Event(same_id_other_subject),
}  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
async def test_what_happens_meanwhile(table: Table, name: str) -> None:
    event, request = EVENTS[name], await table.ask()
    await done(event.act(table))
    await table.work()
    fates = await table.seen(request)
    bad = wrong(fates, {**AT_ONCE, **event.at_once})
    assert not bad, {p: (*b, table.details.get(table.places.ids[p].id)) for p, b in bad.items()}
    await done(event.back(table))
    await table.completes(request, to_the_end=event.completes, **event.at_last)


async def done(action: Any) -> None:
    if action is not None:
        await action


# --- whoever's claim it was, and who comes late


@pytest.mark.parametrize(
    ("said", "fate"), [(None, "erased"), (error(500), "pending"), (STRANGE, "pending"), (effect("cut"), "pending")]
)
async def test_what_a_sweep_has_in_hand_is_credited(world: World, said: dict[str, Any] | None, fate: str) -> None:
    erasing, (mine,) = Erasing(world), world.seed(1, subject=MINE)
    world.seed(1, days=1)
    slow = {"method": "DELETE", "latency": "200ms"}
    world.sandbox.faults([slow, said] if said else [slow])
    sweeping = asyncio.create_task(world.sweep())
    await world.until(lambda: world.state(mine) == "claimed")
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY)
    await erasing.housekeep()
    assert {mine: "pending"} == await erasing.fates(request)
    await sweeping
    assert {mine: fate} == await erasing.fates(request)
    world.sandbox.faults()
    await answered(world, world.context())
    wait_out(world)
    await erasing.work()
    assert {mine: "already_gone" if said == effect("cut") else "erased"} == await erasing.fates(request)
    assert "complete" == await erasing.state(request)


async def test_what_comes_late_belongs_to_it_by_its_own_time(world: World) -> None:
    """Also into a request that was complete: a spool of three days; what was made after it is the person's own.

    A second request, which waits for what is held, keeps the first one from nothing.
    """
    erasing, (held,) = Erasing(world), world.seed(1, days=0.5, subject=MINE)
    world.registry.hold("thread", held, reason="case 7")
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY)
    await erasing.ask(MINE, ago=DAY, late=0.9 * DAY)
    await erasing.work()
    assert ({}, "complete") == (await erasing.fates(request), await erasing.state(request))
    (late,), (later,) = world.seed(1, days=3, subject=MINE), world.seed(1, days=0, subject=MINE)
    (file,) = world.seed(1, kind="file", days=3, subject=MINE)
    assert {late: "pending", file: "pending"} == await erasing.fates(request)
    await erasing.housekeep()
    assert "open" == await erasing.state(request)
    await erasing.work()
    assert ({late: "erased", file: "erased"}, "complete") == (
        await erasing.fates(request),
        await erasing.state(request),
    )
    assert {held, later} == world.sandbox.alive("thread")


async def test_what_came_late_and_was_taken_back_before_anybody_looked_is_not_gone(world: World) -> None:
    erasing = Erasing(world)
    world.seed(1, days=1, subject=OTHER)
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY)
    await erasing.work()
    (late,) = world.seed(1, days=3, subject=MINE)
    world.registry.forget("thread", late)
    await erasing.work()
    assert ({late: "unprovable"}, "open") == (await erasing.fates(request), await erasing.state(request))


async def test_it_is_complete_only_after_the_late_ones_may_come(world: World) -> None:
    erasing, (mine,) = Erasing(world), world.seed(1, days=3, subject=MINE)
    request = await erasing.ask(MINE, ago=DAY - 1, late=DAY)
    await erasing.work()
    assert ({mine: "erased"}, "open") == (await erasing.fates(request), await erasing.state(request))
    await world.until(lambda: time.time() * 1000 > request.until)
    await erasing.housekeep()
    assert "complete" == await erasing.state(request)


async def test_what_an_older_client_registered_is_found_before_it_is_complete(world: World) -> None:
    erasing, (mine,) = Erasing(world), world.seed(1, days=3, subject=MINE)
    world.raw.delete(f"{world.slot()}subjects")
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY)
    await erasing.run()
    assert "open" == await erasing.state(request)
    await erasing.work()
    assert ({mine: "erased"}, "complete") == (await erasing.fates(request), await erasing.state(request))


CHILDREN = {
    "its own": (MINE, "erased"),
    "another's": (OTHER, "-"),
    "also another's": ([MINE, OTHER], "in_use"),
    "nobody's": (None, "-"),
}


@pytest.mark.parametrize("cascade", ["leave", "protect"])
async def test_children_go_as_far_as_they_are_provably_its(world: World, cascade: str) -> None:
    world.rule = replace(world.rule, cascade={"file": cascade}, digest="digest00000c")
    world.decides(world.rule)
    erasing = Erasing(world)
    files = {name: world.seed(1, kind="file", days=3, subject=of)[0] for name, (of, _) in CHILDREN.items()}
    (shared,) = world.seed(1, kind="file", days=3, subject=MINE)
    (mine,) = world.sandbox.seed("thread", 1)
    old = {"created_at": time.time() - 3 * DAY, "last_active_at": time.time() - 3 * DAY}
    world.registry.register(
        "thread", mine, "chat", subject=MINE, uses=[("file", one) for one in (*files.values(), shared)], **old
    )
    (theirs,) = world.seed(1, days=3, subject=OTHER, uses=[("file", shared)])
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY)
    await erasing.work()
    await erasing.work()
    fates = await erasing.fates(request)
    assert {name: fate for name, (_, fate) in CHILDREN.items()} == {n: fates.get(one, "-") for n, one in files.items()}
    assert ("erased", "in_use") == (fates[mine], fates[shared])
    (used,) = [one for one in (await erasing.account(request)).ids if one.resource.id == shared]
    assert theirs in used.detail
    assert (
        set(files.values()) | {shared}
        > world.sandbox.alive("file")
        == {one for name, one in files.items() if name != "its own"} | {shared}
    )


@pytest.mark.parametrize(("left", "lost"), [(3, True), (11, False), (19, True), (28, False)])
async def test_a_worker_that_dies_at_any_exchange_with_redis(world: World, left: int, *, lost: bool) -> None:
    erasing = Erasing(world)
    mine = [
        *world.seed(1, days=3, subject=MINE),
        *world.seed(2, subject=MINE),
        *world.seed(1, kind="file", subject=MINE),
    ]
    world.seed(1, days=1)
    mortal, usual = Mortal(world.url, left, lost=lost), world.carrier
    world.carrier = mortal
    dying = Erasing(world)
    context = world.context(watch=type(world.watch)(mortal, "lapse"))
    world.carrier = usual
    id_ = str(uuid.uuid4())
    await mortal.dies(world, dying.asked_and_worked(MINE, context, ago=2 * DAY, late=DAY, id_=id_))
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY, id_=id_)
    lapse_leases(world)
    await erasing.work()
    wait_out(world)
    await erasing.work()
    fates = await erasing.fates(request)
    assert set(mine) == set(fates)
    assert {"erased", "already_gone"} >= set(fates.values())
    assert "complete" == await erasing.state(request)


# --- what must not keep others waiting, and what must not be lost between two looks


@pytest.mark.parametrize("key", ["facts", "audit", "subject_holds"])
async def test_what_is_broken_in_one_slot_keeps_nothing_waiting_elsewhere(world: World, key: str) -> None:
    erasing, (mine,) = Erasing(world), world.seed(1, days=3, subject=MINE)
    (file,) = world.seed(1, kind="file", days=3, subject=MINE)
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY)
    name = world.slot("file") + key
    whole = world.raw.exists(name) and world.raw.rename(name, "whole")
    world.raw.set(name, "broken")

    assert await erasing.housekeep()
    await erasing.run()
    assert (set(), {file}) == (world.sandbox.alive("thread"), world.sandbox.alive("file"))
    assert await erasing.housekeep()
    assert "open" == await erasing.state(request)

    world.raw.rename("whole", name) if whole else world.raw.delete(name)
    await erasing.work()
    assert {mine: "erased", file: "erased"} == await erasing.fates(request)
    assert "complete" == await erasing.state(request)


async def test_an_account_that_cannot_be_used_keeps_no_other_waiting(world: World) -> None:
    erasing, context = Erasing(world), world.context()
    world.seed(1, days=3, subject=MINE)
    (file,) = world.seed(1, kind="file", days=3, subject=MINE)
    await erasing.ask(MINE, ago=2 * DAY, late=DAY)

    @asynccontextmanager
    async def contexts(_provider: str, kind: str) -> AsyncIterator[SweepContext]:
        if kind == "file":
            raise ConfigError("api_key_file: cannot be read")
        yield context

    await EraseRun(context.ledger, contexts, time.monotonic() + 20).run()
    assert (set(), {file}) == (world.sandbox.alive("thread"), world.sandbox.alive("file"))


@pytest.mark.parametrize("said", [b"SREM", b'"state":"complete"'])
async def test_what_comes_between_a_look_and_what_is_written_of_it_is_not_lost(world: World, said: bytes) -> None:
    """A worker looks, and nothing is there; then it comes, perhaps another looks; and the first writes what it saw."""
    erasing = Erasing(world)
    request = await erasing.ask(MINE, ago=2 * DAY, late=DAY)
    world.seed(1, days=1, subject=OTHER)
    if said == b"SREM":
        await erasing.work()
        world.raw.sadd(f"{world.slot()}joined", MINE)  # something came, and a sweep deleted it
    came: list[str] = []

    async def meanwhile() -> None:
        came.extend(world.seed(1, days=3, subject=MINE))
        if said != b"SREM":
            await erasing.housekeep()

    mortal = Mortal(world.url)
    mortal.fate.meanwhile = (said, meanwhile)
    usual, world.carrier = world.carrier, mortal
    slow = Erasing(world)
    world.carrier = usual
    await slow.housekeep()
    await mortal.aclose()
    assert came

    await erasing.work()
    await erasing.work()
    assert {came[0]: "erased"} == await erasing.fates(request)
    assert "complete" == await erasing.state(request)
