"""What is not exactly a message of lapse's is refused, logged and gone; the worker lives on and sweeps."""

import base64
import json
import pickle
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from lapse.runtime import messages
from support.deployment import HEAD, SLOT, Deployment, policy

Wait = Callable[..., None]
QUEUE = "lapse:{broker}:lapse"
DAY = 86_400_000


def message(
    task: str = messages.SWEEP_EXPIRED, args: Any = ("openai", "thread", "chat"), **said: Any
) -> dict[str, Any]:
    """Return a message as beat sends it."""
    return {
        "body": encoded([args, said, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": task, "id": "a1", "eta": None, "expires": None, "retries": 0, "timelimit": [None, None]},
        "properties": {
            "delivery_tag": "tag-1",
            "delivery_info": {"exchange": "", "routing_key": "lapse"},
            "priority": 0,
            "body_encoding": "base64",
        },
    }


def encoded(content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def changed(*path: str, to: Any) -> dict[str, Any]:
    """Return a message of which one thing is another."""
    made = deepcopy(message(sent=1))
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return made


class Code:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("forged", "w"))


CALLBACK: dict[str, Any] = {"task": "lapse.housekeeping", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
EMBEDDING = [["openai", "thread", "chat"], {}, {"callbacks": [CALLBACK], "errbacks": None, "chain": None}]
TWICE = base64.b64encode(b'[["openai", "thread", "chat"], {"sent": 1, "sent": 2}, {}]').decode()
FORGED: dict[str, dict[str, Any]] = {
    "another task": message("celery.chord_unlock"),
    "a task of Celery's": message("celery.backend_cleanup", ()),
    "pickle": changed("content-type", to="application/x-python-serialize")
    | {"body": base64.b64encode(pickle.dumps(Code())).decode()},
    "no arguments": message(args=()),
    "a list for a name": message(args=["openai", "thread", ["chat"]]),
    "a name that is none": message(args=["openai", "thread", "chat\nforged"]),
    "an argument more": message(args=["openai", "thread", "chat", "1"]),
    "a ttl": message(ttl=1),
    "sent as text": message(sent="now"),
    "sent as true": message(sent=True),
    "sent before time": message(sent=-1),
    "sent after time": message(sent=10**30),
    "sent twice": changed("body", to=TWICE),
    "a callback": changed("body", to=encoded(EMBEDDING)),
    "an eta": changed("headers", "eta", to="2099-01-01T00:00:00"),
    "an expiry": changed("headers", "expires", to="no time"),
    "retries": changed("headers", "retries", to=10**9),
    "a chord": changed("headers", "chord", to={"task": "x"}),
    "compression": changed("headers", "compression", to="application/x-bz2"),
    "no headers": changed("headers", to=None),
    "no id": changed("headers", "id", to=7),
    "no properties": changed("properties", to=[]),
    "no delivery tag": changed("properties", "delivery_tag", to=None),
    "no address": changed("properties", "delivery_info", to={}),
    "a priority": changed("properties", "priority", to="high"),
    "another encoding": changed("content-encoding", to="rot13"),
    "a body that is no base64": changed("body", to="!"),
    "a body that is no list": changed("body", to=encoded({"args": ["openai", "thread", "chat"]})),
    "a body that is no JSON": changed("body", to=base64.b64encode(b"{").decode()),
    "a body of an unknown encoding": changed("properties", "body_encoding", to="zip"),
    "a huge body": changed("body", to=encoded([["x" * 100_000] * 3, {}, {}])),
    "housekeeping with an argument": message(messages.HOUSEKEEPING, ["x"]),
    "erasing somebody": message(messages.ERASE, ["user:42"]),
    "an erasure of one subject": message(messages.ERASE, (), subject="user:42"),
}
NO_MESSAGES = [
    b"",
    b"{",
    b"null",
    b"[1]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"__type__": "datetime", "__value__": 7}',
    b"NaN",
]


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_what_lapse_never_sends_is_refused(forged: dict[str, Any]) -> None:
    assert messages.refusal(forged)


@pytest.mark.parametrize("sent", [{}, {"sent": None}, {"sent": 1_790_000_000_000}], ids=str)
def test_what_beat_and_workers_send_is_not(sent: dict[str, Any]) -> None:
    assert messages.refusal(message(**sent)) is None
    for task in (messages.HOUSEKEEPING, messages.ERASE):
        assert messages.refusal(message(task, [], **sent)) is None


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_whatever_stands_in_the_queue_the_worker_lives_on_and_says_what_it_refused(
    deployment: Deployment, wait_until: Wait, pool: str
) -> None:
    deployment.configure(policy())
    worker = deployment.worker(f"--pool={pool}")
    waiting: list[str | bytes] = [*(json.dumps(forged) for forged in FORGED.values()), *NO_MESSAGES]
    for one in waiting:
        deployment.raw.lpush(QUEUE, one)
    wait_until(lambda: deployment.raw.llen(QUEUE) == 0, what="an empty queue")
    wait_until(lambda: len(worker.events("message.refused")) == len(waiting), what="a word about each")

    ids = deployment.seed(5, created_at=time.time() - 3600)
    deployment.raw.lpush(QUEUE, json.dumps(message(sent=round(time.time() * 1000) + 10_000)))

    wait_until(lambda: not deployment.alive() & set(ids), what="5 deletions")
    wait_until(lambda: deployment.raw.hlen("lapse:{broker}:unacked") == 0, what="the last acknowledgement")
    assert not (deployment.directory / "forged").exists()
    assert "Traceback" not in worker.stderr
    assert [line for line in worker.events(level="error") if line["event"] != "message.refused"] == []
    assert worker.stop()[0] == 0


@pytest.mark.parametrize("limits", [[0.001, 0.001], [1e9, 1e9], "forged", [[], {}]], ids=str)
def test_how_long_a_sweep_may_take_is_not_the_messages_to_say(
    deployment: Deployment, wait_until: Wait, limits: object
) -> None:
    deployment.configure(policy())
    ids = deployment.seed(8, created_at=time.time() - 3600)
    deployment.provider.latency(0.1)
    worker = deployment.worker()
    deployment.raw.lpush(QUEUE, json.dumps(changed("headers", "timelimit", to=limits)))

    wait_until(lambda: worker.events("sweep.finished"), what="the sweep's end")

    assert not deployment.alive() & set(ids)
    assert [] == worker.events(level="error")


def test_what_cannot_be_put_back_is_dropped(deployment: Deployment, wait_until: Wait) -> None:
    """The broker keeps what was taken and not acknowledged; anybody who may write to it can add to that."""
    for n, text in enumerate(("{", "[]", "[1,2,3]", '[{"properties":{}},"","lapse"]')):
        deployment.raw.hset("lapse:{broker}:unacked", f"tag{n}", text)
        deployment.raw.zadd("lapse:{broker}:unacked_index", {f"tag{n}": 1})
    deployment.configure(policy())
    ids = deployment.seed(5)

    worker = deployment.worker("--pool=solo")
    deployment.beat()

    wait_until(lambda: not deployment.alive() & set(ids), what="5 deletions")
    wait_until(lambda: deployment.raw.hlen("lapse:{broker}:unacked") <= 1, within=30, what="the end of what is none")
    assert worker.alive()
    assert "Traceback" not in worker.stderr


def test_a_forged_time_runs_an_orphan_rule_no_oftener_than_its_interval(
    deployment: Deployment, wait_until: Wait
) -> None:
    """Three listings that show an object unused collect it: messages must not be what makes them three."""
    orphan = 'orphan = { min_age = "1s", seen = 3, max_share = "unlimited" }'
    rule = f'[policies.idle]\nkind = "assistant"\nmode = "enforce"\nevery = "1h"\n{orphan}\n'
    deployment.configure(policy(ttl="30d"), rule, head=HEAD)
    used, idle = deployment.seed(2, "idle", kind="assistant")
    deployment.seed(1, uses=[("assistant", used)])
    worker = deployment.worker()
    at = round(time.time() * 1000)
    times: list[dict[str, Any]] = [
        {"sent": at + DAY},
        {"sent": messages.LATEST},
        {"sent": None},
        {},
        {"sent": at + 30_000},
    ]
    for said in times * 4:
        deployment.raw.lpush(
            QUEUE, json.dumps(message(messages.SWEEP_ORPHANS, ["openai", "assistant", "idle"], **said))
        )

    wait_until(lambda: deployment.raw.llen(QUEUE) == 0, what="an empty queue")
    wait_until(lambda: worker.events("sweep.finished", policy="idle"), what="one listing")
    deployment.raw.lpush(QUEUE, json.dumps(message(messages.HOUSEKEEPING, [], sent=messages.LATEST)))
    wait_until(lambda: deployment.raw.hget("lapse:published", "tick"), what="the tick")

    assert len(worker.events("sweep.finished", policy="idle")) == 1
    assert idle in deployment.alive("assistant")
    tick: Any = deployment.raw.hget("lapse:published", "tick")
    assert int(tick) <= time.time() * 1000 + 1000
    assert deployment.raw.hgetall(SLOT + "halts") == {}
