"""purge: everything of a kind goes because somebody said so, and the provider is asked what is left."""

import json
import re
import signal
import time
from typing import Any

import pytest

from support.commandline import CHAT, HEAD, WAIT, Desk

ASSISTANTS = """
[policies.idle]
kind = "assistant"
orphan = { min_age = "30d", seen = 9 }
keep = [{ name = "prod-*" }]
"""


def deletes(desk: Desk) -> list[str]:
    return [one["path"].rsplit("/", 1)[1] for one in desk.sandbox.requests() if one["method"] == "DELETE"]


def test_it_names_what_it_would_delete_and_asks(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    (ours,) = desk.seed(1, kind="assistant", policy="idle")
    (foreign,) = desk.sandbox.seed("assistant", 1, name="of another team")
    shown = desk.run("purge", "assistants")
    assert (8, "") == (shown.code, shown.out)
    for said in (
        "2 assistants at openai to delete:",
        f"    {ours}\n",
        "1 of them not registered here",
        f"{foreign}  of another team",
        "--confirm=openai to delete 2 objects there for good",
    ):
        assert said in shown.err
    assert [] == deletes(desk)


def test_a_name_forges_no_line(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    (id_,) = desk.sandbox.seed("assistant", 1, name="helper\n  account: ours\tand more")
    shown = desk.run("purge", "assistants")

    assert f"    {id_}  helper\\u000a  account: ours\\u0009and more\n" in shown.err
    desk.registry.hold("assistant", id_, reason="case 7")
    left = desk.run("purge", "assistants", "--confirm=openai")
    assert f"left {id_} helper\\u000a  account: ours\\u0009and more: held: case 7\n" in left.out


def test_everything_goes_whatever_mode_age_and_stamp_say(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    ours = desk.seed(30, kind="assistant", policy="idle", days=1)
    foreign = desk.sandbox.seed("assistant", 120)
    desk.registry.register("thread", "thread_1", "chat", uses=[("assistant", ours[0])])
    shown = desk.good("purge", "assistants", "--confirm=openai")
    assert "150 deleted; 0 left\n" == shown.out
    assert {*ours, *foreign} == set(deletes(desk))
    assert set() == desk.sandbox.alive("assistant")
    counters: Any = desk.raw.hgetall("lapse:{openai:assistant}:counters")
    assert ("30", "120") == (counters["deletions|idle|assistant"], counters["deletions|(purge)|assistant"])
    intents = [one for one in desk.audit("assistant") if one["event"] == "intent"]
    assert (150, {"purge"}) == (len(intents), {one["by"] for one in intents})
    assert all(one["actor"] for one in intents)
    assert 0 == desk.raw.hlen("lapse:{openai:assistant}:aside")


def test_held_and_kept_ones_are_left_with_their_reason_and_code_5(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    desk.sandbox.seed("assistant", 3)
    (kept,) = desk.sandbox.seed("assistant", 1, name="prod-helper")
    (held,) = desk.sandbox.seed("assistant", 1)
    desk.registry.hold("assistant", held, reason="case 7")
    shown = desk.run("purge", "assistants", "--confirm=openai")
    assert 5 == shown.code
    assert {f"left {held}: held: case 7", f"left {kept} prod-helper: kept", "3 deleted; 2 left"} == set(shown.lines)
    shown = desk.run("purge", "assistants", "--include-kept", "--confirm=openai", "--json")
    assert (5, [held]) == (shown.code, [one["id"] for one in shown.json["left"]])
    assert {held} == desk.sandbox.alive("assistant")


@pytest.mark.parametrize("name", ["idle", 'unused]\nformerly = ["idle"'], ids=["edited", "renamed"])
def test_what_workers_keep_is_not_purged_by_a_file_that_does_not(desk: Desk, name: str) -> None:
    desk.configure(ASSISTANTS)
    desk.worker()
    desk.raw.hset("lapse:published", "beat", str(round(time.time() * 1000)))
    (kept,) = desk.sandbox.seed("assistant", 1, name="prod-helper")
    desk.configure(ASSISTANTS.partition("keep")[0].replace("idle]", f"{name}]"))
    shown = desk.run("purge", "assistants", "--foreign", "--confirm=openai")
    assert (2, {kept}) == (shown.code, desk.sandbox.alive("assistant"))
    assert "workers use other rules for openai/assistant/idle than " in shown.err
    assert 0 == desk.run("purge", "assistants", "--foreign", "--include-kept", "--confirm=openai").code
    assert set() == desk.sandbox.alive("assistant")


@pytest.mark.parametrize("scope", ["*", "openai", "openai/assistant", "openai/assistant/idle"])
def test_a_pause_stands_above_it(desk: Desk, scope: str) -> None:
    desk.configure(ASSISTANTS)
    desk.seed(2, kind="assistant", policy="idle")
    desk.good("pause", *([] if scope == "*" else [scope]))
    assert 6 == desk.run("purge", "assistants", "--confirm=openai").code
    assert [] == deletes(desk)


def test_a_halt_stands_above_it(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    desk.seed(2, kind="assistant", policy="idle")
    desk.raw.hset("lapse:{openai:assistant}:halts", "idle|orphan_share", '{"since":1,"detail":"too many"}')
    shown = desk.run("purge", "assistants", "--confirm=openai")
    assert 6 == shown.code
    assert "orphan_share: too many" in shown.err
    assert [] == deletes(desk)


def test_threads_are_what_the_registry_knows(desk: Desk) -> None:
    desk.configure(CHAT)
    known, stranger = desk.seed(5, days=1), desk.sandbox.seed("thread", 1)
    shown = desk.good("purge", "threads", "--confirm=openai")
    assert "5 deleted; 0 left\n" == shown.out
    assert (set(known), set(stranger)) == (set(deletes(desk)), desk.sandbox.alive("thread"))


def test_what_fails_is_left_and_can_be_purged_again(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    registered = desk.seed(2, kind="assistant", policy="idle")
    foreign = desk.sandbox.seed("assistant", 2)
    desk.sandbox.faults([{"method": "DELETE", "ids": [registered[0], foreign[0]], "effect": "error", "status": 500}])
    shown = desk.run("purge", "assistants", "--confirm=openai")
    assert 5 == shown.code
    assert {registered[0], foreign[0]} == {
        line.split()[1].rstrip(":") for line in shown.lines if line.startswith("left")
    }
    desk.sandbox.faults()
    assert "2 deleted; 0 left\n" == desk.good("purge", "assistants", "--confirm=openai").out


def test_ctrl_c_gives_back_what_was_claimed_and_running_it_again_goes_on(desk: Desk, wait_until: Any) -> None:
    desk.configure(ASSISTANTS, head=HEAD.replace("rate =", "concurrency = 4\nrate ="))
    desk.seed(100, kind="assistant", policy="idle")
    desk.sandbox.seed("assistant", 100)
    desk.sandbox.latency(0.05)
    with desk.start("purge", "assistants", "--confirm=openai") as process:
        wait_until(lambda: len(deletes(desk)) > 20, what="some deletions")
        process.send_signal(signal.SIGINT)
        out, _err = process.communicate(timeout=WAIT)
    assert 130 == process.returncode
    assert "not begun" in out
    left = len(desk.sandbox.alive("assistant"))
    assert 200 - len(deletes(desk)) == left > 0
    assert 0 == sum(int(desk.raw.zcard(key)) for key in desk.raw.keys("*:claims"))
    desk.sandbox.latency(0)
    assert f"{left} deleted; 0 left\n" == desk.good("purge", "assistants", "--confirm=openai").out


def test_a_purge_that_was_killed_is_gone_on_with_once_its_leases_are_over(desk: Desk, wait_until: Any) -> None:
    desk.configure(ASSISTANTS, head=HEAD.replace('lease = "20s"', 'lease = "2s"'))
    desk.seed(3, kind="assistant", policy="idle")
    desk.sandbox.seed("assistant", 3)
    desk.sandbox.faults([{"method": "DELETE", "effect": "hang", "first": 1}])
    with desk.start("purge", "assistants", "--confirm=openai") as process:
        wait_until(lambda: sum(int(desk.raw.zcard(key)) for key in desk.raw.keys("*:claims")) > 0)
        process.kill()
    wait_until(lambda: desk.run("purge", "assistants", "--confirm=openai").code == 0, 60, what="a whole purge")
    assert set() == desk.sandbox.alive("assistant")


def test_a_list_that_is_not_complete_confirms_nothing(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    desk.sandbox.seed("assistant", 2)
    desk.sandbox.faults([{"method": "GET", "kind": "assistant", "effect": "error", "status": 500}])
    shown = desk.run("purge", "assistants", "--confirm=openai")
    assert 4 == shown.code
    assert "is not complete" in shown.err


def test_on_a_terminal_the_providers_name_is_typed(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    desk.sandbox.seed("assistant", 2)
    assert 8 == desk.terminal("purge", "assistants", "--foreign", typed="yes").code
    shown = desk.terminal("purge", "assistants", "--foreign", typed="openai")
    assert (0, set()) == (shown.code, desk.sandbox.alive("assistant"))


def test_what_is_registered_and_not_listed_is_reported_and_stays_registered(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    desk.seed(2, kind="assistant", policy="idle")
    old, new = "asst_gone", "asst_registered_just_now"
    desk.registry.register("assistant", old, "idle", created_at=1_700_000_000, last_active_at=1_700_000_000)
    desk.registry.register("assistant", new, "idle")
    shown = desk.good("orphans", "--missing", "assistants")
    assert f"{old}\n" == shown.out
    assert "2 assistants listed at openai, 4 registered" in shown.err
    found = desk.good("orphans", "--missing", "assistants", "--json").json
    assert (1, [old], 1) == (found["count"], found["missing"], found["recent"])
    assert desk.registry.get("assistant", old)
    assert [] == deletes(desk)
    assert "cannot list threads" in desk.run("orphans", "--missing", "threads").err
    desk.sandbox.faults([{"method": "GET", "effect": "wrong_project"}])
    assert 4 == desk.run("orphans", "--missing", "assistants").code


def running(desk: Desk) -> Any:
    """Start a purge of 600 assistants, at most 80 a second."""
    desk.configure(ASSISTANTS, head=HEAD.replace("rate =", "concurrency = 4\nrate ="))
    desk.seed(600, kind="assistant", policy="idle")
    desk.sandbox.latency(0.05)
    return desk.start("purge", "assistants", "--confirm=openai")


def test_a_pause_of_one_policy_ends_one_that_runs(desk: Desk, wait_until: Any) -> None:
    with running(desk) as process:
        wait_until(lambda: len(deletes(desk)) > 20, what="some deletions")
        desk.good("pause", "openai/assistant/idle")
        paused = len(deletes(desk))
        out, _err = process.communicate(timeout=WAIT)
    assert 6 == process.returncode
    assert "not begun" in out
    assert len(deletes(desk)) <= paused + 2 * 80 + 4  # two seconds, and what was in flight


def test_one_whose_registry_was_emptied_deletes_no_more(desk: Desk, wait_until: Any) -> None:
    """Nothing tells it any more what is held."""
    with running(desk) as process:
        wait_until(lambda: len(deletes(desk)) > 20, what="some deletions")
        desk.raw.flushall()
        emptied = len(deletes(desk))
        process.communicate(timeout=WAIT)
    assert 6 == process.returncode
    assert len(deletes(desk)) <= emptied + 2 * 4 + 4  # what was claimed before, and what was in flight


# --- which account, and what is left of it


def test_it_names_the_account(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    desk.seed(1, kind="assistant", policy="idle")
    shown = desk.run("purge", "assistants")
    assert f"account: {desk.sandbox.url}, key from" in shown.err
    assert re.search(r"identity [0-9a-f]{16}\n", shown.err)


@pytest.mark.parametrize("known", ["registered", "held", "nothing"])
def test_an_account_of_which_this_registry_knows_nothing_takes_a_word_more(desk: Desk, known: str) -> None:
    desk.configure(ASSISTANTS)
    ids = desk.sandbox.seed("assistant", 3)
    if known == "registered":
        desk.registry.register("assistant", ids[0], "idle")
    if known == "held":
        desk.registry.hold("assistant", ids[0], reason="case 7")
    shown = desk.run("purge", "assistants", "--confirm=openai")
    if known == "nothing":
        assert (8, "", []) == (shown.code, shown.out, deletes(desk))
        assert "knows nothing of what is listed there" in shown.err
        assert "3 deleted; 0 left\n" == desk.good("purge", "assistants", "--foreign", "--confirm=openai").out
    else:
        assert {*ids[known == "held" :]} == set(deletes(desk))


def test_the_word_more_is_no_confirmation(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    desk.sandbox.seed("assistant", 3)
    assert (8, []) == (desk.run("purge", "assistants", "--foreign").code, deletes(desk))


def test_a_server_that_lists_what_it_says_it_deleted_is_no_success(desk: Desk) -> None:
    """One such server confirms deletions that race with others and does not carry them out."""
    desk.configure(ASSISTANTS)
    (ours,) = desk.seed(1, kind="assistant", policy="idle")
    shown = json.dumps({"object": "list", "data": [{"id": ours, "created_at": 1}], "has_more": False})
    desk.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 200, "text": shown}])
    result = desk.run("purge", "assistants", "--confirm=openai")
    assert 5 == result.code
    assert f"left {ours}: gone, as the provider said, and listed still" in result.out
    assert "run it again" in result.err
    desk.sandbox.faults()
    assert 0 == desk.run("purge", "assistants", "--confirm=openai").code


def test_a_list_that_lags_for_a_moment_is_waited_for(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    (ours,) = desk.seed(1, kind="assistant", policy="idle")
    shown = json.dumps({"object": "list", "data": [{"id": ours, "created_at": 1}], "has_more": False})
    desk.sandbox.faults(
        [{"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 200, "text": shown, "first": 2}]
    )
    assert "1 deleted; 0 left\n" == desk.good("purge", "assistants", "--confirm=openai").out


def test_what_no_request_can_name_is_left(desk: Desk) -> None:
    desk.configure(ASSISTANTS)
    (ours,) = desk.seed(1, kind="assistant", policy="idle")
    listed = [{"id": id_, "created_at": 1} for id_ in (ours, "s3://bucket/one")]
    shown = json.dumps({"object": "list", "data": listed, "has_more": False})
    rest = json.dumps({"object": "list", "data": listed[1:], "has_more": False})
    desk.sandbox.faults(
        [
            {"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 200, "text": shown, "first": 1},
            {"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 200, "text": rest},
        ]
    )
    result = desk.run("purge", "assistants", "--confirm=openai")
    assert (5, [ours]) == (result.code, deletes(desk))
    assert "left s3://bucket/one: its id can stand in no request" in result.out
