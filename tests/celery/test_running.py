"""Real workers and beats: messages may be lost, doubled or late; processes may be many, stopped or told anew."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import HEAD, SLOT, Deployment, policy

Wait = Callable[..., None]


def deleted_once(deployment: Deployment, ids: list[str]) -> None:
    """Assert that the provider, the counters and the audit all saw exactly one deletion of each id."""
    asked = Counter(request["path"].rsplit("/", 1)[1] for request in deployment.deletes())
    assert asked == Counter(ids)
    assert deployment.counters()["deletions|chat|thread"] == len(ids)


def audited_once(deployment: Deployment, ids: list[str], wait_until: Wait) -> None:
    """Assert that every id has one intent and one outcome in the audit file, and nothing is left in Redis."""
    wait_until(lambda: deployment.raw.xlen(SLOT + "audit") == 0, what="an empty audit stream")
    lines = deployment.audited()
    seen = Counter((line["event"], line["id"]) for line in lines if line["id"])
    assert seen == Counter([("intent", id_) for id_ in ids] + [("settled", id_) for id_ in ids])
    assert len({line["seq"] for line in lines}) == len(lines)


@pytest.fixture
def send(deployment: Deployment) -> Iterator[Callable[..., None]]:
    """Return a way to send messages as beat does."""
    from celery.app.base import Celery  # type: ignore[import-untyped]  # noqa: PLC0415 - beside its use

    app = Celery(broker=deployment.url, set_as_current=False)
    app.conf.update(broker_transport_options={"global_keyprefix": "lapse:broker:"}, task_default_queue="lapse")

    def send_(name: str, *args: str, sent: int | None = None) -> None:
        app.send_task(name, args, {"sent": sent} if sent else {}, ignore_result=True)

    yield send_
    app.close()


def test_two_beats_and_two_workers_delete_everything_once(deployment: Deployment, wait_until: Wait) -> None:
    deployment.configure(policy())
    ids = deployment.seed(1000)
    workers = [deployment.worker(children=2), deployment.worker(children=2)]
    beats = [deployment.beat(), deployment.beat()]

    wait_until(lambda: not deployment.alive(), what="1000 deletions")

    audited_once(deployment, ids, wait_until)
    for program in [*beats, *workers]:
        assert program.stop()[0] == 0
        assert program.events(level="error") == []
    deleted_once(deployment, ids)
    assert not [name for name in deployment.counters() if name.startswith("crashes")]


def test_lost_messages_cost_an_interval_and_doubled_ones_nothing(
    deployment: Deployment, wait_until: Wait, send: Callable[..., None]
) -> None:
    deployment.configure(policy())
    beat = deployment.beat()
    wait_until(lambda: deployment.raw.llen("lapse:broker:lapse") >= 4, what="four ticks that nobody takes")
    deployment.raw.delete("lapse:broker:lapse")  # all of them are lost
    now = round(time.time() * 1000)
    for _ in range(200):
        send("lapse.sweep_expired", "openai", "thread", "chat", sent=now)
    ids = deployment.seed(100)
    beat.stop()
    worker = deployment.worker(children=2)

    wait_until(lambda: deployment.raw.llen("lapse:broker:lapse") == 0, what="an empty queue")
    for _ in range(2):
        before = len(worker.events("sweep.finished"))
        send("lapse.sweep_expired", "openai", "thread", "chat")
        wait_until(lambda before=before: len(worker.events("sweep.finished")) > before, what="a sweep more")
    deployment.beat()
    wait_until(lambda: not deployment.alive(), what="100 deletions")

    worker.stop()
    deleted_once(deployment, ids)
    # One of the 200 ran, and perhaps a continuation of it; none of the others.
    sweeps = worker.events("sweep.finished")
    assert sum(1 for sweep in sweeps if sweep["timestamp"] < sweeps[0]["timestamp"]) == 0
    assert len(sweeps) < 20


def test_a_term_ends_new_deletions_within_a_second(deployment: Deployment, wait_until: Wait) -> None:
    deployment.configure(policy())
    ids = deployment.seed(2000)
    deployment.provider.latency(0.05)
    worker = deployment.worker("--beat", children=2)
    wait_until(lambda: len(deployment.deletes()) > 50, what="the first deletions")

    told = time.time()
    code, took = worker.stop()

    assert code == 0
    assert took < 10
    assert max(request["time"] for request in deployment.deletes()) < told + 1
    left = deployment.alive()
    assert left
    assert deployment.counters()["deletions|chat|thread"] == 2000 - len(left)

    deployment.provider.latency(0)
    deployment.worker("--beat", children=2)
    wait_until(lambda: not deployment.alive(), what="the rest")
    audited = Counter(line["id"] for line in deployment.audited() if line["event"] == "settled")
    assert set(audited) <= set(ids)
    deleted_once(deployment, ids)


def test_a_term_to_the_whole_process_group_cuts_nothing_off(deployment: Deployment, wait_until: Wait) -> None:
    deployment.configure(policy())
    ids = deployment.seed(2000)
    deployment.provider.latency(0.05)
    worker = deployment.worker("--beat", children=2)
    wait_until(lambda: len(deployment.deletes()) > 50, what="the first deletions")

    told = time.time()
    code, took = worker.stop(group=True)

    assert code == 0
    assert took < 10
    assert max(request["time"] for request in deployment.deletes()) < told + 1
    assert deployment.counters()["deletions|chat|thread"] == 2000 - len(deployment.alive())

    deployment.provider.latency(0)
    again = deployment.worker("--beat", children=2)
    wait_until(lambda: not deployment.alive(), what="the rest")
    again.stop()
    deleted_once(deployment, ids)
    assert not [name for name in deployment.counters() if name.startswith("crashes")]


def test_a_changed_config_is_used_without_a_restart_and_an_invalid_one_never(
    deployment: Deployment, wait_until: Wait
) -> None:
    deployment.configure(policy(ttl="1h"))
    deployment.seed(10)
    kept = deployment.seed(5, "later", kind="conversation")
    worker = deployment.worker(children=2)
    beat = deployment.beat()
    wait_until(lambda: worker.events("sweep.finished", due=0, registered=10), what="a sweep with nothing due")

    deployment.configure(policy(ttl="1s"), policy("later", kind="conversation", ttl="1h"))
    wait_until(lambda: not deployment.alive(), what="10 deletions by the new ttl")
    wait_until(lambda: worker.events("sweep.finished", policy="later"), what="a sweep of the new policy")
    assert beat.events("config.loaded")
    (hash_,) = {line["hash"] for line in worker.events("config.loaded")}

    deployment.configure(policy(ttl="10"))
    wait_until(lambda: worker.events("config.invalid"), what="a word about the invalid file")
    more = deployment.seed(10)
    wait_until(lambda: not deployment.alive() & set(more), what="10 deletions by the last good config")
    assert worker.events("config.invalid")[0]["in_use"] == hash_
    assert "retention.toml" in worker.events("config.invalid")[0]["error"]
    published: Any = deployment.raw.hget("lapse:published", "config")
    assert json.loads(published)["ok"] is False
    assert deployment.alive("conversation") == set(kept)

    deployment.configure(policy(ttl="1h"), policy("later", kind="conversation", ttl="1s"))
    wait_until(lambda: not deployment.alive("conversation"), what="deletions by the corrected file")
    worker.stop()
    assert all(worker.events("config.invalid", pid=line["pid"]) == [line] for line in worker.events("config.invalid"))


def test_going_back_to_older_rules_works_in_every_process(deployment: Deployment, wait_until: Wait) -> None:
    deployment.configure(policy(ttl="1h"))
    worker = deployment.worker(children=3)
    deployment.beat()
    wait_until(lambda: worker.events("sweep.finished"), what="a sweep")
    deployment.configure(policy(ttl="2h"))
    wait_until(lambda: worker.events("config.loaded"), what="the new file to be used")
    wait_until(lambda: "2h" in deployment.config.read_text() and len(worker.events("sweep.finished")) > 3)

    deployment.configure(policy(ttl="1h"))
    seen = len(worker.events("sweep.finished"))
    wait_until(lambda: len(worker.events("sweep.finished")) > seen + 8, what="sweeps by the old rules")

    results = {line["result"] for line in worker.events("sweep.finished")}
    assert results <= {"completed", "refused"}
    assert worker.events("sweep.finished")[-1]["result"] == "completed"
    assert deployment.raw.hgetall(SLOT + "halts") == {}


def test_more_partitions_than_processes_are_all_served(deployment: Deployment, wait_until: Wait) -> None:
    names = ("one", "two", "three")
    deployment.configure(*(policy(name) for name in names), head=HEAD.replace('sweep = "1s"', 'sweep = "3s"'))
    for name in names:
        deployment.seed(5000, name)
    deployment.provider.latency(0.05)
    worker = deployment.worker("--beat", children=1)

    wait_until(lambda: len(worker.events("sweep.finished")) >= 12, within=60, what="twelve slices")

    served = Counter(line["policy"] for line in worker.events("sweep.finished"))
    assert set(served) == set(names)
    assert max(served.values()) - min(served.values()) <= 1
    assert all(line["seconds"] < 3 for line in worker.events("sweep.finished"))
    assert deployment.raw.llen("lapse:broker:lapse") < 20


def test_a_worker_goes_on_after_redis_was_away(deployment: Deployment, wait_until: Wait) -> None:
    from lapse.embedded import EmbeddedRedis  # noqa: PLC0415 - beside its use

    with EmbeddedRedis(persistent=True) as server:
        deployment.configure(policy())
        worker = deployment.worker("--beat", children=2, environ={"REDIS_URL": server.url})
        wait_until(lambda: worker.events("sweep.finished"), what="a sweep")

        server.stop()
        wait_until(lambda: worker.events(level="error"), what="errors about the lost Redis")
        seen = len(worker.events("sweep.finished"))
        server.start()

        wait_until(lambda: len(worker.events("sweep.finished")) > seen + 2, 40, what="sweeps after the outage")
        assert worker.stop()[0] == 0
