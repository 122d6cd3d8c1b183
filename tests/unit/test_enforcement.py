"""May a sweep act, and what does an outcome lead to?"""

from dataclasses import replace

import pytest

from lapse.guards import enforcement
from lapse.ledger.claim import Claim, Status
from lapse.ledger.partition import Survey
from lapse.ledger.settle import backoff, settlement, unbelieved
from lapse.metrics.catalog import RESULTS
from lapse.policy import Orphan, Rule, Share, estimate
from lapse.policy.enforced import Base, Edit
from lapse.providers.deadline import Deadline
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.model import Resource
from support import rules

NOW = 1_800_000_000_000
RULE = replace(rules.RULE, ttl=60, max_newly_due=Share(percent=20, at_least=100))
ORPHANS = replace(RULE, ttl=None, anchor=None, orphan=Orphan(min_age=60, seen=3, max_share=None, uses_stated=False))
SURVEY = Survey(
    now=NOW,
    bar=None,
    halts=(),
    registered=1000,
    due=50,
    oldest=NOW - 1,
    touched=True,
    edges=True,
    active=None,
    created=NOW - 60_000,
    base=Base(NOW - 60_000, created=NOW - 120_000),
)
LIMITS = (Share(percent=20, at_least=100),)
JUMPED = replace(SURVEY, edit=Edit(newly=201, most=201, limits=LIMITS, population=1000, moved=True))
FIRST = replace(SURVEY, edit=Edit(newly=201, most=201, limits=LIMITS, population=1000), base=None)
PLACE = "place00000000001"
CLAIM = Claim(
    resource=Resource("openai", "thread", "thread_1"),
    policy="chat",
    token=7,
    due=NOW - 1,
    by="ttl",
    attempts=2,
    after_unknown=False,
    deadline=Deadline(5.0, 10.0),
)


def test_a_partition_in_order_is_swept() -> None:
    assert enforcement.Stand("completed") == enforcement.stand(RULE, SURVEY, PLACE)


def test_superseded_rules_do_nothing() -> None:
    assert enforcement.Stand("refused") == enforcement.stand(RULE, replace(SURVEY, bar="superseded"), PLACE)


@pytest.mark.parametrize("halts", [("no_witness",), ("no_touches", "cutoff_jumped")])
def test_a_halt_stops_everything_until_an_operator_lifts_it(halts: tuple[str, ...]) -> None:
    assert enforcement.Stand("halted") == enforcement.stand(RULE, replace(SURVEY, halts=halts), PLACE)


def test_a_standing_halt_ends_with_its_cause() -> None:
    stand = enforcement.stand(RULE, replace(SURVEY, halts=("no_touches", "no_uses")), PLACE)

    assert enforcement.Stand("completed", lift=("no_touches", "no_uses")) == stand


def test_observing_does_nothing_and_trips_nothing() -> None:
    rule = replace(RULE, enforce=False, anchor="last_active_at")

    assert enforcement.Stand("observed") == enforcement.stand(rule, replace(JUMPED, touched=False), PLACE)


IDLE = replace(RULE, anchor="last_active_at")


def test_an_idle_policy_that_never_saw_a_touch_is_halted() -> None:
    stand = enforcement.stand(IDLE, replace(SURVEY, touched=False), PLACE)

    assert (False, "halted", "no_touches") == (stand.act, stand.result, stand.halt)
    assert 'anchor "chat" on created_at, or state touches = "none"' in stand.detail


@pytest.mark.parametrize(
    ("rule", "survey"),
    [
        (IDLE, SURVEY),
        (replace(IDLE, touches_stated=True), replace(SURVEY, touched=False)),
        (IDLE, replace(SURVEY, touched=False, registered=0)),
        (RULE, replace(SURVEY, touched=False)),
    ],
    ids=["touched", "stated", "empty", "created_at"],
)
def test_other_policies_need_no_touch(rule: Rule, survey: Survey) -> None:
    assert enforcement.stand(rule, survey, PLACE).act


