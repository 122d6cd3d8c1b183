"""The application without its processes: settings, beat's schedule, messages, slices, stopping."""

import base64
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
import redis

from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.registry.scripts import Call
from lapse.runtime import loop
from lapse.runtime.beat import STAMPS, BeatClock, Scheduler, schedule
from lapse.runtime.host import Host
from lapse.runtime.shutdown import Stop
from lapse.sandbox.redis_server import free_port
from support.deployment import HEAD, Deployment, policy
from support.lua import named

ORPHANS = """
[policies.idle]
kind = "assistant"
orphan = { min_age = "2d" }
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Return lapse.app, imported as Celery imports it: with a config to be found."""
    path = tmp_path_factory.mktemp("import") / "retention.toml"
    path.write_text(HEAD.format(directory=path.parent, base_url="http://127.0.0.1:9/v1") + policy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAPSE_CONFIG", str(path))
        patch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
        import lapse.app  # noqa: PLC0415 - importing it is what the fixture is for

        yield lapse.app


def messages(raw: redis.Redis) -> list[dict[str, Any]]:
    """Return what waits in the queue."""
    waiting: Any = raw.lrange("lapse:{broker}:lapse", 0, -1)
    return [json.loads(message) for message in waiting]


@pytest.fixture
def host(deployment: Deployment) -> Host:
    deployment.configure(policy(), policy("long", kind="conversation", ttl="30d", every='"10m"'), ORPHANS)
    return Host({"REDIS_URL": deployment.url}, deployment.directory)


def test_celery_is_set_so_that_a_message_can_only_be_a_wake_up(module: ModuleType, host: Host) -> None:
    conf = module.Lapse(host).conf

    assert conf.accept_content == ["json"]
    assert {conf.task_serializer, conf.result_serializer, conf.event_serializer} == {"json"}
    assert conf.task_default_queue == "lapse"
    assert conf.task_acks_late is False
    assert conf.task_ignore_result is True
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_enable_remote_control is False
    assert conf.worker_hijack_root_logger is False
    assert conf.task_time_limit > conf.task_soft_time_limit > host.config.sweep.budget
    options = conf.broker_transport_options
    assert options["global_keyprefix"] == "lapse:{broker}:"
    assert options["visibility_timeout"] > conf.task_time_limit
    assert {options["socket_timeout"], options["health_check_interval"]} == {10}


def test_the_configs_broker_is_taken_whatever_the_environment_says(
    module: ModuleType, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.configure(policy(), head=HEAD + '[celery]\nbroker_url = "redis://127.0.0.1:6390/5"\n')
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:6391/7")
    host = Host({"REDIS_URL": deployment.url, "CELERY_BROKER_URL": "redis://127.0.0.1:6391/7"}, deployment.directory)

    app = module.Lapse(host)

    assert "[celery] broker_url" in host.broker.origin
    for connection in (app.connection_for_read(), app.connection_for_write(), app.connection()):
        assert connection.as_uri().endswith("@127.0.0.1:6390/5")


def test_every_rule_has_an_entry_and_the_house_is_kept(host: Host) -> None:
    entries = schedule(host.config, lambda: 7)

    assert {name: (entry["task"], entry["schedule"]) for name, entry in entries.items()} == {
        "lapse.housekeeping": ("lapse.housekeeping", timedelta(seconds=1)),
        "openai/thread/chat": ("lapse.sweep_expired", timedelta(seconds=1)),
        "openai/conversation/long": ("lapse.sweep_expired", timedelta(minutes=10)),
        "openai/assistant/idle": ("lapse.sweep_orphans", timedelta(hours=1)),
    }
    assert entries["openai/thread/chat"]["args"] == ("openai", "thread", "chat")
    assert {7} == {entry["kwargs"]["sent"]() for entry in entries.values()}


def test_the_schedule_follows_the_file_while_beat_runs(module: ModuleType, host: Host, deployment: Deployment) -> None:
    beat = Scheduler(module.Lapse(host))
    sent_before = beat.schedule["openai/thread/chat"].last_run_at

    deployment.configure(policy(every='"5s"'), policy("fresh", ttl="1d"))
    beat._follow()

    assert set(beat.schedule) == {"lapse.housekeeping", "openai/thread/chat", "openai/thread/fresh"}
    assert beat.schedule["openai/thread/chat"].schedule.run_every == timedelta(seconds=5)
    assert beat.schedule["openai/thread/chat"].last_run_at == sent_before
    assert beat.schedule["openai/thread/fresh"].is_due().is_due

    deployment.configure("[policies.broken]\n")
    beat._follow()

    assert "openai/thread/fresh" in beat.schedule
    beat.close()


def test_two_edits_between_two_ticks_are_both_followed(
    module: ModuleType, host: Host, deployment: Deployment, raw: redis.Redis, wait_until: Callable[..., None]
) -> None:
    def send_what_is_due() -> int:
        while beat.tick() == 0:
            pass
        return len([message for message in messages(raw) if message["headers"]["task"] == "lapse.sweep_expired"])

    beat = Scheduler(module.Lapse(host))
    for every in ("1h", "2h"):
        deployment.configure(policy(every=f'"{every}"'))
        sent = send_what_is_due()

    deployment.configure(policy(every='"300ms"'))

    wait_until(lambda: send_what_is_due() > sent, within=5, what="a tick by the last edit")
    beat.close()


def test_a_signal_closes_nothing_in_its_handler_and_is_not_lost_when_it_is_swallowed(
    module: ModuleType, host: Host, raw: redis.Redis
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    beat = Scheduler(module.Lapse(host))
    beat.tick()
    connection = beat.producer.connection
    try:
        beat.end_on_signals()
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        assert connection.connected
        with pytest.raises(SystemExit):
            beat.tick()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    beat.close()

    assert not connection.connected


def test_a_clock_that_is_set_back_delays_nothing(
    module: ModuleType, host: Host, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = Scheduler(module.Lapse(host))
    while beat.tick() == 0:
        pass
    sent, now, clock = len(messages(raw)), beat.app.now, time.time
    monkeypatch.setattr(beat.app, "now", lambda: now() - timedelta(hours=1))
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)

    while beat.tick() == 0:
        pass

    assert len(messages(raw)) >= 2 * sent > 0
    beat.close()


def test_a_tick_is_stamped_with_redis_time_and_carries_no_id(module: ModuleType, host: Host, raw: redis.Redis) -> None:
    beat = Scheduler(module.Lapse(host))
    while len(beat.schedule) > (raw.llen("lapse:{broker}:lapse")):
        beat.tick()
    beat.close()

    bodies = {one["headers"]["task"]: json.loads(base64.b64decode(one["body"])) for one in messages(raw)}
    args, kwargs, _ = bodies["lapse.sweep_orphans"]
    assert args == ["openai", "assistant", "idle"]
    assert list(kwargs) == ["sent"]
    assert abs(kwargs["sent"] - time.time() * 1000) < 10_000
    args, kwargs, _ = bodies["lapse.housekeeping"]
    assert (args, list(kwargs)) == ([], ["sent"])
    assert {one["content-type"] for one in messages(raw)} == {"application/json"}
    assert raw.hget("lapse:published", "beat") is not None


@pytest.fixture
def pulse() -> Iterator[Callable[[str], BeatClock]]:
    """Return what makes beat's clock of a registry; each is closed in the end."""
    made: list[BeatClock] = []

    def make(url: str) -> BeatClock:
        made.append(BeatClock(url, "lapse"))
        return made[-1]

    yield make
    for clock in made:
        clock.close()


Pulse = Callable[[str], BeatClock]


def test_what_is_sent_together_is_stamped_by_one_question(raw: redis.Redis, redis_url: str, pulse: Pulse) -> None:
    clock = pulse(redis_url)
    asked = raw.info("commandstats").get("cmdstat_time", {"calls": 0})["calls"]

    stamps = [clock() or 0 for _ in range(7)]

    assert 1 == raw.info("commandstats")["cmdstat_time"]["calls"] - asked
    assert sorted(stamps) == stamps
    first = int(str(raw.hget("lapse:published", "beat")))
    assert (first, True) == (stamps[0], first <= time.time() * 1000)


def test_later_the_registry_is_asked_again(
    raw: redis.Redis, redis_url: str, pulse: Pulse, wait_until: Callable[..., None]
) -> None:
    clock = pulse(redis_url)
    began = int(time.time() * 1000)  # the answer to the first question comes later than that: it opens a connection
    assert clock()
    raw.hdel("lapse:published", "beat")

    wait_until(lambda: clock() and raw.hexists("lapse:published", "beat"), within=10 * STAMPS)

    assert int(str(raw.hget("lapse:published", "beat"))) >= began + STAMPS * 1000


def test_a_beat_whose_registry_is_away_sends_unstamped(pulse: Pulse, capsys: pytest.CaptureFixture[str]) -> None:
    assert pulse(f"redis://127.0.0.1:{free_port()}/0")() is None
    assert "beat.unstamped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("children", "partitions", "every", "budget", "rate", "expected"),
    [
        (2, 1, 60.0, 50.0, None, 50.0),
        (2, 10, 60.0, 50.0, None, 12.0),
        (1, 3, 60.0, 50.0, None, 20.0),
        (1, 600, 60.0, 50.0, None, 1.0),
        (1, 600, 60.0, 50.0, 1.0, 3.0),
        (1, 3, 3600.0, 50.0, None, 50.0),
    ],
)
def test_a_slice_gives_every_partition_its_turn_within_the_shortest_interval(
    host: Host, *, children: int, partitions: int, every: float, budget: float, rate: float | None, expected: float
) -> None:
    rule = replace(host.config.rules[0], every=every)
    host.children = children
    host.config = replace(host.config, rules=(rule,) * partitions, sweep=replace(host.config.sweep, budget=budget))

    assert host.slice(host.config, replace(host.config.accounts["openai"], rate=rate)) == expected


async def test_a_message_that_a_run_has_overtaken_is_needless(redis_url: str) -> None:
    carrier = Carrier(redis_url, 5)

    async def wake(sent: int | str, *, apart: int = 0) -> int:
        return int(
            (await carrier.carry([Call(named("wake"), "lapse:{openai:thread}:", ("chat", sent, apart), int)]))[0]
        )

    first = round(time.time() * 1000) - 5000

    assert await wake(first) == 1
    assert await wake(first) == 0  # doubled
    assert await wake(first + 2000) == 0  # piled up while nobody ran
    await carrier.run([("HINCRBY", "lapse:{openai:thread}:chat:rules", "woken", -1)])  # a millisecond is over
    assert await wake(first + 60_000) == 1  # sent after that run began, and not later than now
    assert await wake(first + 120_000, apart=900_000) == 0  # an orphan rule's, too soon
    assert await wake("") == 1  # nobody could say when it was sent
    await carrier.aclose()


def test_where_nothing_stands_a_wake_up_is_all_of_a_sweep(host: Host, deployment: Deployment) -> None:
    at, rules = Partition("openai", "thread", "chat"), "lapse:{openai:thread}:chat:rules"
    made = loop.of(host)

    def asked() -> int:
        """Sweep, and return how many commands Redis carried out for it."""
        deployment.raw.hdel(rules, "woken")
        before = deployment.raw.info("stats")["total_commands_processed"]
        made.sweep(at, None)
        return int(deployment.raw.info("stats")["total_commands_processed"] - before - 1)

    whole = asked()
    assert asked() <= 8 < whole
    assert deployment.counters()["sweeps|chat|completed"] == 2

    for field, stale in (("digest", "another"), ("acted", "another"), ("base_at", "1"), ("failing_since", "1")):
        known = deployment.raw.hget(rules, field)
        deployment.raw.hset(rules, field, stale)
        assert asked() > 8, field
        deployment.raw.hset(rules, field, known) if known else deployment.raw.hdel(rules, field)
    deployment.raw.sadd("lapse:{openai:thread}:joined", "user:42")
    assert asked() > 8
    deployment.raw.delete("lapse:{openai:thread}:joined")
    deployment.seed(1)
    assert asked() > 8
    loop.close()


def test_one_processes_stop_reaches_those_forked_from_it() -> None:
    stop = Stop()
    if not (child := os.fork()):
        deadline = time.monotonic() + 10
        while not stop.is_set() and time.monotonic() < deadline:
            time.sleep(0.001)
        os._exit(0 if stop.is_set() else 1)
    assert not stop.is_set()

    stop.set()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stop.is_set()


def test_a_term_to_a_pool_process_ends_its_work_and_not_the_process() -> None:
    stop, before = Stop(), signal.getsignal(signal.SIGTERM)
    if not (child := os.fork()):
        with stop.on_term():
            os.kill(os.getpid(), signal.SIGTERM)
            during = stop.is_set()
        os._exit(0 if during and not stop.is_set() and signal.getsignal(signal.SIGTERM) is before else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with stop.on_term():  # the worker's own process keeps Celery's handler
        assert signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_partition_and_a_changed_registry_are_logged(
    host: Host, deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    made = loop.of(host)
    assert made.sweep(Partition("openai", "thread", "gone"), None) is None
    deployment.configure(policy(), head=HEAD.replace("[registry]", '[registry]\nnamespace = "other"'))
    host.current()
    loop.close()

    said = capsys.readouterr().out
    assert "partition.unknown" in said
    assert "config.needs_restart" in said
