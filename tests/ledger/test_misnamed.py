"""What an older client stored under the plural of a kind is found and moved, a hold before all else."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from lapse import Registry
from lapse.ledger.housekeeping.misnamed import Misnamed
from lapse.ledger.partition import Ledger
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.commands import Commands, Operation
from lapse.registry.facts import Registration
from lapse.registry.model import EDGES_MARKER, FORGOTTEN_MARKER, HOLDS_MARKER, Resource

WRONG = "lapse:{openai:conversations}:"
MARKERS = {"holds": HOLDS_MARKER, "forgotten": FORGOTTEN_MARKER, "edges": EDGES_MARKER}
RIGHT = "lapse:{openai:conversation}:"
DAY = 86400.0


class OlderClient:
    """Stores under whatever it is told, as clients did that took any name for a kind."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.commands = Commands("lapse", "openai")

    async def register(self, kind: str, id_: str, uses: tuple[tuple[str, str], ...] = (), **facts: Any) -> None:
        checked = self.commands.registration("thread", id_, "chat", **facts)
        used = tuple(Resource("openai", *use) for use in uses)
        said = checked.facts | ({"uses": [f"openai|{kind}|{id_}" for kind, id_ in uses]} if uses else {})
        await self._do(self.commands.register(Registration(Resource("openai", kind, id_), "chat", said, used)))

    async def hold(self, kind: str, id_: str, reason: str = "case 7", until: float | None = None) -> None:
        await self._do(self.commands.hold(Resource("openai", kind, id_), reason, None, until))

    async def forget(self, kind: str, id_: str) -> None:
        await self._do(self.commands.forget(Resource("openai", kind, id_)))

    async def _do(self, operation: Operation[Any]) -> None:
        await self._carrier.carry(operation.calls)


@pytest.fixture
async def carrier(redis_url: str) -> AsyncIterator[Carrier]:
    """Return a worker's connections."""
    made = Carrier(redis_url, 5)
    yield made
    await made.aclose()


@pytest.fixture
def older(carrier: Carrier) -> OlderClient:
    """Return an application with a client that took any name."""
    return OlderClient(carrier)


async def move(carrier: Carrier, seconds: float = 30) -> int:
    return await Misnamed(carrier, "lapse").run(["openai"], time.monotonic() + seconds)


def left(raw: redis.Redis, wrong: str = WRONG) -> set[str]:
    """Return what stands under a wrong name still, but for the audit's record of it and for counts."""
    counts = {name for name, marker in MARKERS.items() if members(raw, wrong + name) == {marker}}
    names = {str(key).removeprefix(wrong) for key in raw.keys(f"{wrong}*")}
    return names - counts - {"audit", "acts", "said", "referenced", "protected"}


def members(raw: redis.Redis, key: str) -> set[str]:
    return set(map(str, raw.hkeys(key) if raw.type(key) == "hash" else raw.zrange(key, 0, -1)))


async def test_a_hold_is_moved_and_protects(
    carrier: Carrier, older: OlderClient, raw: redis.Redis, redis_url: str
) -> None:
    end = time.time() + DAY
    with Registry(redis_url, provider="openai", timeout=5) as registry:
        registry.register("conversation", "conv_1", "chat")
        await older.hold("conversations", "conv_1")
        await older.hold("conversations", "conv_2", until=end)

        assert await move(carrier) == 2

        record = registry.get("conversation", "conv_1")
        assert record
        assert record.state == "held"
        assert record.hold
        assert record.hold.reason == "case 7"
    assert raw.zscore(RIGHT + "hold_ends", "conv_2") == round(end * 1000)
    assert set() == left(raw)
    assert await move(carrier) == 0


@pytest.mark.parametrize(("wrong", "right", "stays"), [(None, DAY, None), (DAY, None, None), (DAY, 2 * DAY, 2 * DAY)])
async def test_of_two_holds_the_one_without_an_end_stays(
    carrier: Carrier,
    older: OlderClient,
    raw: redis.Redis,
    wrong: float | None,
    right: float | None,
    stays: float | None,
) -> None:
    now = time.time()
    await older.hold("conversations", "conv_1", until=wrong and now + wrong)
    await older.hold("conversation", "conv_1", until=right and now + right)

    await move(carrier)

    stored = json.loads(str(raw.hget(RIGHT + "holds", "conv_1")))
    assert stored.get("until") == (stays and round((now + stays) * 1000))
    assert set() == left(raw)


