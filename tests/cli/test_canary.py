"""lapse doctor --canary: created, deleted, deleted again; and its id is in the registry from the first moment on."""

from typing import Any

import pytest

from support.commandline import CHAT, Desk

CANARY = ("doctor", "--canary", "--confirm=openai", "--json")
STORES = '[policies.stores]\nkind = "vector_store"\nttl = "7d"\nanchor = "created_at"\n'


def flown(desk: Desk, *options: str) -> dict[str, dict[str, str]]:
    shown = desk.run(*CANARY, *options)
    return {one["name"]: one for one in shown.json["findings"] if one["name"].startswith("canary")}


def sent(desk: Desk, method: str) -> list[dict[str, Any]]:
    return [one for one in desk.sandbox.requests() if one["method"] == method]


def test_a_canary_of_each_kind_is_created_deleted_and_known_to_be_gone(desk: Desk) -> None:
    desk.configure(CHAT + STORES)
    found = flown(desk)
    assert {f"canary openai/{kind}" for kind in ("conversation", "thread", "vector_store")} == set(found)
    assert {"ok"} == {one["level"] for one in found.values()}
    assert 3 == len(sent(desk, "POST"))
    assert [200, 404] * 3 == [one["status"] for one in sent(desk, "DELETE")]
    assert [set()] * 3 == [desk.sandbox.alive(kind) for kind in ("conversation", "thread", "vector_store")]
    assert 0 == len(desk.good("ls", "threads").lines)


def test_it_is_audited_and_counted(desk: Desk) -> None:
    """A deletion as every other: its intent first, its outcome, its counter."""
    flown(desk)
    events = [(one["event"], one.get("policy")) for one in desk.audit()]
    assert [("canary", "lapse-canary"), ("intent", "lapse-canary"), ("settled", "lapse-canary")] == [
        one for one in events if one[0] in {"canary", "intent", "settled"}
    ]
    counters: Any = desk.raw.hgetall("lapse:{openai:thread}:counters")
    assert "1" == counters["deletions|lapse-canary|thread"]
    requests = sum(int(n) for name, n in counters.items() if name.startswith("requests||"))
    seen = [one for one in desk.sandbox.requests() if "/threads" in one["path"] or "/assistants" in one["path"]]
    assert len(seen) == requests


def test_it_has_to_be_confirmed(desk: Desk) -> None:
    shown = desk.run("doctor", "--canary")
    assert 8 == shown.code
    assert "--confirm=openai" in shown.err
    assert [] == desk.sandbox.requests()
    typed = desk.terminal("doctor", "--canary", typed="openai")
    assert "canary openai/thread: created, deleted" in " ".join(typed.out.split())


def test_what_a_killed_canary_left_is_shown_and_deleted_by_the_next(desk: Desk) -> None:
    (left,) = desk.sandbox.seed("thread", 1)
    desk.registry.register("thread", left, "lapse-canary", expires_in=0.001)
    assert "openai/thread/lapse-canary: 1 id under a policy that the file does not have" in desk.good("status").out
    assert "ok" == flown(desk)["canary openai/thread"]["level"]
    assert set() == desk.sandbox.alive("thread")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"method": "POST", "effect": "error", "status": 403}, "could not be created"),
        ({"method": "DELETE", "effect": "error", "status": 403}, "was not deleted"),
        ({"method": "DELETE", "effect": "error", "status": 500}, "was not deleted"),
    ],
)
def test_a_key_that_may_not_is_found_and_nothing_is_forgotten(desk: Desk, fault: dict[str, Any], said: str) -> None:
    desk.configure(CHAT.replace('["conversation", "thread"]', '"thread"'))
    desk.sandbox.faults([fault])
    found = flown(desk)["canary openai/thread"]
    assert ("fail", True) == (found["level"], said in found["detail"])
    left = desk.sandbox.alive("thread")
    assert len(left) == (fault["method"] == "DELETE")
    assert all(desk.registry.get("thread", id_) for id_ in left)


def test_an_answer_that_is_not_known_for_gone_is_found(desk: Desk) -> None:
    desk.configure(CHAT.replace('["conversation", "thread"]', '"thread"'))
    desk.sandbox.faults([{"method": "DELETE", "after": 1, "effect": "error", "status": 404, "message": "Nothing here"}])
    found = flown(desk)["canary openai/thread"]
    assert "fail" == found["level"]
    assert "not_found" in found["fix"]


def test_a_kind_that_cannot_be_made_empty_is_left_alone(desk: Desk) -> None:
    desk.configure('[policies.files]\nkind = "file"\nttl = "7d"\nanchor = "created_at"\n')
    found = flown(desk)
    assert ["canary openai"] == list(found)
    assert "unknown" == found["canary openai"]["level"]
    assert [] == sent(desk, "POST")


def test_langgraph_makes_threads_too(desk: Desk) -> None:
    desk.configure(
        CHAT.replace('["conversation", "thread"]', '"thread"'),
        type='"langgraph"',
        base_url=f'"{desk.sandbox.root}/langgraph"',
    )
    found = flown(desk)["canary openai/thread"]
    assert "ok" == found["level"], found
