"""status, ls and plan, as programs read them; terminals have a file of their own."""

import json
import re
import shlex
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lapse.cli.main import run
from lapse.errors import ConfigError
from lapse.registry.model import Partition
from support import erasures
from support.commandline import CHAT, DAY, ENFORCED, Desk

STATES = {"asked", "open", "complete", "refused"}
THREADS = Partition("openai", "thread", "chat")
ORPHANS = """
[policies.idle]
kind = "assistant"
orphan = { min_age = "1s", seen = 2 }
"""


def line(desk: Desk, partition: str) -> dict[str, str]:
    """Return the names and values that status prints for a partition."""
    (found,) = [one for one in desk.good("status").lines if one.startswith(f"{partition} ")]
    return dict(pair.split("=", 1) for pair in found.split(" ")[1:])


def described(desk: Desk, policy: str = "chat", kind: str = "thread") -> dict[str, object]:
    found = desk.good("status", "--json").json["partitions"]
    (one,) = [one for one in found if (one["policy"], one["kind"]) == (policy, kind)]
    return dict(one)


def test_status_before_anything_ran(desk: Desk) -> None:
    shown = desk.good("status").out
    assert "openai/thread/chat state=observing registered=0 due=0" in shown
    assert "workers: never seen; to start one, with beat:\n  celery -A lapse.app worker --beat\n" in shown
    assert "beat: never seen" in shown
    assert "(from REDIS_URL), namespace lapse" in shown
    assert "erase a subject" not in shown


def test_status_says_what_an_observing_policy_would_send_and_how_long_that_takes(desk: Desk) -> None:
    # What was idle for 7 days runs nothing: no look is taken at it.
    desk.configure(CHAT.replace("created_at", "last_active_at"), rate='"60/m"')
    desk.seed(1284)
    desk.seed(20, days=1)
    desk.seed(10, kind="conversation")
    desk.worker()
    shown = desk.good("status").lines
    assert "openai/thread/chat: observing: would send 1,284 requests, 21m 24s at 60/m." in shown
    # A conversation's items are listed first, so that is the least.
    assert "openai/conversation/chat: observing: would send at least 20 requests, 20s at 60/m." in shown
    one = described(desk)
    assert (1304, 1284, 1284) == (one["registered"], one["due"], one["requests"])
    assert 1284.0 == one["seconds_at_rate"]


def test_status_counts_by_where_ids_stand(desk: Desk) -> None:
    held, used, *_ = desk.seed(7, days=1)
    desk.registry.hold("thread", held, reason="case")
    desk.registry.register("thread", "thread_user", "chat", uses=[("thread", used)])
    values = line(desk, "openai/thread/chat")
    assert ("8", "0", "1") == (values["registered"], values["due"], values["parked"])


def test_status_shows_how_late_the_oldest_is(desk: Desk) -> None:
    desk.seed(1, days=9)
    assert abs(2 * DAY - float(str(described(desk)["overdue_seconds"]))) < 60
    assert line(desk, "openai/thread/chat")["overdue"].startswith("2d")


def test_status_names_a_halt_and_the_command_that_answers_it(desk: Desk) -> None:
    desk.configure(ENFORCED.replace("created_at", "last_active_at"))
    desk.seed(3)
    desk.worker()
    shown = desk.good("status").lines
    (at,) = [i for i, text in enumerate(shown) if text.startswith("openai/thread/chat: halted")]
    assert "no_touches" in shown[at]
    assert ["  To check:", "  lapse doctor"] == shown[at + 1 : at + 3]
    assert shown[at + 3].endswith("the halt ends by itself once its cause has ended.")
    assert "halted" == described(desk)["state"]


