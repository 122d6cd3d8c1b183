"""``make test-faults``: the clock of a worker's machine is wrong, or set while it works; that of Redis jumps."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults import operator, registry
from faults.clock import Clock
from faults.rig import Rig, rig_on
from lapse.sandbox.redis_server import server_binary
from oracle.history import Violation
from support.deployment import Process, policy
from support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.timeout(300)
NOTICED = 10.0
MONTH = 30 * 86400.0
LIVING = (policy(), policy("long", ttl="12h"))


@pytest.fixture
def here(tmp_path: Path) -> Clock:
    """Return the clock of a machine on which workers and beats run."""
    return Clock(tmp_path / "here.clock")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the machine on which the Redis of ``jumping`` runs."""
    clock = Clock(tmp_path / "there.clock")
    monkeypatch.setenv("LAPSE_TEST_SERVER", str(clock.wrap(server_binary(), tmp_path / "server")))
    return clock


@pytest.fixture
def jumping(
    there: Clock,
    tmp_path: Path,
    provider_process: SandboxProcess,
    wait_until: Callable[..., None],
) -> Iterator[Rig]:
    """Return a rig whose Redis has a clock that the test sets."""
    provider_process.reset()
    with rig_on(tmp_path, provider_process, wait_until) as made:
        yield made


def living(rig: Rig) -> set[str]:
    """Register what has to live: by its policy, and by its own expiry."""
    return {*rig.seed(30, "long"), *rig.seed(30, "long", expires_in="1h")}


def began(rig: Rig, worker: Clock | None = None, beat: Clock | None = None) -> Process:
    """Start a worker and a beat with their clocks, and wait until something was deleted."""
    rig.configure(*LIVING)
    rig.beat(environ=beat.environ if beat else None)
    started = rig.worker(children=2, environ=worker.environ if worker else None)
    rig.gone(rig.seed(20), registry.CONSUMING)
    return started


def jump(rig: Rig, there: Clock, offset: str, seconds: float) -> None:
    """Set the clock of Redis and wait until it shows."""
    there.set(offset)
    rig.wait_until(lambda: abs(rig.raw.time()[0] - time.time() - seconds) < 2, what="the jump")


def judged(rig: Rig, bound: float, seconds: float) -> list[Violation]:
    """Return what is wrong with all that happened, once each record that a clock misdated has the right time.

    Args:
        rig: Where it happened.
        bound: Within how many seconds what is due had to be settled.
        seconds: By how much the clock of Redis had jumped.

    """
    rig.settled()
    history = rig.history(bound=bound)

    def right(record: Mapping[str, Any]) -> Mapping[str, Any]:
        jumped = not history.began - NOTICED < record["at"] / 1000 < history.ended + NOTICED
        return {**record, "at": record["at"] - round(seconds * 1000)} if jumped else record

    true = replace(history, audit=tuple(right(one) for one in history.audit))
    return rig.verdict_on(true)


@pytest.mark.parametrize("beats", ["on the same machine", "elsewhere"])
@pytest.mark.parametrize("offset", ["+1d", "-1d", "+10y", "-10y"])
def test_a_wrong_clock_of_a_worker_makes_nothing_due_and_keeps_nothing_alive(
    rig: Rig, here: Clock, offset: str, beats: str
) -> None:
    here.set(offset)
    alive = living(rig)
    began(rig, here, here if beats == "on the same machine" else None)
    rig.gone(rig.seed(100), registry.CONSUMING)

    assert alive <= rig.alive()
    rig.judge(within=registry.CONSUMING)


@pytest.mark.parametrize("offset", ["+1d", "-1d"])
def test_a_clock_that_is_set_while_workers_and_beat_run_changes_nothing(rig: Rig, here: Clock, offset: str) -> None:
    alive = living(rig)
    began(rig, here, here)

    here.set(offset)
    rig.gone(rig.seed(100), registry.CONSUMING)
    here.set("+0")
    rig.gone(rig.seed(100), registry.CONSUMING)

    assert alive <= rig.alive()
    rig.judge(within=registry.CONSUMING)


@pytest.mark.parametrize(("offset", "seconds"), [("+30d", MONTH), ("-1h", -3600.0)])
def test_a_jump_of_redis_halts_before_any_claim_until_it_is_made_good(
    jumping: Rig, there: Clock, offset: str, seconds: float
) -> None:
    alive = living(jumping)
    worker = began(jumping)
    jumping.settled()
    before = len(jumping.traffic.deletes())

    jump(jumping, there, offset, seconds)
    jumping.wait_until(lambda: worker.events("guard.tripped", guard="clock_jumped"), NOTICED, what="the halt")
    time.sleep(5)  # five more sweeps
    assert len(jumping.traffic.deletes()) == before

    jump(jumping, there, "+0", 0)
    jumping.gone(jumping.seed(20), 30)
    assert alive <= jumping.alive()
    jumping.judge(within=30)


@pytest.mark.parametrize(("offset", "seconds"), [("+30d", MONTH), ("-1h", -3600.0)])
def test_a_jump_of_redis_within_a_sweep_claims_nothing_more(
    jumping: Rig, there: Clock, offset: str, seconds: float
) -> None:
    alive = living(jumping)
    worker = began(jumping)
    jumping.provider.faults([{"method": "DELETE", "latency": "50ms"}])
    ids = jumping.seed(1000)
    jumping.wait_until(lambda: len(jumping.traffic.deletes()) > 100, what="the middle of a sweep")

    jump(jumping, there, offset, seconds)
    jumping.wait_until(lambda: worker.events("guard.tripped", guard="clock_jumped"), NOTICED, what="the halt")
    time.sleep(5)
    stopped = len(jumping.traffic.deletes())
    time.sleep(5)
    assert len(jumping.traffic.deletes()) == stopped < 1000

    jump(jumping, there, "+0", 0)
    jumping.gone(ids, 60)
    assert alive <= jumping.alive()
    assert judged(jumping, 60, seconds) == []


def test_a_step_back_that_an_operator_accepts_goes_on_by_the_new_clock(jumping: Rig, there: Clock) -> None:
    alive = living(jumping)
    worker = began(jumping)
    jumping.settled()

    jump(jumping, there, "-1h", -3600)
    jumping.wait_until(lambda: worker.events("guard.tripped", guard="clock_jumped"), NOTICED, what="the halt")
    refused = operator.said(jumping, "resume", "--reason", "it is right", "--confirm=openai")
    assert "put it right first" in refused.stderr

    jump(jumping, there, "-4m", -240)
    operator.lapse(jumping, "resume", "--reason", "the clock was four minutes fast", "--confirm=openai")
    jumping.gone(jumping.seed(20), 30)

    assert alive <= jumping.alive()
    assert judged(jumping, 30, -240) == []
