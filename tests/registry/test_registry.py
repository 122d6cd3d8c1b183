"""What an application can rely on: register, touch, hold, forget, expire, get."""

import json
import logging
import math
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from lapse import Answer, ConfigError, InvalidResource, NoEpoch, RegistryRefused, RegistryUnavailable, Resource
from lapse.registry import notices
from lapse.sandbox.redis_server import EmbeddedRedis, free_port

SLOT = "lapse:{openai:thread}:"
DAY = 86400.0


def publish(raw: redis.Redis, policy: str = "chat", **rules: Any) -> None:
    """Publish rules as a worker does, so that due times can be told."""
    fields = {"digest": "d1", "ttl": 7 * 86400 * 1000, "anchor": "last_active_at", **rules}
    raw.hset(f"{SLOT}{policy}:rules", mapping={name: value for name, value in fields.items() if value is not None})


def age(registry: Any, id_: str) -> timedelta:
    created_at: datetime = registry.get("thread", id_).created_at
    return datetime.now(UTC) - created_at


def test_a_plain_registration_writes_one_entry(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")

    assert {f"{SLOT}chat:fresh", f"{SLOT}policies", "lapse:slots"} == set(raw.keys())
    assert ["thread_1"] == raw.zrange(f"{SLOT}chat:fresh", 0, -1)


def test_records_carry_no_redis_ttl(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", uses=[("assistant", "asst_1")], labels={"a": "b"}, expires_in="1d")
    registry.hold("thread", "thread_1", reason="audit")

    assert {-1} == {raw.ttl(key) for key in raw.scan_iter()}


def test_register_says_when_it_is_due_and_why(registry: Any, raw: redis.Redis) -> None:
    publish(raw)

    answer = registry.register("thread", "thread_1", "chat")

    assert ("ttl", True, True) == (answer.governed_by, answer.new, answer.managed)
    assert 7 * DAY == pytest.approx((answer.due - datetime.now(UTC)).total_seconds(), abs=5)


def test_register_on_a_tracked_id_is_a_touch_and_never_moves_creation(registry: Any) -> None:
    created = datetime.now(UTC) - timedelta(days=3)
    registry.register("thread", "thread_1", "chat", created_at=created, last_active_at=created)

    again = registry.register("thread", "thread_1", "chat", created_at=datetime.now(UTC))
    record = registry.get("thread", "thread_1")

    assert not again.new
    assert created == pytest.approx(record.created_at, abs=timedelta(milliseconds=1))
    assert 0 == pytest.approx((datetime.now(UTC) - record.last_active_at).total_seconds(), abs=5)


def test_a_resource_is_under_one_policy_and_moving_keeps_its_creation(registry: Any, raw: redis.Redis) -> None:
    created = datetime.now(UTC) - timedelta(days=3)
    registry.register("thread", "thread_1", "chat", created_at=created, last_active_at=created)

    registry.register("thread", "thread_1", "long")

    assert "long" == registry.get("thread", "thread_1").policy
    assert created == pytest.approx(registry.get("thread", "thread_1").created_at, abs=timedelta(milliseconds=1))
    assert not raw.exists(f"{SLOT}chat:fresh", f"{SLOT}chat:active", f"{SLOT}chat:created")


def test_touch_moves_last_activity_only(registry: Any) -> None:
    created = datetime.now(UTC) - timedelta(days=3)
    registry.register("thread", "thread_1", "chat", created_at=created, last_active_at=created)

    assert registry.touch("thread", "thread_1") is Answer.OK

    record = registry.get("thread", "thread_1")
    assert created == pytest.approx(record.created_at, abs=timedelta(milliseconds=1))
    assert timedelta(seconds=5) > datetime.now(UTC) - record.last_active_at


def test_touch_of_an_unknown_id_creates_nothing_and_is_false(registry: Any, raw: redis.Redis) -> None:
    answer = registry.touch("thread", "thread_1")

    assert answer is Answer.UNKNOWN
    assert not answer
    assert [] == raw.keys()


def test_touch_never_moves_an_expiry_of_its_own(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat", expires_in="1h")
    before = registry.get("thread", "thread_1").expires_at

    assert registry.touch("thread", "thread_1")

    assert before == registry.get("thread", "thread_1").expires_at


@pytest.mark.parametrize("value", [timedelta(hours=1), 3600, 3600.0, "1h", "60m"])
def test_expires_in_takes_seconds_a_timedelta_or_text(registry: Any, value: Any) -> None:
    answer = registry.register("thread", "thread_1", "chat", expires_in=value)

    assert "expires_at" == answer.governed_by
    assert 3600 == pytest.approx((answer.due - datetime.now(UTC)).total_seconds(), abs=5)


def test_an_own_expiry_stands_in_no_ttl_index(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")
    registry.touch("thread", "thread_1")
    registry.register("thread", "thread_1", "chat", expires_in="1h")

    assert {f"{SLOT}chat:explicit", f"{SLOT}chat:capped"} == set(raw.keys(f"{SLOT}chat:*"))


def test_max_age_caps_an_own_expiry(registry: Any, raw: redis.Redis) -> None:
    publish(raw, max_age=30 * 86400 * 1000)

    answer = registry.register("thread", "thread_1", "chat", expires_in="90d")

    assert "max_age" == answer.governed_by
    assert 30 * DAY == pytest.approx((answer.due - datetime.now(UTC)).total_seconds(), abs=5)


def test_expire_makes_it_due_now(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat")

    assert registry.expire("thread", "thread_1")

    record = registry.get("thread", "thread_1")
    assert "expires_at" == record.governed_by
    assert record.due <= datetime.now(UTC) + timedelta(seconds=1)


def test_forget_stops_tracking_and_leaves_a_mark(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")

    assert registry.forget("thread", "thread_1")

    assert registry.get("thread", "thread_1") is None
    assert ["thread_1", "."] == raw.zrange(f"{SLOT}forgotten", 0, -1), "with what counts them"
    registry.register("thread", "thread_1", "chat")
    assert ["."] == raw.zrange(f"{SLOT}forgotten", 0, -1)


def test_a_hold_parks_a_tracked_id_and_unhold_brings_its_times_back(registry: Any, raw: redis.Redis) -> None:
    created = datetime.now(UTC) - timedelta(days=3)
    registry.register("thread", "thread_1", "chat", created_at=created, last_active_at=created)

    assert registry.hold("thread", "thread_1", reason="case 7", actor="ann")

    held = registry.get("thread", "thread_1")
    assert ("held", "case 7", "ann") == (held.state, held.hold.reason, held.hold.actor)
    assert not raw.exists(f"{SLOT}chat:fresh")
    assert registry.unhold("thread", "thread_1")
    assert ("tracked", None) == (registry.get("thread", "thread_1").state, registry.get("thread", "thread_1").hold)
    assert timedelta(days=3) == pytest.approx(age(registry, "thread_1"), abs=timedelta(seconds=5))


def test_a_hold_that_would_be_over_is_refused(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")
    over = time.time() - 1
    for until in (over, datetime.fromtimestamp(over, UTC)):
        with pytest.raises(InvalidResource, match=r"hold of thread_1: until .* is over already: give a time ahead"):
            registry.hold("thread", "thread_1", reason="case 7", until=until)
        with pytest.raises(InvalidResource, match=r"hold of user:42: until .* is over already: give a time ahead"):
            registry.hold_subject("user:42", reason="case 7", until=until)

    assert not raw.exists("lapse:{openai:thread}:holds", "lapse:held_subjects")
    assert registry.hold("thread", "thread_1", reason="case 7", until=time.time() + 60)
    assert registry.hold_subject("user:42", reason="case 7", until=time.time() + 60)


def test_a_hold_stands_for_an_id_that_is_registered_later(registry: Any) -> None:
    assert registry.hold("thread", "thread_1", reason="case 7") is Answer.UNKNOWN

    answer = registry.register("thread", "thread_1", "chat")

    assert ("hold", None) == (answer.governed_by, answer.due)
    assert "held" == registry.get("thread", "thread_1").state


def test_a_touch_of_a_held_id_is_kept(registry: Any) -> None:
    created = datetime.now(UTC) - timedelta(days=3)
    registry.register("thread", "thread_1", "chat", created_at=created, last_active_at=created)
    registry.hold("thread", "thread_1", reason="case 7")

    assert registry.touch("thread", "thread_1")
    registry.unhold("thread", "thread_1")

    assert timedelta(seconds=5) > datetime.now(UTC) - registry.get("thread", "thread_1").last_active_at


def test_uses_are_added_and_protect_their_targets(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat", uses=[("assistant", "asst_1")])
    registry.register("thread", "thread_1", "chat", uses=[("assistant", "asst_1"), ("azure", "file", "file-1")])
    registry.register("assistant", "asst_1", "idle")

    uses = registry.get("thread", "thread_1").uses

    assert (Resource("openai", "assistant", "asst_1"), Resource("azure", "file", "file-1")) == uses
    assert (Resource("openai", "thread", "thread_1"),) == registry.get("assistant", "asst_1").used_by


def test_subject_and_labels_are_kept_until_given_anew(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat", subject="user:42", labels={"env": "dev"})
    registry.register("thread", "thread_1", "chat", labels={"env": "prod"})

    record = registry.get("thread", "thread_1")

    assert ("user:42", {"env": "prod"}) == (record.subject, record.labels)


def test_register_many_counts_what_it_did(registry: Any, raw: redis.Redis) -> None:
    publish(raw)
    ids = [f"thread_{i}" for i in range(1200)]

    done = registry.register_many({"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids)
    again = registry.register_many(
        [{"kind": "thread", "id": ids[0], "policy": "other", "uses": [("assistant", "asst_1")]}]
    )

    assert (1200, 1200, 0) == (done.registered, done.new, done.unmanaged)
    assert (1, 0, 1) == (again.registered, again.new, again.unmanaged)
    assert 1199 == raw.zcard(f"{SLOT}chat:fresh")


def test_register_many_of_nothing_does_nothing(registry: Any, raw: redis.Redis) -> None:
    assert 0 == registry.register_many([]).registered
    assert [] == raw.keys()


@pytest.mark.parametrize("id_", ["", " ", ".", "..", "a/b", "a b", "a\n", "a?b", "a%2Fb", "ä", "x" * 1025, None, 7])
def test_an_id_that_could_change_a_url_is_refused(registry: Any, raw: redis.Redis, id_: Any) -> None:
    with pytest.raises(InvalidResource, match="id "):
        registry.register("thread", id_, "chat")
    assert [] == raw.keys()


@pytest.mark.parametrize("name", ["", "a:b", "a{b}", "-a", "a" * 65, None])
def test_a_name_that_could_leave_its_slot_is_refused(registry: Any, raw: redis.Redis, name: Any) -> None:
    for kind, policy in ((name, "chat"), ("thread", name)):
        with pytest.raises(InvalidResource):
            registry.register(kind, "thread_1", policy)
    assert [] == raw.keys()


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - a naive time is the subject


@pytest.mark.parametrize(
    "given",
    [
        {"created_at": NAIVE},
        {"created_at": 1_700_000_000_000},
        {"created_at": 0},
        {"created_at": -1},
        {"created_at": math.nan},
        {"created_at": math.inf},
        {"created_at": True},
        {"created_at": "2026-01-01"},
        {"created_at": time.time() + 86_400},
        {"created_at": time.time() - 10, "last_active_at": time.time() - 20},
        {"expires_at": 3600},
        {"expires_at": 2**53},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": math.nan},
        {"expires_in": "30"},
        {"expires_in": 1e12},
        {"expires_in": 60, "expires_at": time.time() + 60},
        {"labels": {f"k{i}": "v" for i in range(17)}},
        {"labels": {"k": 7}},
        {"subject": ""},
        {"uses": ["asst_1"]},
        {"uses": [("assistant",)]},
        {"uses": [("assistant", "a/b")]},
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_and_nothing_is_stored(
    registry: Any, raw: redis.Redis, given: Any
) -> None:
    with pytest.raises(InvalidResource):
        registry.register("thread", "thread_1", "chat", **given)
    assert [] == raw.keys()


def test_a_backfilled_id_was_last_active_when_it_was_registered(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat", created_at=time.time() - 30 * DAY)

    record = registry.get("thread", "thread_1")

    assert timedelta(days=30) == pytest.approx(age(registry, "thread_1"), abs=timedelta(seconds=5))
    assert timedelta(seconds=5) > datetime.now(UTC) - record.last_active_at


def test_a_provider_is_required_and_the_environment_may_name_it(
    make_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make_registry(provider=None, on_error="log")

    with pytest.raises(ConfigError, match="LAPSE_PROVIDER"):
        registry.register("thread", "thread_1", "chat")
    monkeypatch.setenv("LAPSE_PROVIDER", "azure")
    registry.register("thread", "thread_1", "chat")

    assert registry.get("thread", "thread_1", provider="azure")


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1}, {"on_error": "ignore"}])
def test_constructor_arguments_that_would_hide_errors_are_refused(make_registry: Any, options: Any) -> None:
    with pytest.raises(ConfigError):
        make_registry(**options)


def test_an_unmanaged_registration_is_stored_and_warned_about_once(
    registry: Any, raw: redis.Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_said", set())
    raw.hset("lapse:published", "policies", json.dumps(["openai/thread/chat"]))

    with caplog.at_level(logging.WARNING, "lapse"):
        answers = [registry.register("thread", f"thread_{i}", "caht") for i in range(3)]

    assert [False, False, False] == [answer.managed for answer in answers]
    assert 1 == len(caplog.records)
    assert "did you mean openai/thread/chat?" in caplog.text
    assert 3 == raw.zcard(f"{SLOT}caht:fresh")


def test_policy_names_are_rules_and_not_data(registry: Any) -> None:
    registry.register_many({"kind": "thread", "id": f"thread_{i}", "policy": f"user-{i}"} for i in range(64))

    with pytest.raises(RegistryRefused, match="64 policy names"):
        registry.register("thread", "thread_x", "user-64")


def test_a_redis_that_is_not_there_is_unavailable_within_the_timeout(make_registry: Any) -> None:
    registry = make_registry(f"redis://127.0.0.1:{free_port()}/0", timeout=0.2)
    began = time.monotonic()

    with pytest.raises(RegistryUnavailable):
        registry.register("thread", "thread_1", "chat")

    assert 1.0 > time.monotonic() - began


def test_a_redis_that_never_answers_is_unavailable_within_the_timeout(make_registry: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        registry = make_registry(url, timeout=0.2, connect_timeout=0.4)
        began = time.monotonic()

        with pytest.raises(RegistryUnavailable):
            registry.touch("thread", "thread_1")

        assert 1.0 > time.monotonic() - began


def test_on_error_log_answers_falsy_and_logs_what_can_be_replayed(
    make_registry: Any, registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken = make_registry(f"redis://127.0.0.1:{free_port()}/0", timeout=0.2, on_error="log")
    created = time.time() - 5 * DAY

    with caplog.at_level(logging.WARNING, "lapse"):
        answer = broken.register(
            "thread",
            "thread_1",
            "chat",
            uses=[("assistant", "asst_1")],
            expires_in="1h",
            created_at=created,
            labels={"a": "b"},
        )
        touched = broken.touch("thread", "thread_1")

    assert ("unavailable", False, False) == (answer.governed_by, answer.new, answer.managed)
    assert touched is Answer.FAILED
    assert not touched
    lost = json.loads(caplog.records[0].getMessage().partition(": ")[2])
    lost.pop("error")
    registry.register_many([lost])
    record = registry.get("thread", "thread_1")
    assert ((Resource("openai", "assistant", "asst_1"),), {"a": "b"}) == (record.uses, record.labels)
    assert created == pytest.approx(record.created_at.timestamp(), abs=0.01)


def test_a_lost_bulk_registration_can_be_replayed_line_by_line(
    make_registry: Any, registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken = make_registry(f"redis://127.0.0.1:{free_port()}/0", timeout=0.2, on_error="log")
    ids = [f"thread_{i}" for i in range(5)]

    with caplog.at_level(logging.WARNING, "lapse"):
        broken.register_many({"kind": "thread", "id": id_, "policy": "chat", "labels": {"a": "b"}} for id_ in ids)

    lines = [json.loads(line.getMessage().partition(": ")[2]) for line in caplog.records]
    assert ids == [line["id"] for line in lines]
    for line in lines:
        line.pop("error")
    assert 5 == registry.register_many(lines).new
    assert {"a": "b"} == registry.get("thread", ids[0]).labels


def test_a_stamp_names_namespace_epoch_and_policy(registry: Any, raw: redis.Redis) -> None:
    with pytest.raises(NoEpoch):
        registry.stamp("idle")
    raw.hset("lapse:epoch", "id", "e1")

    one, other = (registry.stamp("idle")["lapse"] for _ in range(2))
    assert re.fullmatch("lapse/e1/idle/[0-9a-f]{16}", one)
    assert one != other


def test_two_namespaces_on_one_redis_do_not_meet(
    make_registry: Any, registry: Any, redis_server: EmbeddedRedis
) -> None:
    other = make_registry(redis_server.url, namespace="other")
    registry.register("thread", "thread_1", "chat")

    assert other.get("thread", "thread_1") is None
    assert other.touch("thread", "thread_1") is Answer.UNKNOWN
    assert other.forget("thread", "thread_1") is Answer.UNKNOWN
    assert registry.get("thread", "thread_1")


def test_calls_survive_a_server_that_forgot_its_scripts(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")
    raw.script_flush()

    assert registry.touch("thread", "thread_1")


def test_calls_survive_connections_that_the_server_closed(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")
    raw.client_kill_filter(_type="normal", skipme=True)

    assert registry.touch("thread", "thread_1")
