"""The guards of the registry itself: wiped, another one, an older state, another clock. Each names its accident."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lapse.errors import ConfigError
from lapse.guards.integrity import monitor as watching
from lapse.guards.integrity.continuity import ContinuityCheck
from lapse.guards.integrity.monitor import Watch
from lapse.guards.integrity.statefile import StateFile
from lapse.ledger.halts import Halts
from lapse.metrics.collector import exposition
from lapse.metrics.server import Health
from lapse.policy import Orphan
from lapse.policy.reload import ConfigFile
from lapse.registry.model import PURGED, Partition
from lapse.sweep.purge import inventory, purge, rule_of
from support import evidence
from support.promql import anywhere
from support.world import DAY, World

HOUR = 3_600_000
EPOCH = "lapse:epoch"
WIPED = {"lost", "record", "count", "uncounted"}
"""Promises that end with the registry: what was in it is gone, and with it the records of what was in flight."""


def newcomer(world: World, **known: Any) -> Any:
    """Return the means of a worker that was started just now, with nothing in memory."""
    return world.context(watch=Watch(world.carrier, "lapse", **known), host="host-2")


def remembers_more(world: World) -> None:
    """Let the registry be old enough for what a worker saw of it to be on disk for certain."""
    world.raw.hincrby(EPOCH, "at", -20_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a way to set the local clock off: to this process, it is Redis TIME that jumps the other way."""
    real, off = watching.local_clock, [0]
    monkeypatch.setattr(watching, "local_clock", lambda: real() + off[0])

    def redis_jumps(milliseconds: int) -> None:
        off[0] -= milliseconds

    return redis_jumps


async def test_a_wiped_registry_halts_everything_and_nothing_is_deleted(world: World) -> None:
    """FLUSHALL on the wrong Redis, then an application that registers its backlog again: nobody knows any more what
    was held, touched or used (as the garbage collector of Kubernetes, which took a cold cache for absent owners).
    """
    world.unpromised = WIPED
    world.seed(5)
    await world.sweep(enforce=False)
    world.raw.flushall()
    ids = world.seed(5)

    report = await world.sweep(enforce=True)

    assert ("halted", []) == (report.result, world.deletes())
    assert ["*|registry_lost"] == list(world.halts())
    assert "halted" == (await world.sweep(context=newcomer(world))).result
    assert set(ids) <= world.sandbox.alive("thread")
    assert 1 == world.counters()["guard_trips|chat|registry_lost"]


async def test_a_registry_wiped_between_two_batches_loses_no_object(world: World) -> None:
    """The same while a sweep runs: another worker has begun anew there, and the application registers again."""
    world.unpromised = WIPED
    world.seed(300)
    world.sandbox.faults([{"method": "DELETE", "latency": "20ms"}])
    world.settings = replace(world.settings, batch=10)
    running = asyncio.create_task(world.sweep(context=world.context(concurrency=2)))
    await world.until(lambda: len(world.deletes()) >= 20)

    world.raw.flushall()
    again = set(world.seed(100))
    await newcomer(world).ledger.adopt(world.rule, "another")
    report = await running

    assert "halted" == report.result
    assert again <= world.sandbox.alive("thread")
    assert "*|registry_lost" in world.halts()


async def test_a_claim_that_expects_another_epoch_or_time_is_refused(world: World) -> None:
    """Between a look and a claim, everything can change: the claim itself says what it was decided on."""
    world.seed(5)
    ledger = world.context().ledger
    await ledger.adopt(world.rule, "e1")
    now = await world.watch._control.now()

    async def status(*expected: Any) -> str:
        return (await ledger.claim(world.rule, world.settings, 1, expected=(*expected, 0))).status

    assert "lost" == await status("e2", now - 1000, now + 60_000)
    assert "clock" == await status("e1", now - 5000, now - 1000)
    assert "clock" == await status("e1", now + HOUR, now + HOUR)
    assert "ok" == await status("e1", now - 1000, now + 60_000)


async def test_resume_takes_the_new_registry_and_every_worker_goes_on(world: World) -> None:
    await world.watch.look()
    world.raw.flushall()
    world.seed(5)
    await world.sweep()
    control = Halts(world.carrier, "lapse")

    await control.accept("registry_lost")
    for halt in await control.halts([("openai", "thread")]):
        await control.lift(halt, "wiped on purpose", "ann")

    assert 5 == (await world.sweep()).outcomes["deleted"]
    assert world.raw.hget(EPOCH, "id") == world.watch.epoch


