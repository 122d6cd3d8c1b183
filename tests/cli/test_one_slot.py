"""What an operator's commands, a worker and a scrape ask of Redis names keys of one hash slot, command by command."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from lapse import Registry
from lapse.metrics.collector import exposition
from lapse.policy.reload import ConfigFile
from support import slots
from support.commandline import ENFORCED, Desk


@pytest.fixture(autouse=True)
def one_slot() -> Iterator[None]:
    """Let what is wrong on purpose here be nobody else's."""
    yield
    if slots.EVERYWHERE:
        slots.EVERYWHERE.found()


def applied(desk: Desk, registry: Registry) -> None:
    """Say all that an application says."""
    registry.register(
        "conversation", "conv_1", "chat", uses=[("file", "file_1"), ("thread", "thread_1")], subject="user:1"
    )
    registry.register("thread", "thread_1", "chat", subject="user:1")
    registry.touch("thread", "thread_1")
    registry.hold("thread", "thread_1", reason="case 7")
    registry.unhold("thread", "thread_1")
    registry.hold_subject("user:2", reason="case 8")
    registry.expire("conversation", "conv_1")
    registry.forget("file", "file_1")
    registry.deleted("file", "file_2")
    assert registry.resources(subject="user:1").records


def test_of_an_operator_a_worker_and_a_scrape_every_command_has_keys_of_one_slot(desk: Desk, redis_url: str) -> None:
    with slots.watched(redis_url) as watch, redis.Redis.from_url(redis_url, decode_responses=True) as client:
        applied(desk, desk.registry)
        desk.seed(3, subject="user:3", uses=[("file", "file_3")])
        desk.good("plan", "-o", "plan.json")
        assert "3 deleted" in desk.run("apply", "plan.json", "--confirm=openai").out
        desk.configure(ENFORCED)
        seeded = desk.seed(5)
        desk.worker(sweeps=2)
        for command in ("status", "ls", "resources --subject user:1"):
            desk.run(*command.split())
        desk.good("explain", "thread", seeded[0])
        desk.good("hold", "thread", "thread_1", "--reason", "case 9")
        desk.good("pause", "--reason", "deploy")
        desk.good("resume", "--reason", "done")
        desk.good("export", "-o", "registry.jsonl")
        desk.run("erase", "--subject", "user:1", "--request-id", str(uuid.uuid4()), "--confirm=openai")
        desk.erases()
        exposition(client, ConfigFile(desk.config, desk.environ))

    assert 1 == desk.raw.hlen("lapse:erasures")
    assert set(seeded).isdisjoint(desk.sandbox.alive("thread"))
    assert watch.looked > 500


@pytest.mark.parametrize(
    "command",
    [
        ("EXISTS", "{a}1", "{b}1"),
        ("SINTER", "{a}1", "{b}1"),
        ("EVAL", "return 1", "2", "{a}1", "{b}1"),
        ("EVAL", "redis.call('GET', '{b}1')", "1", "{a}1"),
    ],
    ids=" ".join,
)
def test_two_slots_in_one_command_or_script_are_found(redis_url: str, command: tuple[str, ...]) -> None:
    with redis.Redis.from_url(redis_url) as client, pytest.raises(AssertionError), slots.watched(redis_url):
        client.execute_command(*command)


@pytest.mark.parametrize("transaction", [True, False])
def test_two_slots_in_one_transaction_are_found_and_one_after_the_other_are_well(
    redis_url: str, *, transaction: bool
) -> None:
    with redis.Redis.from_url(redis_url) as client, closing(slots.SlotWatch(redis_url, [])) as watch:
        with client.pipeline(transaction=transaction) as pipe:
            pipe.get("{a}1").get("{b}1").execute()
        watch.settle()

    assert transaction == bool(watch.found)
