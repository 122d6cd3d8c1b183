"""Requests to erase subjects among all else that is said and goes wrong, drawn from a seed, and what comes of them."""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lapse.policy import Orphan
from lapse.registry.model import Partition
from lapse.sweep.orphans import collect_orphans
from lapse.sweep.purge import inventory, purge, rule_of
from support import evidence
from support.erased_places import STRANGE, Mortal, answered, lapse_leases, wait_out
from support.erasing import Erasing
from support.world import DAY, World

if TYPE_CHECKING:
    from lapse.ledger.erasure.request import ErasureRequest

SUBJECTS = ("user:1", "user:2", "user:3")
POLICIES = {"thread": "chat", "file": "files", "assistant": "idle"}
AGO, LATE = 2 * DAY, DAY
FAULTS: list[dict[str, Any]] = [
    {"effect": "error", "status": 500},
    {"effect": "error", "status": 503},
    {"effect": "error", "status": 401},
    {"effect": "error", "status": 403},
    {"effect": "error", "status": 409},
    {"effect": "error", "status": 400},
    {"effect": "reset"},
    {"effect": "reset", "execute": True},
    {"effect": "html", "execute": True},
    {"effect": "error", "status": 500, "execute": True},
    {"effect": "cut"},
    {"effect": "other_id"},
    {"effect": "deleted_false"},
    STRANGE,
]

ACTS = [
    *("new", "new", "new", "again", "touch", "hold", "unhold", "unhold", "forget", "expire"),
    *("hold_subject", "unhold_subject", "ask", "ask_dies", "pause", "unpause", "unpause", "fails", "mended"),
    *("work", "work", "work", "two_work", "two_work", "sweep", "sweep_and_work", "dies", "dies", "cut", "cut"),
    *("later", "leases_end", "operator", "orphans", "purge", "quarantine", "quarantine", "cascades", "rename"),
]
"""What may happen next, as often as it is likely."""


@dataclass(slots=True)
class Life:
    """What the application knows of one id since it registered it as new."""

    kind: str
    subjects: frozenset[str]
    created: float
    forgotten: bool = False
    uses: set[str] = field(default_factory=set)


