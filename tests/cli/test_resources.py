"""register, touch, hold, unhold, expire and forget by hand, and registrations from a file."""

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lapse import Record, Registry
from lapse.sandbox.redis_server import free_port
from support.commandline import Desk


def record(desk: Desk, id_: str, kind: str = "thread") -> Record:
    found = desk.registry.get(kind, id_)
    assert found is not None
    return found


def test_register_tracks_an_id_and_says_when_it_is_due(desk: Desk) -> None:
    desk.worker()
    shown = desk.good("register", "threads", "thread_1", "--policy", "chat")
    due = record(desk, "thread_1").due
    assert due is not None
    assert f"registered: due {due:%Y-%m-%d %H:%M:%S} UTC (its policy)\n" == shown.out
    assert desk.good("register", "thread", "thread_1", "--policy", "chat").out.startswith("touched: due ")


def test_register_takes_every_fact_that_an_application_can_give(desk: Desk) -> None:
    desk.good(
        "register",
        "thread",
        "thread_1",
        "--policy",
        "chat",
        "--uses",
        "assistants:asst_1",
        "--uses",
        "thread:thread_0",
        "--subject",
        "user:42",
        "--label",
        "team=a",
        "--label",
        "note=x=y",
        "--created-at",
        "2026-11-01T09:30+01:00",
        "--last-active-at",
        "1795086313",
        "--expires-in",
        "2d",
    )
    found = record(desk, "thread_1")
    assert ["asst_1", "thread_0"] == sorted(use.id for use in found.uses)
    assert ("user:42", {"team": "a", "note": "x=y"}) == (found.subject, found.labels)
    assert datetime(2026, 11, 1, 8, 30, tzinfo=UTC) == found.created_at
    assert found.expires_at is not None
    assert abs(found.expires_at - datetime.now(UTC) - timedelta(days=2)) < timedelta(seconds=60)


def test_register_without_a_worker_says_that_nobody_manages_the_id(desk: Desk) -> None:
    shown = desk.good("register", "thread", "thread_1", "--policy", "chat")
    assert "registered: due never (no worker manages this policy, so nothing deletes it)\n" == shown.out
    assert "No worker has taken the policy file up yet" in shown.err


def test_register_under_an_unknown_policy_says_which_was_meant(desk: Desk) -> None:
    desk.worker()
    shown = desk.good("register", "thread", "thread_1", "--policy", "chatt", "--json")
    assert ("unmanaged", False, True) == tuple(shown.json[name] for name in ("governed_by", "managed", "new"))
    assert "did you mean openai/thread/chat?" in shown.err