async def test_an_older_state_of_the_registry_halts_until_an_operator_takes_it(world: World) -> None:
    """A snapshot of an hour ago is restored: what was held and touched since then is not known."""
    world.seed(5)
    await world.watch.look()
    state = world.raw.hgetall(EPOCH)
    remembers_more(world)
    await world.watch.look()
    remembers_more(world)
    await world.watch.look()
    world.raw.hset(EPOCH, mapping=state)

    report = await world.sweep()

    assert ("halted", []) == (report.result, world.deletes())
    assert ["*|registry_rolled_back"] == list(world.halts())
    control = Halts(world.carrier, "lapse")
    await control.accept("registry_rolled_back")
    for halt in await control.halts([("openai", "thread")]):
        await control.lift(halt, "restored", "ann")
    assert 5 == (await world.sweep()).outcomes["deleted"]
    assert int(world.raw.hget(EPOCH, "created")) > int(state["created"])


async def test_the_last_seconds_that_a_crash_loses_are_no_older_state(world: World) -> None:
    """With appendfsync everysec, a machine that crashes loses a second: that must not stop everything."""
    await world.watch.look()
    state = world.raw.hgetall(EPOCH)
    world.raw.hincrby(EPOCH, "at", -2000)
    await world.watch.look()
    assert 2 == int(world.raw.hget(EPOCH, "sequence"))
    world.raw.hset(EPOCH, mapping=state)
    world.seed(3)

    assert 3 == (await world.sweep()).outcomes["deleted"]


async def test_a_clock_that_jumps_ahead_makes_nothing_due(world: World, clock: Any) -> None:
    """Redis fails over to a host whose clock is a month ahead: everything would be due at once."""
    ids = world.seed(5, days=1)
    await world.sweep()
    clock(30 * round(DAY) * 1000)

    assert "halted" == (await world.sweep()).result
    assert ["*|clock_jumped"] == list(world.halts())
    assert set(ids) == world.sandbox.alive("thread")
    assert 1 == world.counters()["guard_trips|chat|clock_jumped"]
    assert "halted" == (await world.sweep()).result


async def test_a_clock_that_jumps_within_a_sweep_refuses_the_next_claim(world: World, clock: Any) -> None:
    world.seed(200)
    world.sandbox.faults([{"method": "DELETE", "latency": "20ms"}])
    world.settings = replace(world.settings, batch=5)
    running = asyncio.create_task(world.sweep(context=world.context(concurrency=2)))
    await world.until(lambda: len(world.deletes()) >= 20)

    clock(2 * HOUR)
    report = await running

    assert "halted" == report.result
    assert len(world.deletes()) < 100


async def test_a_step_back_that_is_made_good_ends_its_halt_by_itself(world: World, clock: Any) -> None:
    """Somebody sets a clock by hand, wrongly, and sees it."""
    await world.sweep()
    world.seed(5)
    clock(-HOUR)
    assert "halted" == (await world.sweep()).result

    clock(HOUR)

    assert 5 == (await world.sweep()).outcomes["deleted"]
    assert {} == world.halts()


async def test_a_worker_that_saw_no_jump_sees_that_the_registry_was_later_before(world: World) -> None:
    """All workers are started anew after the clock of Redis was set back an hour."""
    await world.watch.look()
    world.raw.hincrby(EPOCH, "at", HOUR)
    world.seed(5)

    first = await world.sweep(context=newcomer(world))
    world.raw.hincrby(EPOCH, "at", -HOUR)

    assert ("halted", ["*|clock_jumped"]) == (first.result, list(world.halts()))
    control = Halts(world.carrier, "lapse")
    await control.accept("clock_jumped")
    for halt in await control.halts([("openai", "thread")]):
        await control.lift(halt, "set right", "ann")
    assert 5 == (await world.sweep(context=newcomer(world))).outcomes["deleted"]


async def test_a_worker_that_slept_sees_no_jump(world: World, clock: Any) -> None:
    """A suspended laptop: both clocks went on."""
    await world.sweep()
    world.seed(2)
    clock(30_000)

    assert 2 == (await world.sweep()).outcomes["deleted"]


async def test_no_orphan_is_decided_in_a_registry_that_is_not_the_known_one(world: World) -> None:
    await world.watch.look()
    world.raw.flushall()
    world.seed(3, kind="assistant", policy="idle")
    listed = len(world.sandbox.requests())

    report = await world.orphans(
        partition=type(world.rule.partition)("openai", "assistant", "idle"),
        ttl=None,
        anchor=None,
        orphan=Orphan(min_age=0, seen=1, max_share=None, uses_stated=True),
    )

    assert "halted" == report.result
    assert listed == len(world.sandbox.requests())


