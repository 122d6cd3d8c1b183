"""quarantine: what is listed, and what retry, drop and undo change."""

import itertools

import pytest

from support.commandline import ENFORCED, HEAD, Desk

STRANGE = [{"method": "DELETE", "effect": "error", "status": 404, "message": "Thread is unknown to this server"}]
SLOT = "lapse:{openai:thread}:"


@pytest.fixture
def quarantined(desk: Desk) -> list[str]:
    """Two ids in quarantine, because the provider answers with words that nobody knows."""
    desk.configure(ENFORCED)
    ids = desk.seed(2)
    desk.sandbox.faults(STRANGE)
    desk.worker()
    assert 2 == desk.raw.zcard(f"{SLOT}chat:quarantine")
    return sorted(ids)


def test_list_shows_the_answer_and_the_config_line_to_add(desk: Desk, quarantined: list[str]) -> None:
    shown = desk.good("quarantine", "list")
    assert quarantined == sorted(text.split("\t")[0] for text in shown.lines)
    assert {("thread", "chat", "unrecognised")} == {tuple(text.split("\t")[1:4]) for text in shown.lines}
    assert "2 ids, " in shown.err
    assert "404 Thread is unknown to this server" in shown.err
    assert '    not_found = ["Thread is unknown to this server"]\n' in shown.err


def test_what_the_list_says_to_do_mends_it(desk: Desk, quarantined: list[str]) -> None:
    (first, _second) = desk.good("quarantine", "list", "threads", "--json").records
    assert "providers.openai" == first["config"]["table"]
    desk.configure(ENFORCED, head=HEAD + first["config"]["line"] + "\n")
    desk.seed(1)
    desk.seed(1, days=1)  # a witness that the provider still knows others
    retried = desk.good("quarantine", "retry", "threads", "--all", "--reason", "recogniser added")
    assert quarantined == sorted(retried.lines)
    desk.sandbox.faults([{**STRANGE[0], "ids": quarantined}])
    desk.worker()
    counters: dict[str, str] = desk.raw.hgetall(f"{SLOT}counters")  # type: ignore[assignment]
    assert ("2", "1") == (counters["settled|chat|already_gone"], counters["settled|chat|deleted"])


def test_list_as_json_says_everything(desk: Desk, quarantined: list[str]) -> None:
    shown = desk.good("quarantine", "list", "threads", "--policy", "chat", "--limit", "1", "--json").records
    assert 1 == len(shown)
    assert ("unrecognised", 0) == (shown[0]["reason"], shown[0]["attempts"])
    assert shown[0]["id"] in quarantined
    assert f"lapse quarantine retry threads {shown[0]['id']}" == shown[0]["retry"]


def test_an_empty_quarantine_prints_nothing(desk: Desk) -> None:
    assert "" == desk.good("quarantine", "list").out


def test_retry_of_one_leaves_the_others(desk: Desk, quarantined: list[str]) -> None:
    desk.sandbox.faults()
    shown = desk.good("quarantine", "retry", "threads", quarantined[0])
    assert f"{quarantined[0]}\n" == shown.out
    desk.worker()
    assert {quarantined[1]} == desk.sandbox.alive("thread")


def test_what_is_not_in_quarantine_cannot_be_retried(desk: Desk, quarantined: list[str]) -> None:
    shown = desk.run("quarantine", "retry", "threads", quarantined[0], "thread_0")
    assert (5, f"{quarantined[0]}\n") == (shown.code, shown.out)
    assert "thread_0: not in quarantine" in shown.err


def test_drop_plans_asks_and_leaves_the_objects(desk: Desk, quarantined: list[str]) -> None:
    asked = desk.run("quarantine", "drop", "threads", "--all")
    assert (8, "") == (asked.code, asked.out)
    assert "would stay at the provider, and no record would say so any more:" in asked.err
    assert quarantined[0] in asked.err
    assert 2 == desk.raw.zcard(f"{SLOT}chat:quarantine")

    shown = desk.good("quarantine", "drop", "threads", "--all", "--confirm=openai", "--reason", "not ours")
    assert quarantined == sorted(shown.lines)
    assert 0 == desk.raw.zcard(f"{SLOT}chat:quarantine")
    assert set(quarantined) == desk.sandbox.alive("thread")
    dropped = [record for record in desk.audit() if record["event"] == "dropped"]
    assert quarantined == sorted(record["id"] for record in dropped)
    assert {"not ours"} == {record["reason"] for record in dropped}