async def test_a_hold_whose_reason_is_half_a_character_is_moved(
    carrier: Carrier, older: OlderClient, raw: redis.Redis
) -> None:
    await older.hold("conversation", "conv_0")
    raw.hset(WRONG + "holds", "conv_1", '{"reason":"trip \\ud83d","actor":"a@b","since":1}')

    assert await move(carrier) == 1
    assert json.loads(str(raw.hget(RIGHT + "holds", "conv_1")))["reason"] == "trip ?"


async def test_what_was_registered_is_moved_as_it_is(
    carrier: Carrier, older: OlderClient, raw: redis.Redis, redis_url: str
) -> None:
    now = time.time()
    given: dict[str, dict[str, Any]] = {
        "fresh": {"created_at": now - DAY, "last_active_at": now - DAY},
        "used": {"created_at": now - 9 * DAY, "last_active_at": now - 2 * DAY},
        "ends": {"created_at": now - 9 * DAY, "expires_at": now + DAY},
        "whose": {"subject": "user:1", "labels": {"a": "b"}},
        "held": {"created_at": now - DAY, "last_active_at": now - DAY},
    }
    for kind, tag in (("conversations", "moved"), ("conversation", "model")):
        await older.hold(kind, f"{tag}_held")
        for name, facts in given.items():
            await older.register(kind, f"{tag}_{name}", (("assistants", "asst_1"),), **facts)

    await move(carrier)

    with Registry(redis_url, provider="openai", timeout=5) as registry:
        for name in given:
            one, other = (registry.get("conversation", f"{tag}_{name}") for tag in ("moved", "model"))
            assert one
            assert other
            for field in ("policy", "state", "expires_at", "governed_by", "subject", "labels", "uses"):
                assert getattr(one, field) == getattr(other, field), (name, field)
            for field in ("created_at", "last_active_at"):
                moved, model = getattr(one, field), getattr(other, field)
                assert (moved is None) == (model is None), (name, field)
                assert moved is None or abs((moved - model).total_seconds()) < 1, (name, field)
    assert set() == left(raw)


async def test_an_id_known_under_both_names_keeps_its_creation_and_the_later_activity(
    carrier: Carrier, older: OlderClient, redis_url: str
) -> None:
    now = time.time()
    await older.register("conversation", "conv_1", created_at=now - 9 * DAY, last_active_at=now - 8 * DAY)
    await older.register("conversations", "conv_1", created_at=now - 5 * DAY, last_active_at=now - DAY)

    await move(carrier)

    with Registry(redis_url, provider="openai", timeout=5) as registry:
        record = registry.get("conversation", "conv_1")
    assert record
    assert record.created_at
    assert record.last_active_at
    assert abs(record.created_at.timestamp() - (now - 9 * DAY)) < 1
    assert abs(record.last_active_at.timestamp() - (now - DAY)) < 1


async def test_what_was_said_since_under_the_right_name_stands(
    carrier: Carrier, older: OlderClient, raw: redis.Redis, redis_url: str
) -> None:
    ago, end = time.time() - DAY, time.time() + DAY
    for id_ in ("conv_forgotten", "conv_deleted", "conv_anew"):
        await older.register("conversations", id_, created_at=ago, last_active_at=ago, expires_at=end)
    with Registry(redis_url, provider="openai", timeout=5) as registry:
        registry.forget("conversation", "conv_forgotten")
        registry.register("conversation", "conv_deleted", "chat")
        registry.deleted("conversation", "conv_deleted")
        registry.register("conversation", "conv_anew", "other")

        await move(carrier)

        assert registry.get("conversation", "conv_forgotten") is None
        assert registry.get("conversation", "conv_deleted") is None
        anew = registry.get("conversation", "conv_anew")
        assert anew
        assert ("other", None) == (anew.policy, anew.expires_at)
    assert raw.zscore(RIGHT + "forgotten", "conv_forgotten")
    assert set() == left(raw)


