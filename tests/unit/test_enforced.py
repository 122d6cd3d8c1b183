"""The rules that ids stood under, and what an edit makes due: decided by ages alone."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapse.policy import Keep, Orphan, Rule, Share, enforced
from lapse.policy.enforced import DEFAULT, NEVER, Base, Edit, Past, Reach
from support import rules

NOW = 1_800_000_000_000
DAY = 86_400_000
RULE = replace(rules.RULE, ttl=30 * 86400, anchor="last_active_at", max_newly_due=Share(percent=20, at_least=100))
ORPHAN = Orphan(min_age=60, seen=3, max_share=Share(20, 10), uses_stated=False)
PIN = Keep(None, {"pin": "true"})


def past(rule: Rule) -> Past:
    """Return a rule as it comes back from what is stored of it."""
    text = enforced.text(NOW, [enforced.stored(rule)])
    (one,) = enforced.past(enforced.read(text, Base(NOW)))
    return one


def test_a_rule_comes_back_as_it_was_stored() -> None:
    rule = replace(RULE, keep=(PIN,), cascade={"file": "delete"}, touches_stated=True)
    orphans = replace(RULE, ttl=None, anchor=None, orphan=ORPHAN, max_newly_due=None)

    assert past(rule) == Past(
        Reach(30 * DAY, expiries=True), RULE.max_newly_due, (PIN,), {"file": "delete"}, listed_keep=(PIN,)
    )
    assert (ORPHAN, None, Reach(expiries=True)) == (past(orphans).orphan, past(orphans).limit, past(orphans).reach)


def test_what_a_listing_has_not_answered_yet_is_stored_apart() -> None:
    stored = enforced.stored(RULE) | {"listed_keep": enforced.stored(replace(RULE, keep=(PIN,)))["keep"]}
    (one,) = enforced.past([stored])

    assert ((), (PIN,)) == (one.keep, one.listed_keep)


@pytest.mark.parametrize(
    ("said", "base", "rules"),
    [
        (None, None, []),
        (enforced.text(5, [None]), Base(5), [None]),
        (enforced.text(5, [None]), None, [None]),
        (None, Base(9, active=3), [{"base": {"at": 9, "active": 3, "created": None, "capped": None}}]),
        (enforced.text(5, [None]), Base(9), [{"base": {"at": 9, "active": None, "created": None, "capped": None}}]),
    ],
    ids=["none", "stored", "of no sweep", "an earlier version", "an earlier version since"],
)
def test_newer_cut_offs_are_an_earlier_versions(said: str | None, base: Base | None, rules: list[object]) -> None:
    assert rules == enforced.read(said, base)
    assert (json.loads(said)["rules"] if said else []) == enforced.stored_in(said and said.encode())  # type: ignore[arg-type]


def test_the_cut_offs_of_an_earlier_version_are_ages() -> None:
    (one,) = enforced.past([{"base": {"at": NOW, "active": NOW - 7, "created": None, "capped": NOW - 9}}])

    assert (Reach(7, math.inf, 9, expiries=True), DEFAULT, None) == (one.reach, one.limit, one.keep)
    assert {"base_at": 9, "base_active": "", "base_created": 4, "base_capped": ""} == Base(9, created=4).fields()


def test_ids_that_were_put_together_stood_under_the_rules_of_both() -> None:
    one, other = enforced.stored(RULE), enforced.stored(replace(RULE, ttl=5))

    assert [one, other] == enforced.merged([one], [other, one])
    assert [None, one] == enforced.merged([], [one])
    assert [None] == enforced.merged([], [])


AGES = st.sampled_from([5, 7, 20, 30, 45, math.inf])
REACHES = st.one_of(
    st.just(NEVER.reach),
    st.builds(lambda idle, aged: enforced.common([Past(Reach(idle, aged, aged, expiries=True))]), AGES, AGES),
)


def due(reach: Reach, created: float, idle: float) -> bool:
    return idle >= reach.idle or created >= reach.aged


@given(st.lists(REACHES, min_size=1, max_size=3), AGES, AGES)
def test_what_is_due_by_the_common_reach_is_due_by_each(reaches: list[Reach], created: float, idle: float) -> None:
    common = enforced.common([Past(reach) for reach in reaches])
    if math.inf in {created, idle} or idle > created:
        return

    if due(common, created, idle):
        assert all(due(reach, created, idle) for reach in reaches)
    if created == idle:  # never touched: exactly
        assert due(common, created, idle) == all(due(reach, created, idle) for reach in reaches)


@pytest.mark.parametrize(
    ("rule", "reach"),
    [
        (RULE, Reach(30 * DAY, expiries=True)),
        (replace(RULE, max_age=90 * 86400), Reach(30 * DAY, 90 * DAY, 90 * DAY, expiries=True)),
        (replace(RULE, anchor="created_at"), Reach(aged=30 * DAY, expiries=True)),
        (replace(RULE, ttl=None, anchor=None, orphan=ORPHAN), Reach(expiries=True)),
    ],
    ids=["idle", "capped", "aged", "orphans"],
)
def test_a_rule_reaches_as_far_as_its_ages(rule: Rule, reach: Reach) -> None:
    assert reach == enforced.reach(rule) == past(rule).reach


def test_without_rules_nothing_was_due() -> None:
    assert (NEVER,) == enforced.past([None])
    assert NEVER.reach == enforced.common([])
    assert Reach(expiries=False) == enforced.common([past(RULE), NEVER])


@given(
    REACHES.filter(lambda reach: reach.expiries), REACHES, st.integers(1, 60), st.integers(1, 60), st.integers(-9, 9)
)
def test_every_id_that_an_edit_makes_due_stands_in_one_range(
    new: Reach, old: Reach, created: int, idle: int, left: int
) -> None:
    idle = min(created, idle)
    places = [
        ({"fresh": 100 - created}, due(new, created, created), due(old, created, created)),
        ({"active": 100 - idle, "created": 100 - created}, due(new, created, idle), due(old, created, idle)),
        (
            {"explicit": 100 + left, "capped": 100 - created},
            left <= 0 or created >= new.cap,
            (left <= 0 and old.expiries) or created >= old.cap,
        ),
    ]
    for scores, now, then in places:
        found = [
            one
            for one in enforced.ranges(new, old, 100)
            if one.index in scores
            and one.after < scores[one.index] <= one.until
            and (not one.other or scores[one.other] > one.beyond)
        ]
        assert (now and not then) == (len(found) == 1), (scores, found)


UNCOUNTABLE: dict[str, tuple[Rule, Rule, str | None]] = {
    "nothing": (RULE, RULE, None),
    "a keep rule": (replace(RULE, keep=(PIN,)), RULE, 'the keep rule { metadata.pin = "true" } is taken away'),
    "a name kept": (replace(RULE, keep=(Keep("p*", {}),)), RULE, 'the keep rule { name = "p*" } is taken away'),
    "one more kept": (replace(RULE, keep=(PIN,)), replace(RULE, keep=(PIN, Keep("p*", {}))), None),
    "items": (
        replace(RULE, cascade={"conversation_item": "leave"}),
        RULE,
        'cascade: conversation_item was "leave" and is "delete"',
    ),
    "children": (RULE, replace(RULE, cascade={"file": "delete"}), 'cascade: file was "leave" and is "delete"'),
    "children protected": (RULE, replace(RULE, cascade={"file": "protect"}), None),
    "touches": (RULE, replace(RULE, touches_stated=True), 'touches = "none" is added'),
    "uses": (
        replace(RULE, orphan=ORPHAN),
        replace(RULE, orphan=replace(ORPHAN, uses_stated=True)),
        'uses = "none" is added',
    ),
    "kept by a listing": (replace(RULE, orphan=ORPHAN, keep=(PIN,)), replace(RULE, orphan=ORPHAN), None),
}


@pytest.mark.parametrize("edit", UNCOUNTABLE)
def test_what_only_the_provider_could_count_is_named(edit: str) -> None:
    before, after, said = UNCOUNTABLE[edit]

    assert ((said,) if said else ()) == enforced.uncountable(after, [past(before)] * 2, own_expiry=0, kept=0)


def test_what_an_orphan_rule_keeps_of_those_that_expire_no_listing_tells() -> None:
    before, after, _ = UNCOUNTABLE["kept by a listing"]

    assert 1 == len(enforced.uncountable(after, [past(before)], own_expiry=1, kept=0))


def test_of_an_earlier_version_only_what_it_kept_shows() -> None:
    (before,) = enforced.past([{"base": {"at": 1, "active": None, "created": None, "capped": None}}])

    assert () == enforced.uncountable(RULE, [before], own_expiry=0, kept=0)
    (said,) = enforced.uncountable(RULE, [before, NEVER], own_expiry=0, kept=3)
    assert said.startswith("3 ids are kept")


def test_the_strictest_limit_holds() -> None:
    few = Share(1, 5)
    both = enforced.limits(RULE, [Past(Reach(), few), NEVER])

    assert (RULE.max_newly_due, few) == both
    assert [100, 5, math.inf] == [enforced.allows(limits, 60) for limits in (both[:1], both, ())]
    assert () == enforced.limits(replace(RULE, max_newly_due=None), [NEVER])


LIMITED = Edit(limits=(Share(10, 5),), population=50)


@pytest.mark.parametrize(
    ("edit", "stops"),
    [
        (Edit(), False),
        (replace(LIMITED, newly=5, most=9), False),
        (replace(LIMITED, newly=6, most=6), True),
        (replace(LIMITED, uncountable=("x",)), True),
        (Edit(uncountable=("x",), newly=9, population=9), False),
        (replace(LIMITED, parts=(replace(LIMITED, newly=6),)), True),
        (replace(LIMITED, newly=5, parts=(replace(LIMITED, newly=5), replace(LIMITED, newly=6, limits=()))), False),
        (replace(LIMITED, newly=5, parts=tuple(itertools.repeat(replace(LIMITED, newly=5, population=9), 3))), True),
    ],
)
def test_an_edit_stops_where_any_of_its_ids_exceed_a_limit(edit: Edit, *, stops: bool) -> None:
    assert stops == edit.stops


def test_what_a_plan_names_is_of_old_names_too() -> None:
    part = Edit(("b", "a"), newly=1, most=3, population=7)
    edit = Edit(("a",), newly=2, most=2, population=5, parts=(part,))

    assert (5, 12, ("a", "b"), False) == (edit.named, edit.total, edit.unknown, edit.exact)
    assert replace(edit, parts=()).exact


def test_an_approval_covers_a_tenth_and_ten_more() -> None:
    assert [10, 40, 330] == [enforced.covered(named) for named in (0, 30, 300)]
