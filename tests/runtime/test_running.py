"""Real workers and beats: messages may be lost, doubled or late; processes may be many, stopped or told anew."""

import json
import os
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from celery.app.base import Celery  # type: ignore[import-untyped]

from lapse.audit.chain import Seal
from lapse.audit.verify import Verification
from lapse.sandbox.redis_server import EmbeddedRedis
from support.deployment import HEAD, SLOT, Deployment, policy

Wait = Callable[..., None]


def deleted_once(deployment: Deployment, ids: list[str], wait_until: Wait) -> None:
    """Assert that the provider and the counters saw exactly one deletion of each id."""
    wait_until(lambda: deployment.counters()["deletions|chat|thread"] >= len(ids), what="the last outcomes")
    asked = Counter(request["path"].rsplit("/", 1)[1] for request in deployment.deletes())
    assert asked == Counter(ids)
    assert deployment.counters()["deletions|chat|thread"] == len(ids)


def only_begun_went_on(deployment: Deployment, told: float, processes: int) -> bool:
    """Return True if no more deletions came a second after the end was told than were begun: a busy machine is late."""
    later = [request for request in deployment.deletes() if request["time"] > told + 1]
    return len(later) <= processes * deployment.in_flight


def audited_once(deployment: Deployment, ids: list[str], wait_until: Wait) -> None:
    """Assert that every id has one outcome in the audit file, each intent one end, and nothing is left in Redis."""
    wait_until(lambda: deployment.counters()["deletions|chat|thread"] >= len(ids), what="the last outcomes")
    wait_until(lambda: deployment.raw.xlen(SLOT + "audit") == 0, what="an empty audit stream")
    lines = deployment.audited()
    seen = Counter((line["event"], line["id"]) for line in lines if line["id"])
    assert {id_: seen["settled", id_] for id_ in ids} == dict.fromkeys(ids, 1)
    # On a busy machine a slice may end with claims not begun: they go back.
    assert {id_: seen["intent", id_] - seen["released", id_] for id_ in ids} == dict.fromkeys(ids, 1)
    assert len({line["seq"] for line in lines}) == len(lines)


@pytest.fixture
def send(deployment: Deployment) -> Iterator[Callable[..., None]]:
    """Return a way to send messages as beat does."""
    app = Celery(broker=deployment.url, set_as_current=False)
    app.conf.update(broker_transport_options={"global_keyprefix": "lapse:{broker}:"}, task_default_queue="lapse")

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
    deployment.stop_all()
    for program in [*beats, *workers]:
        assert program.wait() == 0
        assert program.events(level="error") == []
    deleted_once(deployment, ids, wait_until)
    assert not [name for name in deployment.counters() if name.startswith("crashes")]


def test_a_chain_through_two_policies_ends_long_before_the_next_tick(deployment: Deployment, wait_until: Wait) -> None:
    """What a sweep frees in another partition is swept at once."""
    store = policy("stores", kind="vector_store")
    file = policy("files", kind="file")
    deployment.configure(store, file, head=HEAD.replace('sweep = "1s"', 'sweep = "10m"'))
    links = [("vector_store", "stores"), ("file", "files")] * 5
    ids: list[str] = []
    for n, (kind, name) in enumerate(links):
        uses = [(links[n - 1][0], ids[n - 1])] if n else []
        ids += deployment.seed(1, name, kind, uses=uses, created_at=time.time() - 3600)
    deployment.worker()
    deployment.beat()

    began = time.monotonic()
    wait_until(
        lambda: not deployment.alive("vector_store") | deployment.alive("file"), what="ten links of a chain", within=60
    )

    assert time.monotonic() - began < 60
    asked = [request["path"].rsplit("/", 1)[1] for request in deployment.deletes()]
    assert list(reversed(ids)) == asked