@pytest.mark.parametrize("source", ["thread", "threads"])
async def test_uses_of_a_plural_protect_and_end_with_their_source(
    carrier: Carrier, older: OlderClient, raw: redis.Redis, redis_url: str, source: str
) -> None:
    await older.register(source, "thread_1", (("assistants", "asst_1"),))
    assert 0 == raw.zcount("lapse:{openai:assistant}:edges", 0, 0)

    await move(carrier)

    assert ["asst_1|openai|thread|thread_1"] == raw.zrange("lapse:{openai:assistant}:edges", 0, 0)
    assert set() == left(raw, "lapse:{openai:assistants}:") | left(raw, "lapse:{openai:threads}:")
    with Registry(redis_url, provider="openai", timeout=5) as registry:
        record = registry.get("thread", "thread_1")
        assert record
        assert record.uses == (Resource("openai", "assistant", "asst_1"),)
        used = registry.get("assistant", "asst_1")
        assert used is None
    raw.hset("lapse:{openai:thread}:released", "thread_1", json.dumps(["openai|assistant|asst_1"]))
    assert await Ledger(carrier, "lapse", "w", max_pending=1).release_edges("openai", "thread") == 1
    assert 0 == raw.zcount("lapse:{openai:assistant}:edges", 0, 0)


async def test_what_was_forgotten_stays_forgotten_unless_it_was_used_since(
    carrier: Carrier, older: OlderClient, raw: redis.Redis, redis_url: str
) -> None:
    now = time.time()
    for name in ("unknown", "before"):
        await older.forget("conversations", name)
    await older.register("conversation", "before", created_at=now - DAY, last_active_at=now - DAY)
    await older.forget("conversations", "after")
    await older.register("conversation", "after", last_active_at=now + 5)

    await move(carrier)

    with Registry(redis_url, provider="openai", timeout=5) as registry:
        assert registry.get("conversation", "before") is None
        assert registry.get("conversation", "after")
    assert members(raw, RIGHT + "forgotten") - {FORGOTTEN_MARKER} == {"unknown", "before"}
    assert set() == left(raw)


async def test_a_slot_of_another_spelling_is_found_by_what_applications_said(
    carrier: Carrier, older: OlderClient, raw: redis.Redis
) -> None:
    await older.hold("Vector-Stores", "vs_1")
    raw.sadd("lapse:slots", "openai/Vector-Stores")

    assert await move(carrier) == 1
    assert raw.hexists("lapse:{openai:vector_store}:holds", "vs_1")


async def test_what_changed_meanwhile_is_moved_again(carrier: Carrier, older: OlderClient, raw: redis.Redis) -> None:
    await older.register("conversations", "conv_1")
    commands = older.commands
    seen = json.dumps({"f": 1})
    (gone,) = await carrier.carry(
        [
            commands.on_slot(
                "ledger/lua/housekeeping/misnamed", "openai", "conversations", "id", "conv_1", seen, parse=int
            )
        ]
    )
    assert gone == 0

    assert await move(carrier) == 1
    assert raw.zscore(RIGHT + "chat:fresh", "conv_1")
    assert set() == left(raw)


async def test_a_thousand_are_moved_in_pages_and_time_is_kept(
    carrier: Carrier, older: OlderClient, raw: redis.Redis
) -> None:
    for n in range(250):
        await older.register("conversations", f"conv_{n}")

    assert await move(carrier, seconds=0) == 0
    assert await move(carrier) == 250
    assert raw.zcard(RIGHT + "chat:fresh") == 250


async def test_policy_names_that_nothing_stands_under_end(carrier: Carrier, raw: redis.Redis, redis_url: str) -> None:
    slot = keys.slot("lapse", "openai", "thread")
    with Registry(redis_url, provider="openai", timeout=5) as registry:
        for n in range(64):
            registry.register("thread", f"thread_{n}", f"p{n}")
        registry.hold("thread", "thread_2", reason="case 7")
        for n in (*range(1, 64), 0):
            registry.register("thread", f"thread_{n}", "p3")
        raw.hset(f"{slot}p4:rules", "digest", "d1")

        await Ledger(carrier, "lapse", "w", max_pending=1).end_tombstones("openai", "thread", 0)

        assert raw.smembers(slot + "policies") == {"p3", "p4"}
        assert registry.register("thread", "thread_65", "p65").new