def test_an_orphan_rule_without_any_uses_is_halted() -> None:
    stand = enforcement.stand(ORPHANS, replace(SURVEY, edges=False), PLACE)

    assert (False, "halted", "no_uses") == (stand.act, stand.result, stand.halt)
    assert "no thread was ever named in the uses" in stand.detail


def test_an_orphan_rule_acts_where_uses_are_known_or_stated_to_be_none() -> None:
    stated = replace(ORPHANS, orphan=Orphan(min_age=60, seen=3, max_share=None, uses_stated=True))

    assert enforcement.stand(ORPHANS, SURVEY, PLACE).act
    assert enforcement.stand(stated, replace(SURVEY, edges=False), PLACE).act


@pytest.mark.parametrize(
    ("survey", "why"),
    [
        (JUMPED, "201 of 1000 ids would become due at once: its cut-off moved further than the clock"),
        (FIRST, "201 of 1000 ids would become due at once: this policy was never enforced before"),
        (
            replace(JUMPED, edit=replace(JUMPED.edit, parts=(Edit(newly=5, most=5, population=10),))),
            (
                "206 of 1010 ids would become due at once: its cut-off moved further than the clock, or they come from "
                "an old name (5 do)"
            ),
        ),
        (
            replace(SURVEY, edit=Edit(newly=201, most=900, limits=LIMITS, population=1000, moved=True)),
            "up to 900 of 1000 ids would become due at once: its cut-off moved further than the clock",
        ),
        (
            replace(SURVEY, edit=Edit(("a", "b"), limits=LIMITS, population=1000)),
            (
                "a; b: how many of the 1000 ids may be deleted by that, only the provider knows, so nothing is until "
                "somebody says yes"
            ),
        ),
    ],
    ids=["jumped", "first", "adopted", "as far as counted", "uncountable"],
)
def test_much_that_becomes_due_at_once_waits_for_an_approval(survey: Survey, why: str) -> None:
    stand = enforcement.stand(RULE, survey, PLACE)

    assert (False, "halted", "cutoff_jumped", True) == (stand.act, stand.result, stand.halt, stand.plan)
    assert (why, survey.edit.named) == (stand.detail, stand.named)


@pytest.mark.parametrize(
    ("survey", "restart_ramp"),
    [
        (replace(JUMPED, edit=replace(JUMPED.edit, newly=200)), True),
        (replace(FIRST, edit=replace(FIRST.edit, newly=200)), False),
        (replace(SURVEY, due=1000), False),
    ],
    ids=["jumped", "first", "a backlog"],
)
def test_a_jump_below_the_limit_goes_on_slowly(survey: Survey, *, restart_ramp: bool) -> None:
    """A first enforcement has a new ramp anyway."""
    assert enforcement.Stand("completed", restart_ramp=restart_ramp) == enforcement.stand(RULE, survey, PLACE)


def test_an_outage_is_no_attempt_of_the_id_that_met_it() -> None:
    failed = Verdict(Outcome.ERROR, unknown=True, status=503)

    settled = settlement(CLAIM, failed, outage=True)

    assert ("retry", False, 10_000, True) == (settled.act, settled.counted, settled.delay, settled.unknown)
    assert settlement(CLAIM, failed).counted
    assert "done" == settlement(CLAIM, Verdict(Outcome.DELETED), outage=True).act


def test_the_account_whose_ids_are_registered_is_no_other() -> None:
    assert enforcement.stand(RULE, replace(SURVEY, place=PLACE), PLACE).act

    stand = enforcement.stand(RULE, replace(SURVEY, place="place00000000002"), PLACE)

    assert (False, "identity_changed", True) == (stand.act, stand.halt, stand.whole_kind)
    observing = enforcement.stand(replace(RULE, enforce=False), replace(SURVEY, place="place00000000002"), PLACE)
    assert "observed" == observing.result


