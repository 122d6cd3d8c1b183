"""What has to hold of one object for it to be deleted."""

from dataclasses import replace

import pytest

from lapse.ledger.claim import Claim
from lapse.ledger.settle import settlement
from lapse.policy import Keep, Rule, estimate
from lapse.policy.preconditions import Preconditions, active, contained, preconditions_of
from lapse.providers.deadline import Deadline
from lapse.providers.kinds import KINDS, Kind
from lapse.providers.outcomes import Outcome
from lapse.registry.model import Resource
from support import rules

HOUR = 3600.0
NOW = 1_800_000_000_000
OPENAI = KINDS["openai"]
RULE = replace(rules.RULE, ttl=HOUR, anchor="last_active_at")


def claim(by: str) -> Claim:
    return Claim(
        Resource("openai", "thread", "x"), "chat", 1, NOW, by, 0, after_unknown=False, deadline=Deadline(0.0, 0.0)
    )


@pytest.mark.parametrize(
    ("kind", "rule", "by", "resting"),
    [
        ("thread", RULE, "ttl", True),
        ("thread", RULE, "expires_at", False),
        ("thread", RULE, "max_age", False),
        ("thread", RULE, "orphan", False),
        ("thread", replace(RULE, ttl=HOUR - 1), "ttl", False),
        ("thread", replace(RULE, anchor="created_at"), "ttl", False),
        ("thread", replace(RULE, touches_stated=True), "ttl", False),
        ("response", replace(RULE, ttl=24 * HOUR, anchor="created_at"), "ttl", True),
        ("response", replace(RULE, ttl=23 * HOUR), "ttl", False),
        ("assistant", RULE, "ttl", False),
    ],
)
def test_what_has_been_idle_for_longer_than_any_run_is_not_asked_for_one(
    kind: str,
    rule: Rule,
    by: str,
    resting: bool,
) -> None:
    assert resting is preconditions_of(rule, OPENAI[kind], by, NOW).resting


@pytest.mark.parametrize(
    ("kind", "rule", "by", "since"),
    [
        ("vector_store", RULE, "ttl", NOW / 1000 - HOUR),
        ("container", RULE, "ttl", NOW / 1000 - HOUR),
        ("vector_store", RULE, "max_age", None),
        ("vector_store", RULE, "expires_at", None),
        ("vector_store", replace(RULE, anchor="created_at"), "ttl", None),
        ("thread", RULE, "ttl", None),
    ],
)
def test_the_providers_last_activity_counts_where_the_policy_counts_from_it(
    kind: str, rule: Rule, by: str, since: float | None
) -> None:
    assert since == preconditions_of(rule, OPENAI[kind], by, NOW).idle_since


@pytest.mark.parametrize(
    ("kind", "preconditions", "asked"),
    [
        ("file", Preconditions(), False),
        ("file", Preconditions(keep=(Keep("x", {}),)), True),
        ("file", Preconditions(whole=True), True),
        ("container", Preconditions(keep=(Keep("x", {}),), idle_since=1.0, whole=True), False),
        ("vector_store", Preconditions(idle_since=1.0), True),
        ("file", Preconditions(idle_since=1.0), False),
        ("response", Preconditions(), True),
        ("response", Preconditions(resting=True), False),
    ],
)
def test_an_object_is_read_only_where_what_it_says_decides(
    kind: str,
    preconditions: Preconditions,
    asked: bool,
) -> None:
    assert asked is preconditions.ask(OPENAI[kind])


def test_an_object_lives_on_if_it_was_used_after_the_cut_off() -> None:
    seen = active(100.0, 101.5)

    assert seen is not None
    assert (Outcome.ACTIVE, 101.5) == (seen.outcome, seen.active_at)
    assert [None, None, None] == [active(100.0, 100.0), active(None, 101.0), active(100.0, None)]


def test_the_last_activity_travels_in_milliseconds() -> None:
    seen = active(1.0, 2.5)
    assert seen is not None

    settled = settlement(claim("ttl"), seen)
    assert (2500, "touch") == (settled.active, settled.act)


@pytest.mark.parametrize(
    ("kind", "rule", "extra", "expected"),
    [
        ("thread", RULE, None, 5),
        ("thread", replace(RULE, anchor="created_at"), None, 10),
        ("thread", replace(RULE, keep=(Keep("x", {}),)), None, 10),
        ("thread", replace(RULE, cascade={"file": "delete"}), None, 15),
        ("thread", replace(RULE, cascade={"file": "delete"}), 3.5, 23),
        ("conversation", RULE, None, 10),
        ("conversation", RULE, 12.0, 65),
        ("conversation", replace(RULE, cascade={"conversation_item": "leave"}), None, 5),
        ("vector_store", RULE, None, 10),
        ("file", RULE, None, 5),
    ],
)
def test_a_forecast_counts_looks_and_children(kind: str, rule: Rule, extra: float | None, expected: int) -> None:
    assert expected == estimate.requests(rule, OPENAI[kind], 5, extra)


@pytest.mark.parametrize(
    ("kind", "preconditions", "expected"),
    [
        (OPENAI["thread"], Preconditions(), False),
        (OPENAI["thread"], Preconditions(whole=True, idle_since=1.0), False),
        (OPENAI["thread"], Preconditions(keep=[Keep("prod-*", {})]), True),
        (OPENAI["thread"], Preconditions(judge=lambda _item: None), True),
        (KINDS["langgraph"]["thread"], Preconditions(), False),
        (KINDS["langgraph"]["assistant"], Preconditions(), True),
    ],
)
def test_what_an_object_says_of_itself_may_protect_it(
    kind: Kind, preconditions: Preconditions, *, expected: bool
) -> None:
    assert expected == preconditions.protects(kind)


def test_what_belongs_to_an_object_goes_with_it_where_a_cascade_says_so() -> None:
    everything = {"file": "delete", "vector_store": "delete", "response": "delete"}
    found = contained(everything, OPENAI)
    assert {"file", "vector_store"} == found["thread"] == found["assistant"]
    assert {"file"} == found["vector_store"]
    assert set() == found["conversation"] | found["file"]  # a response uses it, and does not belong to it
    assert {"vector_store"} == contained({"file": "protect", "vector_store": "delete"}, OPENAI)["thread"]
    assert not any(contained({}, OPENAI).values())
