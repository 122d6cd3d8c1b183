"""What the provider confirmed is counted once, but for what was in flight when something broke; and gone is gone."""

from typing import Any

import pytest

from oracle.history import History, Request
from oracle.story import DAY, START, TRUE_METRICS, A, Story, found, metrics, thread, true_story

CONVERSATION = "conv_1"
LOST = 17 * DAY + 0.15
"""When a process died between an answer and its record."""


def of(story: Story, **more: Any) -> History:
    seen = {**TRUE_METRICS, **more.pop("seen", {})}
    return story.history(metrics=metrics(**seen), **more)


def lost_story(outcome: str = "already_gone", *, unknown: bool = True, asked: float = 17 * DAY + 0.1) -> Story:
    """Return a story in which a confirmation of C was lost, and what a later look made of it."""
    told = true_story()
    told.say("register", one := thread("c"), 9 * DAY)
    token = told.claim(one, asked - 0.1)
    told.ask(one, asked)
    told.record("lapsed", one, 17 * DAY + 5, token=token)
    again = told.claim(one, 17 * DAY + 6)
    told.ask(one, 17 * DAY + 6.1, status=404, confirmed=False)
    more = {"after_unknown": True} if unknown else {}
    told.record("settled", one, 17 * DAY + 7, token=again, outcome=outcome, **more)
    alive = f"/v1/threads/{A.id}"
    told.requests.append(Request("openai", START + 17 * DAY + 6.5, START + 17 * DAY + 6.6, "GET", alive, 200))
    return told


def judged(story: Story, **more: Any) -> set[str]:
    said: dict[str, Any] = {"crashes": 1, "in_flight": 1, "bound": 60.0, "breaks": (START + LOST,), **more}
    return set(found(story.history(ended=START + 18 * DAY, **said))) & {"uncounted", "living"}


def test_a_confirmation_in_flight_at_a_kill_may_be_missing_if_it_shows_as_gone_after_an_unknown_answer() -> None:
    assert set() == judged(lost_story())
    assert {"uncounted"} == judged(lost_story(unknown=False))
    assert {"uncounted"} == judged(lost_story(), crashes=0, breaks=())


@pytest.mark.parametrize(("at", "wrong"), [(17 * DAY + 5.5, False), (16 * DAY, True), (17 * DAY + 8, True)])
def test_one_that_was_used_meanwhile_is_gone_without_more(at: float, *, wrong: bool) -> None:
    """What was tried of an id before it was used again is over, and written down no more."""
    story = lost_story(unknown=False)
    story.say("touch", thread("c"), at)

    assert ({"uncounted"} if wrong else set()) == judged(story)


@pytest.mark.parametrize(("crashes", "wrong"), [(1, set()), (0, {"uncounted", "record"})])
def test_nobody_looks_again_after_one_that_was_forgotten_while_its_worker_died(crashes: int, wrong: set[str]) -> None:
    story = true_story()
    story.say("register", one := thread("c"), 9 * DAY)
    token = story.claim(one, 17 * DAY)
    story.ask(one, 17 * DAY + 0.1)
    story.say("forget", one, 17 * DAY + 1)
    story.record("lapsed", one, 17 * DAY + 5, token=token)
    breaks = (START + LOST,) * crashes
    said = {"crashes": crashes, "in_flight": 1, "bound": 60.0, "breaks": breaks, "ended": START + 18 * DAY}

    assert wrong == set(found(story.history(**said))) & {"uncounted", "living", "record"}


@pytest.mark.parametrize(("before", "wrong"), [(0.04, False), (2.0, True), (3600.0, True)])
def test_a_confirmation_that_a_process_had_for_long_was_not_in_flight(before: float, *, wrong: bool) -> None:
    story = lost_story(asked=LOST - before)

    assert ({"uncounted"} if wrong else set()) == judged(story)


def test_more_confirmations_are_missing_than_were_in_flight() -> None:
    story = lost_story()
    story.say("register", other := thread("d"), 9 * DAY)
    token = story.claim(other, 17 * DAY)
    story.ask(other, 17 * DAY + 0.1)
    story.record("settled", other, 17 * DAY + 7, token=token, outcome="already_gone", after_unknown=True)

    assert {"uncounted"} == judged(story)
    assert set() == judged(story, in_flight=2)


def test_the_metric_lacks_exactly_what_was_in_flight() -> None:
    story = lost_story()
    chat = 'kind="thread",policy="chat",provider="openai"'
    for shown, wrong in ((1.0, set()), (0.0, {"uncounted"}), (2.0, {"uncounted"})):
        seen = metrics(lapse_deletions_total={chat: shown})
        assert wrong == judged(story, metrics=seen), shown


@pytest.mark.parametrize("counted", [0, 2, 3, 4])
def test_items_are_counted_as_the_provider_confirmed_them(counted: int) -> None:
    story = true_story()
    one = thread("c")._replace(kind="conversation", id=CONVERSATION)
    story.say("register", one, 9 * DAY)
    token = story.claim(one, 17 * DAY)
    for number in range(3):
        at = START + 17 * DAY + 0.01 * number
        path = f"/v1/conversations/{CONVERSATION}/items/msg_{number}"
        story.requests.append(Request("openai", at, at, "DELETE", path, 200, confirmed=True))
    story.ask(one, 17 * DAY + 0.1)
    story.record("settled", one, 17 * DAY + 0.2, token=token, outcome="deleted", items=counted)

    assert (set() if counted == 3 else {"uncounted"}) == set(found(story.history())) & {"uncounted"}


def test_a_file_taken_out_of_a_store_is_no_deletion() -> None:
    story = true_story()
    path = f"/v1/vector_stores/{A.id}/files/file-1"
    story.requests.append(Request("openai", START, START, "DELETE", path, 200, confirmed=True))

    assert "uncounted" not in found(story.history())


def test_a_confirmation_of_a_lease_taken_over_counts_once_more() -> None:
    story = lost_story()
    story.record("corrected", thread("c"), 17 * DAY + 8, token=2, outcome="deleted")

    assert set() == judged(story, crashes=0, breaks=())


@pytest.mark.parametrize("outcome", ["deleted", "already_gone"])
def test_what_is_settled_as_gone_and_is_in_the_providers_store_is_seen(outcome: str) -> None:
    story = true_story()
    story.audit[-1]["outcome"] = outcome
    at = ("openai", "thread")

    assert "living" in found(story.history(alive={at: frozenset({A.id})}))
    assert "living" not in found(story.history(alive={at: frozenset({"thread_b"})}))
    made = {A: START + 8 * DAY}
    assert "living" not in found(story.history(alive={at: frozenset({A.id})}, made=made))
    story.record("undone", A, 8 * DAY)
    assert "living" not in found(story.history(alive={at: frozenset({A.id})}))
