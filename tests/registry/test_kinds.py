"""What an application calls a kind: where it is stored, and what is refused because no worker would look there."""

import json
import os
from typing import Any

import pytest
import redis

from lapse import Answer, InvalidResource, Registered

VERBS: dict[str, dict[str, Any]] = {
    "register": {"policy": "chat"},
    "touch": {},
    "hold": {"reason": "case 7"},
    "unhold": {},
    "forget": {},
    "expire": {},
    "get": {},
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_plural_is_made_singular(registry: Any, raw: redis.Redis, verb: str) -> None:
    registry.register("conversation", "conv_1", "chat")
    registry.hold("conversation", "conv_1", reason="case 6")

    answer = getattr(registry, verb)("conversations", "conv_1", **VERBS[verb])

    assert answer != Answer.UNKNOWN
    assert answer is not None
    assert [] == raw.keys("lapse:{openai:conversations}:*")


def test_a_hold_under_a_plural_protects(registry: Any, raw: redis.Redis) -> None:
    registry.register("conversation", "conv_1", "chat")

    assert registry.hold("conversations", "conv_1", reason="case 7")
    assert raw.hexists("lapse:{openai:conversation}:holds", "conv_1")
    assert registry.get("conversation", "conv_1").state == "held"


def test_uses_of_a_plural_protect(registry: Any, raw: redis.Redis) -> None:
    registry.register("threads", "thread_1", "chat", uses=[("assistants", "asst_1"), ("assistant", "asst_1")])

    assert ["asst_1|openai|thread|thread_1"] == raw.zrange("lapse:{openai:assistant}:edges", 0, 0)


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_kind_is_refused(registry: Any, raw: redis.Redis, verb: str) -> None:
    with pytest.raises(InvalidResource, match="'converstion' is not known: did you mean 'conversation'"):
        getattr(registry, verb)("converstion", "conv_1", **VERBS[verb])

    assert [] == raw.keys("lapse:{*")


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_kind_is_logged_and_answered_falsy(
    make_registry: Any, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    registry = make_registry(on_error="log")

    answer = getattr(registry, verb)("converstion", "conv_1", **VERBS[verb])

    assert not (answer.managed if isinstance(answer, Registered) else answer)
    (record,) = caplog.records
    said = json.loads(record.getMessage().partition(": ")[2])
    assert (said["call"], said["kind"], said["id"]) == (verb, "converstion", "conv_1")
    assert "did you mean 'conversation'" in said["error"]


@pytest.mark.parametrize("field", ["kinds", "policies"])
def test_a_kind_of_a_newer_worker_is_taken(registry: Any, raw: redis.Redis, field: str) -> None:
    raw.hset("lapse:published", field, {"kinds": '["batch"]', "policies": '["openai/batch/old"]'}[field])

    assert registry.register("batch", "batch_1", "old").new
    assert raw.exists("lapse:{openai:batch}:old:fresh")


def test_many_registrations_take_plurals_and_say_which_kind_is_unknown(registry: Any, raw: redis.Redis) -> None:
    assert registry.register_many([{"kind": "threads", "id": "thread_1", "policy": "chat"}]).new == 1
    assert raw.exists("lapse:{openai:thread}:chat:fresh")

    with pytest.raises(InvalidResource, match="'tread' is not known: did you mean 'thread'"):
        registry.register_many([{"kind": "tread", "id": "thread_2", "policy": "chat"}])


def test_of_many_registrations_the_log_takes_those_alone_that_cannot_be_stored(
    make_registry: Any, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = [
        {"kind": "tread", "id": "thread_2", "policy": "chat"},
        {"kind": "thread", "id": "a b", "policy": "chat"},
        {"kind": "thread", "id": "thread_3"},
        "thread_4",
        {"kind": "thread", "id": "thread_5", "policy": "chat", 7: 7},
        {"kind": "thread", "id": "thread_6", "policy": "chat", "ttl": "7d"},
    ]
    right = [{"kind": "thread", "id": f"thread_right_{n}", "policy": "chat"} for n in range(3)]

    done = make_registry(on_error="log").register_many([right[0], *wrong, *right[1:]])

    assert (done.registered, done.new) == (3, 3)
    assert raw.zcard("lapse:{openai:thread}:chat:fresh") == 3
    assert len([record for record in caplog.records if "lapse call failed" in record.getMessage()]) == len(wrong)


@pytest.mark.parametrize("given", [None, "other"])
def test_the_namespace_of_the_environment_is_honoured(
    make_registry: Any, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.setitem(os.environ, "LAPSE_REGISTRY__NAMESPACE", "staging")

    make_registry(namespace=given).register("thread", "thread_1", "chat")

    assert raw.exists(f"{given or 'staging'}:{{openai:thread}}:chat:fresh")
    assert [] == raw.keys("lapse:*")


def test_the_slots_that_applications_write_to_are_named(registry: Any, raw: redis.Redis) -> None:
    registry.touch("file", "file_1")
    registry.get("file", "file_1")
    assert not raw.exists("lapse:slots")

    registry.register("thread", "thread_1", "chat", uses=[("assistant", "asst_1")], provider="opnai")
    registry.hold("conversation", "conv_1", reason="case 7", provider="azure")
    registry.register_many([{"kind": "response", "id": "resp_1", "policy": "chat"}])
    registry.forget("container", "cntr_1")

    assert raw.smembers("lapse:slots") == {
        "opnai/thread",
        "opnai/assistant",
        "azure/conversation",
        "openai/response",
        "openai/container",
    }
