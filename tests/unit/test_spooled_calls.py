"""What is kept of a call that waits in a spool, and what is sent of it; what a registry says of itself."""

import json
from typing import Any

import pytest
import redis

from lapse.errors import RegistryRefused
from lapse.registry import codec
from lapse.registry.commands import Commands, Operation
from lapse.registry.model import Bulk, Registered, Resource
from lapse.registry.spool import identity, statements
from lapse.registry.spool.statements import Origin

THREAD = Resource("openai", "thread", "t1")
ORIGIN = Origin("lapse", 0, "one")


@pytest.fixture
def commands() -> Commands:
    return Commands("lapse", "openai")


def late(operation: Operation[Any], said: int = 5) -> list[tuple[str, tuple[Any, ...]]]:
    (kept,) = statements.of(operation, ORIGIN, 0)
    return [(call.script.name, call.args[2:]) for call in kept.sent(said)]


def test_each_call_carries_when_it_was_said_in_its_own_place(commands: Commands) -> None:
    assert late(commands.touch(THREAD)) == [("touch", ("t1", 5))]
    assert late(commands.unexpire(THREAD)) == [("unexpire", ("t1", 5))]
    assert late(commands.deleted(THREAD)) == [("deleted", ("t1", 5))]
    assert late(commands.expire(THREAD)) == [("expire", ("t1", "", 5))]
    assert late(commands.forget(THREAD)) == [("forget", ("t1", "", 5))]
    assert late(commands.forget(THREAD, release=True)) == [("forget", ("t1", "release", 5))]
    assert late(commands.unhold(THREAD, "me")) == [("unhold", ("t1", '"me"', 5))]
    ((name, arguments),) = late(commands.hold(THREAD, "case 7", "me", None))
    assert (name, len(arguments), arguments[0], arguments[-2:]) == ("hold", 4, "t1", ("", 5))


def test_a_registration_carries_it_among_its_facts(commands: Commands) -> None:
    plain = commands.register(commands.registration("thread", "t1", "chat"))
    assert late(plain) == [("register", ("t1", "chat", '{"said":5}'))]

    using = commands.register(commands.registration("thread", "t1", "chat", subject="user:1", uses=[("file", "f1")]))
    (first, refer), (name, arguments), last = late(using)
    assert (first, refer, last) == ("refer", ("openai|thread|t1", "f1"), (first, refer))
    assert (name, json.loads(arguments[2])) == (
        "register",
        {"subject": "user:1", "uses": ["openai|file|f1"], "said": 5},
    )


def test_many_registrations_are_kept_each_for_itself(commands: Commands) -> None:
    many = commands.register_many([commands.registration("thread", f"t{n}", "chat") for n in range(3)])
    kept = statements.of(many, ORIGIN, 0)

    assert [one.given["id"] for one in kept] == ["t0", "t1", "t2"]
    assert many.spooled == Bulk(spooled=3)
    assert sum([Bulk(1, 1, 0, 0), Bulk(spooled=3)], Bulk()) == Bulk(1, 1, 0, 3)
    assert statements.names(kept[0].given) == ("openai", "thread", "t0")


def test_a_call_was_said_on_the_registrys_clock_and_never_later_than_now(commands: Commands) -> None:
    known, unknown = (statements.of(commands.touch(THREAD), ORIGIN, ahead)[0]._replace(at=100) for ahead in (7, None))

    assert known.said(ahead=50, now=1000) == 107
    assert unknown.said(ahead=50, now=1000) == 150
    assert unknown.said(ahead=5000, now=1000) == 1000


def test_the_last_touch_of_an_id_takes_the_place_of_those_before(commands: Commands) -> None:
    touch, again, hold = (
        statements.of(one, ORIGIN, 0)[0]
        for one in (commands.touch(THREAD), commands.touch(THREAD), commands.hold(THREAD, "case 7", "me", None))
    )
    assert touch.repeats == again.repeats == '["lapse", 0, "one", "openai", "thread", "t1"]'
    assert touch._replace(origin=Origin("lapse", 1)).repeats != touch.repeats
    assert hold.repeats is None


def test_what_waits_for_replicas_is_what_waits_for_them_where_redis_is_met(commands: Commands) -> None:
    said = (
        commands.touch(THREAD),
        commands.unexpire(THREAD),
        commands.deleted(THREAD),
        commands.expire(THREAD),
        commands.forget(THREAD),
        commands.hold(THREAD, "case 7", "me", None),
        commands.unhold(THREAD, "me"),
        commands.register(commands.registration("thread", "t1", "chat")),
    )
    kept = [statements.of(one, ORIGIN, 0)[0] for one in said]

    assert [one.lasting for one in said] == [one.lasting for one in kept]
    assert {one.prefix for one in kept} == {"lapse:{openai:thread}:"}


def test_uses_that_were_refused_are_said_to_their_kinds(commands: Commands) -> None:
    uses = [("file", "f1"), ("file", "f2"), ("azure", "assistant", "a1")]
    (kept,) = statements.of(commands.register(commands.registration("thread", "t1", "chat", uses=uses)), ORIGIN, 0)

    said = [(call.script.name, call.key, call.args) for call in statements.unsaid(kept.sent(5))]
    assert said == [
        ("unsaid", "lapse:{openai:file}:", ("openai", "file", "openai|thread|t1")),
        ("unsaid", "lapse:{azure:assistant}:", ("azure", "assistant", "openai|thread|t1")),
    ]
    assert statements.unsaid(kept.sent(5))[0].read(7) == 7


def test_what_was_not_registered_is_false() -> None:
    answers = [Registered(None, by, new=False, managed=False) for by in ("ttl", "unavailable", "spooled")]
    assert list(map(bool, answers)) == [True, False, False]


def test_a_registry_says_its_clock_and_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "now_millis", lambda: 1_000_500)

    assert identity.asking("lapse") == [
        b"*1\r\n$4\r\nTIME\r\n",
        b"*3\r\n$4\r\nHGET\r\n$11\r\nlapse:epoch\r\n$2\r\nid\r\n",
        b"*3\r\n$4\r\nHGET\r\n$15\r\nlapse:published\r\n$8\r\nreplicas\r\n",
    ]
    denied = redis.ResponseError("NOPERM no")
    assert identity.read([[b"1001", b"250000"], b"one", b"2"]) == (750, "one", 2)
    assert identity.read([[b"1001", b"250000"], None, None]) == (750, "", 0)
    assert identity.read([[b"1001", b"250000"], b"one", denied]).replicas == 0
    with pytest.raises(RegistryRefused):
        identity.read([[b"1001", b"250000"], denied, None])