def test_lost_messages_cost_an_interval_and_doubled_ones_nothing(
    deployment: Deployment, wait_until: Wait, send: Callable[..., None]
) -> None:
    deployment.configure(policy(ttl="100ms"))
    beat = deployment.beat()
    wait_until(lambda: deployment.raw.llen("lapse:{broker}:lapse") >= 4, what="ticks that nobody takes")
    beat.stop()
    deployment.raw.delete("lapse:{broker}:lapse")  # all of them are lost
    ids = deployment.seed(100)
    now = round(time.time() * 1000)
    for _ in range(200):
        send("lapse.sweep_expired", "openai", "thread", "chat", sent=now)

    worker = deployment.worker(children=2)
    wait_until(lambda: deployment.raw.llen("lapse:{broker}:lapse") == 0, what="an empty queue")
    wait_until(lambda: not deployment.alive(), what="100 deletions")
    wait_until(lambda: worker.events("sweep.finished"), what="the end of the sweep")

    assert worker.stop()[0] == 0
    assert len(worker.events("sweep.finished")) == 1
    more = deployment.seed(100)
    deployment.worker("--beat", children=2)
    wait_until(lambda: not deployment.alive(), what="100 more")
    deleted_once(deployment, ids + more, wait_until)


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
    assert only_begun_went_on(deployment, told, 2)
    left = deployment.alive()
    assert left
    assert deployment.counters()["deletions|chat|thread"] == 2000 - len(left)

    deployment.provider.latency(0)
    deployment.worker("--beat", children=2)
    wait_until(lambda: not deployment.alive(), what="the rest")
    deleted_once(deployment, ids, wait_until)


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
    assert only_begun_went_on(deployment, told, 2)
    assert deployment.counters()["deletions|chat|thread"] == 2000 - len(deployment.alive())

    deployment.provider.latency(0)
    again = deployment.worker("--beat", children=2)
    wait_until(lambda: not deployment.alive(), what="the rest")
    again.stop()
    deleted_once(deployment, ids, wait_until)
    assert not [name for name in deployment.counters() if name.startswith("crashes")]


def test_a_killed_worker_leaves_no_process_behind(deployment: Deployment, wait_until: Wait) -> None:
    def anyone() -> bool:
        try:
            os.killpg(worker.pid, 0)
        except ProcessLookupError:
            return False
        return True

    deployment.configure(policy())
    worker = deployment.worker("--beat", children=2)
    assert anyone()

    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()

    wait_until(lambda: not anyone(), what="the end of its children and its beat")


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
    often = HEAD.replace('sweep = "1s"', 'sweep = "200ms"')
    deployment.configure(policy(ttl="1h"), head=often)
    worker = deployment.worker(children=3)
    deployment.beat()
    wait_until(lambda: worker.events("sweep.finished"), what="a sweep")
    deployment.configure(policy(ttl="2h"), head=often)
    wait_until(lambda: worker.events("config.loaded"), what="the new file to be used")
    newer: Any = worker.events("config.loaded")[0]
    wait_until(lambda: worker.events("sweep.finished")[-1]["timestamp"] > newer["timestamp"], what="a sweep by it")

    deployment.configure(policy(ttl="1h"), head=often)
    seen = len(worker.events("sweep.finished"))
    wait_until(lambda: len(worker.events("sweep.finished")) > seen + 10, what="sweeps by the old rules")

    results = {line["result"] for line in worker.events("sweep.finished")}
    assert results <= {"completed", "refused"}
    assert worker.events("sweep.finished")[-1]["result"] == "completed"
    assert deployment.raw.hgetall(SLOT + "halts") == {}


def test_orphans_are_collected_and_what_is_used_stays(deployment: Deployment, wait_until: Wait) -> None:
    orphan = 'orphan = { min_age = "1s", seen = 2, max_share = "unlimited" }'
    rule = f'[policies.idle]\nkind = "assistant"\nmode = "enforce"\nevery = "500ms"\n{orphan}\n'
    deployment.configure(policy(ttl="30d"), rule)
    deployment.raw.hset("lapse:epoch", mapping={"id": "fedcba987654", "created": 1})
    used, *idle = deployment.seed(5, "idle", kind="assistant")
    deployment.seed(1, uses=[("assistant", used)])
    (foreign,) = deployment.provider.seed("assistant", 1)
    worker = deployment.worker("--beat", children=2)

    wait_until(lambda: not deployment.alive("assistant") & set(idle), what="the deletion of four orphans")

    assert deployment.alive("assistant") == {used, foreign}
    assert worker.stop()[0] == 0
    assert len(deployment.alive()) == 1


