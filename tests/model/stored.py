"""What stands in a slot of a real registry, in the words of the model."""

import json
from collections import Counter
from typing import Any

from lapse.registry import keys
from model.entries import Budget, Entry, Sighting

MARKERS = {".", "~"}  # what counts a key that protects: registry/lua/include/protection.lua
SLOT = "lapse:{openai:thread}:"
POLICIES = ["chat", "archive", "stray"]


def shown(one: Entry) -> tuple[Any, ...]:
    """Return where an id of the model stands, as ``stored`` does."""
    place = one.place
    if place == "waiting":
        place = "tried" if one.orphan else "suspects" if one.crashes else "waiting"
    tries: tuple[Any, ...] = (one.attempts, one.crashes, one.alone, one.unknown, one.token, one.reason)
    tries = () if place == "tracked" else (*tries, one.stamped, one.orphan, one.purged, one.later)
    return (place, one.policy, one.created, one.active, one.expiry, one.score, *tries)


def stored(client: Any) -> dict[str, tuple[Any, ...]]:
    """Return where each id stands in Redis; fails if one stands in two places, or half in one."""
    found: Counter[str] = Counter()
    stands: dict[str, tuple[Any, ...]] = {}
    records = {id_.decode(): json.loads(text) for id_, text in client.hgetall(SLOT + keys.ASIDE).items()}
    for policy, scores in _scores(client).items():
        for id_, created in scores[keys.FRESH].items():
            stands[id_] = ("tracked", policy, created, None, None, None)
        for id_, active in scores[keys.ACTIVE].items():
            stands[id_] = ("tracked", policy, scores[keys.CREATED][id_], active, None, None)
        for id_, expiry in scores[keys.EXPLICIT].items():
            stands[id_] = ("tracked", policy, scores[keys.CAPPED][id_], None, expiry, None)
        assert scores[keys.ACTIVE].keys() == scores[keys.CREATED].keys()
        assert scores[keys.EXPLICIT].keys() == scores[keys.CAPPED].keys()
        for name in (keys.FRESH, keys.ACTIVE, keys.EXPLICIT):
            found.update(scores[name].keys())
        for index, place in PLACES.items():
            for id_, score in scores[index].items():
                found[id_] += 1
                stands[id_] = _aside(place, policy, score, records.pop(id_))
    assert {} == records, "set aside, and in no index"
    assert [] == [id_ for id_, n in found.items() if n > 1]
    return stands


PLACES = {
    keys.CLAIMS: "claimed",
    keys.WAITING: "waiting",
    keys.SUSPECTS: "suspects",
    keys.PARKED: "parked",
    keys.KEPT: "kept",
    keys.QUARANTINE: "quarantined",
    keys.TRIED: "tried",
}


def _scores(client: Any) -> dict[str, dict[str, dict[str, int]]]:
    """Return policy -> index -> id -> score."""
    names = [(policy, index) for policy in POLICIES for index in INDEXES]
    pipeline = client.pipeline(transaction=False)
    for policy, index in names:
        pipeline.zrange(f"{SLOT}{policy}:{index}", 0, -1, withscores=True)
    found: dict[str, dict[str, dict[str, int]]] = {policy: {} for policy in POLICIES}
    for (policy, index), members in zip(names, pipeline.execute(), strict=True):
        found[policy][index] = {id_.decode(): int(score) for id_, score in members}
    return found


INDEXES = (keys.FRESH, keys.ACTIVE, keys.CREATED, keys.EXPLICIT, keys.CAPPED, *PLACES)


def _aside(place: str, policy: str, score: int, record: dict[str, Any]) -> tuple[Any, ...]:
    assert policy == record["p"]
    created = record.get("f") or record.get("c") or record.get("k")
    tries = (record.get("n", 0), record.get("x", 0), record.get("y", 0), bool(record.get("u")))
    return (
        place,
        policy,
        created,
        record.get("a"),
        record.get("e"),
        score,
        *tries,
        record.get("t"),
        record.get("r"),
        bool(record.get("q")),
        bool(record.get("o")),
        bool(record.get("z")),
        record.get("l"),
    )


def sightings(client: Any) -> dict[tuple[str, str], Sighting]:
    """Return what listings showed."""
    found: dict[tuple[str, str], Sighting] = {}
    for policy in POLICIES:
        for id_, text in client.hgetall(f"{SLOT}{policy}:{keys.SIGHTINGS}").items():
            one = json.loads(text)
            found[policy, id_.decode()] = Sighting(
                one["first"], one["run"], one["m"], one["times"], stamped=bool(one.get("q")), settled=bool(one.get("l"))
            )
    return found


def budget(client: Any, policy: str) -> Budget:
    """Return what a partition spent."""
    names = ("pace_from", "pace_used", "ramp_step", "ramp_from", "ramp_used", "ramp_cap", "pace_fence", "ramp_fence")
    since, used, step, ramp_since, ramp_used, cap, *before = (
        None if value is None else int(value) for value in client.hmget(f"{SLOT}{policy}:{keys.RULES}", names)
    )
    return Budget(since, used or 0, step or 0, ramp_since, ramp_used or 0, cap or Budget().cap, *before)