ENDS = {
    Outcome.DELETED: ("done", None),
    Outcome.ALREADY_GONE: ("done", None),
    Outcome.UNPROVEN: ("retry", "unproven"),
    Outcome.UNRECOGNISED: ("quarantine", "unrecognised"),
    Outcome.INVALID: ("quarantine", "invalid"),
    Outcome.UNCONFIRMED: ("retry", "unconfirmed"),
    Outcome.ERROR: ("retry", "error"),
    Outcome.CONFLICT: ("retry", "conflict"),
    Outcome.KEPT: ("keep", None),
    Outcome.ACTIVE: ("touch", None),
    Outcome.ENDPOINT_MISSING: ("release", None),
    Outcome.AUTH: ("release", None),
    Outcome.FORBIDDEN: ("retry", "forbidden"),
    Outcome.QUOTA: ("release", None),
    Outcome.RATE_LIMITED: ("release", None),
    Outcome.UNSUPPORTED: ("release", None),
    Outcome.LIMITED: ("release", None),
}


@pytest.mark.parametrize("outcome", Outcome)
def test_an_id_leaves_the_registry_only_where_the_provider_said_that_it_is_gone(outcome: Outcome) -> None:
    settled = settlement(CLAIM, Verdict(outcome, status=200))

    assert ENDS[outcome] == (settled.act, settled.reason)


def test_an_id_that_is_told_to_wait_for_ever_lets_others_go_first() -> None:
    settled = settlement(CLAIM, Verdict(Outcome.RATE_LIMITED, status=429, odd=True))

    assert ("retry", "rate_limited", 60_000) == (settled.act, settled.reason, settled.delay)


def test_a_settlement_carries_the_claim_and_the_answer() -> None:
    verdict = Verdict(Outcome.ERROR, unknown=True, detail="500 x", status=500, request_id="req_1", items=3)

    settled = settlement(CLAIM, verdict)

    assert ("thread_1", 7, "chat", NOW - 1) == (settled.id, settled.token, settled.policy, settled.due)
    assert (Outcome.ERROR, True, "500 x", 500, "req_1", 3) == (
        settled.outcome,
        settled.unknown,
        settled.detail,
        settled.status,
        settled.request,
        settled.items,
    )


def test_a_plain_success_says_no_more_than_that() -> None:
    settled = settlement(CLAIM, Verdict(Outcome.DELETED))

    assert {
        "id": "thread_1",
        "token": 7,
        "policy": "chat",
        "due": NOW - 1,
        "act": "done",
        "outcome": "deleted",
        "seen": "present",
        "good": 1,
    } == {name: value for name, value in settled.stored().items() if value != 0}


@pytest.mark.parametrize(
    ("verdict", "counted"),
    [
        (Verdict(Outcome.ERROR, status=500), True),
        (Verdict(Outcome.ERROR, unknown=True), True),
        (Verdict(Outcome.ERROR), False),
        (Verdict(Outcome.ERROR, status=500, items=3), False),  # it got further
        (Verdict(Outcome.UNCONFIRMED, status=200), True),
        (Verdict(Outcome.CONFLICT, status=409), False),
        (Verdict(Outcome.UNPROVEN, status=404), False),
        (Verdict(Outcome.AUTH, status=401), False),
        (Verdict(Outcome.RATE_LIMITED, status=429), False),
        (Verdict(Outcome.RATE_LIMITED, status=429, odd=True), False),
    ],
    ids=str,
)
def test_an_attempt_counts_only_where_the_answer_is_about_this_id(verdict: Verdict, *, counted: bool) -> None:
    assert counted == settlement(CLAIM, verdict).counted