def test_status_names_an_approval_by_its_plan(desk: Desk) -> None:
    desk.configure(ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n")
    desk.seed(5)
    desk.worker()
    (plan,) = [halt["plan"] for halt in desk.halts().values()]
    assert f"  lapse approve {plan} --confirm=PROVIDER" in desk.good("status").lines


def test_status_says_who_paused_and_how_to_go_on(desk: Desk) -> None:
    desk.good("pause", "openai/threads", "--reason", "a complaint")
    shown = desk.good("status").out
    assert "state=paused" in shown
    assert ": a complaint\n  lapse resume openai/thread\n" in shown
    assert "openai/thread was paused " in shown
    assert "openai/thread" == described(desk)["paused"]


def test_status_shows_what_no_policy_covers(desk: Desk) -> None:
    desk.seed(4, policy="no-such")
    shown = desk.good("status").lines
    assert "openai/thread/no-such: 4 ids under a policy that the file does not have; nothing deletes them." in shown
    one = described(desk, "no-such")
    assert ("unmanaged", False, None) == (one["state"], one["managed"], one["mode"])


def test_status_shows_which_worker_uses_which_version(desk: Desk) -> None:
    desk.worker()
    same = desk.good("status").lines[-1]
    assert "uses this policy file, version " in same
    assert "last sweep" in same
    desk.configure(CHAT.replace("7d", "8d"))
    shown = desk.good("status").lines
    assert "and here it is " in shown[-1]
    assert "openai/thread/chat: workers have not taken this version of the policy up yet." in shown


def test_status_shows_quarantine_and_an_open_breaker(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 400}])
    desk.worker()
    assert "openai/thread/chat: 1 id in quarantine" in desk.good("status").lines
    desk.raw.hset(
        "lapse:{openai}:flow", mapping={"breaker": "auth", "breaker_until": str(round(time.time() * 1000) + 60_000)}
    )
    assert any(text.startswith("openai: breaker open (auth)") for text in desk.good("status").lines)


def hinder(desk: Desk) -> None:
    """Let a key be refused, a kind's breaker open, a host go, sweeps fail, and a request be late."""
    now = round(time.time() * 1000)
    open_: dict[Any, Any] = {"breaker": "auth", "breaker_since": now - 7_200_000, "breaker_until": now + 60_000}
    cause: dict[Any, Any] = {
        "cause_since": now - 7_200_000,
        "cause_detail": "401: refused",
        "cause_key": "environment variable KEY",
    }
    desk.raw.hset("lapse:{openai}:flow", mapping={**open_, **cause, "blocked_until": now + 3_600_000})
    desk.raw.hset("lapse:{openai:thread}:marks", mapping={"shut": "forbidden", "shut_detail": "403", "shut_until": 0})
    desk.raw.hset("lapse:workers", "far:1", json.dumps({"at": now - 1_200_000, "hash": "x", "version": "0"}))
    row: dict[Any, Any] = {
        "failing_since": now - 600_000,
        "failing_times": 3,
        "failing_result": "error",
        "failing_detail": "a bug",
    }
    desk.raw.hset("lapse:{openai:thread}:chat:rules", mapping=row)
    erasures.store(desk.raw, erasures.request(now, age=40, left=-2))


def test_what_holds_requests_back_is_named_everywhere(desk: Desk) -> None:
    """A refused key: since when and which; a kind's own breaker; a host that is gone; sweeps that fail."""
    hinder(desk)
    said = desk.good("status").out
    told = (
        "openai: breaker open (auth): refuses the credentials since ",
        "(2h ",
        " ago): 401: refused",
        "; with the key of environment variable KEY; one request",
        "openai: its Retry-After ends ",
        "openai/thread: breaker open (forbidden)",
        "tried again with the next request",
        "openai/thread/chat: 3 sweeps in a row ended badly since ",
        "(10m ",
        " ago): error: a bug.",
        "workers: far was last seen 20m ",
        "requests to erase a subject: 1 open, the next due ",
    )
    assert [] == [text for text in told if text not in said]
    shown = desk.good("status", "--json").json
    breaker = shown["providers"][0]["breaker"]
    assert ("auth", "401: refused", "environment variable KEY") == tuple(
        breaker[n] for n in ("reason", "detail", "key")
    )
    assert {"reason": "forbidden", "detail": "403", "until": 0} in [one["breaker"] for one in shown["kinds"]]
    assert (3, 1) == (shown["failing"][0]["sweeps"], len(shown["workers_gone"]))
    health = desk.run("health", "--json").json
    assert {"providers": False, "sweeps": False, "workers": False} == {
        name: health[name]["ok"] for name in ("providers", "sweeps", "workers")
    }
    doctor = {one["name"]: one for one in desk.run("doctor", "--json").json["findings"]}
    assert {"fail"} == {doctor[name]["level"] for name in ("requests openai", "sweeps", "workers", "erasures")}
    assert "20785" not in said + json.dumps(doctor)