def test_touch_moves_the_last_activity(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    assert "ok\n" == desk.good("touch", "thread", id_).out
    active = record(desk, id_).last_active_at
    assert active is not None
    assert datetime.now(UTC) - active < timedelta(seconds=60)


@pytest.mark.parametrize("command", ["touch", "expire"])
def test_what_cannot_be_done_to_an_unknown_id_ends_with_code_5(desk: Desk, command: str) -> None:
    shown = desk.run(command, "thread", "thread_0")
    assert (5, "unknown\n") == (shown.code, shown.out)
    assert "lapse register" in shown.err


def test_hold_and_unhold(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.good("hold", "thread", id_, "--reason", "case 2026-114", "--until", "90d")
    hold = record(desk, id_).hold
    assert hold is not None
    assert "case 2026-114" == hold.reason
    assert hold.until is not None
    assert "ok\n" == desk.good("unhold", "thread", id_).out
    assert record(desk, id_).hold is None


@pytest.mark.parametrize("option", ["--created-at", "--last-active-at"])
def test_a_creation_ahead_is_refused_by_the_option(desk: Desk, option: str) -> None:
    shown = desk.run("register", "thread", "thread_1", "--policy", "chat", option, "2099-01-01T00:00Z")

    assert 2 == shown.code
    assert f"'{option}': '2099-01-01T00:00Z' lies ahead: give a time that is over" in shown.err
    assert desk.registry.get("thread", "thread_1") is None


@pytest.mark.parametrize("until", ["2026-01-01T00:00Z", "2020-02-29", "1700000000"])
def test_a_hold_that_would_be_over_is_refused(desk: Desk, until: str) -> None:
    (id_,) = desk.seed(1)
    for named in (("thread", id_), ("--subject", "user:42")):
        shown = desk.run("hold", *named, "--reason", "case", "--until", until)

        assert (shown.code, shown.out) == (2, "")
        assert f"'--until': '{until}' is over already: give a time ahead" in shown.err
    assert record(desk, id_).hold is None


def test_a_hold_until_a_day_holds_to_its_end(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.good("hold", "thread", id_, "--reason", "case", "--until", "2098-12-31")
    hold = record(desk, id_).hold
    assert hold is not None
    assert datetime(2099, 1, 1, tzinfo=UTC) == hold.until
    for never in ("2098-02-30", "9999-12-31"):
        assert 2 == desk.run("hold", "thread", id_, "--reason", "case", "--until", never).code


def test_a_hold_on_an_id_that_is_not_tracked_is_stored_all_the_same(desk: Desk) -> None:
    shown = desk.good("hold", "thread", "thread_0", "--reason", "case")
    assert "unknown\n" == shown.out
    assert "thread_0 is held; it is not tracked" in shown.err
    desk.registry.register("thread", "thread_0", "chat")
    assert "held" == record(desk, "thread_0").state


def test_expire_now_and_at_a_time(desk: Desk) -> None:
    now, later = desk.seed(2, days=1)
    desk.good("expire", "thread", now)
    desk.good("expire", "thread", later, "--at", "2099-01-01T00:00Z")
    due = record(desk, now).due
    assert due is not None
    assert due <= datetime.now(UTC) + timedelta(seconds=5)
    assert datetime(2099, 1, 1, tzinfo=UTC) == record(desk, later).due


def test_forget_stops_tracking_and_deletes_nothing(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    assert {"id": id_, "answer": "ok"} == desk.good("forget", "thread", id_, "--json").json
    assert desk.registry.get("thread", id_) is None
    assert {id_} == desk.sandbox.alive("thread")


def test_what_comes_too_late_is_recorded_and_said(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.raw.zrem("lapse:{openai:thread}:chat:fresh", id_)
    stored = {"p": "chat", "s": "claimed", "f": 1700000000000, "t": 1, "d": round((time.time() + 60) * 1000)}
    desk.raw.hset("lapse:{openai:thread}:aside", id_, json.dumps(stored))
    shown = desk.run("hold", "thread", id_, "--reason", "case")
    assert (5, "too_late\n") == (shown.code, shown.out)
    assert "no further attempt ignores it" in shown.err


def test_the_provider_is_needed_where_several_are_configured(desk: Desk) -> None:
    text = desk.config.read_text()
    desk.config.write_text(
        text
        + '[providers.other]\ntype = "openai"\napi_key_env = "OTHER"\n'.replace("\n", "\n")
        + f'base_url = "{desk.sandbox.url}"\n'
    )
    desk.config.write_text(desk.config.read_text().replace("[policies.chat]", '[policies.chat]\nprovider = "openai"'))
    shown = desk.run("touch", "thread", "thread_1")
    assert 2 == shown.code
    assert "--provider, one of openai, other" in shown.err
    assert 5 == desk.run("touch", "thread", "thread_1", "--provider", "other").code
    assert 5 == desk.run("touch", "thread", "thread_1", LAPSE_PROVIDER="other").code


def test_an_applications_host_needs_no_policy_file(desk: Desk) -> None:
    desk.config.unlink()
    desk.good("register", "thread", "thread_1", "--policy", "chat", "--provider", "openai")
    assert "chat" == record(desk, "thread_1").policy
    shown = desk.run("touch", "thread", "thread_1")
    assert 2 == shown.code
    assert "LAPSE_PROVIDER" in shown.err


def lost(caplog: pytest.LogCaptureFixture, *calls: tuple[Any, ...], **facts: object) -> list[str]:
    """Let an application log what it could not register, and return the log's lines."""
    caplog.set_level(logging.WARNING, "lapse")
    url = f"redis://127.0.0.1:{free_port()}/0"
    with Registry(url, provider="openai", timeout=0.05, on_error="log") as registry:
        for name, *arguments in calls:
            getattr(registry, name)(*arguments, **(facts if name == "register" else {}))
    format_ = logging.Formatter(logging.BASIC_FORMAT)
    return [format_.format(record) for record in caplog.records if "lapse call failed" in record.getMessage()]


def test_lost_registrations_are_replayed_from_any_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    plain, *_ = lost(
        caplog,
        ("register", "thread", "thread_1", "chat"),
        uses=[("assistant", "asst_1")],
        subject="user:42",
        expires_in="2d",
        created_at=1_790_000_000,
    )
    said = plain.removeprefix("WARNING:lapse:")
    other = plain.replace("thread_1", "thread_2")
    structured = json.dumps({"level": "warning", "logger": "lapse", "event": said.replace("thread_1", "thread_3")})
    (desk.directory / "app.log").write_text(
        f"2026-11-23 10:00:00 INFO started\n2026-11-23 10:00:01,123 WARNING lapse {said}\n{other}\n\n{structured}\n"
        '{"event": "request.done", "id": 7}\n'
    )

    shown = desk.good("register", "--from", "app.log")

    assert "3 registered, 3 new, 3 unmanaged\n" == shown.out
    assert "2 lines left out: not a registration" in shown.err
    for id_ in ("thread_1", "thread_2", "thread_3"):
        found = record(desk, id_)
        assert ("user:42", ["asst_1"]) == (found.subject, [use.id for use in found.uses])
        assert datetime.fromtimestamp(1_790_000_000, UTC) == found.created_at
        assert found.expires_at is not None


def test_other_lost_calls_are_counted_and_not_repeated(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    messages = lost(caplog, ("touch", "thread", "thread_1"), ("forget", "thread", "thread_1"))
    shown = desk.good("register", "--from", "-", given="\n".join(messages))
    assert "0 registered, 0 new, 0 unmanaged\n" == shown.out
    assert "1 line left out: the warning of a touch" in shown.err
    assert "1 line left out: the warning of a forget" in shown.err


def test_a_lost_register_many_is_repeated_id_by_id(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    ids = ["thread_1", "thread_2"]
    messages = lost(caplog, ("register_many", [{"kind": "thread", "id": id_, "policy": "chat"} for id_ in ids]))
    shown = desk.good("register", "--from", "-", given="\n".join(messages))
    assert shown.out.startswith("2 registered, 2 new, ")


def test_an_import_registers_what_is_right_and_names_the_lines_that_are_not(desk: Desk) -> None:
    lines = [
        {"kind": "threads", "id": "thread_1", "policy": "chat", "created_at": 1_700_000_000},
        {"kind": "thread", "id": "thread/2", "policy": "chat"},
        {"kind": "thread", "id": "thread_3"},
        {"kind": "thread", "id": "thread_4", "policy": "chat", "ttl": "30d"},
        {"kind": "thread", "id": "thread_5", "policy": "chat", "created_at": 17e11},
        {"kind": "response", "id": "resp_6", "policy": "chat"},
        {"kind": "thread", "id": "thread_7", "policy": "chat", "provider": "other"},
    ]
    (desk.directory / "import.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    shown = desk.run("register", "--from", "import.jsonl", "--json")

    assert 5 == shown.code
    assert (3, 3, 4) == tuple(shown.json[name] for name in ("registered", "new", "refused"))
    problems = shown.json["problems"]
    assert [2, 3, 4, 5] == [int(problem.split(":")[0]) for problem in problems]
    for said, problem in zip(
        ("id 'thread/2'", "no policy", "ttl: there is no such field", "created_at"), problems, strict=True
    ):
        assert said in problem
    assert record(desk, "thread_1").created_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert record(desk, "resp_6", "response").policy == "chat"
    assert desk.registry.get("thread", "thread_7", provider="other") is not None
    assert "4 of 7 registrations were refused" in shown.err


def test_an_import_may_say_the_policy_once_for_all(desk: Desk) -> None:
    lines = "".join(f'{{"kind":"thread","id":"thread_{i}"}}\n' for i in range(1200))
    shown = desk.good("register", "--from", "-", "--policy", "chat", given=lines)
    assert "1,200 registered, 1,200 new, 1,200 unmanaged\n" == shown.out
    assert 1200 == desk.raw.zcard("lapse:{openai:thread}:chat:fresh")
    assert "1,200 registered, 0 new" in desk.good("register", "--from", "-", "--policy", "chat", given=lines).out


def test_a_file_says_everything_itself(desk: Desk) -> None:
    shown = desk.run("register", "thread", "thread_1", "--from", "config/retention.toml")
    assert 2 == shown.code
    assert "leave KIND and ID out" in shown.err
