"""Two namespaces on one Redis and at one provider: neither deletes, or takes for an orphan, what is the other's."""

import time

from lapse import Registry
from support.commandline import CHAT, HEAD, Desk

POLICIES = (
    CHAT
    + """mode = "enforce"
[policies.idle]
kind = "assistant"
orphan = { min_age = "100ms", seen = 2, max_share = "unlimited", uses = "none" }
mode = "enforce"
every = "100ms"
"""
)
MONTH = 30 * 86400.0


def test_one_deletes_nothing_of_the_other(desk: Desk) -> None:
    theirs = Registry(desk.environ["REDIS_URL"], namespace="theirs", provider="openai", timeout=5)
    desk.raw.hset("lapse:epoch", mapping={"id": "fedcba987654", "created": 1})
    mine_due = desk.seed(5)
    mine_orphans = desk.seed(3, kind="assistant", policy="idle")
    threads = desk.sandbox.seed("thread", 4)
    assistants = desk.sandbox.seed("assistant", 4)
    old = time.time() - MONTH
    for thread, assistant in zip(threads, assistants, strict=True):
        theirs.register("thread", thread, "chat", uses=[("assistant", assistant)], created_at=old)
        theirs.hold("thread", thread, reason="theirs")
        theirs.register("assistant", assistant, "idle", created_at=old)

    desk.configure(POLICIES)
    desk.worker(sweeps=1)
    time.sleep(0.2)  # min_age
    desk.worker(sweeps=3)

    assert not {*mine_due, *mine_orphans} & (desk.sandbox.alive("thread") | desk.sandbox.alive("assistant"))
    assert set(threads) == desk.sandbox.alive("thread")
    assert set(assistants) == desk.sandbox.alive("assistant")

    desk.configure(POLICIES, head=HEAD.replace("[registry]\n", '[registry]\nnamespace = "theirs"\n'))
    desk.worker(sweeps=3)

    assert set(threads) == desk.sandbox.alive("thread")
    assert set(assistants) == desk.sandbox.alive("assistant")
    theirs.close()
