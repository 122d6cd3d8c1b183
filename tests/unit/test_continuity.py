"""Is it the registry that is known, whole, and does its clock go as ours does? Every answer, without a registry."""

from dataclasses import replace
from typing import Any

import pytest

from lapse.guards.integrity.continuity import (
    DRIFT,
    ClockOffset,
    ContinuityCheck,
    Known,
    Observation,
    judge,
    mended,
    remember,
    sighted,
)
from lapse.ledger.reasons import HaltReason

NOW = 1_800_000_000_000
HERE = 5_000_000
AHEAD = NOW - HERE
SECOND, HOUR = 1000, 3_600_000
KNOWN = Known("e1", sequence=50, at=NOW - 30 * SECOND, offset=ClockOffset(AHEAD - 2, AHEAD), looked=HERE - 60 * SECOND)
SIGHT = Observation(
    now=NOW,
    epoch="e1",
    sequence=60,
    at=NOW - 2 * SECOND,
    reached=61,
    accepted=True,
    clock_accepted=0,
    asked=HERE - 1,
    answered=HERE + 1,
)


def jumped(milliseconds: int, **changes: Any) -> Observation:
    """Return what is seen after Redis TIME jumped; the registry's own times stay what they were."""
    return replace(SIGHT, now=NOW + milliseconds, **changes)


def reason(known: Known | None, sight: Observation) -> str | None:
    trouble = judge(known, sight)
    return trouble.reason if trouble else None


@pytest.mark.parametrize("known", [None, KNOWN, replace(KNOWN, offset=None), replace(KNOWN, sequence=60)])
def test_the_same_registry_with_the_same_clock_is_right(known: Known | None) -> None:
    assert None is judge(known, SIGHT)
    assert not mended(known, SIGHT)


@pytest.mark.parametrize("epoch", [None, "e2"])
def test_a_registry_without_the_known_epoch_is_lost_until_an_operator_takes_it(epoch: str | None) -> None:
    sight = replace(SIGHT, epoch=epoch, sequence=0, reached=0, accepted=False)

    trouble = judge(KNOWN, sight)

    assert trouble is not None
    assert (HaltReason.REGISTRY_LOST, True) == (trouble.reason, "e1 was known" in trouble.detail)
    assert KNOWN is remember(KNOWN, sight, trouble)
    assert None is judge(KNOWN, replace(sight, accepted=True))


def test_a_registry_that_was_taken_is_known_from_its_beginning() -> None:
    known = remember(KNOWN, replace(SIGHT, epoch="e2", sequence=0, at=NOW, reached=0))

    assert known is not None
    assert ("e2", 0) == (known.epoch, known.sequence)


def test_a_sequence_that_went_back_is_an_older_state() -> None:
    trouble = judge(KNOWN, replace(SIGHT, sequence=49, at=NOW - HOUR))

    assert trouble is not None
    assert (HaltReason.REGISTRY_ROLLED_BACK, True) == (trouble.reason, "the last 3570 s and more" in trouble.detail)


def test_what_is_not_on_disk_yet_is_not_insisted_on() -> None:
    known: Known | None = None
    for second in range(30):
        known = remember(
            known,
            replace(
                SIGHT, now=NOW + second * SECOND, at=NOW + (second - 1) * SECOND, sequence=second, reached=second + 1
            ),
        )
    assert known is not None
    assert (20, 10) == (known.sequence, len(known.recent))
    assert HaltReason.REGISTRY_ROLLED_BACK == reason(known, replace(SIGHT, sequence=19))
    assert None is reason(known, replace(SIGHT, sequence=20))