def test_more_partitions_than_processes_are_all_served(deployment: Deployment, wait_until: Wait) -> None:
    names = ("one", "two", "three")
    deployment.configure(*(policy(name) for name in names), head=HEAD.replace('sweep = "1s"', 'sweep = "3s"'))
    for name in names:
        deployment.seed(5000, name)
    deployment.provider.latency(0.05)
    worker = deployment.worker("--beat", children=1)

    wait_until(lambda: len(worker.events("sweep.finished")) >= 9, within=60, what="nine slices")

    served = Counter(line["policy"] for line in worker.events("sweep.finished"))
    assert set(served) == set(names)
    assert max(served.values()) - min(served.values()) <= 1
    assert all(line["seconds"] < 3 for line in worker.events("sweep.finished"))
    assert deployment.raw.llen("lapse:{broker}:lapse") < 20


def test_a_worker_goes_on_after_redis_was_away(deployment: Deployment, wait_until: Wait) -> None:
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


def test_audit_records_on_stdout_are_all_that_is_there(deployment: Deployment, wait_until: Wait) -> None:
    deployment.configure(policy(), head=HEAD.replace("file:{directory}/audit.jsonl", "stdout"))
    ids = deployment.seed(50)
    worker = deployment.worker("--beat")
    wait_until(lambda: worker.stdout.count('"settled"') == 50, what="50 outcomes")
    worker.stop()

    records = list(map(json.loads, worker.stdout.splitlines()))
    settled = [record["id"] for record in records if record["event"] == "settled"]
    assert sorted(settled) == sorted(ids)
    (deployment.directory / "audit.jsonl").write_text(worker.stdout)  # and verified at the end, as a file is


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_log_audit_and_celery_on_one_stream_are_told_apart(deployment: Deployment, wait_until: Wait) -> None:
    """Each line is one JSON object that says whose it is and when; and the audit's verify where they stand."""
    deployment.configure(policy(), head=HEAD.replace("file:{directory}/audit.jsonl", "stdout"))
    ids = deployment.seed(20)
    one = deployment.directory / "worker0.err"
    (deployment.directory / "worker0.out").symlink_to(one)
    worker = deployment.worker("--beat")
    wait_until(lambda: worker.stdout.count('"settled"') == 20, what="20 outcomes")
    worker.stop()

    found: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, one.read_text().splitlines()):
        assert TIME.fullmatch(line["timestamp"]), line
        found.setdefault(line["source"], []).append(line)
    # Of the library: that a worker runs as root, where it does.
    assert {"lapse", "audit", "celery"} == set(found) - {"library"}
    assert sorted(ids) == sorted(line["id"] for line in found["audit"] if line["event"] == "settled")
    assert "sweep.finished" in {line["event"] for line in found["lapse"]}
    assert "worker: Warm shutdown (MainProcess)" in {line["event"] for line in found["celery"]}
    for line in found["audit"]:
        recorded = datetime.fromisoformat(line["timestamp"]).timestamp()
        assert round(recorded * 1000) == int(line["seq"].partition("-")[0])
    verdict = Verification([Seal()]).verify([one])
    assert (20, [], 0) == (sum(line["event"] == "settled" for line in found["audit"]), verdict.wrong, verdict.unsealed)
    assert len(found["audit"]) == sum(chain.lines for chain in verdict.chains)
    kept = [text for text in one.read_text().splitlines(keepends=True) if '"source":"audit"' in text]
    (deployment.directory / "audit.jsonl").write_text("".join(kept))  # and verified at the end, as a file is


def test_a_beat_of_its_own_keeps_stdout_free(deployment: Deployment, wait_until: Wait) -> None:
    deployment.configure(policy())
    beat = deployment.beat()
    wait_until(lambda: deployment.raw.hexists("lapse:published", "beat"), what="a tick")
    beat.stop()
    assert "" == beat.stdout
    assert {"lapse", "celery"} >= {json.loads(line)["source"] for line in beat.stderr.splitlines()}


