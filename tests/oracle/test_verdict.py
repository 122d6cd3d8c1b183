"""The oracle under test: a true story has no violation, and each kind of violation planted in it is found."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from oracle.history import Account, History, Policy, Quiet, Request, Resource
from oracle.story import AT_CHAT, CHAT, DAY, KEY, START, TRUE_METRICS, A, B, Story, found, metrics, thread, true_story
from oracle.verdict import violations


@pytest.fixture
def story() -> Story:
    """Return a true story."""
    return true_story()


def test_a_true_story_has_no_violation(story: Story) -> None:
    story.delete(B, 12 * DAY + 1)
    seen = {**TRUE_METRICS, "lapse_registered": {AT_CHAT: 0.0}}
    seen["lapse_deletions_total"] = {AT_CHAT: 2.0}
    seen["lapse_settled_total"] = {f'{AT_CHAT},outcome="deleted"': 2.0}
    seen["lapse_requests_total"] = {'kind="thread",op="delete",provider="openai",status="200"': 2.0}

    history = story.history(
        metrics=metrics(**seen),
        bound=60.0,
        accounts=(Account("openai", 1.0, 1),),
        texts={"log": "fine"},
        secrets=(KEY,),
    )

    assert [] == violations(history)


# --- early


def early(story: Story, *, policy: Policy = CHAT) -> bool:
    return "early" in found(story.history(policies=(policy,)))


@pytest.mark.parametrize(("at", "wrong"), [(7 * DAY - 1, True), (7 * DAY - 0.002, True), (7 * DAY, False)])
def test_a_ttl_counts_from_the_registration(at: float, *, wrong: bool) -> None:
    story = Story()
    story.say("register", A, 0)
    story.delete(A, at)
    assert wrong is early(story)


def test_a_touch_moves_an_idle_anchor_and_not_a_creation_anchor(story: Story) -> None:
    story.delete(B, 7 * DAY + 1)

    assert early(story)
    assert not early(story, policy=replace(CHAT, anchor="created_at"))


def test_a_registration_of_a_tracked_id_is_a_touch(story: Story) -> None:
    story.say("register", B, 6 * DAY)
    story.delete(B, 12 * DAY + 1)
    assert early(story)


def test_a_touch_that_failed_or_found_nothing_promises_nothing() -> None:
    story = Story()
    story.say("register", A, 0)
    story.say("touch", A, 5 * DAY, acknowledged=None)
    story.say("touch", A, 5 * DAY, answer="unknown")
    story.delete(A, 7 * DAY + 1)
    assert not early(story)


def test_an_own_expiry_overrules_the_ttl_and_the_last_one_said_counts(story: Story) -> None:
    story.say("expire", B, 5 * DAY, expires_at=START + 20 * DAY)
    story.say("register", B, 6 * DAY, expires_in=30 * DAY)
    story.delete(B, 35 * DAY)
    assert early(story)


def test_an_expiry_of_now_is_due_at_once(story: Story) -> None:
    story.say("expire", B, 6 * DAY)
    story.delete(B, 6 * DAY + 1)
    assert not early(story)


def test_max_age_caps_touches_and_own_expiries(story: Story) -> None:
    story.say("expire", B, 5 * DAY, expires_at=START + 90 * DAY)
    story.delete(B, 10 * DAY)

    assert early(story)
    assert not early(story, policy=replace(CHAT, max_age=9 * DAY))


def test_times_before_the_registration_count_as_they_were_said() -> None:
    story = Story()
    story.say("register", A, 0, created_at=START - 30 * DAY)
    story.say("register", B, 0, created_at=START - 30 * DAY, last_active_at=START - 20 * DAY)
    story.delete(A, 1)
    story.delete(B, 2)

    assert 1 == found(story.history()).count("early")
    assert not early(story, policy=replace(CHAT, anchor="created_at"))


def test_a_new_life_begins_with_a_new_registration(story: Story) -> None:
    story.say("register", A, 8 * DAY)
    story.delete(A, 9 * DAY)
    assert early(story)


def test_of_two_versions_of_a_policy_the_one_in_force_decides(story: Story) -> None:
    longer = replace(CHAT, ttl=30 * DAY, since=START + 7 * DAY)
    story.delete(B, 12 * DAY + 1)

    assert ["early"] == found(story.history(policies=(replace(CHAT, until=START + 8 * DAY), longer)))
    assert [] == found(story.history(policies=(replace(CHAT, until=START + 13 * DAY), longer)))


# --- children: claimed with a parent, whatever their own ttl says


@pytest.mark.parametrize(
    ("told", "promises"),
    [
        ("nothing", []),
        ("parent not claimed", ["unasked", "referenced"]),
        ("held", ["held"]),
        ("used by another", ["referenced"]),
        ("never registered", ["unasked"]),
        ("observed", ["unasked"]),
    ],
)
def test_a_child_goes_with_a_claimed_parent_that_alone_uses_it(told: str, promises: list[str]) -> None:
    story, parent, other = Story(), thread("p"), thread("o")
    child = Resource("openai", "file", "file-1")
    story.say("register", parent, 0, uses=(child,))
    if told != "never registered":
        story.say("register", child, 7.9 * DAY)
    if told == "held":
        story.say("hold", child, 7.95 * DAY)
    if told == "used by another":
        story.say("register", other, 7.95 * DAY, uses=(child,))
    at, named = 8 * DAY, "openai|thread|thread_p"
    token = 0 if told == "parent not claimed" else story.claim(parent, at, due=7 * DAY)
    story.delete(child, at + 1, by="cascade", parent=named)
    if token:
        story.ask(parent, at + 2)
        story.settle(parent, at + 3, token)
    files = replace(CHAT, kind="file", enforce=told != "observed")

    assert promises == found(story.history(policies=(CHAT, files)))


# --- held, forgotten, moved, referenced, unasked


def test_a_hold_acknowledged_before_the_claim_is_seen(story: Story) -> None:
    story.say("hold", B, 6 * DAY)
    story.delete(B, 13 * DAY)
    assert ["held"] == found(story.history())


@pytest.mark.parametrize("answer", ["unknown", "too_late"])
def test_a_hold_stands_whatever_it_was_answered(story: Story, answer: str) -> None:
    story.say("hold", B, 6 * DAY, answer=answer)
    story.delete(B, 13 * DAY)
    assert ["held"] == found(story.history())


def test_a_hold_that_ended_or_raced_with_the_claim_is_none(story: Story) -> None:
    story.say("hold", B, 6 * DAY, until=START + 12 * DAY)
    story.say("hold", A, 7 * DAY + 1, acknowledged=START + 7 * DAY + 2)
    story.delete(B, 13 * DAY)
    other = thread("c")
    story.say("register", other, 0)
    story.say("hold", other, 1)
    story.say("unhold", other, 2)
    story.delete(other, 8 * DAY)
    assert [] == found(story.history())


def test_what_was_forgotten_is_not_claimed(story: Story) -> None:
    story.say("forget", B, 6 * DAY)
    story.delete(B, 13 * DAY)
    assert ["forgotten"] == found(story.history())


def test_what_was_moved_is_claimed_by_its_new_policy_alone(story: Story) -> None:
    archive = replace(CHAT, name="archive")
    story.say("register", B, 6 * DAY, policy="archive")
    story.delete(B, 14 * DAY)

    assert ["moved"] == found(story.history(policies=(CHAT, archive)))
    renamed = replace(CHAT, formerly=("archive",))
    assert [] == found(story.history(policies=(renamed,)))


def test_what_something_alive_uses_is_not_claimed(story: Story) -> None:
    user = thread("user")
    story.say("register", user, 6 * DAY, uses=(B,))
    story.delete(B, 12.5 * DAY)
    assert ["referenced"] == found(story.history())


def test_what_is_used_no_more_is_claimed(story: Story) -> None:
    user, other = thread("user"), thread("other")
    story.say("register", user, 1, uses=(B,))
    story.say("register", other, 1, uses=(B,))
    story.say("forget", other, 2, release=True)
    story.delete(user, 8 * DAY)
    story.delete(B, 13 * DAY)
    assert [] == found(story.history())


def test_what_something_forgotten_uses_is_not_claimed(story: Story) -> None:
    user = thread("user")
    story.say("register", user, 1, uses=(B,))
    story.say("forget", user, 2)
    story.delete(B, 13 * DAY)
    assert ["referenced"] == found(story.history())


def test_what_nobody_registered_is_not_claimed(story: Story) -> None:
    story.delete(thread("foreign"), 8 * DAY)
    assert ["unasked"] == found(story.history())


def test_a_policy_that_observes_claims_nothing(story: Story) -> None:
    assert ["unasked"] == found(story.history(policies=(replace(CHAT, enforce=False),)))


def test_an_orphan_is_old_enough_ours_and_unused_since_it_was_first_seen() -> None:
    orphans = Policy("openai", "assistant", "idle", None, None, orphan=2 * DAY, uses=False)
    known, stamped = Resource("openai", "assistant", "asst_1"), Resource("openai", "assistant", "asst_2")

    def judged(made: float, used: float, *, ours: bool = True) -> list[str]:
        story = Story()
        story.say("register", known, 0, policy="idle")
        story.say("touch", known, used)
        story.delete(known, 5 * DAY, by="orphan", policy="idle", due=3 * DAY)
        story.delete(stamped, 5 * DAY, by="orphan", policy="idle", due=3 * DAY)
        stamps = frozenset({stamped}) if ours else frozenset()
        return found(story.history(policies=(orphans,), made={known: START + made}, stamped=stamps))

    assert [] == judged(made=0, used=DAY)
    assert ["early"] == judged(made=4 * DAY, used=DAY)
    assert ["early"] == judged(made=0, used=4 * DAY)
    assert ["unasked"] == judged(made=0, used=DAY, ours=False)


# --- erasures


@pytest.mark.parametrize(
    ("told", "promises"),
    [
        ("asked", []),
        ("not asked", ["unasked"]),
        ("asked afterwards", ["unasked"]),
        ("made after it", ["unasked"]),
        ("made before it, said again", []),
        ("held", ["held"]),
        ("used", ["referenced"]),
        ("forgotten", ["forgotten"]),
    ],
)
def test_an_erasure_goes_by_a_request_that_covers_the_id_and_by_no_policy(told: str, promises: list[str]) -> None:
    story, until = Story(), START + 2 * DAY
    story.say("register", A, 0, created_at=until + 60 if told == "made after it" else None)
    if told == "made before it, said again":
        story.say("register", A, 2.5 * DAY)
    if told == "held":
        story.say("hold", A, DAY)
    if told == "used":
        story.say("register", B, DAY, uses=(A,))
    if told == "forgotten":
        story.say("forget", A, DAY)
    if told != "not asked":
        story.say("erase", A, 4 * DAY if told == "asked afterwards" else DAY, until=until)
    story.delete(A, 3 * DAY, by="erasure")

    assert promises == found(story.history(policies=(replace(CHAT, enforce=False),)))


@pytest.mark.parametrize(("by", "promises"), [("erasure", []), ("ttl", ["unasked"])])
def test_a_child_of_what_is_erased_goes_though_its_policy_observes(by: str, promises: list[str]) -> None:
    story, child = Story(), Resource("openai", "file", "file-1")
    story.say("register", A, 0, uses=(child,))
    story.say("register", child, 0)
    story.say("erase", A, DAY, until=START + 2 * DAY)
    token = story.claim(A, 8 * DAY, by=by, due=7 * DAY)
    story.delete(child, 8 * DAY + 1, by="cascade", parent="openai|thread|thread_a")
    story.ask(A, 8 * DAY + 2)
    story.settle(A, 8 * DAY + 3, token)
    observed = replace(CHAT, kind="file", enforce=False)

    assert promises == found(story.history(policies=(CHAT, observed)))


# --- overdue and lost


def test_what_is_due_is_settled_within_the_bound(story: Story) -> None:
    late = replace(CHAT, ttl=6 * DAY)

    assert ["overdue"] == found(story.history(bound=60.0, ended=START + 13 * DAY))
    assert [] == found(story.history(bound=60.0, ended=START + 12 * DAY + 30))
    assert ["overdue"] == found(story.history(policies=(late,), bound=60.0, ended=START + 11 * DAY))


def test_what_is_held_used_quarantined_or_said_without_an_answer_is_not_overdue(story: Story) -> None:
    held, used, bad, unsure = (thread(name) for name in ("held", "used", "bad", "unsure"))
    for one in (held, used, bad, unsure):
        story.say("register", one, 0)
    story.say("hold", held, 1)
    story.say("register", B, 1, uses=(used,))
    story.say("touch", unsure, 1, acknowledged=None)
    token = story.claim(bad, 7 * DAY + 1)
    story.ask(bad, 7 * DAY + 1.1, status=400, confirmed=False)
    story.settle(bad, 7 * DAY + 1.2, token, "invalid", "quarantined")
    assert [] == found(story.history(bound=60.0, ended=START + 11 * DAY))


@pytest.mark.parametrize("tracked", [0.0, 2.0])
def test_an_id_that_vanished_or_came_from_nowhere_is_seen(story: Story, tracked: float) -> None:
    seen = {**TRUE_METRICS, "lapse_registered": {AT_CHAT: tracked}}
    assert ["lost"] == found(story.history(metrics=metrics(**seen)))


def test_an_id_whose_registration_failed_may_be_there_or_not(story: Story) -> None:
    story.say("register", thread("unsure"), 1, acknowledged=None)
    for tracked in (1.0, 2.0):
        seen = {**TRUE_METRICS, "lapse_registered": {AT_CHAT: tracked}}
        assert [] == found(story.history(metrics=metrics(**seen)))


# --- duplicates, rate, pace


def test_a_second_delete_is_a_duplicate_unless_a_crash_explains_it(story: Story) -> None:
    token = story.claim(A, 7 * DAY)
    story.ask(A, 7 * DAY + 0.1)
    story.record("lapsed", A, 7 * DAY + 0.5, token=token)

    assert "duplicate" in found(story.history())
    assert [] == found(story.history(crashes=1))


def test_a_delete_after_an_answer_that_was_lost_is_none(story: Story) -> None:
    token = story.claim(A, 7 * DAY)
    story.ask(A, 7 * DAY + 0.1, status=0, confirmed=False)
    story.settle(A, 7 * DAY + 0.5, token, "error", "retried")
    assert [] == found(story.history())


def test_two_deletes_of_one_claim_are_one_too_many(story: Story) -> None:
    story.ask(A, 7 * DAY + 1.15, status=500, confirmed=False)
    assert ["duplicate"] == found(story.history())


def test_more_duplicates_than_requests_were_in_flight_are_too_many(story: Story) -> None:
    for name in ("c", "d", "e"):
        one = thread(name)
        story.say("register", one, 0)
        token = story.claim(one, 7 * DAY)
        story.ask(one, 7 * DAY + 0.1)
        story.record("lapsed", one, 7 * DAY + 0.5, token=token)
        story.delete(one, 7 * DAY + 1)

    assert ["duplicate", "uncounted"] == found(story.history(crashes=1, in_flight=2))
    assert [] == found(story.history(crashes=1, in_flight=3))


def requests(times: Sequence[float]) -> tuple[Request, ...]:
    return tuple(Request("openai", START + at, START + at, "GET", "/v1/threads", 200) for at in times)


@pytest.mark.parametrize(
    ("times", "wrong"),
    [
        ([0.0] * 10, False),
        ([0.0] * 11, True),
        ([0.0] * 10 + [0.1 * i for i in range(1, 50)], False),
        ([0.0] * 5 + [3.0] * 5 + [3.2] * 8, True),
        ([60.0 + 0.09 * i for i in range(400)], True),
    ],
)
def test_every_window_holds_what_the_bucket_gives(times: list[float], *, wrong: bool) -> None:
    history = History(requests=requests(times), accounts=(Account("openai", 10.0, 10),))
    assert (["rate"] if wrong else []) == found(history)


@pytest.mark.parametrize(
    ("times", "wrong"),
    [([1, 2, 3], False), ([1, 2, 3, 4], True), ([1, 2, 3, 3601, 3602, 3603], False), ([1, 3500, 3501, 3502], True)],
)
def test_the_pace_holds_in_every_window(times: list[float], *, wrong: bool) -> None:
    story = Story()
    for i, at in enumerate(times):
        story.say("register", thread(str(i)), 0, created_at=START - 30 * DAY, last_active_at=START - 30 * DAY)
        story.delete(thread(str(i)), at)
    paced = replace(CHAT, amount=3, window=3600.0)
    assert (["pace"] if wrong else []) == found(story.history(policies=(paced,)))


# --- records and counters


def test_a_delete_without_an_intent_is_seen(story: Story) -> None:
    story.ask(B, 8 * DAY)
    assert {"record"} <= set(found(story.history()))


def test_a_delete_before_its_intent_is_seen(story: Story) -> None:
    other = thread("c")
    story.say("register", other, 0)
    story.ask(other, 7 * DAY)
    token = story.claim(other, 7 * DAY + 1)
    story.settle(other, 7 * DAY + 2, token)
    assert {"record", "unconfirmed"} == set(found(story.history()))


def test_an_item_deleted_outside_of_its_parents_claim_is_seen(story: Story) -> None:
    path = "/v1/conversations/conv_1/items/msg_1"
    story.requests.append(Request("openai", START + 1, START + 2, "DELETE", path, 200, confirmed=True))
    assert ["record", "uncounted"] == found(story.history())


def test_a_deletion_without_a_terminal_record_is_seen(story: Story) -> None:
    story.audit.pop()
    assert ["record", "uncounted"] == found(story.history())


def test_a_deletion_with_two_terminal_records_is_seen(story: Story) -> None:
    story.audit.append(dict(story.audit[-1]))
    assert ["record", "uncounted"] == found(story.history())


def test_lines_that_a_sink_was_given_twice_are_one(story: Story) -> None:
    for number, line in enumerate(story.audit):
        line["seq"] = f"{line['at']}-{number}"
    story.audit += [dict(line) for line in story.audit]
    assert [] == found(story.history())


def test_an_outcome_without_its_answer_is_seen(story: Story) -> None:
    for outcome, status in (("deleted", 404), ("already_gone", 500)):
        told = Story(list(story.calls))
        token = told.claim(A, 7 * DAY)
        told.ask(A, 7 * DAY + 0.1, status=status, confirmed=False)
        told.settle(A, 7 * DAY + 0.2, token, outcome)
        assert "unconfirmed" in found(told.history())


def test_a_claim_that_nothing_ended_is_seen(story: Story) -> None:
    story.claim(B, 13 * DAY)
    assert "record" in found(story.history(bound=60.0, ended=START + 14 * DAY))


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("lapse_deletions_total", AT_CHAT, 2.0),
        ("lapse_deletions_total", AT_CHAT, 0.0),
        ("lapse_deletions_total", 'kind="thread_item",policy="chat",provider="openai"', 1.0),
        ("lapse_settled_total", f'{AT_CHAT},outcome="already_gone"', 1.0),
        ("lapse_crashes_total", AT_CHAT, 1.0),
        ("lapse_requests_total", 'kind="thread",op="delete",provider="openai",status="200"', 2.0),
        ("lapse_requests_total", 'kind="thread",op="delete",provider="openai",status="200"', 0.0),
    ],
)
def test_a_counter_that_differs_from_the_history_is_seen(story: Story, name: str, labels: str, value: float) -> None:
    seen = {**TRUE_METRICS, name: {**TRUE_METRICS.get(name, {}), labels: value}}
    wrong = ["count", "uncounted"] if name == "lapse_deletions_total" else ["count"]
    assert wrong == found(story.history(metrics=metrics(**seen)))


@pytest.mark.parametrize("spelling", [KEY, "sk%2Fp%C3%BC", "c2svcMO8", "secret"])
@pytest.mark.parametrize("where", ["log", "metrics", "audit"])
def test_a_secret_is_seen_wherever_it_was_written(story: Story, where: str, spelling: str) -> None:
    text = f"url=redis://:{spelling}@host"
    if where == "audit":
        story.audit[-1]["detail"] = text
    history = story.history(
        texts={"worker": text} if where == "log" else {},
        metrics=metrics(**TRUE_METRICS) + f"# {text}\n" if where == "metrics" else None,
        secrets=(KEY, "sk/pü"),
    )
    seen = violations(history)
    assert ([] if spelling == "secret" else ["secret"]) == [one.promise for one in seen]
    assert KEY not in str(seen)


# --- what guards are there for


def test_already_gone_needs_a_sign_that_this_is_the_right_place(story: Story) -> None:
    story.say("register", other := thread("c"), 9 * DAY)
    token = story.claim(other, 17 * DAY)
    story.ask(other, 17 * DAY + 0.1, status=404, confirmed=False)
    story.settle(other, 17 * DAY + 0.2, token, "already_gone")
    assert ["unproven"] == found(story.history())

    for after, seen in ((-60, ["unproven"]), (0.15, [])):
        at = START + 17 * DAY + after
        story.requests.append(Request("openai", at, at, "GET", f"/v1/threads/{B.id}", 200))
        assert seen == found(story.history())


def test_what_was_not_found_is_asked_once_more_and_not_twice(story: Story) -> None:
    story.say("register", other := thread("c"), 9 * DAY)
    token = story.claim(other, 17 * DAY)
    for at in (0.1, 0.16):
        story.ask(other, 17 * DAY + at, status=404, confirmed=False)
    at = START + 17 * DAY + 0.15
    story.requests.append(Request("openai", at, at, "GET", f"/v1/threads/{B.id}", 200))
    story.settle(other, 17 * DAY + 0.2, token, "already_gone")
    assert [] == found(story.history())

    story.ask(other, 17 * DAY + 0.18, status=404, confirmed=False)
    assert ["duplicate"] == found(story.history())


def test_looking_twice_after_a_deletion_whose_answer_was_lost_is_one_delete_sent_again(story: Story) -> None:
    story.say("register", one := thread("c"), 0)
    story.say("register", two := thread("d"), 0)
    for each in (one, two):
        lost, token = story.claim(each, 16 * DAY), story.claim(each, 17 * DAY)
        story.ask(each, 16 * DAY + 0.1)
        story.record("lapsed", each, 16 * DAY + 0.5, token=lost)
        for at in (0.1, 0.16):
            story.ask(each, 17 * DAY + at, status=404, confirmed=False)
        story.settle(each, 17 * DAY + 0.2, token, "already_gone")
    at = START + 17 * DAY + 0.15
    story.requests.append(Request("openai", at, at, "GET", f"/v1/threads/{B.id}", 200))

    assert "duplicate" not in found(story.history(crashes=1, in_flight=2))
    assert "duplicate" in found(story.history(crashes=1, in_flight=1))


def test_new_rules_that_make_many_due_at_once_need_an_approval(story: Story) -> None:
    for number in range(10):
        story.say("register", thread(str(number)), 0)
    shorter = replace(CHAT, ttl=DAY, since=START + 6 * DAY)
    story.claim(thread("0"), 6 * DAY + 1)

    def judged(percent: float, at_least: int) -> list[str]:
        careful = replace(shorter, newly=(percent, at_least))
        return found(story.history(policies=(replace(CHAT, until=START + 6 * DAY), careful)))

    assert "jump" in judged(50, 5)
    assert "jump" not in judged(50, 20)
    story.record("resumed", Resource("openai", "thread", ""), 6 * DAY, reason="cutoff_jumped")
    assert "jump" not in judged(50, 5)


def test_passing_time_is_no_jump_and_a_first_enforcement_is_one(story: Story) -> None:
    story.calls.pop()
    careful = replace(CHAT, newly=(10, 0))
    first = replace(careful, enforce=False, until=START + 7 * DAY)

    assert "jump" in found(story.history(policies=(first, replace(careful, since=START + 7 * DAY))))
    assert "jump" not in found(
        story.history(
            policies=(
                replace(careful, until=START + 6 * DAY),
                replace(careful, max_age=400 * DAY, since=START + 6 * DAY),
            )
        )
    )


def test_idle_claims_without_any_touch_are_seen(story: Story) -> None:
    stated = replace(CHAT, touches=True)
    assert [] == found(story.history(policies=(stated,)))
    story.calls.pop()
    assert ["untouched"] == found(story.history(policies=(stated,)))


def test_a_delete_in_a_quiet_time_is_seen(story: Story) -> None:
    def quiet(since: float, until: float) -> History:
        at = START + 7 * DAY
        return story.history(quiet=(Quiet("openai", "thread", at + since, at + until, "paused"),))

    assert ["quiet"] == found(quiet(-10, 10))
    assert [] == found(quiet(0, 10)) == found(quiet(-10, 1))