def ids(desk: Desk, *arguments: str) -> list[str]:
    return [text.split("\t")[0] for text in desk.good("ls", *arguments).lines]


def test_ls_lists_ids_oldest_first_with_where_each_stands(desk: Desk) -> None:
    old, new = desk.seed(1, days=9), desk.seed(1, days=1)
    shown = [text.split("\t") for text in desk.good("ls", "threads").lines]
    assert [old[0], new[0]] == [row[0] for row in shown]
    assert [["chat", "tracked"]] * 2 == [row[1:3] for row in shown]
    assert {"ttl"} == {row[4] for row in shown}


def test_ls_pages_through_everything_once(desk: Desk) -> None:
    seeded = desk.seed(23) + desk.seed(5, policy="no-such", days=2)
    desk.registry.hold("thread", seeded[0], reason="case")
    desk.registry.touch("thread", seeded[1])
    seen: list[str] = []
    call = ["ls", "threads", "--limit", "10"]
    while True:
        shown = desk.good(*call)
        seen += [text.split("\t")[0] for text in shown.lines]
        if "There may be more:" not in shown.err:
            break
        call = following(shown.err)
    assert sorted(seeded) == sorted(seen)


def following(err: str) -> list[str]:
    """Return the call that a page names for the next one."""
    (line,) = (text for text in err.splitlines() if text.startswith("  lapse "))
    return shlex.split(line)[1:]


def test_ls_goes_on_where_it_was_when_the_last_id_shown_is_gone(desk: Desk) -> None:
    """Some may be shown twice, none is left out."""
    seeded = {desk.seed(1, days=20 - i)[0] for i in range(6)}
    first = desk.good("ls", "threads", "--limit", "3")
    shown = [text.split("\t")[0] for text in first.lines]
    desk.registry.forget("thread", shown[-1])
    assert seeded <= {*shown, *(text.split("\t")[0] for text in desk.good(*following(first.err)).lines)}


def test_the_next_page_is_a_line_to_copy_with_all_that_was_asked(desk: Desk) -> None:
    """On a terminal it is not wrapped, however narrow that is."""
    seeded = desk.seed(3, labels={"plan": "free tier"})
    asked = ("ls", "threads", "--policy", "chat", "--label", "plan=free tier", "--limit", "1", "--provider", "openai")
    shown = desk.terminal(*asked, width=40).out
    (line,) = (text for text in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines() if text.startswith("  lapse "))
    call = shlex.split(line)
    cursor = call[call.index("--after") + 1]
    assert sorted(["lapse", "ls", "thread", "--after", cursor, *asked[2:]]) == sorted(call)
    (second,) = desk.good(*call[1:]).lines
    (third,) = desk.good(*following(desk.good(*call[1:]).err)).lines
    assert {second.split("\t")[0], third.split("\t")[0]} < set(seeded)


def test_the_next_page_of_a_subject_is_a_line_to_copy_too(desk: Desk) -> None:
    seeded = desk.seed(3, subject="user:4 2")
    shown = desk.good("ls", "--subject", "user:4 2", "--limit", "2", "--json")
    rest = desk.good(*following(shown.err))
    assert set(seeded) == {one["id"] for one in [*shown.records, *rest.records]}
    assert "--after" not in rest.err


@pytest.mark.parametrize("state", ["held", "referenced", "tracked", "due"])
def test_ls_shows_one_state(desk: Desk, state: str) -> None:
    due, held, used = desk.seed(3)
    (young,) = desk.seed(1, days=1)
    desk.configure(ENFORCED.replace("7d", "20d"))
    desk.registry.hold("thread", held, reason="case")
    desk.registry.register("thread", young, "chat", uses=[("thread", used)])
    if state == "referenced":
        desk.worker()
    wanted = {"held": {held}, "referenced": {used}, "tracked": {due, used, young}, "due": {due}}
    assert wanted[state] == set(ids(desk, "threads", "--state", state))


