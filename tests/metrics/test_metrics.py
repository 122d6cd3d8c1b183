"""What Prometheus is told equals what happened: the provider's own log, the registry's state, and nothing else."""

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from lapse.guards.integrity.continuity import ContinuityCheck
from lapse.ledger.reasons import OF_ORPHANS, SHARED
from lapse.metrics.catalog import GUARDS, TABLE
from lapse.metrics.collector import exposition
from lapse.policy import Pace
from lapse.policy.reload import ConfigFile
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port
from support.promql import anywhere
from support.world import World

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus asks for."""
CONFIG = """
[limits]
max_deletions = {{ amount = 3, window = "1h" }}
[providers.openai]
type = "openai"
base_url = "{url}"
api_key_env = "KEY"
rate = "60/m"
[policies.chat]
kind = ["thread", "conversation"]
ttl = "7d"
anchor = "created_at"
mode = "{mode}"
"""


@pytest.fixture
def scrape(world: World, tmp_path: Path) -> Iterator[Callable[..., dict[str, float]]]:
    """Return a scrape of the world's registry: series -> value."""
    client = redis.Redis.from_url(world.url, decode_responses=True)

    def one(mode: str = "enforce", config: str = CONFIG) -> dict[str, float]:
        path = tmp_path / f"{mode}.toml"
        path.write_text(config.format(url=world.sandbox.url, mode=mode))
        _type, text = exposition(client, ConfigFile(path, {}))
        lines = (line for line in anywhere(text).splitlines() if not line.startswith("#"))
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    yield one
    client.close()


def of(name: str, kind: str = "thread", policy: str = "chat", **more: str) -> str:
    """Return a series' name as the exposition writes it."""
    labels = {"provider": "openai", "kind": kind, "policy": policy, **more}
    written = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
    return f"{name}{{{written}}}"


async def test_deletions_equal_the_providers_log_by_kind(world: World, scrape: Any) -> None:
    world.seed(7)
    world.seed(1, days=1)
    await world.sweep()
    partition = replace(world.rule.partition, kind="conversation")
    ids = world.sandbox.seed("conversation", 4, items=3)
    for id_ in ids:
        world.registry.register("conversation", id_, "chat", created_at=1_600_000_000, last_active_at=1_600_000_000)
    await world.sweep(partition=partition)

    seen, log = scrape(), world.sandbox.requests()

    confirmed = [one["kind"] for one in log if one["method"] == "DELETE" and one["answer"] == "deleted"]
    for kind, expected in (("thread", 7), ("conversation", 4), ("conversation_item", 12)):
        assert expected == confirmed.count(kind) == seen[of("lapse_deletions_total", kind)]
    requests = {series: n for series, n in seen.items() if series.startswith("lapse_requests_total")}
    assert len(log) == sum(requests.values())
    assert 7 == seen[of("lapse_deletion_lag_seconds_count")]
    assert 7 == seen[of("lapse_deletion_lag_seconds_bucket", le="+Inf")]


async def test_a_failed_delete_is_settled_and_not_deleted(world: World, scrape: Any) -> None:
    world.seed(1)
    world.sandbox.faults([{"method": "DELETE", "effect": "deleted_false"}])

    await world.sweep()

    assert (1, 0) == (
        scrape()[of("lapse_settled_total", outcome="unconfirmed")],
        scrape()[of("lapse_deletions_total")],
    )


async def test_states_are_shown_as_they_are(world: World, scrape: Any) -> None:
    due = world.seed(5)
    world.seed(4, days=1)
    world.registry.hold("thread", due[0], reason="case 7")
    world.registry.register("thread", "thread_stray", "unknown-policy")
    await world.sweep(enforce=False)

    observing, enforcing = scrape("observe"), scrape("enforce")

    assert (9, 4, 4, 0, 0) == tuple(
        observing[of(f"lapse_{name}")]
        for name in ("registered", "due", "would_delete", "oldest_overdue_seconds", "enforcing")
    )
    assert (4, 0, 1) == tuple(enforcing[of(f"lapse_{name}")] for name in ("due", "would_delete", "enforcing"))
    assert 23 * 86400 == pytest.approx(enforcing[of("lapse_oldest_overdue_seconds")], abs=60)
    assert 1 == observing['lapse_held{kind="thread",provider="openai"}']
    assert 1 == observing['lapse_unmanaged{kind="thread",provider="openai"}']
    assert 1 == observing[of("lapse_registered", policy="(unmanaged)")]
    assert 4 * 2 == observing['lapse_backlog_clear_seconds{provider="openai"}']  # each after a look for a run


