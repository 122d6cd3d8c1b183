"""A key of Redis that protects ids and is gone: nothing it protected is deleted, and an operator is told.

Every way to lose one, crossed with everything that deletes; and clients of an older version, which count nothing.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse.errors import RegistryUnavailable
from lapse.guards.integrity.protection import accept, inspect
from lapse.ledger.halts import Halts
from lapse.metrics.collector import exposition
from lapse.policy import Orphan
from lapse.policy.reload import ConfigFile
from lapse.registry.model import Partition
from lapse.sweep.purge import inventory, purge, rule_of
from support.lua import PARTS, SCRIPTS, source
from support.promql import anywhere
from support.world import DAY, World

Do = Callable[[World], Awaitable[Any]]

EPOCH = "lapse:epoch"
PLACE = {"holds": "hold", "edges": "referenced", "forgotten": "foreign"}


async def protect(world: World, key: str, id_: str) -> None:
    """Protect an assistant by what stands in a key."""
    if key == "holds":
        world.registry.hold("assistant", id_, reason="a case")
    elif key == "forgotten":
        world.registry.forget("assistant", id_)
    else:
        world.registry.register("thread", "thread_user", "chat", uses=[("assistant", id_)])


def deleted(world: World, key: str) -> None:
    world.raw.delete(world.slot("assistant") + key)


def expired(world: World, key: str) -> None:
    world.raw.pexpireat(world.slot("assistant") + key, 1)


def renamed(world: World, key: str) -> None:
    world.raw.rename(world.slot("assistant") + key, "elsewhere")


def emptied(world: World, key: str) -> None:
    name = world.slot("assistant") + key
    for member in world.raw.hkeys(name) if key == "holds" else world.raw.zrange(name, 0, -1):
        world.raw.hdel(name, member) if key == "holds" else world.raw.zrem(name, member)


def uncounted(world: World, key: str) -> None:
    assert key
    world.raw.delete(world.slot("assistant") + "protected")


def older(world: World, key: str) -> None:
    """Put the key back as it was before the last id was protected."""
    world.raw.delete(world.slot("assistant") + key)
    world.raw.restore(world.slot("assistant") + key, 0, world.raw.kept[key])


LOSSES = (deleted, expired, renamed, emptied, uncounted, older)


async def swept(world: World) -> str:
    return (await world.sweep()).result


async def collected(world: World) -> str:
    orphan = Orphan(min_age=1, seen=1, max_share=None, uses_stated=True)
    rule = replace(world.rule, ttl=None, anchor=None, orphan=orphan)
    return (await world.orphans(**{name: getattr(rule, name) for name in ("ttl", "anchor", "orphan")})).result


async def purged(world: World) -> str:
    context = world.context()
    await context.watch.look()
    rule = rule_of(Partition("openai", "assistant", ""), (), ())
    things = await inventory(context, rule)
    report, _gone, _left = await purge(context, rule, [one.id for one in things], "ann", lambda _n: None)
    return report.result


@pytest.fixture
def assistants(world: World) -> list[str]:
    """Return assistants that are all due, of an enforced policy."""
    world.rule = replace(world.rule, partition=Partition("openai", "assistant", "bots"), ttl=DAY, anchor="created_at")
    return world.seed(4, kind="assistant", policy="bots")


@pytest.mark.parametrize("lost", LOSSES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("key", PLACE)
@pytest.mark.parametrize("do", [swept, collected, purged], ids=lambda one: one.__name__)
async def test_without_what_protects_nothing_is_deleted(
    world: World, assistants: list[str], key: str, lost: Any, do: Do
) -> None:
    world.unpromised = {"record"}
    await protect(world, key, assistants[0])
    world.raw.kept = {key: dump(world, key)}
    await protect(world, key, assistants[1])
    lost(world, key)

    assert "halted" == await do(world)
    assert [] == world.deletes()
    halt = world.halts("assistant")["*|registry_damaged"]
    assert key in halt["detail"] or lost is uncounted


def dump(world: World, key: str) -> bytes:
    with redis.Redis.from_url(world.url) as client:
        stored: Any = client.dump(world.slot("assistant") + key)
    return bytes(stored)


@pytest.mark.parametrize("key", PLACE)
async def test_the_key_that_is_put_back_ends_its_own_halt(world: World, assistants: list[str], key: str) -> None:
    await protect(world, key, assistants[0])
    name, away = world.slot("assistant") + key, f"{world.slot('assistant')}away"
    world.raw.rename(name, away)
    assert "halted" == await swept(world)

    world.raw.rename(away, name)

    assert "completed" == await swept(world)
    assert {} == world.halts("assistant")
    assert assistants[0] in world.sandbox.alive("assistant")
    assert 3 == len(world.deletes())


async def test_between_two_claims_of_a_sweep_too(world: World, assistants: list[str]) -> None:
    """What a sweep looked at before is no proof for its next claim."""
    context = world.context()
    await protect(world, "edges", assistants[0])
    await context.ledger.adopt(world.rule)

    async def status() -> str:
        return (await context.ledger.claim(world.rule, world.settings, 1)).status

    assert "ok" == await status()
    deleted(world, "edges")
    assert "damaged" == await status()
    world.unpromised = {"record", "count", "moved", "unasked"}


async def test_an_operator_takes_it_as_it_is(world: World, assistants: list[str]) -> None:
    await protect(world, "holds", assistants[0])
    await protect(world, "holds", assistants[1])
    deleted(world, "holds")
    await swept(world)
    control = Halts(world.carrier, "lapse")
    found = await inspect(world.carrier, "lapse", world.rule.partition)
    assert (("holds",), 2) == (found.keys, found.ids)

    await accept(world.context().ledger, control, world.rule.partition, ())

    assert "completed" == await swept(world)
    assert not await inspect(world.carrier, "lapse", world.rule.partition)
    await protect(world, "holds", assistants[1])
    deleted(world, "holds")
    assert "halted" == await swept(world)


OLD = {
    "hold": 'redis.call(\'HSET\', KEYS[1] .. \'holds\', ARGV[1], \'{"reason":"x","actor":"old","since":1}\')',
    "unhold": "redis.call('HDEL', KEYS[1] .. 'holds', ARGV[1])",
    "refer": "redis.call('ZADD', KEYS[1] .. 'edges', 0, ARGV[1] .. '|openai|thread|t1')",
    "unrefer": "redis.call('ZREM', KEYS[1] .. 'edges', ARGV[1] .. '|openai|thread|t1')",
    "forget": "redis.call('ZADD', KEYS[1] .. 'forgotten', 1, ARGV[1])",
    "register": "redis.call('ZREM', KEYS[1] .. 'forgotten', ARGV[1])",
}
"""What the scripts of a version that counted nothing do to these keys."""


@pytest.mark.parametrize("counted", [False, True], ids=["never counted", "counted"])
@pytest.mark.parametrize("said", OLD)
async def test_a_client_of_an_older_version_damages_nothing(
    world: World, assistants: list[str], said: str, *, counted: bool
) -> None:
    """Old and new applications share a registry while one is rolled out."""
    world.unpromised = {"record", "count"}
    slot = world.slot("assistant")
    if counted:
        for key in PLACE:
            await protect(world, key, assistants[0])
    for _ in range(2):
        world.raw.eval(OLD[said], 1, slot, assistants[0])
        assert not await inspect(world.carrier, "lapse", world.rule.partition)
        await world.sweep(enforce=False)
        assert {} == world.halts("assistant")


async def test_a_registry_that_never_counted_is_counted_from_the_first_sweep_on(
    world: World, assistants: list[str]
) -> None:
    world.unpromised = {"record", "count"}
    world.raw.eval(OLD["hold"], 1, world.slot("assistant"), assistants[0])
    await world.sweep(enforce=False)

    deleted(world, "holds")

    assert "halted" == await swept(world)


@pytest.mark.parametrize("scope", ["*", "openai", "openai/assistant", "openai/assistant/bots"])
async def test_a_pause_whose_key_is_gone_is_no_leave_to_delete(world: World, assistants: list[str], scope: str) -> None:
    control = Halts(world.carrier, "lapse")
    await control.pause(scope, "a complaint")
    world.raw.delete("lapse:control")

    assert ("halted", "registry_damaged") == await control.stopped(world.rule.partition), "in mid-sweep too"
    assert "halted" == await swept(world)
    assert "the pause on" in world.halts("assistant")["bots|registry_damaged"]["detail"]

    await control.pause(scope, "a complaint, still")
    assert "paused" == await swept(world)
    assert await control.unpause(scope)
    assert "completed" == await swept(world)
    assert ({}, 4) == (world.halts("assistant"), len(world.deletes()))
    assert set(assistants) & world.sandbox.alive("assistant") == set()


async def test_a_pause_of_an_older_version_is_copied_and_one_elsewhere_stops_nothing(
    world: World, assistants: list[str]
) -> None:
    control = Halts(world.carrier, "lapse")
    await control.pause("other", "elsewhere")
    world.raw.hset("lapse:control", "openai", '{"actor":"ann","reason":"old","since":1}')
    await control.copy_pauses()
    world.raw.delete("lapse:control")

    assert ("openai",) == await control.lost_pauses(world.rule.partition)
    assert ("openai", "other") == await control.lost_pauses()
    await control.forget_pauses(("openai",))
    assert "completed" == await swept(world)
    assert len(assistants) == len(world.deletes())


POLICY = """
[providers.openai]
type = "openai"
api_key_env = "KEY"
[policies.chat]
provider = "openai"
kind = "conversation"
ttl = "1d"
anchor = "created_at"
"""


def test_the_marker_is_no_hold(world: World, tmp_path: Path) -> None:
    """Metrics count holds, and not what counts them."""
    world.registry.hold("thread", "t1", reason="a case")
    path = tmp_path / "p.toml"
    path.write_text(POLICY)
    shown = anywhere(exposition(world.raw, ConfigFile(path, {}))[1])

    assert 'lapse_held{kind="thread",provider="openai"} 1.0' in shown


def test_every_script_that_protects_counts() -> None:
    """What writes a key that protects says so; what takes something away needs not."""
    for name in SCRIPTS | PARTS:
        text = source(name)
        for key, command in (("holds", "HSET"), ("edges", "ZADD"), ("forgotten", "ZADD")):
            if f"'{command}', key('{key}')" in text and name != "protection":
                assert f"protect('{key}')" in text, name


OPENAI = [("openai", "thread")]


def told(world: World, event: str) -> list[tuple[str, str, str]]:
    return [(one["scope"], one["why"], one["actor"]) for one in world.audit() if one["event"] == event]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[None]]:
    """Return what lets a program end where it comes to one of these methods."""

    async def end(*_: object, **__: object) -> None:
        raise RegistryUnavailable("the program was killed")

    @contextmanager
    def at(method: str) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(Halts, method, end)
            yield

    return at


async def test_a_pause_whose_writer_ended_is_told_by_a_worker(
    world: World, ends: Callable[[str], AbstractContextManager[None]]
) -> None:
    halts = world.context().control

    with ends("_audit_all"), pytest.raises(RegistryUnavailable):
        await halts.pause("openai", "an incident", "ann", slots=OPENAI)
    assert "paused" == (await world.sweep()).result
    assert [] == told(world, "paused")
    with ends("_audit_all"), pytest.raises(RegistryUnavailable):
        await halts.unpause("openai", "ben", slots=OPENAI)
    assert "completed" == (await world.sweep()).result

    await halts.tell_owed(OPENAI)
    await halts.tell_owed(OPENAI)

    assert [("openai", "an incident", "ann")] == told(world, "paused")
    assert [("openai", "ends the pause: an incident", "ben")] == told(world, "unpaused")
    assert not [field for field in world.raw.hkeys("lapse:epoch") if field.startswith("owed|")]


async def test_an_end_that_never_came_is_not_told(world: World) -> None:
    halts = world.context().control
    await halts.pause("openai", "an incident", "ann", slots=OPENAI)
    world.raw.hset("lapse:epoch", "owed|unpaused|openai", '{"why":"ends the pause: an incident","actor":"ben"}')

    await halts.tell_owed(OPENAI)

    assert [] == told(world, "unpaused")
    assert "paused" == (await world.sweep()).result
