"""sweep and orphans by hand: the plan first, then a confirmation, then what a worker would have done."""

import json
import re
import signal
import time
from typing import Any

import pytest

from lapse.registry.model import Partition
from support.commandline import CHAT, ENFORCED, HEAD, Desk

THREADS = Partition("openai", "thread", "chat")
IDLE = Partition("openai", "assistant", "idle")
ORPHANS = """
[policies.idle]
kind = "assistant"
orphan = { min_age = "100ms", seen = 2, uses = "none" }
mode = "enforce"
every = "500ms"
"""


def deletes(desk: Desk) -> list[str]:
    return [one["path"].rsplit("/", 1)[1] for one in desk.sandbox.requests() if one["method"] == "DELETE"]


def test_a_sweep_shows_its_plan_and_asks_before_it_deletes(desk: Desk) -> None:
    desk.configure(ENFORCED)
    ids = desk.seed(5)
    shown = desk.run("sweep", "threads", given="openai\n")
    assert (8, "") == (shown.code, shown.out)
    assert "openai/thread/chat (enforcing): 5 of 5 due; at least 10 requests, no rate limit" in shown.err
    assert min(ids) in shown.err
    assert "--confirm=openai to delete up to 5 objects there" in shown.err
    assert [] == desk.sandbox.requests()


