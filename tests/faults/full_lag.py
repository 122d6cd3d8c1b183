"""A lagging replica becomes the primary: what was acknowledged within the lag is lost; a hold that was told is not."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from faults.proxy import Proxy
from lapse import Registry
from lapse.errors import LapseError, Unreplicated
from lapse.guards.integrity.replication import IN_FORCE
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.pools.plain import client_of
from lapse.registry.pools.replicas import Replicas
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis
from support.clusters import AT_ONCE, until, watched
from support.erased_places import lapse_leases, wait_out
from support.recording import RecordingRegistry
from support.sandbox_fixture import sandbox, sandbox_server
from support.world import DAY, World

__all__ = ["sandbox", "sandbox_server"]
pytestmark = pytest.mark.timeout(300)
PUBLISHED = keys.published("lapse")
SPEAKING = 3.0
STANDING = 12.0
"""Seconds: with more than ten of them gone, workers know that this is an older state of their registry."""
FOR_EVER = 3600.0
SLACK = 1.0
"""Seconds by which a busy machine may lag more than it was told to."""


@dataclass
class Behind:
    """A registry whose replica lags, and what ends the primary."""

    url: str
    primary: EmbeddedRedis
    proxy: Proxy
    killed: float = 0.0
    followed: float = 0.0

    def kill(self) -> None:
        """End the primary; note when."""
        self.primary.stop(kill=True)
        self.killed = time.time()


class Speaker(threading.Thread):
    """An application that says one thing of one id after the other, and remembers when that was acknowledged.

    Attributes:
        said: Id -> when, in seconds since 1970, of what was answered truly.
        doubted: What was answered falsely.

    """

    def __init__(self, ids: Iterable[str], say: Callable[[str], object]) -> None:
        super().__init__(daemon=True)
        self.said: dict[str, float] = {}
        self.doubted: list[str] = []
        self.ended = threading.Event()
        self._ids, self._say = ids, say

    def run(self) -> None:
        for id_ in self._ids:
            if self.ended.is_set():
                return
            with suppress(LapseError):
                if self._say(id_):
                    self.said[id_] = time.time()
                else:
                    self.doubted.append(id_)
            time.sleep(0.002)


@pytest.fixture(params=[0.05, 0.5, FOR_EVER], ids=["50 ms", "half a second", "for ever"])
def lag(request: pytest.FixtureRequest) -> float:
    """Seconds by which the replica lags."""
    return float(request.param)


@pytest.fixture
def behind(clean_environment: None, tmp_path: Path) -> Iterator[Behind]:
    with ExitStack() as stack:
        primary = stack.enter_context(EmbeddedRedis(*AT_ONCE))
        proxy = stack.enter_context(Proxy(primary.port))  # Sentinels and the replica know the primary by its address
        url, _ = watched(stack, tmp_path, proxy.port)
        with client_of(url) as client:
            client.hset(PUBLISHED, IN_FORCE, 1)
            until(lambda: client.execute_command("WAIT", 1, 100) == 1, "the replica is in step")
        yield Behind(url, primary, proxy)


@pytest.fixture
async def world(behind: Behind, sandbox: Sandbox) -> AsyncIterator[World]:
    carrier = Carrier(behind.url, 5)
    carrier.replicas = Replicas(1, 1.0)
    made = World(behind.url, sandbox, carrier)
    made.rule = replace(made.rule, anchor="last_active_at")
    yield made
    for provider in made.open:
        await provider.aclose()
    made.registry.close()
    made.raw.close()
    await carrier.aclose()


async def test_a_failover_loses_what_was_acknowledged_within_the_lag_and_no_hold_that_was_told(
    behind: Behind, world: World, lag: float
) -> None:
    (used,) = world.seed(1)
    assert world.registry.touch("thread", used) == "ok"
    await world.sweep()
    stock = world.seed(4000)
    assert world.raw.execute_command("WAIT", 1, 5000) == 1
    behind.proxy.lag = lag
    if lag == FOR_EVER:
        with pytest.raises(Unreplicated, match="0 of 1 replicas had it"):
            await world.sweep()
        assert [] == world.deletes()
    registering, touching, holding = await asyncio.to_thread(
        spoken, behind, world, stock, SPEAKING if lag < SPEAKING else STANDING
    )
    registered, touched = before(behind, registering), before(behind, touching)
    forgotten = {id_: at for id_, at in registered.items() if world.registry.get("thread", id_) is None}
    untouched = {id_: at for id_, at in touched.items() if not active_since(world, id_, at)}
    told(lag, behind, (registered, forgotten), (touched, untouched), holding)

    with pytest.raises(Unreplicated):  # the one server that is left has no replica
        await world.sweep()
    assert [] == world.deletes()
    world.carrier.replicas = Replicas()
    if lag == FOR_EVER:
        assert "an older state of this Redis" in (await world.sweep()).detail
        assert ([], {}) == (world.deletes(), holding.said)
        return
    await swept(world)
    alive = world.sandbox.alive("thread")
    assert len(world.deletes()) > 100
    assert {*holding.said} | {*touched} - {*untouched} <= alive
    assert holding.said
    assert all(behind.killed - at < lag + SLACK for at in (*forgotten.values(), *untouched.values()))
    swears_to_no_more(world, register=forgotten, touch=untouched, hold=holding.doubted)
    assert [] == world.judge()


def swears_to_no_more(world: World, **lost: Iterable[str]) -> None:
    """Take back what was said and is lost, verb by verb: it was counted, and the rest is judged."""
    gone = {(verb, id_) for verb, ids in lost.items() for id_ in ids}
    world.registry.calls[:] = [one for one in world.registry.calls if (one.verb, one.resource.id) not in gone]


def spoken(behind: Behind, world: World, stock: list[str], seconds: float) -> list[Speaker]:
    """Let an application register, touch and hold until the primary is killed, and for a while after."""
    with RecordingRegistry(behind.url, provider="openai", timeout=1.5) as registry:
        registry.calls = world.registry.calls
        everybody = [
            Speaker((f"new_{n}" for n in count()), lambda id_: registry.register("thread", id_, "chat").governed_by),
            Speaker(stock[:3000], lambda id_: registry.touch("thread", id_) == "ok"),
            Speaker(stock[3000:], lambda id_: registry.hold("thread", id_, reason="case 7")),
        ]
        speak(everybody, behind, seconds)
    return everybody


def speak(everybody: Iterable[Speaker], behind: Behind, seconds: float) -> None:
    """Let them do so, each on a thread of its own."""
    for one in everybody:
        one.start()
    time.sleep(seconds)
    behind.kill()
    with Registry(behind.url, provider="openai", timeout=1) as asking:
        until(lambda: answers(asking), "the replica is the primary")
    behind.followed = time.time()
    time.sleep(0.5)
    for one in everybody:
        one.ended.set()
        one.join(30)


def answers(registry: Registry) -> bool:
    with suppress(LapseError):
        return registry.touch("thread", "nobody") == "unknown"
    return False


def before(behind: Behind, speaker: Speaker) -> dict[str, float]:
    """Return what the old primary acknowledged; an answer may have been on its way when it ended."""
    return {id_: at for id_, at in speaker.said.items() if at < behind.followed}


def active_since(world: World, id_: str, at: float) -> bool:
    """Return True if the registry has a touch that was acknowledged then."""
    record = world.registry.get("thread", id_)
    return record is not None and record.last_active_at is not None and record.last_active_at.timestamp() > at - DAY


async def swept(world: World) -> None:
    """Sweep until nothing is due; the claims whose requests were not sent come back after their leases."""
    lapse_leases(world)
    for _ in range(100):
        report = await world.sweep()
        wait_out(world)
        if not report.due:
            return


def told(
    lag: float,
    behind: Behind,
    registered: tuple[dict[str, float], dict[str, float]],
    touched: tuple[dict[str, float], dict[str, float]],
    holding: Speaker,
) -> None:
    """Say what was lost, and how old the oldest of it was: what the document says comes from here."""
    for what, (said, lost) in (("registrations", registered), ("touches", touched)):
        oldest = max((behind.killed - at for at in lost.values()), default=0.0)
        print(f"lag {lag:g} s: of {len(said):,} {what} {len(lost):,} lost, the oldest {oldest:.2f} s before the end")
    print(f"lag {lag:g} s: {len(holding.said):,} holds told, {len(holding.doubted):,} unreplicated")
