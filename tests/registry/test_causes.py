"""Every cause for which a call can fail, with on_error="raise" and "log"; text that cannot be stored."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from lapse import Answer, ConfigError, InvalidResource, LapseError, NoEpoch, RegistryError, RegistryRefused
from lapse.sandbox.redis_server import EmbeddedRedis, free_port

HALF = "trip \ud83d"
LATIN = "Verl\udce4ngert"
CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Any]] = {
    "register": ("register", ("thread", "thread_1", "chat"), {"uses": [("file", "file_1")]}, None),
    "register_many": ("register_many", ([{"kind": "thread", "id": "thread_1", "policy": "chat"}],), {}, None),
    "touch": ("touch", ("thread", "thread_1"), {}, Answer.FAILED),
    "hold": ("hold", ("thread", "thread_1"), {"reason": "case 7"}, Answer.FAILED),
    "unhold": ("unhold", ("thread", "thread_1"), {}, Answer.FAILED),
    "forget": ("forget", ("thread", "thread_1"), {}, Answer.FAILED),
    "expire": ("expire", ("thread", "thread_1"), {}, Answer.FAILED),
    "get": ("get", ("thread", "thread_1"), {}, None),
    "stamp": ("stamp", ("chat",), {}, {}),
}


def away(_server: EmbeddedRedis, _client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{free_port()}/0"


def denied(server: EmbeddedRedis, client: redis.Redis) -> str:
    client.execute_command("ACL", "SETUSER", "nobody", "on", "nopass", "~*", "-@all", "+select", "+ping")
    return f"redis://nobody:x@127.0.0.1:{server.port}/0"


def stranger(server: EmbeddedRedis, client: redis.Redis) -> str:
    client.execute_command("ACL", "SETUSER", "somebody", "on", ">right", "~*", "+@all")
    return f"redis://somebody:wrong@127.0.0.1:{server.port}/0"


def other_types(server: EmbeddedRedis, client: redis.Redis) -> str:
    """Return a Redis where the keys of the registry are of another type: every command is answered WRONGTYPE."""
    for name in ("policies", "aside", "holds", "forgotten", "marks"):
        client.set(f"lapse:{{openai:thread}}:{name}", "x")
        client.set(f"lapse:{{openai:file}}:{name}", "x")
    client.set("lapse:epoch", "x")
    return server.url


def garbled(server: EmbeddedRedis, client: redis.Redis) -> str:
    client.hset("lapse:{openai:thread}:aside", "thread_1", "{no json")
    client.set("lapse:epoch", "x")
    client.sadd("lapse:{openai:thread}:policies", "chat")
    client.hset("lapse:{openai:thread}:holds", "thread_1", "{}")
    client.set("lapse:{openai:thread}:hold_ends", "x")
    return server.url


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """Return a server of these tests' own: they spoil it."""
    with EmbeddedRedis() as one:
        yield one


