"""approve counts again: what it says yes to is what its plan named, or it says no and shows the new plan."""

import re

from lapse.registry.model import Partition
from support.commandline import ENFORCED, Desk

THREADS = Partition("openai", "thread", "chat")
JUMPING = ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n"
KEEPING = JUMPING.replace("[policies.chat]", '[policies.chat]\nkeep = [{ metadata = { pin = "true" } }]')


def plan(desk: Desk, kind: str = "thread") -> str:
    (halt,) = desk.halts(kind).values()
    return str(halt["plan"])


def test_a_plan_that_grew_by_more_than_a_tenth_and_ten_is_shown_anew(desk: Desk) -> None:
    """A plan of 30 that waits for a week deletes what is due by then: 45."""
    desk.configure(JUMPING)
    desk.seed(30)
    desk.worker()
    old = plan(desk)
    desk.seed(11)

    shown = desk.run("approve", old)

    assert (6, "") == (shown.code, shown.out)
    assert f"plan {old} named 30 ids, and it would be 41 now; nothing is approved. The new plan: 41 of 41" in shown.err
    assert f"lapse approve {plan(desk)} --confirm=PROVIDER" in shown.err
    assert old != plan(desk)
    assert "base_at" not in desk.rules(THREADS)
    desk.worker()
    assert 41 == len(desk.sandbox.alive("thread"))
    desk.good("approve", plan(desk), "--confirm=openai")
    desk.worker()
    assert set() == desk.sandbox.alive("thread")


def test_a_plan_that_grew_by_ten_is_the_same(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(30)
    desk.worker()
    desk.seed(10)

    desk.good("approve", plan(desk), "--confirm=openai")

    desk.worker()
    assert set() == desk.sandbox.alive("thread")


def test_what_an_edit_since_makes_due_is_named_at_once(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(3)
    desk.seed(4, days=3)
    desk.worker()
    old = plan(desk)
    desk.configure(JUMPING.replace("7d", "2d"))
    desk.worker()

    shown = desk.run("approve", old)

    assert 2 == shown.code
    assert f"no halt carries the plan {old}: there is {plan(desk)}" in shown.err
    (halt,) = desk.halts().values()
    assert "7 of 7 ids would become due at once" in halt["detail"]


def test_an_edit_that_was_put_back_needs_no_plan(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.worker()
    desk.seed(5, days=3)
    desk.configure(JUMPING.replace("7d", "2d"))
    desk.worker()
    old = plan(desk)
    desk.configure(JUMPING.replace("7d", "8d"))
    desk.worker()

    shown = desk.run("approve", old)

    assert 2 == shown.code
    assert f"no halt carries the plan {old}: no policy waits for an approval" in shown.err
    assert {} == desk.halts()
    desk.worker()
    assert 5 == len(desk.sandbox.alive("thread"))


def test_a_plan_of_an_earlier_version_is_counted_anew(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(3)
    desk.worker()
    desk.raw.hdel("lapse:{openai:thread}:chat:rules", "newly_asked")
    shown = desk.run("approve", plan(desk))
    assert 6 == shown.code
    assert "does not say how many ids it names; nothing is approved. The new plan: 3 of 3" in shown.err
    desk.good("approve", plan(desk), "--confirm=openai")


def test_a_keep_rule_taken_away_is_approved_by_name(desk: Desk) -> None:
    desk.configure(KEEPING)
    desk.worker()
    desk.seed(3, days=1)
    desk.configure(JUMPING)
    desk.worker()

    assert 'the keep rule { metadata.pin = "true" } is taken away' in desk.good("status").out
    desk.good("approve", plan(desk), "--confirm=openai")
    desk.worker()

    assert {} == desk.halts()


def test_ids_of_an_old_name_are_approved_with_the_policy_that_adopts_them(desk: Desk) -> None:
    desk.configure(JUMPING.replace("[policies.chat]", "[policies.long]").replace("7d", "30d"))
    desk.seed(5, policy="long", days=10)
    desk.worker()
    assert {} == desk.halts()
    desk.configure(JUMPING.replace("[policies.chat]", '[policies.chat]\nformerly = ["long"]'))
    desk.worker()
    shown = desk.run("plan")
    assert re.search(r"5 of 5 ids would become due at once", shown.out)

    desk.good("approve", plan(desk), "--confirm=openai")
    desk.worker()

    assert set() == desk.sandbox.alive("thread")
