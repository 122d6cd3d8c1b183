"""A plain registration has a way of its own through register.lua: it does and answers what the other way would."""

import re
from itertools import product
from typing import Any

import pytest

from lapse.registry.commands import Commands
from support.lua import named, source

LONG_AGO = 1e12
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
