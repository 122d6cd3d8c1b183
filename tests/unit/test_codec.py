"""What is stored, as values."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from lapse.errors import InvalidResource
from lapse.registry import codec
from lapse.registry.model import Hold, Resource

CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREATED_MS = 1_772_366_400_000
THREAD = Resource("openai", "thread", "thread_1")


def test_json_is_compact() -> None:
    assert '{"a":[1,"b"]}' == codec.dump({"a": [1, "b"]})


def test_this_clock_counts_milliseconds() -> None:
    before = time.time() * 1000
    now = codec.now_millis()

    assert before - 1 <= now <= time.time() * 1000 + 1


@pytest.mark.parametrize(
    "value",
    [1_772_366_400, 1_772_366_400.0, CREATED, CREATED.astimezone(timezone(timedelta(hours=9)))],
    ids=["int", "float", "utc", "tokyo"],
)
def test_a_time_is_seconds_or_an_aware_datetime(value: codec.When) -> None:
    assert CREATED_MS == codec.past(value, "created_at")
    assert CREATED_MS == codec.moment(value, "at")


def test_milliseconds_are_kept() -> None:
    assert CREATED_MS + 1 == codec.moment(CREATED + timedelta(milliseconds=1), "at")


def test_a_clock_may_run_a_minute_ahead() -> None:
    assert codec.past(time.time() + 50, "created_at") > codec.now_millis()


def test_an_expiry_may_lie_ahead() -> None:
    assert 4_102_444_800_000 == codec.moment(4_102_444_800, "expires_at")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (CREATED.replace(tzinfo=None), "has no time zone: use datetime.now"),
        ("2026-03-01", "is no time"),
        (True, "is no time"),
        (None, "is no time"),
        (0, "is not between 2015 and 9999"),
        (1_420_070_399, "is not between 2015 and 9999"),
        (CREATED_MS, "is not between 2015 and 9999"),
        (float("nan"), "is not between 2015 and 9999"),
        (float("inf"), "is not between 2015 and 9999"),
    ],
)
def test_a_time_that_cannot_be_meant(value: Any, why: str) -> None:
    for read in (codec.past, codec.moment, codec.ahead):
        with pytest.raises(InvalidResource, match=f"created_at .*{why}"):
            read(value, "created_at")


def test_what_is_to_come_lies_ahead() -> None:
    later = round(time.time()) + 60
    assert later * 1000 == codec.ahead(later, "until") == codec.ahead(datetime.fromtimestamp(later, UTC), "until")
    for over in (CREATED, time.time() - 1):
        with pytest.raises(InvalidResource, match=r"until 20\d\d-.*T.*\+00:00 is over already: give a time ahead"):
            codec.ahead(over, "until")


def test_what_has_happened_does_not_lie_ahead() -> None:
    with pytest.raises(InvalidResource, match=r"created_at .* lies more than 60 s ahead"):
        codec.past(time.time() + 70, "created_at")


@pytest.mark.parametrize(
    ("value", "millis"),
    [
        ("7d", 604_800_000),
        (90, 90_000),
        (0.5, 500),
        (0.0001, 1),
        (timedelta(hours=1), 3_600_000),
        (100 * 365 * 86_400, 3_153_600_000_000),
    ],
)
def test_a_duration_is_seconds_a_timedelta_or_text(value: codec.Span, millis: int) -> None:
    assert millis == codec.span(value, "expires_in")


@pytest.mark.parametrize(
    "value",
    ["7", "", "x", 0, -1, True, None, float("nan"), float("inf"), 100 * 365 * 86_400 + 1, timedelta(0), b"7d"],
)
def test_a_duration_that_cannot_be_meant(value: Any) -> None:
    with pytest.raises(InvalidResource, match="expires_in"):
        codec.span(value, "expires_in")


def test_uses_name_the_same_provider_or_another() -> None:
    uses = [("assistant", "asst_1"), ("azure", "file", "file_1")]

    assert [Resource("openai", "assistant", "asst_1"), Resource("azure", "file", "file_1")] == codec.edges(
        uses, "openai"
    )


@pytest.mark.parametrize("use", ["asst_1", "ab", ("asst_1",), ("a", "b", "c", "d"), ()])
def test_a_use_of_another_shape_is_refused(use: Any) -> None:
    with pytest.raises(InvalidResource, match="uses entry"):
        codec.edges([use], "openai")


@pytest.mark.parametrize("use", [("assistant", "a/b"), ("assi stant", "a"), ("open|ai", "assistant", "a")])
def test_a_use_of_what_cannot_be_stored_is_refused(use: tuple[str, ...]) -> None:
    with pytest.raises(InvalidResource):
        codec.edges([use], "openai")


def test_an_edge_comes_back_as_it_went() -> None:
    assert "openai|thread|thread_1" == codec.edge_text(THREAD)
    assert THREAD == codec.edge(codec.edge_text(THREAD))


@pytest.mark.parametrize(("until", "end"), [(None, None), (CREATED_MS + 1000, CREATED + timedelta(seconds=1))])
def test_a_stored_hold(until: int | None, end: datetime | None) -> None:
    stored = {"reason": "case 1", "actor": "ann@host", "since": CREATED_MS} | ({"until": until} if until else {})

    assert Hold("case 1", "ann@host", CREATED, end) == codec.hold(stored)


def stored(**record: Any) -> str:
    """Return what get.lua says of an id."""
    beside = {name: record.pop(name) for name in ("due", "by", "hold", "facts", "edges") if name in record}
    return json.dumps({"now": CREATED_MS, "id": "thread_1", "by": "ttl", "record": {"p": "chat", **record}, **beside})


@pytest.mark.parametrize(
    "text", ['{"now":1,"id":"thread_1"}', stored(s="claimed", q=1)], ids=["unknown", "stamped only"]
)
def test_what_was_never_registered_has_no_record(text: str) -> None:
    assert codec.record(THREAD, text) is None


def test_an_id_that_was_never_touched() -> None:
    record = codec.record(THREAD, stored(s="tracked", f=CREATED_MS, due=CREATED_MS + 1000))

    assert record is not None
    assert (THREAD, "chat", "tracked", "ttl") == (record.resource, record.policy, record.state, record.governed_by)
    assert (CREATED, CREATED, None) == (record.created_at, record.last_active_at, record.expires_at)
    assert CREATED + timedelta(seconds=1) == record.due
    assert (None, (), (), None, {}, 0, 0, None, None) == (
        record.hold,
        record.uses,
        record.used_by,
        record.subject,
        record.labels,
        record.attempts,
        record.crashes,
        record.reason,
        record.retry_at,
    )


def test_an_id_that_was_touched() -> None:
    record = codec.record(THREAD, stored(s="tracked", a=CREATED_MS + 5000, c=CREATED_MS))

    assert record is not None
    assert (CREATED, CREATED + timedelta(seconds=5)) == (record.created_at, record.last_active_at)


def test_an_id_with_its_own_expiry() -> None:
    """Nothing is known of its activity: it decides nothing."""
    record = codec.record(THREAD, stored(s="tracked", e=CREATED_MS + 9000, k=CREATED_MS, by="expires_at"))

    assert record is not None
    assert (CREATED, None, CREATED + timedelta(seconds=9)) == (
        record.created_at,
        record.last_active_at,
        record.expires_at,
    )


def test_facts_and_edges() -> None:
    facts = {"uses": ["openai|assistant|asst_1"], "subject": "user:1", "labels": {"a": "b"}}
    edges = ["thread_1|openai|conversation|conv_1"]

    record = codec.record(THREAD, stored(s="tracked", f=CREATED_MS, facts=facts, edges=edges))

    assert record is not None
    assert (Resource("openai", "assistant", "asst_1"),) == record.uses
    assert (Resource("openai", "conversation", "conv_1"),) == record.used_by
    assert ("user:1", {"a": "b"}) == (record.subject, record.labels)


@pytest.mark.parametrize("reason", ["held", "referenced"])
def test_a_parked_id_is_called_by_its_reason(reason: str) -> None:
    record = codec.record(THREAD, stored(s="parked", r=reason, f=CREATED_MS))

    assert record is not None
    assert (reason, reason) == (record.state, record.reason)


def test_a_hold_governs() -> None:
    hold = {"reason": "case 1", "actor": "ann@host", "since": CREATED_MS}

    record = codec.record(THREAD, stored(s="tracked", f=CREATED_MS, hold=hold))

    assert record is not None
    assert ("hold", Hold("case 1", "ann@host", CREATED)) == (record.governed_by, record.hold)


def test_attempts_crashes_and_the_next_attempt() -> None:
    retry = CREATED_MS + 30_000
    record = codec.record(THREAD, stored(s="waiting", r="error", f=CREATED_MS, n=2, x=1, d=retry))

    assert record is not None
    assert (2, 1, "error") == (record.attempts, record.crashes, record.reason)
    assert CREATED + timedelta(seconds=30) == record.retry_at


@pytest.mark.parametrize("state", ["claimed", "quarantined", "kept"])
def test_only_a_waiting_id_has_a_next_attempt(state: str) -> None:
    record = codec.record(THREAD, stored(s=state, f=CREATED_MS, d=CREATED_MS))

    assert record is not None
    assert (state, None) == (record.state, record.retry_at)


def test_no_two_stamps_are_alike() -> None:
    one, other = codec.nonce(), codec.nonce()

    assert one != other
    assert len(one) == len(other) == 16