def test_all_that_a_worker_and_a_beat_write_is_json(deployment: Deployment, wait_until: Wait) -> None:
    """From their start to their end: a journal or a log store takes each line for a record."""
    deployment.configure(policy())
    worker, beat = deployment.worker(), deployment.beat()
    wait_until(lambda: worker.events("sweep.finished"), 30, what="a sweep")
    for process in (worker, beat):
        assert process.stop()[0] == 0
        assert process.stdout == ""
        assert all(isinstance(json.loads(line), dict) for line in process.stderr.splitlines())


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_other_pools_delete_and_stop_as_well(deployment: Deployment, wait_until: Wait, pool: str) -> None:
    deployment.configure(policy())
    ids = deployment.seed(2000)
    deployment.provider.latency(0.05)
    beat = deployment.beat()
    worker = deployment.worker(f"--pool={pool}", children=2)
    wait_until(lambda: len(deployment.deletes()) > 50, what="the first deletions")

    told = time.time()
    code, took = worker.stop()

    assert code == 0
    assert took < 10
    assert only_begun_went_on(deployment, told, 1)
    assert deployment.counters()["deletions|chat|thread"] == 2000 - len(deployment.alive()) < len(ids)
    assert beat.stop()[0] == 0


def test_a_host_with_older_rules_does_not_bring_them_back(deployment: Deployment, wait_until: Wait) -> None:
    outdated = deployment.directory / "outdated.toml"
    deployment.configure(policy(ttl="1h"), path=outdated)
    first = deployment.worker("--beat", environ={"LAPSE_CONFIG": str(outdated)})
    wait_until(lambda: first.events("sweep.finished", result="completed"), what="a sweep by the old rules")
    first.stop()
    deployment.configure(policy(ttl="1s"))
    deployment.seed(20)
    second = deployment.worker("--beat")
    wait_until(lambda: not deployment.alive(), what="20 deletions by the new rules")
    second.stop()

    left = set(deployment.seed(20))
    stale = deployment.worker("--beat", environ={"LAPSE_CONFIG": str(outdated)})
    wait_until(lambda: stale.events("sweep.finished", result="divergence"), what="the old rules' refusal")
    assert left == set(deployment.alive())
    third = deployment.worker()
    wait_until(lambda: not deployment.alive(), within=60, what="20 more, beside a worker with the old rules")
    third.stop()
    deployment.configure(policy(ttl="1s"), path=outdated)
    wait_until(lambda: stale.events("sweep.finished", result="completed"), what="both agree")


def test_what_an_application_asks_to_erase_is_erased_by_whichever_worker_comes(
    deployment: Deployment, wait_until: Wait
) -> None:
    """Under a policy that only observes: each id is erased, confirmed and told, once."""
    deployment.configure(policy(ttl="300d", mode="observe"), "[erasure]\nby_application = true\n")
    mine, other = deployment.seed(100, subject="user:42"), deployment.seed(20, subject="user:7")
    workers = [deployment.worker(children=2), deployment.worker(children=2)]
    beat = deployment.beat()
    wait_until(lambda: deployment.raw.hget("lapse:published", "erasure") == "by_application", what="a worker's word")
    request = str(uuid.uuid4())
    deployment.registry.erased("user:42", time.time() + 86400)
    assert "asked" == deployment.registry.erase("user:42", request)

    name = f"{SLOT}erased:{request}"
    wait_until(lambda: deployment.raw.hlen(name) == len(mine), what="every outcome", within=60)

    assert {"erased"} == {json.loads(row)["o"] for row in deployment.raw.hvals(name)}
    assert set(other) == deployment.alive()
    assert "open" == deployment.registry.erase("user:42", request)
    deployment.stop_all()
    for program in [beat, *workers]:
        assert program.wait() == 0
        assert program.events(level="error") == []
    deleted_once(deployment, mine, wait_until)
