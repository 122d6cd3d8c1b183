"""pause, resume and approve: what they change, what they refuse, and that they say so."""

import asyncio
import json

import pytest

from lapse.policy.reload import ConfigFile
from lapse.providers.provider import Provider
from lapse.registry.model import Partition
from support.commandline import CHAT, ENFORCED, KEY, Desk

THREADS = Partition("openai", "thread", "chat")
JUMPING = ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n"
ORPHANS = """
[policies.idle]
kind = "assistant"
orphan = { min_age = "1s", seen = 2, uses = "none", max_share = { percent = 20, at_least = 1 } }
mode = "enforce"
"""


def plan(desk: Desk, kind: str = "thread") -> str:
    return str(next(halt["plan"] for halt in desk.halts(kind).values()))


@pytest.mark.parametrize(
    ("scope", "stored"),
    [
        ((), "*"),
        (("openai",), "openai"),
        (("openai/threads",), "openai/thread"),
        (("openai/thread/chat",), "openai/thread/chat"),
    ],
)
def test_pause_stops_a_scope_until_resume(desk: Desk, scope: tuple[str, ...], stored: str) -> None:
    desk.configure(ENFORCED)
    ids = set(desk.seed(3))

    paused = desk.good("pause", *scope, "--reason", "a complaint")
    assert [stored] == list(desk.raw.hgetall("lapse:control"))
    assert f"paused {'everything' if stored == '*' else stored}\n" == paused.out
    desk.worker()
    assert ids == desk.sandbox.alive("thread")

    resumed = desk.good("resume", *scope)
    assert f"resumed {'everything' if stored == '*' else stored}\n" == resumed.out
    assert ": a complaint" in resumed.err
    desk.worker()
    assert set() == desk.sandbox.alive("thread")


@pytest.mark.parametrize("scope", ["other", "openai/threads/chat/more", "openai//chat"])
def test_a_scope_that_is_none_is_refused(desk: Desk, scope: str) -> None:
    assert 2 == desk.run("pause", scope).code
    assert {} == desk.raw.hgetall("lapse:control")


def test_resume_takes_every_pause_back_and_one_alone_if_told(desk: Desk) -> None:
    for scope in ((), ("openai",), ("openai/threads",)):
        desk.good("pause", *scope)
    one = desk.good("resume", "openai")
    assert "resumed openai\n" == one.out
    assert "everything is still paused: lapse resume\n" in one.err
    assert "openai/thread is still paused: lapse resume openai/thread\n" in one.err
    assert ["resumed everything", "resumed openai/thread"] == desk.good("resume").lines
    assert "Nothing was paused." in desk.good("resume").err