class Story:
    """One world, and one thing after the other."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.said: list[str] = []
        self.lives: dict[str, Life] = {}
        self.requests: dict[str, ErasureRequest] = {}
        self.held: set[str] = set()
        world.rule = replace(world.rule, enforce=True)
        files = replace(world.rule, partition=Partition("openai", "file", "files"), digest="digest00000f")
        orphan = Orphan(min_age=0.001, seen=1, max_share=None, uses_stated=True)
        idle = Partition("openai", "assistant", "idle")
        idle_rule = replace(world.rule, partition=idle, ttl=None, anchor=None, orphan=orphan, digest="digest00000a")
        world.others = (files, idle_rule)
        for rule in world.others:
            world.decides(rule)
        self.context = world.context()
        self.erasing = Erasing(world)

    async def begin(self) -> None:
        """Let there be somebody else's ids of every kind, so that an absence can be proven."""
        for kind in ("thread", "file", "assistant"):
            for _ in range(2):
                self.register(kind, frozenset(), 0.5)

    # --- what is said

    def register(self, kind: str, subjects: frozenset[str], days: float, uses: tuple[str, ...] = ()) -> None:
        (id_,) = self.world.sandbox.seed(kind, 1)
        self.lives[id_] = Life(kind, subjects, time.time() - days * DAY)
        self._register(id_, uses)

    def _register(self, id_: str, uses: tuple[str, ...] = ()) -> None:
        life = self.lives[id_]
        used = [(self.lives[one].kind, one) for one in uses]
        life.uses |= set(uses)
        said = {"subject": sorted(life.subjects)} if life.subjects else {}
        self.world.registry.register(
            life.kind, id_, POLICIES[life.kind], created_at=life.created, last_active_at=life.created, uses=used, **said
        )

    def new(self) -> None:
        kind = self.dice.choice(["thread", "thread", "file", "assistant"])
        subjects = frozenset(self.dice.sample(SUBJECTS, self.dice.choice([0, 1, 1, 1, 2])))
        uses: tuple[str, ...] = ()
        targets = [one for one, life in self.lives.items() if life.kind == "file"]
        if kind == "thread" and targets and self.dice.random() < 0.4:
            uses = (self.dice.choice(targets),)
        days = self.dice.choice([0.0, 3.0, 3.0, 3.0, 30.0])
        self.register(kind, subjects, days, uses)

    def any(self) -> str:
        return self.dice.choice(list(self.lives))

    def again(self) -> None:
        """Register an id again: one that is tracked keeps its subject, one that is not begins anew, now."""
        id_ = self.any()
        life, tracked = self.lives[id_], self.world.registry.get(self.lives[id_].kind, id_)
        subjects = frozenset(self.dice.sample(SUBJECTS, 1))
        if tracked is None:
            life = self.lives[id_] = Life(life.kind, subjects, time.time())
            self.world.registry.anew(life.kind, id_)
            self._register(id_)
        else:
            life.subjects = life.subjects or subjects
            self.world.registry.register(life.kind, id_, POLICIES[life.kind], subject=sorted(subjects))

    def touch(self) -> None:
        id_ = self.any()
        self.world.registry.touch(self.lives[id_].kind, id_)

    def hold(self) -> None:
        id_ = self.any()
        self.world.registry.hold(self.lives[id_].kind, id_, reason="case 7")

    def unhold(self) -> None:
        id_ = self.any()
        self.world.registry.unhold(self.lives[id_].kind, id_)

    def forget(self) -> None:
        id_ = self.any()
        life = self.lives[id_]
        if self.world.registry.forget(life.kind, id_) != "unknown":
            life.forgotten = True

    def expire(self) -> None:
        id_ = self.any()
        self.world.registry.expire(self.lives[id_].kind, id_)

    def hold_subject(self) -> None:
        subject = self.dice.choice(SUBJECTS)
        self.world.registry.hold_subject(subject, reason="case 8")
        self.held.add(subject)

    def unhold_subject(self) -> None:
        if self.held:
            subject = self.dice.choice(sorted(self.held))
            self.held.discard(subject)
            self.world.registry.unhold_subject(subject)

    async def ask(self) -> None:
        subject = self.dice.choice(SUBJECTS[:2])
        request = await self.erasing.ask(subject, ago=AGO, late=LATE)
        self.requests[request.id] = request

    async def pause(self) -> None:
        await self.erasing.control.pause(self.dice.choice(["*", "openai", "openai/thread", "openai/thread/chat"]), "x")

    async def unpause(self) -> None:
        for scope in await self.erasing.control.pauses():
            await self.erasing.control.unpause(scope)

    # --- what the provider does, and workers

    def fails(self) -> None:
        fault = {"method": "DELETE", "probability": self.dice.choice([0.5, 1.0]), **self.dice.choice(FAULTS)}
        self.world.sandbox.faults([fault], seed=self.dice.randrange(1000))

    def mended(self) -> None:
        self.world.sandbox.faults()

    async def work(self) -> None:
        await self.erasing.work(replace(self.context, rules=(self.world.rule, *self.world.others)))

    async def sweep(self) -> None:
        await self.world.sweep(context=replace(self.context, rules=(self.world.rule, *self.world.others)))

    def _mortal(self, most: int, *, cut: int = 0) -> tuple[Mortal, Erasing]:
        """Return the connections of a process that dies soon, and what it does about erasures."""
        world, usual = self.world, self.world.carrier
        mortal = Mortal(world.url, self.dice.randrange(1, most), lost=self.dice.random() < 0.5)
        mortal.fate.cut = cut
        world.carrier = mortal
        erasing = Erasing(world)
        world.carrier = usual
        return mortal, erasing

    async def dies(self, cut: int = 0) -> None:
        """Let a worker of erasures or of a sweep be killed at some exchange with Redis."""
        mortal, erasing = self._mortal(60, cut=cut)
        usual, self.world.carrier = self.world.carrier, mortal
        context = self.world.context(watch=type(self.world.watch)(mortal, "lapse"))
        self.world.carrier = usual
        erases = self.dice.random() < 0.7
        await mortal.dies(self.world, erasing.work(context) if erases else self.world.sweep(context=context))

    async def cut(self) -> None:
        """Let a script of a worker end in the middle."""
        await self.dies(cut=self.dice.randrange(1, 12))

    async def ask_dies(self) -> None:
        """Let who asks die while the request is written, or its script end in the middle; and say it again."""
        world, subject, id_ = self.world, self.dice.choice(SUBJECTS[:2]), str(uuid.uuid4())
        mortal, erasing = self._mortal(12, cut=self.dice.choice([0, 1, 2, 3, 5]))
        with suppress(AssertionError):  # a slot that did not take it is named
            await mortal.dies(world, erasing.ask(subject, ago=AGO, late=LATE, id_=id_))
        world.registry.erased(subject, time.time() - AGO + LATE)  # it may be in force, and may be not
        for _ in range(self.dice.randrange(3)):
            await self.step()
        request = await self.erasing.ask(subject, ago=AGO, late=LATE, id_=id_)
        self.requests[request.id] = request

    async def two_work(self) -> None:
        """Two workers at once, and others say what they say meanwhile."""
        context = self.world.context()
        rules = (self.world.rule, *self.world.others)
        tasks = [asyncio.create_task(self.erasing.work(replace(one, rules=rules))) for one in (context, self.context)]
        acts = [self.new, self.again, self.touch, self.hold, self.unhold, self.forget, self.expire]
        for act in self.dice.choices(acts, k=self.dice.randrange(4)):
            for _ in range(self.dice.randrange(30)):
                await asyncio.sleep(0.001)
            self.said.append(f"({act.__name__})")
            act()
        for task in tasks:
            await task

    async def sweep_and_work(self) -> None:
        """Let a sweep and an erasure work at once."""
        rules = (self.world.rule, *self.world.others)
        sweeping = self.world.sweep(context=replace(self.world.context(), rules=rules))
        await asyncio.gather(sweeping, self.erasing.work(replace(self.context, rules=rules)))

    async def orphans(self) -> None:
        rules = (self.world.rule, *self.world.others)
        await collect_orphans(replace(self.context, rules=rules), self.world.others[1])

    async def purge(self) -> None:
        rule = rule_of(self.world.rule.partition, (), (self.world.rule,))
        await self.context.control.epoch()
        await self.context.watch.look()
        await inventory(self.context, rule)
        old = time.time() - 20 * DAY  # the oracle knows of no purge but of what is due
        ids = [one for one, life in self.lives.items() if life.kind == "thread" and life.created < old]
        ids = [one for one in ids if self.world.registry.get("thread", one)]
        await purge(self.context, rule, ids[:1], "ann", lambda _gone: None)

    async def quarantine(self) -> None:
        """Let an operator take back what was said to be gone, or give an id up."""
        id_, verb = self.any(), self.dice.choice(["undo", "undo", "retry", "drop"])
        said = (verb, '"ann"', '"so"', id_)
        call = self.erasing.ledger.on_slot("ledger/lua/quarantine", "openai", self.lives[id_].kind, *said, parse=list)
        (changed,) = await self.erasing.ledger.carrier.carry([call])
        if verb == "drop" and changed:
            self.lives[id_].forgotten = True

    def cascades(self) -> None:
        cascade = self.dice.choice([{}, {"file": "delete"}, {"file": "leave"}, {"file": "protect"}])
        self.world.rule = replace(self.world.rule, cascade=cascade, digest=f"digest{len(self.said):06}")
        self.world.decides(self.world.rule)

    async def rename(self) -> None:
        """Let the policy have another name, and adopt what stands under the old one."""
        old, at = self.world.rule, self.world.rule.partition
        if at.policy == "talk":
            return
        self.world.rule = replace(old, partition=replace(at, policy="talk"), formerly=("chat",), digest="digest00talk")
        self.world.decides(self.world.rule)
        await self.sweep()

    def later(self) -> None:
        wait_out(self.world)

    def leases_end(self) -> None:
        lapse_leases(self.world)

    async def operator(self) -> None:
        await answered(self.world, self.context)

    # --- what has to be true

    async def step(self) -> None:
        """Do one thing, and look."""
        act: Callable[[], Any] = getattr(self, self.dice.choice(ACTS))
        self.said.append(act.__name__)
        done = act()
        if isinstance(done, Awaitable):
            await done
        await self.check()

    async def check(self) -> None:
        """Assert what is true at any time."""
        confirmed = self.confirmed()
        for request in self.requests.values():
            account = await self.erasing.account(request)
            ids = [one.resource for one in account.ids]
            assert sorted(set(ids)) == sorted(ids), "an id has one fate"
            for one in account.ids:
                if one.fate == "erased":
                    assert one.resource.id in confirmed, one
                assert one.detail or one.fate == "erased", one
            for id_, life in self.lives.items():
                covered = request.subject in life.subjects and life.created * 1000 < request.until
                if covered and self.world.registry.get(life.kind, id_):
                    assert id_ in {one.id for one in ids}, f"{id_} is in no list: {life}"
            fates = {str(one.fate) for one in account.ids}
            if self.said[-1:] == ["work"] and await self.erasing.state(request) == "complete":
                assert fates <= {"erased", "already_gone"}, account.ids

    def confirmed(self) -> set[str]:
        """Return the ids of which the provider confirmed a deletion."""
        requests = evidence.traffic(self.world.sandbox.requests(), "openai")
        return {one.path.rsplit("/", 1)[1] for one in requests if one.confirmed}

    async def over(self) -> None:
        """Let all that stands in the way be over; then everything that was asked for is done, and nothing else."""
        world = self.world
        world.sandbox.faults()
        await self.unpause()
        for subject in sorted(self.held):
            world.registry.unhold_subject(subject)
        for id_, life in self.lives.items():
            world.registry.unhold(life.kind, id_)
        for subject in SUBJECTS[:2]:
            request = await self.erasing.ask(subject, ago=AGO, late=LATE)
            self.requests[request.id] = request
        for _ in range(12):
            lapse_leases(world)
            await answered(world, self.context)
            wait_out(world)
            await self.work()
        if "rename" in self.said:
            await self.sweep()  # which adopts what stands under the old name, and its counts
            await self.work()
        await self.check()
        asked = set(SUBJECTS[:2])
        alive = world.sandbox.alive("thread") | world.sandbox.alive("file") | world.sandbox.alive("assistant")
        used = {used for id_, life in self.lives.items() for used in life.uses if id_ in alive}
        for id_, life in self.lives.items():
            mine = life.subjects & asked and life.created < time.time() - DAY * 0.9
            record = world.registry.get(life.kind, id_)
            used_still = record is not None and record.used_by  # also by what is believed to be gone, for a while
            if mine and not life.forgotten and life.subjects <= asked and id_ not in used and not used_still:
                assert id_ not in alive, f"{id_} lives: {life} {world.registry.get(life.kind, id_)}"
        for request in self.requests.values():
            account = await self.erasing.account(request)
            left = [one for one in account.ids if one.fate not in {"erased", "already_gone"}]
            for one in left:
                life = self.lives[one.resource.id]
                excused = life.forgotten or not life.subjects <= asked or one.fate in {"in_use", "unprovable"}
                assert excused, one
            state = await self.erasing.state(request)
            assert state == ("open" if left else "complete"), (state, account)
