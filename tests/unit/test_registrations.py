"""What a client checks before it writes: many registrations, many uses, text, and what replies mean."""

from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from lapse.errors import (
    ConfigError,
    InvalidResource,
    NoEpoch,
    RegistryRefused,
    RegistryUnavailable,
    TooManyUses,
    UnknownKind,
)
from lapse.registry import codec, keys
from lapse.registry.commands import TOLD_FOR, Commands, known_kinds, stamped
from lapse.registry.model import DELETION_TOKENS, Bulk, deleted_at
from lapse.registry.scripts import Call
from support.lua import named

FILES = [("file", f"file-{n}") for n in range(1001)]


@pytest.fixture
def commands() -> Commands:
    return Commands("lapse", "openai")


def test_a_call_says_once_an_hour_which_slots_it_writes_to(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    operation = commands.register(commands.registration("thread", "t", "chat", uses=[("assistants", "a")]))

    news = commands.news(operation)
    assert commands.telling(news) == (
        b"*4\r\n$4\r\nSADD\r\n$11\r\nlapse:slots\r\n$16\r\nopenai/assistant\r\n$13\r\nopenai/thread\r\n"
    )
    assert commands.news(operation) == news
    commands.told(news)
    assert commands.news(operation) == []
    assert commands.news(commands.touch(commands.resource("file", "f", None))) == []
    now += TOLD_FOR
    assert commands.news(operation) == news
    assert keys.slots("lapse") == "lapse:slots"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("thread", "registration 'thread': give a mapping"),
        ({"kind": "thread", "policy": "chat"}, "it has no id"),
        ({}, "it has no kind, id, policy"),
        ({"kind": "thread", "id": "t", "policy": "chat", 7: 7}, "it has no names"),
        ({"kind": "thread", "id": "t", "policy": "chat", "ttl": "7d"}, "register takes no 'ttl'"),
        ({"kind": "tread", "id": "t", "policy": "chat"}, "did you mean 'thread'"),
    ],
)
def test_one_of_many_registrations_that_cannot_be_stored(commands: Commands, given: object, why: str) -> None:
    with pytest.raises(InvalidResource, match=why):
        commands.checked(given)


def test_one_of_many_registrations(commands: Commands) -> None:
    given = {"kind": "threads", "id": "t", "policy": "chat"}

    checked = commands.registration("thread", "t", "chat")
    assert commands.checked(given) == checked
    assert commands.checked(checked) is checked
    with pytest.raises(ConfigError):
        Commands("lapse", None).checked(given)


def test_what_a_tracked_application_says(commands: Commands) -> None:
    file = commands.resource("file", "f", None)
    deleted, unexpired = commands.deleted(file), commands.unexpire(file)
    assert [(one.calls[0].script.name, one.stores) for one in (deleted, unexpired)] == [
        ("deleted", True),
        ("unexpire", False),
    ]

    used = commands.use(commands.resource("thread", "t", None), [("file", "f")])
    assert [call.script.name for call in used.calls] == ["refer", "use", "refer"]
    assert used.calls[1].args[2:] == ("t", '["openai|file|f"]')
    assert used.finish([1, "ok", 1]) == "ok"
    assert used.calls[1].parse(b"unknown") == "unknown"
    assert used.describe() == [
        {"call": "use", "provider": "openai", "kind": "thread", "id": "t", "uses": [["file", "f"]]}
    ]

    assert [call.script.name for call in used.unsaid()] == ["unsaid"]

    new, ttl = commands.never_knew(file), commands.shortest_ttl("openai", "file")
    assert (new.finish([new.calls[0].parse(1)]), ttl.finish([ttl.calls[0].parse(1500)])) == (True, 1.5)
    assert ttl.calls[0].parse(0) is None
    assert (new.describe()[0]["call"], ttl.describe()[0]["call"]) == ("never_knew", "shortest_ttl")
    assert keys.stamped("lapse") == "lapse:stamped"


def test_more_uses_than_a_call_may_have(commands: Commands) -> None:
    with pytest.raises(TooManyUses, match="t uses 1001 others: at most 1000 a call") as refused:
        commands.registration("thread", "t", "chat", uses=FILES)

    assert [(call.script.name, call.key, call.args[2:]) for call in refused.value.unsaid] == [
        ("unsaid", "lapse:{openai:file}:", ("openai|thread|t",))
    ]