# --- the witness file


async def test_a_worker_started_after_the_loss_still_refuses_by_its_witness_file(world: World, tmp_path: Path) -> None:
    """Redis and all workers are set up anew on the same host, and the volume was forgotten."""
    witness = StateFile(tmp_path / "witness.json", "lapse")
    await newcomer(world, witness=witness).watch.look()
    world.raw.flushall()
    world.seed(5)

    report = await world.sweep(context=newcomer(world, known=witness.load(), witness=witness))

    assert ("halted", []) == (report.result, world.deletes())
    assert ["*|registry_lost"] == list(world.halts())
    await Halts(world.carrier, "lapse").accept("registry_lost")
    accepted = newcomer(world, known=witness.load(), witness=witness).watch
    assert None is await accepted.look()
    remembered = witness.load()
    assert remembered is not None
    assert world.raw.hget(EPOCH, "id") == remembered.epoch


async def test_a_witness_file_remembers_the_clock_across_a_restart(world: World, tmp_path: Path, clock: Any) -> None:
    witness = StateFile(tmp_path / "witness.json", "lapse")
    await newcomer(world, witness=witness).watch.look()
    clock(2 * HOUR)

    trouble = await newcomer(world, known=witness.load(), witness=witness).watch.look()

    assert trouble is not None
    assert "clock_jumped" == trouble.reason
    assert "went forward by 7200 s" in trouble.detail


async def test_a_witness_file_that_cannot_be_written_is_said_and_stops_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = newcomer(world, witness=StateFile(tmp_path / "missing" / "witness.json", "lapse"))
    world.seed(2)

    assert 2 == (await world.sweep(context=context)).outcomes["deleted"]
    assert "witness.unwritten" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ('{"namespace": "other"}', "of namespace 'other'"),
        ('{"namespace": "lapse", "epoch": "e1"}', "cannot be read"),
    ],
)
def test_a_file_that_is_no_witness_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "witness.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match=said) as refused:
        StateFile(path, "lapse").load()

    assert str(path) in str(refused.value)


# --- the exporter


async def test_the_exporter_shows_a_loss_though_no_worker_is_alive(world: World, tmp_path: Path) -> None:
    """Redis comes back empty, and the workers with it: nothing would halt, and every gauge would read a calm 0."""
    world.unpromised = WIPED
    world.seed(5)
    await world.sweep(enforce=False)
    path = tmp_path / "retention.toml"
    path.write_text(evidence.policy_file(world.policies, world.sandbox.url))
    file, continuity = ConfigFile(path, {}), ContinuityCheck()
    halted = 'lapse_halted{kind="thread",policy="chat",provider="openai",reason="registry_lost"} 1.0'
    health = Health(world.raw, file, continuity)
    assert halted not in anywhere(exposition(world.raw, file, continuity)[1])
    assert health.checks()["halted"][0]

    world.raw.flushall()

    assert halted in anywhere(exposition(world.raw, file, continuity)[1])
    assert (False, "openai/thread/chat: registry_lost") == health.checks()["halted"]
    assert not world.raw.exists(EPOCH)
    await world.watch.look()
    assert 1 == exposition(world.raw, file, continuity)[1].count(b'registry_lost"} 1.0')


@pytest.mark.parametrize("remembers", [True, False], ids=["one-that-remembers", "a-newcomer"])
async def test_a_purge_that_was_confirmed_under_another_registry_deletes_nothing(
    world: World, *, remembers: bool
) -> None:
    """What was held is held no more, and nobody would know."""
    rule = rule_of(Partition("openai", "assistant", PURGED), (), [])
    ids = world.seed(3, kind="assistant")
    context = world.context()
    await context.watch.look()
    assert set(ids) == {thing.id for thing in await inventory(context, rule)}

    world.raw.flushall()
    world.unpromised = WIPED
    again = Watch(world.carrier, "lapse", known=context.watch.known if remembers else None)
    report, gone, left = await purge(world.context(watch=again), rule, ids, "an operator", lambda _n: None)

    assert ("halted" if remembers else "refused") == report.result
    assert (set(), set(ids)) == (gone, set(left))
    assert set(ids) <= world.sandbox.alive("assistant")