async def test_limits_halts_and_pauses_are_shown(world: World, scrape: Any) -> None:
    world.seed(10)
    await world.sweep(max_deletions=Pace(amount=3, window=3600))
    assert 1 == scrape()[of("lapse_limited")]

    await world.context().control.halt(world.rule.partition, "no_witness", "test")
    await world.context().control.pause("openai/thread", "deploy")

    seen = scrape()
    assert 1 == seen[of("lapse_halted", reason="no_witness")]
    assert 1 == seen[of("lapse_guard_trips_total", guard="no_witness")]
    assert (1, 0) == (seen[of("lapse_paused")], seen[of("lapse_enforcing")])
    assert (0, 1) == (seen[of("lapse_paused", "conversation")], seen[of("lapse_enforcing", "conversation")])


async def test_quarantine_and_breaker_are_shown(world: World, scrape: Any) -> None:
    world.seed(1)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 422}])
    await world.sweep()
    world.seed(1)
    world.sandbox.faults([{"effect": "error", "status": 401}])
    await world.sweep()

    seen = scrape()
    assert 1 == seen[of("lapse_quarantined")]
    assert 1 == seen['lapse_breaker_open{provider="openai"}']


async def test_known_series_begin_at_zero_and_no_label_holds_an_id(world: World, scrape: Any) -> None:
    ids = world.seed(3)
    before = scrape()
    assert 0 == before[of("lapse_deletions_total")]
    assert 0 == before[of("lapse_settled_total", outcome="deleted")]

    await world.sweep()

    assert not [series for series in scrape() for id_ in ids if id_ in series]


async def test_series_that_alerts_watch_exist_before_anything_happened(scrape: Any) -> None:
    """An increase from nothing to 1 is no increase to Prometheus."""
    seen = scrape()

    for guard in set(GUARDS) - {*OF_ORPHANS, *SHARED}:
        assert 0 == seen[of("lapse_guard_trips_total", guard=guard)]
    assert 0 == seen[of("lapse_sweeps_total", result="completed")]
    assert 0 == seen[of("lapse_deletions_total", "conversation_item")]
    assert 0 == seen[of("lapse_deletion_lag_seconds_bucket", le="10.0")]
    assert 0 == seen['lapse_rate_limit_wait_seconds_total{kind="thread",provider="openai"}']


async def test_a_guard_counts_in_the_series_that_began_at_zero(world: World, scrape: Any) -> None:
    world.seed(3)
    await world.context().watch.look()
    before = set(scrape())
    await world.sweep(anchor="last_active_at")

    seen = scrape()

    assert 1 == seen[of("lapse_guard_trips_total", guard="no_touches")]
    assert 1 == seen[of("lapse_sweeps_total", result="halted")]
    new = {re.split(r"[{]", series)[0] for series in set(seen) - before}
    assert {"lapse_halted", "lapse_sweeps_total"} == new


async def test_deletions_that_all_fail_are_overdue(world: World, scrape: Any) -> None:
    """Backed off ids leave the due indexes, and the promise to delete them is broken all the same."""
    world.seed(5)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500}])

    await world.sweep()

    seen = scrape()
    assert 5 == seen[of("lapse_due")]
    assert 23 * 86400 == pytest.approx(seen[of("lapse_oldest_overdue_seconds")], abs=60)
    assert 0 == scrape("observe")[of("lapse_oldest_overdue_seconds")]


RENAMED = CONFIG.replace("[policies.chat]", '[policies.talk]\nformerly = ["chat"]')
REMOVED = CONFIG.replace("[policies.chat]", "[policies.other]").replace('"thread", ', "")