@pytest.mark.parametrize("lost", [1, 2, 9])
@pytest.mark.parametrize("away", [1, 10, 60, 86400])
def test_what_a_crash_lost_is_never_insisted_on_however_long_nobody_looked(lost: int, away: int) -> None:
    """A large file takes Redis a while to load, and a worker without anything to do does not look."""
    known: Known | None = None
    for second in range(30):
        at = NOW + (second - 1) * SECOND
        sight = replace(SIGHT, now=at + SECOND, at=at, sequence=second, reached=second + 1)
        assert None is reason(known, sight)
        known = remember(known, sight)

    kept, crashed = 30 - lost, NOW + 29 * SECOND
    back = crashed + away * SECOND
    for second in range(40):
        at = back + (second - 1) * SECOND if second else crashed - lost * SECOND
        sight = replace(SIGHT, now=back + second * SECOND, at=at, sequence=kept + second, reached=kept + second + 1)
        assert None is judge(replace(known, offset=None) if known else None, sight)
        known = remember(known, sight)
    assert known is not None
    assert HaltReason.REGISTRY_ROLLED_BACK == reason(known, replace(SIGHT, sequence=kept + 29))


@pytest.mark.parametrize(("started", "insists"), [(0, False), (NOW + SECOND, False), (NOW, True), (NOW - HOUR, True)])
def test_what_a_server_lacks_that_ran_already_it_never_had(started: int, insists: bool) -> None:
    """A replica that was behind took over: no crash explains it. A server that does not say may have crashed."""
    read = remember(None, replace(SIGHT, now=NOW, sequence=60, reached=61, at=NOW - SECOND))
    assert read is not None
    assert (61, NOW) in read.recent
    back = replace(SIGHT, now=NOW + 12 * SECOND, at=NOW - 20 * SECOND, sequence=40, reached=41, started=started)

    assert None is judge(replace(read, offset=None), back)
    known = remember(read, back)

    assert known is not None
    again = replace(SIGHT, now=NOW + 13 * SECOND, at=NOW + 12 * SECOND, sequence=41, reached=42, started=started)
    assert (HaltReason.REGISTRY_ROLLED_BACK if insists else None) == reason(replace(known, offset=None), again)


def test_a_look_within_the_same_second_remembers_nothing_twice() -> None:
    once = remember(None, replace(SIGHT, reached=60, at=NOW))

    assert once == remember(once, replace(SIGHT, reached=60, at=NOW))


@pytest.mark.parametrize("milliseconds", [61 * SECOND, 30 * 24 * HOUR, -61 * SECOND, -HOUR])
def test_a_jump_against_the_local_clock_is_seen_both_ways(milliseconds: int) -> None:
    assert HaltReason.CLOCK_JUMPED == reason(KNOWN, jumped(milliseconds))


@pytest.mark.parametrize("milliseconds", [59 * SECOND, -59 * SECOND])
def test_less_than_a_minute_is_none(milliseconds: int) -> None:
    assert None is reason(KNOWN, jumped(milliseconds))


def test_a_slow_answer_is_no_jump() -> None:
    """A process that was stopped between the question and the answer, or a registry that stood still."""
    assert None is reason(KNOWN, jumped(-10 * 60 * SECOND, at=0, answered=HERE + 1, asked=HERE - 10 * 60 * SECOND))


def test_clocks_that_nobody_corrects_may_drift_for_months() -> None:
    looked = HERE - 60 * 24 * HOUR

    assert None is reason(replace(KNOWN, looked=looked), jumped(round(DRIFT * 60 * 24 * HOUR)))


def test_a_clock_behind_what_the_registry_has_seen_needs_no_memory() -> None:
    behind = jumped(0, at=NOW + HOUR)

    known = remember(None, behind, judge(None, behind))

    assert HaltReason.CLOCK_JUMPED == reason(None, behind)
    assert known is not None
    assert known.behind
    assert not mended(known, behind)
    assert mended(known, jumped(0, at=NOW + SECOND))