@pytest.mark.parametrize(("count", "before"), [(100, 0), (101, 1), (1000, 1)])
def test_many_uses_are_counted_before_they_are_said(commands: Commands, count: int, before: int) -> None:
    registration = commands.registration("thread", "t", "chat", uses=FILES[:count])

    for operation in (commands.register(registration), commands.register_many([registration])):
        assert [(call.script.name, call.args[2]) for call in operation.before] == [("count_uses", "t")] * before
        assert [call.key for call in operation.unsaid()] == ["lapse:{openai:file}:"]
    assert list(commands.register(commands.registration("thread", "t", "chat")).unsaid()) == []


def test_a_single_answer_among_many(commands: Commands) -> None:
    operation = commands.register_many([commands.registration("thread", "t", "chat")])

    assert operation.finish(["5 ttl 1 0"]) == Bulk(1, 1, 1)


def test_the_kinds_that_workers_published() -> None:
    assert known_kinds(None, None) == set()
    assert known_kinds(b'["batch"]', b'["openai/thread/chat"]') == {"batch", "thread"}
    commands = Commands("lapse", "openai")
    with pytest.raises(UnknownKind):
        commands.resource("batch", "b", None)
    commands.kinds = known_kinds(b'["batch"]', None)
    assert commands.resource("batch", "b", None).kind == "batch"


def test_a_stamp() -> None:
    assert stamped("lapse", "chat", b"e1", "n1") == {"lapse": "lapse/e1/chat/n1"}
    assert codec.nonce() != codec.nonce()
    with pytest.raises(NoEpoch):
        stamped("lapse", "chat", None, "n1")
    with pytest.raises(InvalidResource, match="policy"):
        stamped("lapse", "a policy", b"e1", "n1")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "give text$"),
        (7, "give text$"),
        ("xxxx", None),
        ("a\ud83d", "character 1 is half of one, no UTF-8"),
        ("a\nb", "control characters"),
    ],
)
def test_text(value: object, why: str | None) -> None:
    if why is None:
        assert codec.text(value, "reason") == value
        return
    with pytest.raises(InvalidResource, match=why):
        codec.text(value, "reason")


@pytest.mark.parametrize("uses", ["file", b"bytes", 7])
def test_uses_that_are_no_list(uses: Any) -> None:
    with pytest.raises(InvalidResource, match=r"give a list of \(kind, id\)"):
        codec.edges(uses, "openai")


def test_the_score_of_a_deletion_says_when_it_was_confirmed_to_the_second() -> None:
    assert deleted_at(1_700_000_000 * DELETION_TOKENS + 4711) == 1_700_000_000_000


def test_a_time_before_the_calendar() -> None:
    early = datetime(1, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidResource, match="not between 2015 and 9999"):
        codec.moment(early, "at")


class NoTime(datetime):
    """A time that no clock has."""

    def timestamp(self) -> float:
        raise OverflowError


def test_a_time_that_no_clock_has() -> None:
    with pytest.raises(InvalidResource, match="not between 2015 and 9999"):
        codec.moment(NoTime(9999, 1, 1, tzinfo=UTC), "at")


def test_an_actor_of_ones_own(commands: Commands) -> None:
    assert commands.unhold(commands.resource("thread", "t", None), "me@here").calls[0].args[3] == '"me@here"'


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (redis.ResponseError("OOM no room"), RegistryRefused, "the registry refused: OOM no room"),
        (redis.ResponseError("LAPSE-USES t would use more script: on @x"), TooManyUses, "^t would use more$"),
        (redis.exceptions.ReadOnlyError("replica"), RegistryUnavailable, "is a replica now"),
        (b"no number", RegistryRefused, "the registry's reply to get cannot be read"),
    ],
)
def test_a_reply_that_is_none(reply: object, error: type[Exception], said: str) -> None:
    call = Call(named("get"), "lapse:{openai:thread}:", (), int)

    assert call.read(b"7") == 7
    with pytest.raises(error, match=said):
        call.read(reply)


def test_a_registration_that_says_nothing_more(commands: Commands) -> None:
    nothing = dict.fromkeys(("subject", "labels", "expires_in", "expires_at", "created_at", "last_active_at"))
    registration = commands.registration("thread", "t", "chat", **nothing)

    assert registration.facts == {}
    operation = commands.register(registration)
    (call,) = operation.calls
    assert operation.finish([call.read(b"-1 unmanaged 1 0")]).new