def test_dropping_what_uses_something_lets_that_go(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (used,) = desk.seed(1)
    (user,) = desk.seed(1, uses=[("thread", used)])
    desk.sandbox.faults([{**STRANGE[0], "ids": [user]}])
    desk.worker()
    assert "referenced" == desk.good("explain", "thread", used, "--json").json["state"]
    desk.good("quarantine", "drop", "threads", user, "--confirm=openai")
    desk.worker()
    assert {user} == desk.sandbox.alive("thread")


@pytest.fixture
def gone(desk: Desk) -> list[str]:
    """Three ids settled as already gone, because the provider lost sight of them for a while."""
    desk.configure(ENFORCED)
    desk.seed(1, days=1)
    ids = desk.seed(3)
    desk.sandbox.faults([{"effect": "wrong_project", "ids": ids}])
    desk.worker()
    assert "3" == desk.raw.hget(f"{SLOT}counters", "settled|chat|already_gone")
    desk.sandbox.faults()
    return sorted(ids)


def test_undo_brings_back_what_was_settled_as_already_gone(desk: Desk, gone: list[str]) -> None:
    assert 8 == desk.run("quarantine", "undo", "threads", "--since", "1h").code
    shown = desk.good("quarantine", "undo", "threads", "--since", "1h", "--confirm=openai")
    assert ["3 tracked again, and due as before"] == shown.lines
    assert [] == [id_ for id_ in gone if id_ in shown.out + shown.err]
    assert "3 threads would be tracked again, and deleted when due." in shown.err
    assert "3 of 3 ids are tracked again." in shown.err
    desk.worker()
    assert desk.sandbox.alive("thread").isdisjoint(gone)


def test_undo_lists_what_was_said_of_ids_since(desk: Desk, gone: list[str]) -> None:
    """Touched: back with that time; held: back, and parked; forgotten: left out."""
    touched, held, forgotten = gone
    desk.registry.touch("thread", touched)
    desk.registry.hold("thread", held, reason="case 7")
    desk.registry.forget("thread", forgotten)

    shown = desk.good("quarantine", "undo", "threads", "--since", "1h", "-v", "--confirm=openai")

    told = list(itertools.pairwise(shown.lines))
    for text, id_ in (
        ("1 tracked again, with the time at which they were touched since", touched),
        ("1 tracked again, and held", held),
        ("1 left out: forgotten since", forgotten),
    ):
        assert (text, f"  {id_}") in told
    assert {touched, held, forgotten} <= set(shown.err.split())
    record = desk.registry.get("thread", touched)
    assert record
    assert record.last_active_at
    assert record.created_at
    assert record.last_active_at.timestamp() - record.created_at.timestamp() > 29 * 86400
    assert "held" == desk.good("explain", "thread", held, "--json").json["state"]
    assert desk.registry.get("thread", forgotten) is None
    desk.worker()
    assert held in desk.sandbox.alive("thread")


def test_what_was_registered_anew_is_left_as_it_is_by_undo(desk: Desk, gone: list[str]) -> None:
    desk.registry.register("thread", gone[0], "chat", expires_in="300d")
    shown = desk.good("quarantine", "undo", "threads", *gone, "--confirm=openai")
    assert ["2 tracked again, and due as before", "1 as they are: registered anew since"] == shown.lines
    record = desk.registry.get("thread", gone[0])
    assert record
    assert record.expires_at


def test_undo_of_one_and_of_what_was_deleted(desk: Desk, gone: list[str]) -> None:
    shown = desk.run("quarantine", "undo", "threads", gone[0], "thread_0", "--confirm=openai")
    assert (5, "1 tracked again, and due as before\n") == (shown.code, shown.out)
    assert "thread_0: not settled as already gone" in shown.err


def test_undo_counts_only_what_it_would_bring_back(desk: Desk, gone: list[str]) -> None:
    asked = desk.run("quarantine", "undo", "threads", gone[0], "thread_of_nobody", "-v")
    assert (8, "") == (asked.code, asked.out)
    assert f"1 thread would be tracked again, and deleted when due.\n  {gone[0]}\n1 id given: not settled" in asked.err
    assert "thread_of_nobody" not in asked.err

    unknown = desk.run("quarantine", "undo", "threads", "thread_of_nobody")
    assert (5, "") == (unknown.code, unknown.out)
    assert "would be tracked again" not in unknown.err
    assert "thread_of_nobody: not settled as already gone" in unknown.err


def test_undo_since_later_finds_nothing_and_asks_nothing(desk: Desk, gone: list[str]) -> None:
    assert gone
    shown = desk.good("quarantine", "undo", "threads", "--since", "2099-01-01T00:00Z")
    assert "" == shown.out
    assert "0 of 0 ids" in shown.err
