"""Requests to erase a subject are shown as they stand, and cost a scrape the same however many there ever were."""

import json
from dataclasses import replace
from pathlib import Path

import redis

from lapse.ledger.erasure.request import State
from lapse.metrics import erasures
from lapse.metrics.collector import exposition
from lapse.metrics.erasures import MOST_READ, ErasureReader, standing
from lapse.policy.reload import ConfigFile
from lapse.registry import keys
from support.erasures import CONFIG, DAY, now, request, settled, store
from support.promql import anywhere


def scraped(raw: redis.Redis, tmp_path: Path) -> dict[str, float]:
    path = tmp_path / "retention.toml"
    path.write_text(CONFIG)
    lines = [
        line for line in anywhere(exposition(raw, ConfigFile(path, {}))[1]).splitlines() if "lapse_erasure" in line
    ]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_without_any_all_states_are_zero_and_nothing_is_due(raw: redis.Redis, tmp_path: Path) -> None:
    counts = {f'lapse_erasures{{state="{state}"}}': 0.0 for state in ("asked", "open", "complete", "refused")}

    assert counts | {"lapse_erasure_oldest_open_seconds": 0.0} == scraped(raw, tmp_path)


def test_they_are_counted_by_state_and_the_worst_of_the_open_ones_are_named(raw: redis.Redis, tmp_path: Path) -> None:
    at = now(raw)
    late, old = request(at, age=2, left=3), request(at, age=20, left=40)
    store(raw, late, old, request(at), *settled(at, 4), *settled(at, 2, State.REFUSED))
    store(raw, replace(request(at, age=90, left=-60), state=State.COMPLETE))
    raw.hset(keys.asked_erasures("lapse"), mapping={"one": "{}", "other": "{}"})

    seen = scraped(raw, tmp_path)

    assert [2, 3, 5, 2] == [seen[f'lapse_erasures{{state="{s}"}}'] for s in ("asked", "open", "complete", "refused")]
    assert 20 * 86400 <= seen["lapse_erasure_oldest_open_seconds"] < 20 * 86400 + 60
    assert late.due / 1000 == seen["lapse_erasure_due_timestamp_seconds"]
    assert "user:42" not in json.dumps(seen)


def test_one_that_was_received_in_the_future_waits_for_nothing(raw: redis.Redis, tmp_path: Path) -> None:
    store(raw, request(now(raw), age=-1))

    assert 0 == scraped(raw, tmp_path)["lapse_erasure_oldest_open_seconds"]


def test_of_many_each_reading_takes_so_many_and_forgets_none_that_it_knew(raw: redis.Redis) -> None:
    at, reader = now(raw), ErasureReader()
    store(raw, *settled(at, 2 * MOST_READ), *(request(at, left=left) for left in range(10)))

    def read() -> tuple[int, int, int]:
        raw.config_resetstat()
        found = reader.read(raw, "lapse")
        stats = raw.info("commandstats")
        assert "cmdstat_hgetall" not in stats
        return found.counts["open"], found.counts["complete"], stats["cmdstat_hscan"]["calls"]

    seen = [read() for _ in range(6)]

    assert MOST_READ <= sum(seen[0][:2]) < 1.2 * MOST_READ
    assert (10, 2 * MOST_READ) == seen[2][:2] == seen[5][:2]
    assert all(1 <= calls <= MOST_READ // erasures.PAGE for _open, _complete, calls in seen)
    gone = standing(raw, "lapse").open[0]
    store(raw, replace(gone, state=State.COMPLETE))
    raw.hdel(keys.erasures("lapse"), standing(raw, "lapse").open[0].id)
    assert (8, 2 * MOST_READ + 1) == [read()[:2] for _ in range(5)][-1]


def test_who_asks_once_is_told_of_all_the_first_due_first(raw: redis.Redis) -> None:
    at = now(raw)
    store(raw, *settled(at, MOST_READ + 1), *(request(at, left=left, age=left) for left in (5, 2, 9)))

    found = standing(raw, "lapse")

    assert [2, 5, 9] == [(one.due - at) // DAY for one in found.open]
    assert (MOST_READ + 1, at - 9 * DAY) == (found.counts["complete"], found.received)


def test_another_namespace_is_read_from_its_beginning(raw: redis.Redis) -> None:
    store(raw, request(now(raw)))
    reader = ErasureReader()

    assert [1, 0, 1] == [reader.read(raw, name).counts["open"] for name in ("lapse", "other", "lapse")]