def test_a_jump_ahead_that_is_made_good_is_not_taken_for_a_step_back() -> None:
    """The registry was looked at meanwhile, and remembers the later time."""
    away = jumped(HOUR)
    known = remember(KNOWN, away, judge(KNOWN, away))
    right = jumped(2 * SECOND, asked=HERE + 2 * SECOND, answered=HERE + 2 * SECOND, at=NOW + HOUR)

    assert None is judge(known, right)
    assert mended(known, right)
    assert HaltReason.CLOCK_JUMPED == reason(KNOWN, right), "who did not see it can only halt"


def test_a_jump_that_is_made_good_is_mended_once() -> None:
    away = jumped(HOUR, at=NOW)
    known = remember(KNOWN, away, judge(KNOWN, away))
    assert known is not None
    assert KNOWN.offset == known.before

    still = jumped(HOUR + SECOND, at=NOW, asked=HERE + SECOND, answered=HERE + SECOND)
    assert None is judge(known, still)
    assert not mended(known, still)
    known = remember(known, still)
    further = jumped(3 * HOUR, at=NOW)
    assert known is not None
    assert HaltReason.CLOCK_JUMPED == reason(known, further)
    known = remember(known, further, judge(known, further))
    assert known is not None
    assert KNOWN.offset == known.before

    right = replace(SIGHT, sequence=61)
    assert None is judge(known, right)
    assert mended(known, right)
    after = remember(known, right)
    assert after is not None
    assert after.before is None
    assert not mended(after, right)


def test_a_clock_that_an_operator_took_halts_no_process_that_looks_later() -> None:
    """Eight processes, one sees the jump and halts; the operator answers before the others have looked."""
    taken = jumped(HOUR, clock_accepted=NOW + HOUR - 10 * SECOND)

    assert None is judge(KNOWN, taken)
    known = remember(replace(KNOWN, before=ClockOffset(1, 2)), taken)
    assert known is not None
    assert known.before is None
    assert HaltReason.CLOCK_JUMPED == reason(KNOWN, jumped(HOUR, clock_accepted=NOW + HOUR - 120 * SECOND))


@pytest.mark.parametrize(
    ("stored", "known", "accepted"),
    [({}, None, True), ({"id": "e1"}, KNOWN, False), ({"id": "e2", "accepted|e1": "5"}, KNOWN, True)],
)
def test_whoever_only_reads_sees_the_same(stored: dict[str, str], known: Known | None, *, accepted: bool) -> None:
    sight = sighted(stored, known, now=NOW, asked=1, answered=2)

    assert (stored.get("id"), 0, accepted) == (sight.epoch, sight.sequence, sight.accepted)


STORED = {"id": "e1", "sequence": "60", "at": str(NOW - 2 * SECOND)}
SLOTS = [("openai", "thread"), ("openai", "file")]
TIMES = {"now": NOW, "asked": HERE - 1, "answered": HERE + 1}


def test_who_only_looks_keeps_to_the_registry_that_it_saw_first() -> None:
    check = ContinuityCheck()

    assert (None, "e1") == (check.epoch({}), check.epoch(STORED))
    assert [] == check.halts(STORED, SLOTS, **TIMES)
    assert "e1" == check.epoch({"id": "e2"})


def test_who_only_looks_names_the_halts_that_a_worker_would_set() -> None:
    halts = ContinuityCheck(KNOWN).halts({"id": "e2"}, SLOTS, **TIMES)

    assert [(*slot, "*", HaltReason.REGISTRY_LOST, NOW) for slot in SLOTS] == [
        (one.provider, one.kind, one.policy, one.reason, one.since) for one in halts
    ]


def test_a_registry_that_was_moved_away_or_is_half_imported_decides_nothing() -> None:
    assert reason(KNOWN, replace(SIGHT, moved="redis-b")) == HaltReason.MOVED
    assert reason(None, replace(SIGHT, importing="0123", moved="redis-b")) == HaltReason.HALF_IMPORTED
    assert reason(KNOWN, replace(SIGHT, epoch="e2", accepted=False, importing="0123")) == HaltReason.HALF_IMPORTED