def test_resume_without_a_reason_answers_no_halt(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(3)
    desk.worker()
    shown = desk.good("resume")
    assert "openai/thread/chat is still halted: cutoff_jumped" in shown.err
    assert f"lapse approve {plan(desk)} --confirm=PROVIDER" in shown.err
    assert desk.halts()


def test_resume_with_a_reason_lifts_what_carries_no_plan_and_audits_it(desk: Desk) -> None:
    desk.configure(ENFORCED)
    ids = desk.seed(3)
    desk.sandbox.faults([{"effect": "sunset"}])
    desk.worker()
    assert ["*|endpoint_missing"] == list(desk.halts())

    desk.good("pause", "openai")
    shown = desk.good("resume", "--reason", "base_url mended")

    assert "resumed openai/thread: endpoint_missing\n" == shown.out
    assert "openai is still paused: lapse resume openai" in shown.err
    assert {} == desk.halts()
    (record,) = [record for record in desk.audit() if record["event"] == "resumed"]
    assert ("endpoint_missing", "base_url mended") == (record["reason"], record["why"])
    assert "@" in record["actor"]
    desk.sandbox.faults()
    desk.good("resume")
    desk.worker()
    assert set(ids) & desk.sandbox.alive("thread") == set()


def test_resume_with_a_reason_stays_in_its_scope(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.sandbox.faults([{"effect": "sunset"}])
    desk.worker()
    assert "Nothing was halted." in desk.good("resume", "openai/conversations", "--reason", "x").err
    assert desk.halts()
    assert "" != desk.good("resume", "openai/threads", "--reason", "x").out


def test_resume_does_not_answer_what_carries_a_plan_or_ends_by_itself(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(3)
    desk.worker()
    shown = desk.run("resume", "--reason", "x")
    assert (6, "") == (shown.code, shown.out)
    assert f"lapse approve {plan(desk)}" in shown.err
    desk.configure(ENFORCED.replace("created_at", "last_active_at"))
    desk.good("status")
    desk.raw.delete("lapse:{openai:thread}:halts")
    desk.worker()
    assert ["chat|no_touches"] == list(desk.halts())
    shown = desk.run("resume", "--reason", "x")
    assert 6 == shown.code
    assert "the halt ends by itself once its cause has ended" in shown.err


def unproven(desk: Desk) -> list[str]:
    """Halt a policy because the provider knows none of its ids; return them."""
    desk.configure(ENFORCED)
    ids = desk.seed(3)
    desk.sandbox.faults([{"effect": "wrong_project"}])
    for _ in range(3):
        desk.worker()
        for id_ in ids:
            desk.raw.zadd("lapse:{openai:thread}:chat:waiting", {id_: 1}, xx=True)
    assert ["chat|no_witness"] == list(desk.halts())
    return ids


def identity(desk: Desk, key: str) -> str:
    account = ConfigFile(desk.config, desk.environ).current().accounts["openai"]

    async def read() -> str:
        async with Provider(account, {"OPENAI_API_KEY": key}) as provider:
            return await provider.identity()

    return asyncio.run(read())


def test_the_answer_to_no_witness_is_for_the_ids_that_wait_under_this_key(desk: Desk) -> None:
    ids = unproven(desk)
    shown = desk.good("resume", "--reason", "they were deleted by hand", "--confirm=openai")
    assert "resumed openai/thread/chat: no_witness\n" == shown.out
    assert "3 threads that openai did not find, and no others, settle as already gone" in " ".join(shown.err.split())
    believed = {json.loads(str(desk.raw.hget("lapse:{openai:thread}:aside", id_)))["b"] for id_ in ids}
    assert {identity(desk, KEY)} == believed
    assert "0" == desk.raw.hget("lapse:{openai:thread}:marks", "unproven|chat")


def test_after_the_answer_the_next_sweep_settles_them_as_already_gone(desk: Desk) -> None:
    ids = unproven(desk)
    desk.good("resume", "--reason", "they were deleted by hand", "--confirm=openai")
    desk.worker()
    assert str(len(ids)) == desk.raw.hget("lapse:{openai:thread}:counters", "settled|chat|already_gone")


def test_the_answer_to_no_witness_needs_the_workers_key(desk: Desk) -> None:
    unproven(desk)
    del desk.environ["OPENAI_API_KEY"]
    shown = desk.run("resume", "--reason", "x", "--confirm=openai")
    assert 2 == shown.code
    assert "OPENAI_API_KEY is not set here" in shown.err
    assert desk.halts()


def test_the_answer_to_diverging_configs_lets_the_older_rules_in_again(desk: Desk) -> None:
    desk.worker()
    older = desk.config.read_text()
    desk.configure(CHAT.replace("7d", "8d"))
    desk.worker()
    newer = desk.rules(THREADS)["digest"]
    desk.config.write_text(older)
    desk.worker()
    assert ["chat|config_divergence"] == list(desk.halts())
    assert newer == desk.rules(THREADS)["digest"]

    shown = desk.good("resume", "--reason", "the older file is right", "--confirm=openai")
    assert "resumed openai/thread/chat: config_divergence" in shown.lines
    desk.worker()
    assert {} == desk.halts()
    assert newer != desk.rules(THREADS)["digest"]


def test_approve_sets_the_baseline_and_the_next_sweep_goes_on(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(5)
    desk.worker()
    assert 5 == len(desk.sandbox.alive("thread"))

    shown = desk.good("approve", plan(desk), "--reason", "as announced", "--confirm=openai")

    assert "approved openai/thread/chat: 5 of 5 ids would become due at once" in shown.out
    assert {} == desk.halts()
    assert "base_at" in desk.rules(THREADS)
    (record,) = [record for record in desk.audit() if record["event"] == "resumed"]
    assert record["why"].endswith("as announced")
    assert "@" in record["actor"]
    desk.worker()
    assert set() == desk.sandbox.alive("thread")


def test_approve_names_the_plans_there_are(desk: Desk) -> None:
    assert "no policy waits for an approval" in desk.run("approve", "0123456789ab").err
    desk.configure(JUMPING)
    desk.seed(3)
    desk.worker()
    shown = desk.run("approve", "0123456789ab")
    assert (2, "") == (shown.code, shown.out)
    assert f"there is {plan(desk)}" in shown.err


def test_a_plan_is_not_approved_with_another_file_than_the_workers(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(3)
    desk.worker()
    desk.configure(JUMPING.replace("7d", "6d"))
    shown = desk.run("approve", plan(desk))
    assert 2 == shown.code
    assert "is not what workers use for openai/thread/chat" in shown.err
    assert desk.halts()
    assert "base_at" not in desk.rules(THREADS)


def test_a_plan_made_before_the_policy_was_changed_is_made_anew(desk: Desk) -> None:
    """What was approved is what was looked at: a shorter ttl would make more due than the plan said."""
    desk.configure(JUMPING)
    desk.seed(3)
    desk.seed(4, days=3)
    desk.worker()
    old = plan(desk)
    desk.configure(JUMPING.replace("7d", "2d"))
    desk.worker()

    shown = desk.run("approve", old)

    assert 2 == shown.code
    assert f"no halt carries the plan {old}" in shown.err, "the worker has looked again, and made a new one"
    assert "base_at" not in desk.rules(THREADS)
    desk.worker()
    assert 7 == len(desk.sandbox.alive("thread"))
    assert old != plan(desk)
    desk.good("approve", plan(desk), "--confirm=openai")
    desk.worker()
    assert set() == desk.sandbox.alive("thread")


def test_an_orphan_share_is_approved_up_to_what_was_asked(desk: Desk) -> None:
    desk.configure(ORPHANS)
    desk.worker()
    desk.raw.hset("lapse:epoch", "created", 1)  # old enough for orphans
    desk.seed(4, kind="assistant", policy="idle")
    desk.worker(sweeps=2)
    assert ["idle|orphan_share"] == list(desk.halts("assistant"))
    shown = desk.good("approve", plan(desk, "assistant"), "--confirm=openai")
    assert "approved openai/assistant/idle: 4 of 4 listed" in shown.out
    assert "4" == desk.rules(Partition("openai", "assistant", "idle"))["share_ok"]
    desk.worker()
    assert set() == desk.sandbox.alive("assistant")


def test_resume_takes_another_account_for_the_right_one(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.worker()
    ids = set(desk.seed(2))
    desk.configure(ENFORCED, type='"openai"\nproject = "proj_new"')
    desk.worker()
    assert ["*|identity_changed"] == list(desk.halts())
    assert "identity_changed" in desk.good("status").out

    shown = desk.good("resume", "--reason", "moved, ids and all", "--confirm=openai")

    assert "resumed openai/thread: identity_changed\n" in shown.out
    assert "The threads of openai are at http" in shown.err
    desk.worker()
    assert not ids & desk.sandbox.alive("thread")


def test_resume_says_what_a_lost_registry_means_and_answers_it_only_as_a_whole(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    witness = desk.directory / "witness.json"
    desk.configure(ENFORCED, allow_volatile=f'true\nwitness_file = "{witness}"')
    desk.worker()
    assert witness.is_file()
    desk.raw.flushall()
    ids = set(desk.seed(2))
    desk.worker()
    assert ids == desk.sandbox.alive("thread")
    assert ["*|registry_lost"] == list(desk.halts())
    assert "wiped, or is another Redis" in desk.good("status").out

    part = desk.run("resume", "openai/threads", "--reason", "on purpose")
    assert (6, "") == (part.code, part.out)
    whole = desk.good("resume", "--reason", "on purpose", "--confirm=openai")

    assert "openai/thread: registry_lost" in whole.out
    assert "`lapse register --from FILE` replays" in whole.err
    desk.worker()
    assert set() == desk.sandbox.alive("thread")


def test_a_pause_stands_in_the_audit_of_all_that_it_covers(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.good("pause", "--reason", "a complaint")
    desk.good("pause", "openai/threads/chat")
    desk.good("resume")

    records = desk.good("audit", "export", "threads").records

    assert [
        ("paused", "*"),
        ("paused", "openai/thread/chat"),
        ("unpaused", "*"),
        ("unpaused", "openai/thread/chat"),
    ] == [(one["event"], one["scope"]) for one in records]
    assert ("a complaint", "ends the pause: a complaint") == (records[0]["why"], records[2]["why"])
    assert all("@" in one["actor"] for one in records)
    assert ["*", "*"] == [one["scope"] for one in desk.good("audit", "export", "conversations").records]


def test_resume_lets_an_open_breaker_try_again_at_once(desk: Desk) -> None:
    desk.configure(ENFORCED)
    ids = set(desk.seed(2))
    desk.sandbox.faults([{"effect": "error", "status": 401}])
    desk.worker()
    desk.sandbox.faults()
    desk.worker()
    assert ids == desk.sandbox.alive("thread")

    shown = desk.good("resume", "openai", "--reason", "the key was renewed")

    assert "openai: its breaker lets the next request through\n" == shown.out
    desk.worker()
    assert set() == desk.sandbox.alive("thread")
    assert "Nothing was halted." in desk.good("resume", "--reason", "again").err


def test_a_redis_that_may_evict_halts_everything_until_it_is_set_right(desk: Desk) -> None:
    """CONFIG SET while workers run: the registry would lose ids, and nobody else knows them."""
    desk.configure(ENFORCED)
    ids = set(desk.seed(2))
    desk.raw.config_set("maxmemory-policy", "allkeys-lru")
    try:
        desk.worker()
        assert ["*|registry_unfit"] == list(desk.halts())
        assert ids == desk.sandbox.alive("thread")
        shown = desk.good("status").out
        assert "maxmemory-policy is allkeys-lru" in shown
        assert "the halt ends by itself once its cause has ended" in shown
        assert 6 == desk.run("resume", "--reason", "x").code
    finally:
        desk.raw.config_set("maxmemory-policy", "noeviction")

    desk.worker()

    assert {} == desk.halts()
    assert set() == desk.sandbox.alive("thread")


# --- what keeps requests from a provider


FLOW = "lapse:{openai}:flow"


def test_a_retry_after_is_ended_for_one_provider(desk: Desk) -> None:
    desk.configure(ENFORCED)
    ids = desk.seed(2)
    seconds, _ = desk.raw.time()
    desk.raw.hset(FLOW, "blocked_until", (seconds + 7200) * 1000)
    assert "retry_after" in desk.run("sweep", "--confirm=openai").out
    assert set(ids) == desk.sandbox.alive("thread")

    shown = desk.good("resume", "--provider", "openai", "--reason", "their mistake")

    assert "openai: its Retry-After ended, 2h" in shown.out or "openai: its Retry-After ended, 1h 59m" in shown.out
    assert "2 deleted" in desk.run("sweep", "--confirm=openai").out
    (record,) = [one for one in desk.audit("thread") if one["event"] == "unblocked"]
    assert "their mistake" == record["why"]


@pytest.mark.parametrize("command", [["resume", "--provider", "openai"], ["resume", "--reason", "mended"]])
def test_a_kinds_breaker_is_shown_and_lets_the_next_request_through(desk: Desk, command: list[str]) -> None:
    desk.configure(ENFORCED)
    ids = desk.seed(5)
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 403}])
    assert "breaker" in desk.run("sweep", "--confirm=openai").out
    status = desk.run("status")
    assert "openai/thread: breaker open (forbidden): all ids are answered so: 403" in status.out
    assert "lapse resume --provider openai" in status.out
    desk.sandbox.faults()

    shown = desk.good(*command)

    assert "openai/thread: its breaker lets the next request through" in shown.out
    assert "deleted" in desk.run("sweep", "--confirm=openai").out
    assert set(ids) != desk.sandbox.alive("thread")
    assert "breaker" not in desk.run("status").out


def test_where_nothing_is_in_the_way_it_says_so(desk: Desk) -> None:
    desk.configure(CHAT)
    assert "Nothing kept requests from openai." in desk.good("resume", "--provider", "openai").err


@pytest.mark.parametrize("wrong", [["openai", "--provider", "openai"], ["--provider", "opnai"]])
def test_a_provider_stands_alone_and_is_configured(desk: Desk, wrong: list[str]) -> None:
    desk.configure(CHAT)
    assert 2 == desk.run("resume", *wrong).code


# --- a policy that was renamed

RENAMED = ENFORCED.replace("[policies.chat]", '[policies.talk]\nformerly = ["chat"]')


@pytest.mark.parametrize("name", ["chat", "talk"])
def test_a_pause_stands_under_every_name_and_ends_by_any(desk: Desk, name: str) -> None:
    desk.configure(ENFORCED)
    ids = set(desk.seed(3))
    desk.configure(RENAMED)

    paused = desk.good("pause", f"openai/threads/{name}", "--reason", "a complaint")

    assert "paused openai/thread/talk\n" == paused.out
    assert ("openai/thread/chat is called openai/thread/talk now." in paused.err) is (name == "chat")
    assert {"openai/thread/chat", "openai/thread/talk"} == desk.raw.hgetall("lapse:control").keys()
    desk.configure(ENFORCED)
    desk.worker()
    desk.configure(RENAMED)
    desk.worker()
    assert ids == desk.sandbox.alive("thread"), "neither a worker with the old file nor one with the new"

    desk.good("resume", f"openai/thread/{name}")
    assert {} == desk.raw.hgetall("lapse:control")
    desk.worker()
    assert set() == desk.sandbox.alive("thread")


def test_the_old_name_pauses_the_policy_after_formerly_is_taken_out(desk: Desk) -> None:
    desk.configure(RENAMED.replace("7d", "400d"))
    desk.seed(3)
    desk.worker()
    desk.configure(RENAMED.replace('formerly = ["chat"]\n', ""))

    assert "paused openai/thread/talk\n" == desk.good("pause", "openai/thread/chat").out
    desk.worker()
    assert 3 == len(desk.sandbox.alive("thread"))
    desk.good("resume", "openai/thread/talk")
    assert {} == desk.raw.hgetall("lapse:control")


def test_a_name_that_the_file_has_for_another_policy_keeps_its_own_pause(desk: Desk) -> None:
    desk.configure(RENAMED)
    desk.worker()
    desk.configure(ENFORCED.replace("[policies.chat]", "[policies.talk]") + ENFORCED)
    for name in ("chat", "talk"):
        desk.good("pause", f"openai/thread/{name}")

    for name, other in (("talk", "chat"), ("chat", "talk")):
        desk.good("pause", "openai/thread/talk")
        desk.good("resume", f"openai/thread/{name}")
        assert [f"openai/thread/{other}"] == list(desk.raw.hgetall("lapse:control"))


def test_a_name_that_the_file_has_for_another_policy_keeps_its_own_halt(desk: Desk) -> None:
    desk.configure(RENAMED)
    desk.worker()
    desk.configure(ENFORCED.replace("[policies.chat]", "[policies.talk]") + ENFORCED)
    for since, name in enumerate(("chat", "talk")):
        desk.raw.hset("lapse:{openai:thread}:halts", f"{name}|sunset", f'{{"since":{since},"detail":"x"}}')

    desk.good("resume", "openai/thread/talk", "--reason", "x")

    assert ["chat|sunset"] == list(desk.halts())


def test_a_pause_by_a_file_with_the_old_name_stops_the_new_one_too(desk: Desk) -> None:
    desk.configure(RENAMED.replace("7d", "400d"))
    ids = set(desk.seed(3))
    desk.worker()
    desk.configure(ENFORCED)
    desk.good("pause", "openai/thread/chat")

    desk.configure(RENAMED)
    desk.worker()
    assert ids == desk.sandbox.alive("thread")
    assert "openai/thread/talk" in desk.raw.hgetall("lapse:control")


def test_a_pause_on_a_policy_that_nobody_knows_is_refused(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1, policy="import")

    refused = desk.run("pause", "openai/thread/chatt")

    assert (2, "", {}) == (refused.code, refused.out, desk.raw.hgetall("lapse:control"))
    assert "no policy is called chatt" in refused.err
    assert "have chat, import" in refused.err
    assert "paused openai/thread/import\n" == desk.good("pause", "openai/thread/import").out


def test_a_pause_on_a_name_that_nobody_knows_any_more_can_be_taken_back(desk: Desk) -> None:
    desk.raw.hset("lapse:control", "openai/thread/gone", '{"actor":"ann","reason":"x","since":1}')
    assert "resumed openai/thread/gone\n" == desk.good("resume", "openai/thread/gone").out


@pytest.mark.parametrize("formerly", [True, False])
def test_status_says_a_pause_of_the_old_name(desk: Desk, formerly: bool) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.good("pause", "openai/thread/chat")
    desk.configure(RENAMED)
    if not formerly:
        desk.worker()
        desk.configure(RENAMED.replace('formerly = ["chat"]\n', ""))
    (one,) = [
        one
        for one in json.loads(desk.good("status", "--json").out)["partitions"]
        if one["kind"] == "thread" and one["policy"] == "talk"
    ]
    assert one["state"] == "paused"


LOST = ENFORCED.replace('"conversation", "thread"', '"file"') + "max_already_gone = { percent = 20, at_least = 3 }\n"


@pytest.mark.parametrize("name", [(), ("openai/files/chat",), ("openai/files/talk",)])
def test_a_halt_of_a_renamed_policy_is_answered_once_by_either_name(desk: Desk, name: tuple[str, ...]) -> None:
    desk.configure(LOST)
    desk.seed(1, kind="file", days=1)
    for n in range(9):
        desk.registry.register("file", f"file-{n:024d}", "chat", created_at=1_600_000_000)
    desk.worker()
    desk.configure(LOST.replace("[policies.chat]", '[policies.talk]\nformerly = ["chat"]'))
    desk.worker()
    (one,) = [one for one in json.loads(desk.good("status", "--json").out)["partitions"] if one["policy"] == "talk"]
    assert (3, "halted") == (one["already_gone"], one["state"])

    answered = desk.good("resume", *name, "--reason", "they were deleted by hand", "--confirm=openai")

    assert "resumed openai/file/talk: gone_wall\n" == answered.out
    assert {} == desk.halts("file")
    for policy in ("chat", "talk"):
        assert desk.raw.hget(f"lapse:{{openai:file}}:{policy}:rules", "wall") is None, "the window begins anew"
