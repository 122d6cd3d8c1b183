"""Guards that stop everything: each accident twice, with the guard, and without it, which the oracle reports."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from lapse.guards import enforcement
from lapse.guards.absence.proof import Proof
from lapse.guards.enforcement import Stand
from lapse.guards.integrity import monitor as watching
from lapse.guards.integrity import preflight
from lapse.guards.integrity.monitor import Watch
from lapse.ledger.claim import UNCHECKED
from lapse.ledger.halts import Halts
from lapse.policy import Orphan
from lapse.providers.outcomes import Verdict
from lapse.providers.throttle import Throttle
from oracle.guards import HUSH
from oracle.history import History, Outage, Quiet
from oracle.verdict import violations
from support import evidence
from support.commandline import ENFORCED, Desk
from support.world import DAY, World

Cut = Callable[[str, str, str], None]
Reported = Callable[[], set[str]]
MONTH = 30 * DAY
WIPED = {"lost", "record", "count", "uncounted"}
"""Promises that end with the registry."""

guarded = pytest.mark.parametrize("without", [False, True], ids=["with", "without"])


async def nothing(*_: object) -> None:
    """Take a guard's place."""


def remembers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out what a worker knows of its registry and of the clock."""
    monkeypatch.setattr(watching, "judge", lambda *_: None)
    monkeypatch.setattr(Watch, "expected", lambda _watch: UNCHECKED)


@guarded
async def test_a_pause(world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported, *, without: bool) -> None:
    world.seed(3)
    await Halts(world.carrier, "lapse").pause("openai/thread", "a migration")
    world.hush("paused")
    if without:
        monkeypatch.setattr(Halts, "stopped", nothing)
        monkeypatch.setattr(Halts, "paused", nothing)

    await world.sweep()

    assert ({"quiet"} if without else set()) == reported()


@guarded
async def test_a_halt(
    world: World, monkeypatch: pytest.MonkeyPatch, cut: Cut, reported: Reported, *, without: bool
) -> None:
    world.seed(3)
    await Halts(world.carrier, "lapse").halt(world.rule.partition, "unrecognised", "what is that?")
    world.hush("halted")
    if without:
        monkeypatch.setattr(Halts, "stopped", nothing)
        monkeypatch.setattr(enforcement, "stand", lambda *_: Stand("completed"))
        cut("claim", "if #halted(policy) > 0 then return 'halted' end", "")

    await world.sweep()

    assert ({"quiet"} if without else set()) == reported()


@guarded
async def test_a_registry_that_was_emptied(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported, *, without: bool
) -> None:
    """The application registers its backlog again; of the hold it was told that it stands."""
    (held,) = world.seed(1)
    world.registry.hold("thread", held, reason="case 7")
    await world.sweep()
    if without:
        remembers_nothing(monkeypatch)

    world.raw.flushall()
    world.registry.register("thread", held, "chat", created_at=time.time() - MONTH)
    await world.sweep()

    world.unpromised = WIPED
    assert ({"held"} if without else set()) == reported()


@guarded
async def test_an_older_state_of_the_registry(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported, *, without: bool
) -> None:
    """It is of before the hold."""
    (held,) = world.seed(1)
    await world.watch.look()
    server = redis.Redis.from_url(world.url)
    older = {name: server.dump(name) or b"" for name in server.scan_iter()}
    world.registry.hold("thread", held, reason="case 7")
    for _ in range(2):
        world.raw.hincrby("lapse:epoch", "at", -20_000)
        await world.watch.look()
    if without:
        remembers_nothing(monkeypatch)

    world.raw.flushall()
    for name, state in older.items():
        server.restore(name, 0, state)
    await world.sweep()

    world.unpromised = WIPED
    assert ({"held"} if without else set()) == reported()


@guarded
async def test_a_clock_that_jumps(
    world: World, monkeypatch: pytest.MonkeyPatch, cut: Cut, reported: Reported, *, without: bool
) -> None:
    world.seed(3, days=1)
    await world.sweep()
    if without:
        remembers_nothing(monkeypatch)

    for name in ("look", "adopt", "survey", "claim", "settle"):
        cut(name, "clock[1] * 1000 ", f"(clock[1] + {MONTH:.0f}) * 1000 ")
    await world.sweep()

    world.unpromised = {"record", "lost", "unconfirmed"}  # in which the audit's times tell of no claim at that moment
    assert ({"early"} if without else set()) == reported()


@guarded
async def test_another_account(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported, *, without: bool
) -> None:
    world.seed(1)
    await world.sweep()
    world.seed(3)
    world.hush("another project is configured")
    if without:
        real = enforcement.stand
        monkeypatch.setattr(enforcement, "stand", lambda rule, survey, _place: real(rule, survey, survey.place))

    await world.sweep(context=world.context(project="proj_other"))

    assert ({"quiet"} if without else set()) == reported()


@guarded
async def test_an_outage(
    world: World, monkeypatch: pytest.MonkeyPatch, cut: Cut, reported: Reported, *, without: bool
) -> None:
    world.seed(100)
    world.sandbox.faults([{"effect": "error", "status": 503}])
    if without:
        monkeypatch.setattr(Throttle, "_block", nothing)
        cut("settle", "if state.n >= ENOUGH and", "if false and")

    began = time.time()
    await world.sweep()
    await world.sweep()
    world.outages.append(Outage("openai", began, time.time(), in_flight=16))

    assert ({"breaker"} if without else set()) == reported()


@guarded
async def test_a_first_enforcement(world: World, cut: Cut, reported: Reported, *, without: bool) -> None:
    world.seed(30)
    world.settings = replace(world.settings, ramp=3600.0)
    if without:
        cut("claim", "if wait < 0 or state.step >= STEPS then", "if true then")

    await world.sweep()

    assert ({"ramp"} if without else set()) == reported()


@guarded
async def test_an_endpoint_that_is_not_there(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported, *, without: bool
) -> None:
    async def unasked(_proof: Proof, _id: str, verdict: Verdict) -> Verdict:
        return verdict

    world.seed(5)
    world.sandbox.faults([{"effect": "sunset"}])
    if without:
        monkeypatch.setattr(Proof, "_probe", unasked)

    await world.sweep()

    assert ({"unproven"} if without else set()) == reported()


@guarded
async def test_an_application_that_never_says_what_uses_its_assistants(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported, *, without: bool
) -> None:
    world.policies.clear()
    world.long_ago()
    world.seed(3, kind="assistant", policy="idle")
    orphan = Orphan(min_age=0.01, seen=1, max_share=None, uses_stated=False)
    partition = replace(world.rule.partition, kind="assistant", policy="idle")
    if without:
        monkeypatch.setattr(enforcement, "stand", lambda *_: Stand("completed"))

    for _ in range(3):
        await world.orphans(partition=partition, ttl=None, anchor=None, orphan=orphan)
        await asyncio.sleep(2 * orphan.min_age)  # the registry has to be as old

    assert ({"unused"} if without else set()) == reported()


@guarded
def test_a_redis_that_may_evict(desk: Desk, monkeypatch: pytest.MonkeyPatch, *, without: bool) -> None:
    desk.configure(ENFORCED)
    desk.worker()
    desk.seed(3)
    unfit = Quiet("openai", "thread", time.time() - HUSH, time.time() + 3600, "the registry may be evicted")
    if without:
        monkeypatch.setattr(preflight, "refusal", lambda _findings: None)

    desk.raw.config_set("maxmemory-policy", "allkeys-lru")
    try:
        desk.worker()
    finally:
        desk.raw.config_set("maxmemory-policy", "noeviction")

    history = History(requests=evidence.traffic(desk.sandbox.requests(), "openai"), quiet=(unfit,))
    loud = {one.promise for one in violations(history)} & {"quiet"}
    assert ({"quiet"} if without else set()) == loud
