"""explain: every state an id can be in, in sentences that are true of it."""

import json
import re
import time

import pytest

from support.commandline import CHAT, ENFORCED, Desk

ORPHANS = """
[policies.idle]
kind = "assistant"
orphan = { min_age = "1s", seen = 3, uses = "none" }
mode = "enforce"
"""
STRANGE = [{"method": "DELETE", "effect": "error", "status": 404, "message": "Thread is unknown to this server"}]
SLOT = "lapse:{openai:thread}:"


def explained(desk: Desk, id_: str, kind: str = "thread") -> str:
    return desk.good("explain", kind, id_).out


def first(desk: Desk, id_: str, kind: str = "thread") -> str:
    return explained(desk, id_, kind).splitlines()[0]


def without_distances(text: str) -> str:
    return re.sub(r" \([^)]* ago\)", "", text)


def test_a_tracked_id_that_is_not_due_yet(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1, days=1)
    desk.worker()
    shown = explained(desk, id_)
    assert f"{id_} will be deleted 20" in shown
    assert re.search(r"\(in (6d|5d 23h)\)\.\n", shown)
    assert "It is registered under chat, which deletes threads 7d after creation." in shown
    assert re.search(r"\(1d( \d+s)? ago\) and never used since\.", shown)


def test_one_that_is_due_and_enforced(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.worker()
    (id_,) = desk.seed(1, days=9)
    assert re.search(r"is due since .* \(2d( \d+s)? ago\): the next sweep deletes it\.$", first(desk, id_))


def test_one_that_was_used_since(desk: Desk) -> None:
    desk.configure(CHAT.replace("created_at", "last_active_at"))
    (id_,) = desk.seed(1, days=9)
    desk.registry.touch("thread", id_)
    shown = explained(desk, id_)
    assert "7d after last activity" in shown
    assert re.search(r"\(9d( \d+s)? ago\), last used ", shown)
    assert "is due 20" in shown


def test_only_an_idle_anchor_makes_a_use_matter(desk: Desk) -> None:
    desk.configure(ENFORCED.replace("created_at", "last_active_at") + 'touches = "none"\n')
    desk.worker()
    (id_,) = desk.seed(1, days=1)
    assert first(desk, id_).endswith("), if it is not used before.")


def test_a_policy_that_observes(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    assert 'but policy chat only observes: nothing is deleted until it says mode = "enforce".' in first(desk, id_)


def test_a_policy_that_no_worker_has_swept(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    assert first(desk, id_).endswith("but no worker has swept its policy yet.")


def test_a_paused_policy(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    desk.good("pause", "openai", "--reason", "a complaint")
    shown = explained(desk, id_)
    assert "but its deletion is paused." in shown
    assert ": a complaint.\n  lapse resume openai\n" in shown


def test_a_halted_policy(desk: Desk) -> None:
    desk.configure(ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n")
    id_, _other = desk.seed(2)
    desk.worker()
    (plan,) = [halt["plan"] for halt in desk.halts().values()]
    shown = explained(desk, id_)
    assert "but its policy is halted (cutoff_jumped)." in shown
    assert f"\n  lapse approve {plan} --confirm=PROVIDER\n" in shown


def test_rules_that_workers_have_not_taken_up(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.worker()
    desk.configure(CHAT.replace("7d", "99d"))
    shown = explained(desk, id_)
    assert "99d after creation" in shown
    assert "Workers sweep with other rules than this policy file" in shown


def test_a_held_one_names_who_why_and_until_when(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.registry.hold("thread", id_, reason="case 2026-114", actor="legal", until=time.time() + 3600)
    shown = explained(desk, id_)
    assert f"{id_} will not be deleted while it is held." in shown
    assert "It is held by legal since" in shown
    assert "until 20" in shown
    assert '"case 2026-114".' in shown


def test_a_referenced_one_names_what_uses_it(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    for i in range(7):
        desk.registry.register("thread", f"thread_user{i}", "chat", uses=[("thread", id_)])
    shown = explained(desk, id_)
    assert "will not be deleted while something else uses it." in shown
    assert "It is used by thread thread_user0, thread thread_user1" in shown
    assert "and 2 more, and lives as long." in shown
    assert f"It uses thread {id_}, which lives as long." in explained(desk, "thread_user0")


def test_an_expiry_of_its_own_wins_over_the_ttl(desk: Desk) -> None:
    desk.registry.register("thread", "thread_1", "chat", expires_in="2d", subject="user:42", labels={"team": "a"})
    shown = explained(desk, "thread_1")
    assert "Its own expiry decides, 20" in shown
    assert "and not the policy's ttl; no touch moves it." in shown
    assert "It holds data of user:42." in shown
    assert "Its labels: team=a." in shown


def test_max_age_caps_the_ttl_and_an_own_expiry(desk: Desk) -> None:
    desk.configure(ENFORCED.replace("created_at", "last_active_at") + 'max_age = "10d"\ntouches = "none"\n')
    desk.worker()
    (touched,) = desk.seed(1, days=9)
    desk.registry.touch("thread", touched)
    desk.registry.register("thread", "thread_1", "chat", expires_in="30d")
    assert re.search(r"\(in (1d|23h 59m)\)\.$", first(desk, touched))
    assert "The policy's max_age of 10d decides: no touch extends it." in explained(desk, touched)
    assert "lies behind the policy's max_age, which decides." in explained(desk, "thread_1")


def test_an_unmanaged_one_says_what_the_file_has(desk: Desk) -> None:
    (id_,) = desk.seed(1, policy="chatt")
    shown = explained(desk, id_)
    assert f"{id_} will never be deleted: no policy covers it (unmanaged)." in shown
    assert "has no such policy for threads of openai (it has chat)" in shown


def test_one_under_a_policys_former_name_is_governed_by_the_new_one(desk: Desk) -> None:
    (id_,) = desk.seed(1, policy="chat-v1")
    desk.configure(CHAT + 'formerly = ["chat-v1"]\n')
    shown = explained(desk, id_)
    assert "It is registered under chat, which deletes threads 7d after creation." in shown
    assert "only observes" in shown


def test_an_unknown_one(desk: Desk) -> None:
    shown = explained(desk, "thread_0")
    assert "thread_0 is not tracked: lapse will not delete it." in shown
    assert "lapse register thread thread_0 --policy NAME" in shown


def test_a_forgotten_one(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.registry.forget("thread", id_)
    assert "lapse leaves it alone until it is registered again." in explained(desk, id_)


def test_an_untracked_one_that_is_held(desk: Desk) -> None:
    desk.registry.hold("thread", "thread_0", reason="case", actor="legal")
    assert "It is held by legal" in explained(desk, "thread_0")


def test_one_that_waits_for_another_attempt(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 500}])
    desk.worker()
    shown = explained(desk, id_)
    assert f"{id_} will be tried again 20" in shown
    assert "The last attempt ended with error; 1 failed attempt so far." in shown
    assert "An earlier attempt ended unknown" in shown


def test_a_quarantined_one_names_the_answer_and_the_ways_out(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    desk.sandbox.faults(STRANGE)
    desk.worker()
    shown = explained(desk, id_)
    assert "will not be deleted until an operator says what to do with it: it is in quarantine." in shown
    assert ": unrecognised.\n" in shown
    assert "Thread is unknown to this server" in shown
    assert 'policy file:\n  not_found = ["Thread is unknown to this server"]\n' in shown
    assert f"lapse quarantine retry threads {id_}" in shown
    assert f"lapse quarantine drop threads {id_}" in shown


def test_a_refused_one_has_no_config_line(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 400}])
    desk.worker()
    shown = explained(desk, id_)
    assert "not_found" not in shown
    assert f"Once the cause is mended:\n  lapse quarantine retry threads {id_}\n" in shown


def stored(desk: Desk, id_: str, **record: object) -> None:
    """Put an id where only a worker puts it."""
    place = {"claimed": "claims", "kept": "kept", "waiting": "suspects"}[str(record["s"])]
    later = round((time.time() + 60) * 1000)
    desk.raw.sadd(f"{SLOT}policies", "chat")
    desk.raw.hset(f"{SLOT}aside", id_, json.dumps({"p": "chat", "f": later - 9 * 86_400_000, "d": later, **record}))
    desk.raw.zadd(f"{SLOT}chat:{place}", {id_: later})


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"s": "claimed", "t": 1}, "is being deleted now."),
        ({"s": "claimed", "t": 1}, "A worker has leased it until 20"),
        ({"s": "claimed", "t": 1, "g": 1}, "was forgotten while a deletion of it was under way"),
        ({"s": "kept"}, "will not be deleted while a keep rule matches it."),
        ({"s": "kept"}, "it is looked at again 20"),
        ({"s": "waiting", "x": 2, "r": "error"}, "2 workers ended while deleting it: it is tried alone."),
    ],
)
def test_what_stands_outside_the_due_indexes(desk: Desk, record: dict[str, object], said: str) -> None:
    stored(desk, "thread_1", **record)
    assert said in explained(desk, "thread_1")


def test_a_confirmed_deletion_of_what_can_be_listed_is_remembered(desk: Desk) -> None:
    desk.configure(ORPHANS)
    (id_,) = desk.seed(1, kind="assistant", policy="idle")
    desk.worker()
    desk.raw.hset("lapse:epoch", "created", 1)  # old enough for orphans
    desk.worker(sweeps=3)
    assert set() == desk.sandbox.alive("assistant")
    assert ", confirmed by the provider" in explained(desk, id_, "assistant")


def test_an_orphan_candidate_says_on_how_many_listings_it_was_unused(desk: Desk) -> None:
    desk.configure(ORPHANS)
    (id_,) = desk.seed(1, kind="assistant", policy="idle")
    assert "No complete listing has shown it unused yet." in explained(desk, id_, "assistant")
    desk.worker(sweeps=2)
    shown = explained(desk, id_, "assistant")
    assert f"{id_} will be deleted once nothing uses it." in shown
    assert "2 of 3 complete listings in a row have shown it unused." in shown


def test_one_that_was_already_gone_can_be_brought_back(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(3)
    desk.registry.register("thread", "thread_gone", "chat", created_at=1_700_000_000, last_active_at=1_700_000_000)
    desk.worker()
    shown = explained(desk, "thread_gone")
    assert "as already gone: the provider did not know it." in shown
    assert "lapse quarantine undo threads thread_gone" in shown


def test_a_deleted_id_says_when_and_by_which_answer(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    desk.worker()
    shown = explained(desk, id_)
    assert "It was deleted 20" in shown
    assert re.search(r" under chat, confirmed by the provider \(\w+\)", shown)
    assert re.search(r"The answer was 200, request [^;]+; attempt 1, by [^ ]+:\d+\.", shown)
    told = desk.good("explain", "thread", id_, "--json").json
    assert told["deleted_at"].startswith("20")
    assert (200, "deleted") == (told["answer"]["status"], told["answer"]["outcome"])


def test_the_answer_is_read_from_the_sinks_file_when_nothing_else_remembers_it(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    desk.worker(sweeps=2)
    desk.worker()
    assert f'"id":"{id_}"' in (desk.directory / "audit.jsonl").read_text()
    desk.raw.delete(*(f"lapse:{{openai:thread}}:{name}" for name in ("tombstones", "deleted", "audit")))
    shown = explained(desk, id_)
    line = r"under chat, confirmed by the provider \(\w+\), audit line \S+audit\.jsonl:\d+\.\nThe answer was 200"
    assert re.search(rf"It was deleted 20.* {line}", shown)


def test_the_answer_is_read_from_the_files_that_are_named(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1)
    desk.worker(sweeps=2)
    desk.worker()
    lines = (desk.directory / "audit.jsonl").read_text().splitlines()
    (desk.directory / "audit.jsonl").rename(desk.directory / "audit.1")
    (desk.directory / "audit.2").write_text("no record\n{}\n")
    desk.raw.delete(*(f"lapse:{{openai:thread}}:{name}" for name in ("tombstones", "deleted", "audit")))
    settled = next(n for n, line in enumerate(lines, 1) if '"settled"' in line)

    assert "has never heard of it" in explained(desk, id_)
    shown = desk.good("explain", "thread", id_, "--audit", "audit.1", "--audit", "audit.2")
    assert f"audit line audit.1:{settled}." in shown.out
    missing = desk.run("explain", "thread", id_, "--audit", "audit.9")
    assert (2, True) == (missing.code, "audit.9" in missing.err)


def test_the_breaker_of_its_kind_is_said(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.raw.hset("lapse:{openai:thread}:marks", mapping={"shut": "forbidden", "shut_detail": "403", "shut_until": "0"})
    assert "openai/thread: breaker open (forbidden): all ids are answered so: 403" in explained(desk, id_)


def test_a_pace_that_is_used_up_and_an_open_breaker_are_said(desk: Desk) -> None:
    desk.configure(ENFORCED + 'max_deletions = { amount = 1, window = "1h" }\n')
    desk.seed(2)
    desk.worker()
    (left,) = desk.sandbox.alive("thread")
    desk.raw.hset("lapse:{openai}:flow", "breaker", "quota")
    shown = explained(desk, left)
    assert "has used up its pace, at most 1 deletions in 1h, and goes on by itself." in shown
    assert "The provider's breaker is open (quota): requests wait." in shown


def test_as_json_it_says_the_same_and_the_facts_beside_it(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    shown = desk.good("explain", "threads", id_, "--json").json
    assert without_distances(explained(desk, id_)) == without_distances("\n".join(shown["sentences"]) + "\n")
    assert (True, True, "tracked", "ttl") == tuple(
        shown[name] for name in ("tracked", "managed", "state", "governed_by")
    )
    unknown = desk.good("explain", "thread", "thread_0", "--json").json
    assert (False, "unknown", None) == tuple(unknown[name] for name in ("tracked", "state", "due"))


def test_what_only_the_application_said_is_not_told_as_the_providers_word(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1, days=1)
    desk.registry.deleted("thread", id_)

    shown = explained(desk, id_)

    assert "confirmed by the provider" not in shown
    assert re.search(
        r"It left the registry 20\S+ \S+ UTC \(.*\): the application said that it had deleted it, or", shown
    )
    assert "By which answer, says the audit" in shown
    desk.worker(sweeps=2)
    (desk.directory / "audit.jsonl").unlink()
    desk.raw.delete("lapse:{openai:thread}:audit")
    assert "confirmed by the provider" not in explained(desk, id_)


def test_one_that_the_application_deleted_itself(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (id_,) = desk.seed(1, days=1)
    desk.registry.deleted("thread", id_)
    desk.worker()

    shown = explained(desk, id_)

    assert f"{id_} is not tracked" in shown
    assert re.search(r"The application deleted it itself 20\S+ \S+ UTC \(.*\), and said that the provider", shown)