def test_ls_as_json_lines(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    (shown,) = desk.good("ls", "threads", "--policy", "chat", "--json").records
    assert (id_, "chat", "tracked", "ttl") == tuple(shown[name] for name in ("id", "policy", "state", "governed_by"))


def test_ls_of_nothing_prints_nothing(desk: Desk) -> None:
    assert "" == desk.good("ls", "threads").out


SEVERAL = """
[policies.chat]
kind = "thread"
ttl = "7d"
anchor = "last_active_at"
max_age = "20d"
[policies.quick]
kind = "thread"
ttl = "2d"
anchor = "created_at"
"""


def crowd(desk: Desk) -> list[str]:
    """Register ids whose order is that of no index; return them as they are due, the soonest first."""
    desk.configure(SEVERAL)
    days = {"aged": 18, "idle": 4, "quick": 0.5, "own": 1, "fresh": 1, "used": 3}
    made = {name: desk.seed(1, days=at, policy="quick" if name == "quick" else "chat")[0] for name, at in days.items()}
    desk.registry.touch("thread", made["aged"])  # its max_age comes before its ttl
    desk.registry.touch("thread", made["used"])
    desk.registry.expire("thread", made["own"], datetime.now(UTC) + timedelta(hours=1))
    (never,) = desk.seed(1, policy="no-such")
    return [*(made[name] for name in ("own", "quick", "aged", "idle", "fresh", "used")), never]


def test_ls_shows_the_soonest_due_first(desk: Desk) -> None:
    assert crowd(desk) == ids(desk, "threads")


def test_pages_go_on_in_the_order_of_due_times(desk: Desk) -> None:
    expected = crowd(desk)
    seen, call = list[str](), ["ls", "threads", "--limit", "2"]
    while True:
        shown = desk.good(*call)
        seen += [line.split("\t")[0] for line in shown.lines]
        if "There may be more:" not in shown.err:
            break
        call = following(shown.err)
    assert expected == seen


def test_what_is_due_is_in_order_over_all_policies(desk: Desk) -> None:
    desk.configure(SEVERAL)
    made = [desk.seed(1, days=at, policy=policy)[0] for at, policy in ((30, "quick"), (29, "chat"), (3, "quick"))]
    # Due 28 days ago, 22 and 1.
    assert made == ids(desk, "threads", "--state", "due")
    cut = desk.good("ls", "threads", "--state", "due", "--limit", "2")
    assert made[:2] == [line.split("\t")[0] for line in cut.lines]
    assert "More are due: --limit shows more of them" in cut.err
    assert "More are due" not in desk.good("ls", "threads", "--state", "due", "--limit", "3").err


def test_a_policy_that_has_nothing_of_a_kind_is_told_from_one_that_does_not_exist(desk: Desk) -> None:
    desk.configure(SEVERAL)
    desk.seed(1, policy="other")
    assert "" == desk.good("ls", "threads", "--policy", "quick").out
    wrong = desk.run("ls", "threads", "--policy", "qick")
    assert 2 == wrong.code
    assert "no policy qick has threads at openai: there is chat, other, quick" in wrong.err


def test_more_ids_than_are_sorted_say_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = crowd(desk)
    for name, value in desk.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(desk.directory)
    monkeypatch.setattr("lapse.cli.inspect.ls.SORTED", 3)
    assert 0 == run(["ls", "threads"])
    out, err = capfd.readouterr()
    assert sorted(expected) == sorted(line.split("\t")[0] for line in out.splitlines())
    assert "More than 3 ids: not in the order in which they are due." in err


@pytest.mark.parametrize(
    "cursor", ["x", "due:", "due:1", "due:x/id", "chat/fresh", "chat/nowhere/1/id", "other/fresh/1/id"]
)
def test_ls_refuses_a_cursor_that_is_none(desk: Desk, cursor: str) -> None:
    desk.seed(1)
    assert 2 == desk.run("ls", "threads", "--after", cursor).code


def test_plan_shows_the_oldest_first_and_changes_nothing(desk: Desk) -> None:
    newer, older = desk.seed(1, days=9), desk.seed(1, days=19)
    desk.seed(4, days=1)
    desk.worker()
    before = desk.stored()
    shown = desk.good("plan", "threads").lines
    assert "openai/thread/chat (observing): 2 of 6 due; at least 4 requests, no rate limit" == shown[0]
    assert [older[0], newer[0]] == [text.split()[0] for text in shown[1:3]]
    assert '  nothing is deleted while the policy observes; mode = "enforce" in the policy file changes that' in shown
    assert before == desk.stored()
    assert [] == desk.sandbox.requests()


def test_plan_uses_the_policy_file_as_it_is_now(desk: Desk) -> None:
    desk.seed(3, days=9)
    desk.worker()
    desk.configure(CHAT.replace("7d", "10d"))
    shown = desk.good("plan", "threads", "--json").json[0]
    assert (3, 0, []) == (shown["registered"], shown["due"], shown["first"])
    assert any("have not taken this version" in text for text in shown["obstacles"])


def test_plan_foresees_the_halt_of_a_first_enforcement(desk: Desk) -> None:
    desk.configure(CHAT + "max_newly_due = { percent = 20, at_least = 1 }\n")
    desk.seed(5)
    desk.worker()
    assert "enforced, it would halt first (cutoff_jumped): 5 of 5 ids" in desk.good("plan", "threads").out


def test_plan_leaves_out_what_is_held_or_used(desk: Desk) -> None:
    due, held, used = desk.seed(3)
    desk.registry.hold("thread", held, reason="case")
    desk.registry.register("thread", "thread_user", "chat", uses=[("thread", used)])
    (shown,) = desk.good("plan", "threads", "--json").json
    assert [due] == [one["id"] for one in shown["first"]]


def test_plan_says_how_pace_and_ramp_slow_it(desk: Desk) -> None:
    desk.configure(ENFORCED + 'max_deletions = { amount = 5, window = "1h" }\n', ramp='"15m"')
    desk.seed(20)
    shown = desk.good("plan", "threads").out
    assert "a first enforcement deletes 10, then a tenth, then all" in shown
    assert "at a pace of at most 5 deletions in 1h" in shown


def test_plan_of_an_orphan_rule(desk: Desk) -> None:
    desk.configure(ORPHANS)
    assert "openai/assistant/idle (observing): no complete listing yet" in desk.good("plan").out


def test_a_policy_that_does_not_exist_is_named_with_those_that_do(desk: Desk) -> None:
    shown = desk.run("plan", "--policy", "chatt")
    assert 2 == shown.code
    assert "openai/thread/chat" in shown.err


def test_every_json_document_is_one(desk: Desk) -> None:
    desk.seed(1)
    for command in (("status",), ("plan",), ("health",), ("check-config",), ("explain", "thread", "x")):
        json.loads(desk.run(*command, "--json").out)


def test_status_says_how_many_requests_to_erase_are_open_and_when_the_next_is_due(desk: Desk) -> None:
    now = erasures.now(desk.raw)
    erasures.store(desk.raw, *(erasures.request(now, age=5, left=left) for left in (20, 3)), *erasures.settled(now, 4))
    desk.raw.hset("lapse:asked_erasures", "one", "{}")

    shown, document = desk.good("status").lines, desk.good("status", "--json").json["erasures"]

    (at,) = [i for i, text in enumerate(shown) if text.startswith("requests to erase a subject: 2 open, the next due ")]
    assert re.search(r" \((in 3d|in 2d 23h)\); 1 asked by applications and not taken up yet\.$", shown[at])
    assert "  lapse erase list" == shown[at + 1]
    assert "user:42" not in "".join(shown)
    assert {"asked": 1, "open": 2, "complete": 4, "refused": 0} == {s: n for s, n in document.items() if s in STATES}
    assert [-5 * DAY, 3 * DAY] == [document[name] - now / 1000 for name in ("received", "due")]


def test_authorities_that_are_gone_while_a_worker_runs_are_named(desk: Desk) -> None:
    desk.configure(
        ENFORCED.replace('["conversation", "thread"]', '"thread"'), rate='"unlimited"\nca_file = "/nowhere/ca.pem"'
    )
    for _ in range(3):
        with pytest.raises(ConfigError, match=r"ca_file: /nowhere/ca\.pem cannot be read"):
            desk.worker()
    assert "ca_file: /nowhere/ca.pem cannot be read" in desk.run("status").out
