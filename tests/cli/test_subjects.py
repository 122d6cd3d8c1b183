"""--subject in place of KIND and ID, and labels."""

import json
import time
from typing import Any

import pytest

from support.commandline import CHAT, ENFORCED, HEAD, Desk

S = "user:42"


def furnish(desk: Desk) -> None:
    for kind, id_ in (("thread", "thread_1"), ("conversation", "conv_1"), ("thread", "thread_2")):
        desk.registry.register(kind, id_, "chat", subject=S, labels={"plan": "free" if id_ != "thread_2" else "paid"})
    desk.registry.register("thread", "thread_9", "chat", subject="user:9")


def test_ls_lists_all_that_is_a_subjects(desk: Desk) -> None:
    furnish(desk)
    desk.worker()
    shown = desk.good("ls", "--subject", S).out

    assert ["conv_1", "thread_1", "thread_2"] == [line.split("\t")[0] for line in shown.splitlines()[-3:]]
    assert "thread_9" not in shown


def test_json_names_the_subject_as_the_policy_file_says(desk: Desk) -> None:
    furnish(desk)
    desk.worker()

    def told() -> Any:
        return [json.loads(line)["subjects"] for line in desk.good("ls", "threads", "--json").out.splitlines()]

    hashed = told()
    assert [64 + 5] * 3 == [len(names[0]) for names in hashed]
    assert 2 == len({names[0] for names in hashed})
    desk.configure(CHAT, head=HEAD.replace("[audit]", '[audit]\nsubjects = "plain"'))
    assert {S, "user:9"} == {names[0] for names in told()}
    desk.configure(CHAT, head=HEAD.replace("[audit]", '[audit]\nsubjects = "none"'))
    assert [[], [], []] == told()


def test_a_subject_is_held_let_go_and_expired(desk: Desk) -> None:
    furnish(desk)
    desk.worker()

    held = desk.good("hold", "--subject", S, "--reason", "case 7")
    assert f"3 ids of {S} held now, and what is registered of it later\n" == held.out
    explained = desk.good("explain", "thread", "thread_1").out
    assert f"It is held, with all of {S}, by " in explained
    assert f"{S} is no longer held: 3 ids let go\n" == desk.good("unhold", "--subject", S).out
    expired = json.loads(desk.good("expire", "--subject", S, "--json").out)
    assert (S, "ok", 3) == (expired["subject"], expired["answer"], expired["changed"])


def test_explain_tells_of_each_id_in_a_line(desk: Desk) -> None:
    furnish(desk)
    desk.worker()
    lines = desk.good("explain", "--subject", S).out.splitlines()

    assert ["openai conversation conv_1:", "openai thread thread_1:", "openai thread thread_2:"] == [
        line[: line.index(":") + 1] for line in lines
    ]


@pytest.mark.parametrize("command", ["ls", "explain"])
def test_of_an_unknown_subject_nothing_is_registered(desk: Desk, command: str) -> None:
    desk.worker()
    shown = desk.good(command, "--subject", "user:nobody")

    assert "Nothing is registered under user:nobody." in shown.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("hold", "thread", "thread_1", "--subject", S, "--reason", "x"), "leave KIND and ID out"),
        (("hold", "--reason", "x"), "say which"),
        (("unhold", "thread"), "say which"),
        (("expire", "--subject", " "), "is blank"),
        (("explain", "--subject", "x" * 513), "1 to 512 characters"),
        (("ls",), "say what"),
        (("ls", "threads", "--subject", S), "leave KIND"),
        (("ls", "threads", "--label", "plan"), "write KEY=VALUE"),
        (("hold", "--subject", "user:*", "--reason", "x"), "no wildcard"),
    ],
)
def test_wrong_calls_say_what_is_meant(desk: Desk, arguments: tuple[str, ...], why: str) -> None:
    shown = desk.run(*arguments)

    assert 2 == shown.code
    assert why in shown.err


def test_labels_are_found_by_reading_every_id(desk: Desk) -> None:
    furnish(desk)
    desk.worker()
    shown = desk.good("ls", "threads", "--label", "plan=free", "--json")

    assert ["thread_1"] == [json.loads(line)["id"] for line in shown.out.splitlines()]
    assert "every id was read" in shown.err


def test_a_hold_that_not_every_kind_took_is_said(desk: Desk) -> None:
    furnish(desk)
    desk.raw.set("lapse:{openai:thread}:subject_holds", "no hash")
    shown = desk.run("hold", "--subject", S, "--reason", "case 7")

    assert 5 == shown.code
    assert "openai/thread: " in shown.err


def test_the_audit_names_the_subject_of_what_was_deleted(desk: Desk) -> None:
    desk.configure(ENFORCED)
    old = time.time() - 40 * 86_400
    desk.sandbox.seed("thread", ids=["thread_due"])
    desk.registry.register("thread", "thread_due", "chat", created_at=old, last_active_at=old, subject=S)
    desk.worker()
    records = [json.loads(line) for line in desk.good("audit", "export", "thread", "thread_due").out.splitlines()]
    (settled,) = [one for one in records if one["event"] == "settled"]

    assert settled["subject"].startswith("hmac:")


def test_status_says_how_far_older_registrations_can_be_found(desk: Desk) -> None:
    furnish(desk)
    desk.worker()
    for kind in ("thread", "conversation"):
        desk.raw.delete(f"lapse:{{openai:{kind}}}:subject_index")
    shown = desk.good("status").out

    assert "older registrations are indexed" in shown