@pytest.mark.parametrize("on_error", ["raise", "log"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("cause", [away, denied, stranger, other_types, garbled])
def test_whatever_the_registry_does_a_call_fails_as_its_errors_say(
    server: EmbeddedRedis, make_registry: Any, caplog: pytest.LogCaptureFixture, cause: Any, call: str, on_error: str
) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        registry = make_registry(cause(server, client), on_error=on_error, timeout=2)
    verb, args, given, failed = CALLS[call]

    if on_error == "raise":
        with pytest.raises(RegistryError):
            getattr(registry, verb)(*args, **given)
        return
    answer = getattr(registry, verb)(*args, **given)

    assert not getattr(answer, "registered", getattr(answer, "managed", answer))
    assert failed is None or answer == failed
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert json.loads(caplog.records[0].getMessage().partition(": ")[2])["error"]


WRONG: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "half a subject": ("register", ("thread", "t", "chat"), {"subject": HALF}),
    "half a label": ("register", ("thread", "t", "chat"), {"labels": {"title": HALF}}),
    "half a label's name": ("register", ("thread", "t", "chat"), {"labels": {HALF: "title"}}),
    "half a reason": ("hold", ("thread", "t"), {"reason": HALF}),
    "a reason in Latin-1": ("hold", ("thread", "t"), {"reason": LATIN}),
    "half an actor": ("hold", ("thread", "t"), {"reason": "case 7", "actor": HALF}),
    "half an actor of unhold": ("unhold", ("thread", "t"), {"actor": HALF}),
    "a reason that is no text": ("hold", ("thread", "t"), {"reason": 7}),
    "a blank reason": ("hold", ("thread", "t"), {"reason": "  "}),
    "no reason": ("hold", ("thread", "t"), {"reason": None}),
    "an actor that is no text": ("hold", ("thread", "t"), {"reason": "case 7", "actor": b"x"}),
    "an id in Latin-1": ("touch", ("thread", LATIN), {}),
    "a kind in Latin-1": ("touch", (LATIN, "t"), {}),
    "a policy in Latin-1": ("stamp", (LATIN,), {}),
    "uses that are a number": ("register", ("thread", "t", "chat"), {"uses": 7}),
    "uses that are text": ("register", ("thread", "t", "chat"), {"uses": "file"}),
    "a use that is a number": ("register", ("thread", "t", "chat"), {"uses": [7]}),
    "a use of a set": ("register", ("thread", "t", "chat"), {"uses": [{"file", "file_1"}]}),
    "a use of an unknown kind": ("register", ("thread", "t", "chat"), {"uses": [("fiel", "file_1")]}),
    "a creation before the calendar": (
        "register",
        ("thread", "t", "chat"),
        {"created_at": datetime(1, 1, 1, tzinfo=UTC)},
    ),
    "an expiry that is a list": ("register", ("thread", "t", "chat"), {"expires_in": []}),
}


@pytest.mark.parametrize("on_error", ["raise", "log"])
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_stored_is_refused_and_nothing_is_written(
    make_registry: Any, raw: redis.Redis, caplog: pytest.LogCaptureFixture, name: str, on_error: str
) -> None:
    raw.hset("lapse:epoch", "id", "e1")
    verb, args, given = WRONG[name]
    registry = make_registry(on_error=on_error)

    if on_error == "raise":
        with pytest.raises(InvalidResource):
            getattr(registry, verb)(*args, **given)
    else:
        answer = getattr(registry, verb)(*args, **given)
        assert not getattr(answer, "managed", answer)
        assert len(caplog.records) == 1

    assert raw.keys() == ["lapse:epoch"]


def test_only_a_configuration_error_is_raised_whatever_was_chosen(make_registry: Any) -> None:
    registry = make_registry(provider=None, on_error="log")

    for verb, args, given, _ in CALLS.values():
        if verb != "stamp":
            with pytest.raises(ConfigError):
                getattr(registry, verb)(*args, **given)


def test_a_stamp_without_an_epoch(make_registry: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NoEpoch):
        make_registry().stamp("chat")

    assert make_registry(on_error="log").stamp("chat") == {}
    assert "start a lapse worker once" in caplog.text


def test_a_registration_stands_where_no_advice_can_be_had(
    server: EmbeddedRedis, make_registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.set("lapse:published", "x")

    assert make_registry(server.url).register("thread", "thread_advice", "advised").new
    assert caplog.records == []


def test_half_a_character_stored_by_an_older_client_hides_no_record(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")
    registry.hold("thread", "thread_1", reason="case 7")
    since = datetime.now(UTC).timestamp() * 1000
    stored = f'{{"reason":"trip \\ud83d","actor":"a@b","since":{since:.0f}}}'
    raw.hset("lapse:{openai:thread}:holds", "thread_1", stored)

    record = registry.get("thread", "thread_1")

    assert record.state == "held"
    assert record.hold.reason == "trip \ufffd"


def test_errors_are_those_of_the_documentation() -> None:
    assert issubclass(RegistryRefused, LapseError)