async def test_a_renamed_policy_keeps_its_counters_and_ids(world: World, scrape: Any) -> None:
    world.seed(5)
    await world.sweep()
    world.seed(3)

    seen = scrape(config=RENAMED)

    assert (5, 3, 3) == tuple(
        seen[of(f"lapse_{name}", policy="talk")] for name in ("deletions_total", "registered", "due")
    )
    assert not [series for series in seen if "(unmanaged)" in series]


async def test_what_a_removed_policy_deleted_stays_counted(world: World, scrape: Any) -> None:
    world.seed(5)
    await world.sweep()

    seen = scrape(config=REMOVED)

    assert 5 == seen[of("lapse_deletions_total", policy="(unmanaged)")]
    assert of("lapse_due") not in seen


async def test_a_ramp_is_shown_as_a_limit(world: World, scrape: Any) -> None:
    world.settings = replace(world.settings, ramp=900.0)
    world.seed(15)
    await world.sweep()
    unlimited = CONFIG.replace('{{ amount = 3, window = "1h" }}', '"unlimited"')

    assert 1 == scrape(config=unlimited)[of("lapse_limited")]
    assert 0 == scrape(config=unlimited + '[sweep]\nramp = "off"\n')[of("lapse_limited")]


async def test_the_forecast_counts_every_request_of_a_deletion(world: World, scrape: Any) -> None:
    world.seed(2)
    world.seed(3, kind="conversation")

    assert 2 * 2 + 3 * 2 == scrape()['lapse_backlog_clear_seconds{provider="openai"}']


async def test_what_alerts_compare_with_is_told_too(world: World, scrape: Any) -> None:
    gone = CONFIG + 'expect_gone = true\nevery = "10m"\n'

    seen, expected = scrape(), scrape(config=gone)

    assert 60 == seen["lapse_beat_interval_seconds"]
    assert (60, 600) == tuple(one[of("lapse_sweep_interval_seconds")] for one in (seen, expected))
    assert of("lapse_expect_gone") not in seen
    assert 1 == expected[of("lapse_expect_gone")]
    assert 1 == seen['lapse_rate_limit_requests_per_second{provider="openai"}']
    unlimited = scrape(config=CONFIG.replace('"60/m"', '"unlimited"'))
    assert not [series for series in unlimited if series.startswith("lapse_rate_limit_requests")]
    assert world.raw.time()[0] == pytest.approx(seen["lapse_registry_time_seconds"], abs=30)


@pytest.mark.parametrize(("here", "workers", "shown"), [(True, True, 1), (True, False, 0), (False, True, 0)])
async def test_a_config_is_reloaded_when_everyone_could_read_it(
    world: World,
    tmp_path: Path,
    here: bool,
    workers: bool,
    shown: int,
) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="observe"))
    file = ConfigFile(path, {})
    if not here:
        path.write_text("torn = [")
    world.raw.hset("lapse:published", "config", json.dumps({"ok": workers}))

    with redis.Redis.from_url(world.url, decode_responses=True) as client:
        text = anywhere(exposition(client, file)[1])

    assert f"\nlapse_config_last_reload_successful {shown}.0\n" in text


async def test_two_exporters_show_the_same(world: World, tmp_path: Path) -> None:
    world.seed(7)
    world.seed(2, days=1)
    await world.sweep()
    world.seed(4)
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="observe"))

    texts = []
    for _ in range(2):
        with redis.Redis.from_url(world.url, decode_responses=True) as client:
            text = exposition(client, ConfigFile(path, {}))[1]
        texts.append(re.sub(rb"(?m)^lapse_registry_time_seconds.*$", b"", text))

    assert texts[0] == texts[1]
    assert b"lapse_deletions_total" in texts[0]


