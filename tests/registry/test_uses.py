"""How much one id may use: as fast as it is long, and beyond the limit nothing is written and nothing collected."""

import json
from typing import Any

import pytest
import redis

from lapse import InvalidResource

FILES = "lapse:{openai:file}:"
THREADS = "lapse:{openai:thread}:"


def files(first: int, count: int) -> list[tuple[str, str]]:
    return [("file", f"file-{n:024d}") for n in range(first, first + count)]


def slowest(raw: redis.Redis) -> float:
    return max((int(entry["duration"]) for entry in raw.slowlog_get(128)), default=0) / 1e6


@pytest.fixture
def full(registry: Any) -> Any:
    """Return a registry in which thread_1 uses all that it may."""
    for first in range(0, 20_000, 1000):
        registry.register("thread", "thread_1", "chat", uses=files(first, 1000))
    return registry


def test_an_id_may_use_twenty_thousand_in_many_calls(full: Any, raw: redis.Redis) -> None:
    assert raw.zcount(FILES + "edges", 0, 0) == 20_000
    assert len(full.get("thread", "thread_1").uses) == 20_000
    assert not full.register("thread", "thread_1", "chat", uses=files(0, 1000)).new
    assert not raw.hexists(FILES + "said", "unsaid")


def test_beyond_that_nothing_is_written_and_the_kinds_are_told(full: Any, raw: redis.Redis) -> None:
    active = raw.zscore(THREADS + "chat:active", "thread_1")

    with pytest.raises(InvalidResource, match="more than 20000"):
        full.register("thread", "thread_1", "chat", uses=files(19_500, 1000))

    assert raw.zcount(FILES + "edges", 0, 0) == 20_000
    assert raw.zscore(THREADS + "chat:active", "thread_1") == active
    assert str(raw.hget(FILES + "said", "unsaid")).endswith(" openai|thread|thread_1")


@pytest.mark.parametrize("many", [False, True])
def test_a_few_beyond_are_refused_and_given_back(full: Any, raw: redis.Redis, *, many: bool) -> None:
    given: dict[str, Any] = {"kind": "thread", "id": "thread_1", "policy": "chat", "uses": files(19_990, 20)}

    with pytest.raises(InvalidResource, match="more than 20000"):
        full.register_many([given]) if many else full.register(**given)

    stored = json.loads(str(raw.hget(THREADS + "facts", "thread_1")))
    assert len(stored["uses"]) == 20_000
    assert set(json.loads(str(raw.hget(THREADS + "released", "thread_1")))) == {
        f"openai|file|{id_}" for _, id_ in files(20_000, 10)
    }
    assert raw.hexists(FILES + "said", "unsaid")


@pytest.mark.parametrize("on_error", ["raise", "log"])
@pytest.mark.parametrize("many", [False, True])
def test_more_than_a_thousand_a_call_are_refused(
    make_registry: Any, raw: redis.Redis, caplog: pytest.LogCaptureFixture, on_error: str, *, many: bool
) -> None:
    registry = make_registry(on_error=on_error)
    given: dict[str, Any] = {
        "kind": "thread",
        "id": "thread_1",
        "policy": "chat",
        "uses": [*files(0, 1000), ("assistants", "asst_1")],
    }

    def register() -> Any:
        return registry.register_many([given]) if many else registry.register(**given)

    if on_error == "raise":
        with pytest.raises(InvalidResource, match="thread_1 uses 1001 others: at most 1000 a call"):
            register()
    else:
        assert not register().new
        assert "at most 1000 a call" in caplog.text

    told = {key for key in raw.keys("lapse:{*") if raw.hexists(key, "unsaid")}
    assert told == {FILES + "said", "lapse:{openai:assistant}:said"} == set(raw.keys("lapse:{*"))


def test_the_same_use_again_counts_once(registry: Any) -> None:
    assert registry.register("thread", "thread_1", "chat", uses=[*files(0, 1000), *files(0, 1000)]).new


def test_it_takes_time_as_its_length(registry: Any, raw: redis.Redis) -> None:
    raw.config_set("slowlog-log-slower-than", 0)
    taken = []
    for first in range(0, 20_000, 1000):
        raw.slowlog_reset()
        registry.register("thread", "thread_1", "chat", uses=files(first, 1000))
        taken.append(slowest(raw))
    raw.config_set("slowlog-log-slower-than", 10_000)

    # Ten times as many are known at the end as at the second call: the square would be 100 times as slow.
    assert min(taken[-3:]) < 40 * sorted(taken[:3])[1]
    assert sorted(taken)[10] < 0.1
