"""Counting requests."""

from lapse.providers.request_counters import RequestCounters
from lapse.providers.response import Reply


def test_requests_are_counted_by_kind_operation_and_result() -> None:
    tally = RequestCounters()

    for status in (200, 200, 404):
        tally.add("thread", "delete", Reply(status, seconds=0.02))
    tally.add("thread", "delete", Reply(failure="timeout", seconds=31.0))
    tally.add("assistant", "list", Reply(200, seconds=0.25))

    assert tally.drain() == {
        "thread": {
            "requests||delete|200": 2,
            "requests||delete|404": 1,
            "requests||delete|timeout": 1,
            "request_seconds||delete|0.05": 3,
            "request_seconds||delete|inf": 1,
            "request_ms||delete": 31060,
        },
        "assistant": {
            "requests||list|200": 1,
            "request_seconds||list|0.25": 1,
            "request_ms||list": 250,
        },
    }


def test_draining_starts_from_zero() -> None:
    tally = RequestCounters()
    tally.add("thread", "read", Reply(200, seconds=0.001))

    tally.drain()

    assert tally.drain() == {}


def test_fractions_of_a_millisecond_add_up_over_drains() -> None:
    tally = RequestCounters()

    drained = []
    for _ in range(5):
        tally.add("thread", "delete", Reply(200, seconds=0.00025))
        drained.append(tally.drain()["thread"].get("request_ms||delete", 0))

    assert drained == [0, 0, 0, 1, 0]


def test_one_kind_is_drained_alone() -> None:
    tally = RequestCounters()
    for kind in ("thread", "assistant"):
        tally.add(kind, "delete", Reply(200, seconds=0.02))

    assert list(tally.drain("thread")) == ["thread"]
    assert tally.drain("thread") == {}
    assert tally.drain("conversation") == {}
    assert list(tally.drain()) == ["assistant"]