@pytest.mark.parametrize(
    ("verdict", "doubt"),
    [
        (Verdict(Outcome.FORBIDDEN, status=403), "answer"),
        (Verdict(Outcome.UNCONFIRMED, status=302), "answer"),
        (Verdict(Outcome.INVALID, status=400), "answer"),
        (Verdict(Outcome.INVALID, status=400, named=True), None),
        (Verdict(Outcome.INVALID), None),
        (Verdict(Outcome.ERROR, status=500), "error"),
        (Verdict(Outcome.ERROR, status=502), "failure"),
        (Verdict(Outcome.ERROR), "failure"),
        (Verdict(Outcome.CONFLICT, status=409), None),
        (Verdict(Outcome.DELETED, status=200), None),
    ],
    ids=str,
)
def test_what_all_ids_of_a_kind_may_be_told_is_doubtful(verdict: Verdict, doubt: str | None) -> None:
    assert doubt == settlement(CLAIM, verdict).doubt
    everybody = "outage" if verdict.outcome is Outcome.ERROR else None
    assert everybody == settlement(CLAIM, verdict, outage=True).doubt


@pytest.mark.parametrize("outcome", [Outcome.DELETED, Outcome.ALREADY_GONE])
def test_only_the_answer_to_a_deletion_shows_that_deletions_are_answered(outcome: Outcome) -> None:
    assert settlement(CLAIM, Verdict(outcome)).good
    assert not settlement(CLAIM, Verdict(outcome, by_read=True)).good


@pytest.mark.parametrize(
    ("outcome", "least", "most"),
    [
        (Outcome.ERROR, 16_000, 24_000),
        (Outcome.CONFLICT, 24_000, 36_000),
        (Outcome.FORBIDDEN, 60_000, 60_000),
        (Outcome.UNPROVEN, 60_000, 60_000),
        (Outcome.KEPT, 21_600_000, 21_600_000),
        (Outcome.DELETED, 0, 0),
        (Outcome.RATE_LIMITED, 0, 0),
    ],
)
def test_the_delay_of_a_settlement_is_in_milliseconds(outcome: Outcome, least: int, most: int) -> None:
    delays = [settlement(CLAIM, Verdict(outcome, status=1)).delay for _ in range(100)]

    assert least <= min(delays) <= max(delays) <= most


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_a_refused_claim_ends_a_sweep_by_a_known_result(status: Status) -> None:
    result, why = enforcement.refused(status)

    assert result in RESULTS
    assert bool(why) == (status is not Status.HALTED)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 5), (1, 10), (2, 20), (9, 2560), (10, 3600), (16, 3600), (10_000, 3600)]
)
def test_backing_off_doubles_to_an_hour(attempts: int, seconds: float) -> None:
    waits = [backoff(attempts) for _ in range(200)]

    assert 0.8 * seconds <= min(waits) < max(waits) <= 1.2 * seconds


@pytest.mark.parametrize(
    ("requests", "rate", "said"),
    [
        (1284, 1.0, "21m 24s at 60/m"),
        (0, 1.0, "1s at 60/m"),
        (600, 10.0, "1m at 600/m"),
        (600, 20.0, "30s at 20/s"),
        (600, 20.5, "29s at 1230/m"),
        (10, 0.5, "20s at 30/m"),
        (10, 1 / 60, "10m at 1/m"),
        (1_000_000, None, "no rate limit"),
    ],
)
def test_a_forecast_reads_as_a_person_writes_it(requests: int, rate: float | None, said: str) -> None:
    assert said == estimate.forecast(requests, rate)


def test_an_absence_that_was_one_too_many_is_recorded_as_unproven() -> None:
    gone = settlement(CLAIM, Verdict(Outcome.ALREADY_GONE, status=404, identity="one"))

    waits = unbelieved(gone)

    assert ("done", "absent") == (gone.act, gone.seen)
    assert ("retry", Outcome.UNPROVEN, "unproven", gone.id, gone.token) == (
        waits.act,
        waits.outcome,
        waits.reason,
        waits.id,
        waits.token,
    )