async def test_names_and_units_are_what_prometheus_recommends(world: World, tmp_path: Path) -> None:
    world.seed(7)
    await world.sweep()
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="enforce"))
    with redis.Redis.from_url(world.url, decode_responses=True) as client:
        text = exposition(client, ConfigFile(path, {}))[1].decode()

    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families} == {one.name.removesuffix("_total") for one in TABLE}
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(ms|millis|minutes|hours|days|count|sum|bucket)$", family.name)
        assert family.type != "counter" or all(sample.name.endswith("_total") for sample in family.samples)
        series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(series) == len(set(series))
    lag = next(family for family in families if family.name == "lapse_deletion_lag_seconds")
    buckets = [
        sample.value for sample in lag.samples if sample.name.endswith("_bucket") and sample.labels["kind"] == "thread"
    ]
    assert (10, sorted(buckets), 7) == (len(buckets), buckets, buckets[-1])


def test_a_registry_that_stands_still_is_down_in_time_and_up_again(world: World, tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="observe"))
    file = ConfigFile(path, {})
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(
            server.url, decode_responses=True, socket_timeout=0.5, socket_connect_timeout=0.5
        ) as client,
    ):
        assert "lapse_registry_up 1.0" in anywhere(exposition(client, file)[1])
        os.kill(server.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert "lapse_registry_up 0.0" in anywhere(exposition(client, file)[1])
        assert time.monotonic() - began < 3
        os.kill(server.pid, signal.SIGCONT)
        assert "lapse_registry_up 1.0" in anywhere(exposition(client, file)[1])


async def test_every_series_says_which_deployment_it_is_of(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, continuity = tmp_path / "retention.toml", ContinuityCheck()
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="observe"))
    named = tmp_path / "named.toml"
    named.write_text(f'[registry]\ndeployment = "production"\n{path.read_text()}')

    def deployments(file: Path = path, client: redis.Redis = world.raw) -> set[str | None]:
        shown = exposition(client, ConfigFile(file, dict(os.environ)), continuity)[1].decode()
        series = [one for family in text_string_to_metric_families(shown) for one in family.samples]
        return {one.labels.get("deployment") for one in series}

    away = redis.Redis(port=free_port(), decode_responses=True, socket_connect_timeout=0.5)
    assert ({"unknown"}, {"new"}) == (deployments(client=away), deployments())
    await world.watch.look()
    epoch = world.raw.hget("lapse:epoch", "id")
    assert epoch
    assert {epoch} == deployments() == deployments(client=away)
    assert {"production"} == deployments(named) == deployments(named, away)
    monkeypatch.setenv("LAPSE_REGISTRY__DEPLOYMENT", "staging")
    assert {"staging"} == deployments(named)


async def test_a_lost_registry_keeps_the_name_by_which_alerts_compare(world: World, tmp_path: Path) -> None:
    world.unpromised = {"lost", "record", "count"}
    path, continuity = tmp_path / "retention.toml", ContinuityCheck()
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="observe"))
    file = ConfigFile(path, {})
    await world.watch.look()
    epoch = world.raw.hget("lapse:epoch", "id")
    exposition(world.raw, file, continuity)

    world.raw.flushall()

    assert f'lapse_registry_up{{deployment="{epoch}"}} 1.0' in exposition(world.raw, file, continuity)[1].decode()


def test_a_registry_that_is_away_is_shown_as_down(world: World, tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="observe"))
    with redis.Redis(port=free_port(), decode_responses=True, socket_connect_timeout=0.5) as client:
        _type, text = exposition(client, ConfigFile(path, {}))

    assert "lapse_registry_up 0.0" in anywhere(text)
    assert b"lapse_due" not in text


async def test_the_table_is_what_is_served(world: World, scrape: Any) -> None:
    world.seed(3)
    await world.sweep()
    named = {re.sub(r"_(bucket|sum|count)$", "", re.split(r"[{ ]", series)[0]) for series in scrape()}

    described = {one.name for one in TABLE}
    assert named <= described
    quiet = {
        "lapse_halted",
        "lapse_orphans",
        "lapse_expect_gone",
        "lapse_children_left_total",
        "lapse_erasure_due_timestamp_seconds",
        "lapse_beat_last_tick_timestamp_seconds",
        "lapse_worker_last_tick_timestamp_seconds",
        "lapse_registry_epoch_timestamp_seconds",
    }
    assert described - named <= quiet


