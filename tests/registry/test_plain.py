"""Plain registrations, one or many in a call, go a way of their own through register.lua, where the long one leads."""

import re
from itertools import product
from typing import Any

import pytest
import redis

from lapse.registry.commands import Commands
from support.lua import named, source

LONG_AGO = 1.7e12  # a time in ms; what is later is now
NOW = re.compile(r"\d{13}")
SLOT = "lapse:{openai:thread}:"
RULES: dict[str, dict[str, Any]] = {
    "none": {},
    "ttl": {"digest": "d", "ttl": 1000, "anchor": "created_at"},
    "idle": {"digest": "d", "ttl": 1000, "anchor": "last_active_at", "max_age": 5000},
    "aged": {"digest": "d", "ttl": 5000, "anchor": "last_active_at", "max_age": 1000},
    "equal": {"digest": "d", "ttl": 5000, "anchor": "last_active_at", "max_age": 5000},
    "max_age": {"digest": "d", "max_age": 1000},
    "orphan": {"digest": "d", "orphan": 1},
    "no digest": {"orphan": 1},
}
BEFORE: dict[str, list[tuple[Any, ...]]] = {
    "nothing": [],
    "known policy": [("SADD", "policies", "chat")],
    "other policy": [("SADD", "policies", "chat", "old")],
    "fresh": [("SADD", "policies", "chat"), ("ZADD", "chat:fresh", 5, "t")],
    "fresh elsewhere": [("SADD", "policies", "chat", "old"), ("ZADD", "old:fresh", 5, "t")],
    "active": [("SADD", "policies", "chat"), ("ZADD", "chat:active", 9, "t"), ("ZADD", "chat:created", 5, "t")],
    "active elsewhere": [
        ("SADD", "policies", "chat", "old"),
        ("ZADD", "old:active", 9, "t"),
        ("ZADD", "old:created", 5, "t"),
    ],
    "explicit": [("SADD", "policies", "chat"), ("ZADD", "chat:explicit", 9, "t"), ("ZADD", "chat:capped", 5, "t")],
    "held": [("SADD", "policies", "chat"), ("HSET", "holds", "t", '{"reason":"r","actor":"a","since":1}')],
    "another held": [("SADD", "policies", "chat"), ("HSET", "holds", "u", '{"reason":"r","actor":"a","since":1}')],
    "forgotten": [("SADD", "policies", "chat"), ("ZADD", "forgotten", 5, "t")],
    "another forgotten": [("SADD", "policies", "chat"), ("ZADD", "forgotten", 5, "u")],
    "settled": [("SADD", "policies", "chat"), ("ZADD", "tombstones", 5, "t"), ("HSET", "graves", "t", "{}")],
    "parked": [
        ("SADD", "policies", "chat"),
        ("HSET", "aside", "t", '{"p":"chat","s":"parked","f":5,"d":6,"r":"referenced"}'),
        ("ZADD", "chat:parked", 6, "t"),
    ],
}


def state(raw: Any) -> dict[str, Any]:
    """Return all that is stored; the times of now, which differ, as one word."""
    found: dict[str, Any] = {}
    for key in raw.keys(f"{SLOT}*"):
        match raw.type(key):
            case "zset":
                scored = raw.zrange(key, 0, -1, withscores=True)
                found[key] = {id_: score if score < LONG_AGO else "now" for id_, score in scored}
            case "hash":
                stored = raw.hgetall(key)
                found[key] = {name: NOW.sub("now", text) for name, text in stored.items()}
            case _:
                found[key] = raw.smembers(key)
    return found


@pytest.mark.parametrize(("rules", "before"), list(product(RULES, BEFORE)))
def test_both_ways_lead_to_the_same(raw: Any, rules: str, before: str) -> None:
    whole = named("register").text
    plain = source("plain")
    assert plain in whole
    call = Commands("lapse", "openai")
    (command,) = call.register(call.registration("thread", "t", "chat")).calls
    outcomes = []
    for text in (whole, whole.replace(plain, "")):
        raw.flushall()
        if RULES[rules]:
            raw.hset(f"{SLOT}chat:rules", mapping=RULES[rules])
        for name, key, *rest in BEFORE[before]:
            raw.execute_command(name, SLOT + key, *rest)
        due, *answer = str(raw.eval(text, 1, command.key, *map(str, command.args))).split()
        seconds, micros = raw.time()
        now = int(seconds) * 1000 + int(micros) // 1000
        nearest = min((1000, 5000, -now), key=lambda ahead: abs(int(due) - now - ahead))
        outcomes.append((None if due == "-1" else nearest < 0 or nearest, answer, state(raw)))

    assert outcomes[0] == outcomes[1]


MANY: dict[str, list[dict[str, Any]]] = {
    "alone": [{"id": "t"}],
    "twice": [{"id": "t"}, {"id": "t"}],
    "facts first": [{"id": "t", "labels": {"a": "b"}, "created_at": 1_500_000_000}, {"id": "t"}],
    "facts after": [{"id": "t"}, {"id": "t", "labels": {"a": "b"}, "last_active_at": 1_500_000_000}],
    "two policies": [{"id": "t"}, {"id": "t", "policy": "old"}],
    "a new policy": [{"id": "t", "policy": "young"}, {"id": "w", "policy": "young"}],
    "a subject": [{"id": "t", "subject": "user:1"}],
}
THE_LONG_WAY = ("#ARGV > 5 and register_plain_ones() or {}", "{}")


@pytest.mark.parametrize(("many", "before"), list(product(MANY, BEFORE)))
def test_many_at_once_are_what_they_are_one_by_one(raw: Any, many: str, before: str) -> None:
    outcomes = []
    for text in (named("register").text, named("register").text.replace(*THE_LONG_WAY)):
        _prepare(raw, before)
        outcomes.append((raw.eval(text, 1, *_together(many)), state(raw)))

    assert THE_LONG_WAY[0] in named("register").text
    assert outcomes[0] == outcomes[1]


def test_a_redis_user_without_zmscore_registers_many_all_the_same(raw: Any) -> None:
    outcomes = []
    for may in ("+zmscore", "-zmscore"):
        _prepare(raw, "active")
        raw.acl_setuser("app", enabled=True, nopass=True, keys=["*"], commands=["+@all", may])
        port = raw.connection_pool.connection_kwargs["port"]
        with redis.Redis(port=port, username="app", decode_responses=True) as app:
            outcomes.append((app.eval(named("register").text, 1, *_together("twice")), state(raw)))
    raw.acl_deluser("app")

    assert outcomes[0] == outcomes[1]


def test_more_than_go_into_one_command_are_all_registered(raw: Any) -> None:
    ids = [f"t{n}" for n in range(2500)]
    triples = [part for id_ in ids for part in (id_, "chat", "")]
    _prepare(raw, "known policy")

    answer = raw.eval(named("register").text, 1, SLOT, "openai", "thread", *triples)

    assert answer == [2500, 2500, 0, 0]
    assert set(raw.zrange(f"{SLOT}chat:fresh", 0, -1)) == set(ids)


def _prepare(raw: Any, before: str) -> None:
    raw.flushall()
    for name, key, *rest in BEFORE[before]:
        raw.execute_command(name, SLOT + key, *rest)


def _together(many: str) -> list[Any]:
    """Return the call of an id said in these ways, between two of which nothing is known."""
    call = Commands("lapse", "openai")
    said = [{"id": "u"}, *MANY[many], {"id": "v"}]
    checked = [call.checked({"kind": "thread", "policy": "chat", **one}) for one in said]
    (command,) = call.register_many(checked).calls
    return [command.key, *map(str, command.args)]