def test_another_name_confirms_nothing(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    assert 8 == desk.run("sweep", "--confirm=opnai").code
    assert [] == deletes(desk)


def test_a_confirmed_sweep_deletes_what_is_due_and_nothing_else(desk: Desk) -> None:
    desk.configure(ENFORCED)
    due, young = desk.seed(7), desk.seed(3, days=1)
    (held,) = desk.seed(1)
    desk.registry.hold("thread", held, reason="case")
    shown = desk.good("sweep", "threads", "--confirm=openai")
    assert "openai/thread/chat: completed: 7 deleted\n" == shown.out
    assert {held, *young} == desk.sandbox.alive("thread")
    assert sorted(due) == sorted(deletes(desk))
    assert "7" == desk.raw.hget("lapse:{openai:thread}:counters", "deletions|chat|thread")


def test_where_nothing_is_due_nothing_has_to_be_confirmed(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(3, days=1)
    assert "openai/thread/chat: completed: nothing settled" in desk.good("sweep").lines


def test_an_observing_policy_is_not_touched(desk: Desk) -> None:
    desk.seed(3)
    shown = desk.good("sweep", "--json")
    assert ["observed", "observed"] == [report["result"] for report in shown.records]
    assert [] == desk.sandbox.requests()


@pytest.mark.parametrize(
    ("faults", "policies", "result", "code"),
    [
        ([{"method": "DELETE", "effect": "error", "status": 500}], ENFORCED, "completed", 5),
        ([{"method": "DELETE", "effect": "error", "status": 400}], ENFORCED, "breaker", 4),
        ([{"effect": "error", "status": 401}], ENFORCED, "breaker", 4),
        ([{"effect": "sunset"}], ENFORCED, "halted", 6),
        ([], ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n", "halted", 6),
        ([], ENFORCED + 'max_deletions = { amount = 2, window = "1h" }\n', "limited", 7),
    ],
)
def test_the_exit_code_says_how_a_sweep_ended(
    desk: Desk, faults: list[dict[str, Any]], policies: str, result: str, code: int
) -> None:
    desk.configure(policies)
    desk.seed(3)
    desk.sandbox.faults(faults)
    shown = desk.run("sweep", "threads", "--confirm=openai", "--json")
    assert (code, result) == (shown.code, shown.records[0]["result"]), shown


def test_a_paused_policy_is_left_alone_with_code_6(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(2)
    desk.good("pause")
    shown = desk.run("sweep", "threads")
    assert (6, "openai/thread/chat: paused (lapse pause on *): nothing settled\n") == (shown.code, shown.out)


def test_a_sweep_goes_on_after_its_time_budget_until_nothing_is_due(desk: Desk) -> None:
    desk.configure(ENFORCED, head=desk_head_with_budget("300ms"))
    desk.seed(60)
    desk.sandbox.latency(0.1)
    shown = desk.good("sweep", "threads", "--confirm=openai")
    assert "openai/thread/chat: completed: 60 deleted\n" == shown.out


def desk_head_with_budget(budget: str) -> str:
    return HEAD.replace("[audit]", f'budget = "{budget}"\n[audit]').replace("rate =", "concurrency = 4\nrate =")


def test_ctrl_c_ends_a_sweep_in_good_order(desk: Desk, wait_until: Any) -> None:
    """What was sent is recorded; nothing stays leased."""
    desk.configure(ENFORCED)
    desk.seed(400)
    desk.sandbox.latency(0.05)
    with desk.start("sweep", "threads", "--confirm=openai") as process:
        wait_until(lambda: len(deletes(desk)) > 20, what="some deletions")
        process.send_signal(signal.SIGINT)
        out, _err = process.communicate(timeout=30)
    assert 130 == process.returncode
    assert "openai/thread/chat: stopped: " in out
    assert 400 - len(deletes(desk)) == len(desk.sandbox.alive("thread")) > 0
    assert 0 == desk.raw.zcard("lapse:{openai:thread}:chat:claims")


def test_a_file_that_workers_have_left_behind_is_not_put_in_force(desk: Desk) -> None:
    older = ENFORCED.replace("7d", "6d")
    desk.configure(older)
    desk.worker()
    desk.configure(ENFORCED)
    desk.worker()
    desk.configure(older)
    desk.seed(2)
    shown = desk.run("sweep", "threads", "--confirm=openai")
    assert 2 == shown.code
    assert "is older than the rules in force for openai/thread/chat" in shown.err
    assert {} == desk.halts()
    assert [] == deletes(desk)


def test_a_file_that_workers_are_about_to_take_up_has_to_wait(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.worker()
    digest = desk.rules(THREADS)["digest"]
    desk.configure(ENFORCED.replace("7d", "6d"))
    desk.raw.hset("lapse:published", "beat", str(round(time.time() * 1000)))
    assert "wait until they have taken it up" in desk.run("sweep", "threads").err
    assert digest == desk.rules(THREADS)["digest"]
    desk.raw.hset("lapse:published", "beat", "1700000000000")
    assert "openai/thread/chat: completed: nothing settled\n" == desk.good("sweep", "threads").out


RENAMED = """
[policies.support]
kind = ["conversation", "thread"]
ttl = "1d"
anchor = "created_at"
mode = "enforce"
formerly = ["chat"]
"""


def works(desk: Desk) -> None:
    """Let a worker take the file up, and go on running."""
    desk.worker()
    desk.raw.hset("lapse:published", "beat", str(round(time.time() * 1000)))


def test_a_file_that_renames_what_workers_have_has_to_wait(desk: Desk) -> None:
    """What is registered under the old name stands under the rules that workers have, and not under this file's."""
    desk.configure(ENFORCED.replace("7d", "300d"))
    works(desk)
    ids = set(desk.seed(3, days=40))
    digest = desk.rules(THREADS)["digest"]
    desk.configure(RENAMED)
    desk.good("plan", "threads", "-o", "plan.json")

    for command in (("sweep", "threads"), ("apply", "plan.json")):
        shown = desk.run(*command, "--confirm=openai")
        assert 2 == shown.code
        assert "workers use other rules for openai/thread/chat than " in shown.err

    assert ids == desk.sandbox.alive("thread")
    assert (digest, {}) == (desk.rules(THREADS)["digest"], desk.halts())
    works(desk)  # they have taken it up
    assert "openai/thread/support: completed: nothing settled\n" == desk.good("sweep", "threads").out
    assert set() == desk.sandbox.alive("thread")


def test_a_file_that_renames_an_orphan_rule_of_workers_has_to_wait(desk: Desk) -> None:
    desk.configure(ORPHANS.replace("enforce", "observe"))
    works(desk)
    desk.seed(1, kind="assistant", policy="idle")
    desk.configure(ORPHANS.replace("policies.idle]", 'policies.unused]\nformerly = ["idle"]'))
    shown = desk.run("orphans", "--run", "--confirm=openai")
    assert 2 == shown.code
    assert "workers use other rules for openai/assistant/idle than " in shown.err
    assert [] == desk.sandbox.requests()


def test_an_old_name_that_other_workers_took_back_keeps_nobody_from_the_rest(desk: Desk) -> None:
    """It is left to them, as a worker leaves it to them."""
    desk.configure(RENAMED)
    desk.worker()
    theirs = set(desk.seed(2))
    desk.configure(ENFORCED.replace("7d", "300d"))
    desk.worker()
    desk.configure(RENAMED)
    works(desk)
    desk.seed(3, policy="support")
    shown = desk.good("sweep", "threads", "--confirm=openai")
    assert "openai/thread/support: completed: 3 deleted\n" == shown.out
    assert theirs == desk.sandbox.alive("thread")


WARY = ENFORCED + "max_newly_due = { percent = 1, at_least = 1 }\n"


def jumps(desk: Desk) -> set[str]:
    """Put rules in force by hand, and then an edit that halts on what it makes due; return the ids."""
    ids = set(desk.seed(3, days=10))
    desk.configure(WARY.replace("7d", "30d"))
    desk.good("sweep", "threads")
    desk.configure(WARY)
    assert 6 == desk.run("sweep", "threads", "--confirm=openai").code
    assert ["chat|cutoff_jumped"] == list(desk.halts())
    return ids


def test_an_edit_that_halted_is_put_back_by_hand(desk: Desk) -> None:
    ids = jumps(desk)
    desk.configure(WARY.replace("7d", "30d"))
    desk.good("plan", "threads", "-o", "plan.json")
    assert "The plan is empty" in desk.good("apply", "plan.json").err
    assert "openai/thread/chat: completed: nothing settled\n" == desk.good("sweep", "threads").out
    assert ({}, ids) == (desk.halts(), desk.sandbox.alive("thread"))


def test_an_edit_of_running_workers_is_put_back_in_their_file(desk: Desk) -> None:
    jumps(desk)
    works(desk)
    digest = desk.rules(THREADS)["digest"]
    desk.configure(WARY.replace("7d", "30d"))
    shown = desk.run("sweep", "threads")
    assert 2 == shown.code
    assert "wait until they have taken it up, or use their file" in shown.err
    assert digest == desk.rules(THREADS)["digest"]


def test_only_the_rules_enforced_last_put_an_edit_back(desk: Desk) -> None:
    desk.configure(WARY.replace("7d", "60d"))
    desk.good("sweep", "threads")
    jumps(desk)
    desk.configure(WARY.replace("7d", "60d"))
    assert "is older than the rules in force for openai/thread/chat" in desk.run("sweep", "threads").err


def test_what_brings_older_rules_back_is_named_and_does(desk: Desk) -> None:
    older = ENFORCED.replace("7d", "6d")
    for policies in (older, ENFORCED):
        desk.configure(policies)
        desk.good("sweep", "threads")
    desk.configure(older)
    said = desk.run("sweep", "threads").err
    assert (
        "use the file that has those; to go back to this one, put it where a running worker reads its own, or" in said
    )
    (answer,) = re.findall(r"lapse (resume openai/thread/chat) --reason TEXT --confirm=openai", said)
    desk.worker()
    assert ["chat|config_divergence"] == list(desk.halts())
    desk.good(*answer.split(), "--reason", "the edit was wrong", "--confirm=openai")
    assert "openai/thread/chat: completed: nothing settled\n" == desk.good("sweep", "threads").out


def test_rules_that_workers_took_away_are_not_put_in_force(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.worker()
    desk.seed(2)
    rules = "lapse:{openai:thread}:chat:rules"
    desk.raw.hset(rules, "superseded", desk.rules(THREADS)["digest"])  # as a worker leaves it whose file has lost it
    desk.raw.hdel(rules, "digest")
    shown = desk.run("sweep", "threads", "--confirm=openai")
    assert (2, {}, []) == (shown.code, desk.halts(), deletes(desk))
    assert "is older than the rules in force for openai/thread/chat" in shown.err


def test_a_registry_that_keeps_nothing_is_refused_in_enforce(desk: Desk) -> None:
    desk.configure(ENFORCED, head=HEAD.replace("allow_volatile = true", ""))
    desk.seed(1)
    shown = desk.run("sweep", "threads", "--confirm=openai")
    assert 2 == shown.code
    assert "persists nothing" in shown.err
    assert [] == deletes(desk)


def test_nothing_is_deleted_by_hand_while_replicas_are_missing(desk: Desk) -> None:
    desk.configure(ENFORCED, head=HEAD.replace("[registry]", "[registry]\nreplicas = 1"))
    desk.seed(1)
    shown = desk.run("sweep", "threads", "--confirm=openai")
    assert 2 == shown.code
    assert "1 have to have a hold before it is told, 0 are connected" in shown.err
    assert [] == deletes(desk)


def test_orphan_rules_have_a_command_of_their_own(desk: Desk) -> None:
    desk.configure(ORPHANS)
    assert "lapse orphans --run" in desk.run("sweep").err
    desk.configure(CHAT)
    assert "has no orphan rule" in desk.run("orphans").err


def test_orphans_shows_what_it_cannot_decide_yet(desk: Desk) -> None:
    desk.configure(ORPHANS)
    shown = desk.good("orphans")
    assert "no complete listing yet, so nothing can be decided" in shown.err
    assert "" == shown.out
    candidate, used = desk.seed(2, kind="assistant", policy="idle")
    desk.registry.register("thread", "thread_1", "chat", uses=[("assistant", used)])
    desk.sandbox.seed("assistant", 1, created_at=1_700_000_000)
    desk.sandbox.seed("assistant", 1, created_at=int(time.time()) + 600)
    desk.worker()
    shown = desk.good("orphans")
    assert [candidate, "1 of 2"] == shown.out.split("\t")[:2]
    for said in (
        "1 unused, and not yet seen so on enough listings in a row",
        "1 used by something live",
        "1 neither registered here nor with this registry's stamp: left alone for ever",
        "1 younger than min_age",
    ):
        assert said in shown.err
    (one,) = desk.good("orphans", "--policy", "idle", "--json").json
    assert (2, [candidate]) == (one["wanted"], [c["id"] for c in one["candidates"]])


def test_what_the_last_listing_did_not_show_is_no_candidate_any_more(desk: Desk) -> None:
    desk.configure(ORPHANS.replace("seen = 2", "seen = 9"))
    first, second = desk.seed(2, kind="assistant", policy="idle")
    desk.worker()
    desk.registry.hold("assistant", first, reason="case")
    desk.worker()
    (one,) = desk.good("orphans", "--json").json
    assert [(second, 2)] == [(c["id"], c["times"]) for c in one["candidates"]]


def test_a_run_by_hand_counts_once_in_an_interval(desk: Desk, wait_until: Any) -> None:
    desk.configure(ORPHANS)
    desk.raw.hset("lapse:epoch", mapping={"id": "fedcba987654", "created": 1})
    (id_,) = desk.seed(1, kind="assistant", policy="idle")
    first = desk.good("orphans", "--run", "--confirm=openai")
    assert first.out.endswith(": nothing settled\n")
    desk.configure(ORPHANS.replace('every = "500ms"', 'every = "1h"'))
    again = desk.run("orphans", "--run", "--confirm=openai")
    assert (7, "") == (again.code, again.out)
    assert "was looked at within the last 1h" in again.err
    desk.configure(ORPHANS)
    wait_until(lambda: time.time() * 1000 > int(desk.rules(IDLE)["woken"]) + 500)
    last = desk.good("orphans", "--run", "--confirm=openai")
    assert f"    {id_}\n" in last.err
    assert "openai/assistant/idle: completed: 1 deleted\n" == last.out
    assert set() == desk.sandbox.alive("assistant")


def test_a_run_asks_even_before_it_knows_how_many(desk: Desk) -> None:
    desk.configure(ORPHANS)
    desk.seed(1, kind="assistant", policy="idle")
    shown = desk.run("orphans", "--run")
    assert 8 == shown.code
    assert [] == desk.sandbox.requests()


def test_an_incomplete_listing_decides_nothing_and_is_code_5(desk: Desk) -> None:
    desk.configure(ORPHANS)
    desk.seed(3, kind="assistant", policy="idle")
    desk.sandbox.faults([{"method": "GET", "kind": "assistant", "effect": "error", "status": 500}])
    shown = desk.run("orphans", "--run", "--confirm=openai", "--json")
    assert (5, "undecided") == (shown.code, json.loads(shown.out)["result"])