@pytest.fixture
def served(world: World, tmp_path: Path, wait_until: Any) -> Iterator[tuple[Any, subprocess.Popen[bytes]]]:
    """Return a GET of the exporter as its own process, and the process."""
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG.format(url=world.sandbox.url, mode="observe"))
    port = free_port()
    code = (
        f"import os, pathlib as p; from lapse.metrics.server import serve; serve(os.environ, p.Path.cwd(), port={port})"
    )
    environ = {"LAPSE_CONFIG": str(path), "REDIS_URL": world.url, "PATH": "/usr/bin:/bin"}

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return 0, ""

    get.url = f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
    with subprocess.Popen(die_with_parent(sys.executable, "-c", code), env=environ) as process:
        try:
            wait_until(lambda: get("/livez")[0] == 200)
            yield get, process
        finally:
            process.kill()


def test_the_server_answers_four_paths_and_ends_on_term(world: World, served: Any) -> None:
    get, process = served
    assert "lapse_registry_up 1.0" in anywhere(get("/metrics")[1])
    assert 404 == get("/")[0]
    status, body = get("/readyz?verbose")
    checks = json.loads(body)["checks"]
    assert (503, False, False, True) == (
        status,
        checks["beat"]["ok"],
        checks["worker"]["ok"],
        checks["registry"]["ok"],
    )
    now = world.raw.time()[0] * 1000
    world.raw.hset("lapse:published", mapping={"beat": now, "tick": now})
    assert (200, "ready\n") == get("/readyz")
    assert (200, "ok\n") == get("/startupz")
    process.terminate()
    assert 0 == process.wait(timeout=10)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("accept", "kind", "parse"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0; ", openmetrics),
    ],
)
def test_a_scrape_is_in_the_format_and_encoding_asked_for_and_has_the_same_series(
    served: Any, accept: str, kind: str, parse: Any, method: str, encoding: str
) -> None:
    get, _process = served
    headers = {"Accept": accept, "Accept-Encoding": encoding}
    with urllib.request.urlopen(urllib.request.Request(f"{get.url}/metrics", None, headers, method=method)) as reply:
        body = reply.read()
        said = reply.headers

    assert said["Content-Type"].startswith(kind)
    assert said.get("Content-Encoding", "identity") == encoding
    if method == "HEAD":
        assert (b"", True) == (body, int(said["Content-Length"]) > 0)
        return
    text = (gzip.decompress(body) if encoding == "gzip" else body).decode()
    plain = text_string_to_metric_families(get("/metrics")[1])
    assert series(plain) == series(parse(text))
    assert int(said["Content-Length"]) == len(body)


def series(families: Iterable[Metric]) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the name and the labels of every sample, as a query finds it."""
    return {(one.name, tuple(sorted(one.labels.items()))) for family in families for one in family.samples}


def test_a_page_that_fails_says_so_and_the_others_live(world: World, served: Any) -> None:
    get, _process = served
    world.raw.hset(f"{world.slot()}halts", "chat|no_witness", "not JSON")

    assert (500, 500, 200) == (get("/metrics")[0], get("/readyz")[0], get("/livez")[0])
    world.raw.delete(f"{world.slot()}halts")
    assert 200 == get("/metrics")[0]


async def test_a_halt_is_not_ready_and_named(world: World, served: Any) -> None:
    get, _process = served
    now = world.raw.time()[0] * 1000
    world.raw.hset("lapse:published", mapping={"beat": now, "tick": now})
    assert 200 == (await asyncio.to_thread(get, "/readyz"))[0]

    await world.context().control.halt(world.rule.partition, "no_witness", "test")

    status, body = await asyncio.to_thread(get, "/readyz?verbose")
    assert (503, "openai/thread/chat: no_witness") == (status, json.loads(body)["checks"]["halted"]["detail"])
    assert "lapse_halted{" in (await asyncio.to_thread(get, "/metrics"))[1]
