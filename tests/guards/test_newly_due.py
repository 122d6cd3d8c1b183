"""Edits that would make much due at once, each in the order in which somebody makes them: nothing goes unasked."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from lapse.guards.edits import newly_due
from lapse.guards.edits.adoption import retire
from lapse.ledger.claim import Claim
from lapse.ledger.settle import OutcomeBatch, Settled, settlement
from lapse.policy import Keep, Pace, Rule, Share, enforced
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.model import Partition
from support.world import DAY, World

LIMIT = Share(percent=20, at_least=10)
LONG = Partition("openai", "thread", "long")
SHORT = Partition("openai", "thread", "short")
SLOTS = [("openai", "thread")]
BACKDATED = {"jump"}
"""Ids that a test registers with older dates after a first sweep look to the oracle as if an edit had made them due."""
PIN = (Keep(None, {"pin": "true"}),)


def policy(at: Partition, days: float, digest: str, **more: Any) -> dict[str, Any]:
    """Return what the file says of one of the two policies."""
    named = {"partition": at, "ttl": days * DAY, "formerly": (), "max_newly_due": LIMIT, "keep": ()}
    return named | {"digest": digest, "enforce": True, **more}


async def halted(world: World, name: str = "short") -> dict[str, Any]:
    """Return the halt that a sweep met, after which nothing was deleted."""
    assert [] == world.deletes()
    assert [f"{name}|cutoff_jumped"] == list(world.halts())
    return dict(world.halts()[f"{name}|cutoff_jumped"])


async def test_ids_of_an_old_name_wait_where_the_new_policy_is_shorter(world: World) -> None:
    world.seed(100, policy="long", days=10)
    await world.sweep(**policy(LONG, 30, "digest00long"))

    report = await world.sweep(**policy(SHORT, 1, "digest0short", formerly=("long",)))

    assert "halted" == report.result
    assert "100 of 100 ids would become due at once" in (await halted(world))["detail"]
    assert {"long"} == {world.record(id_).policy for id_ in world.sandbox.alive("thread")}


async def test_nor_does_it_help_to_enforce_the_new_policy_first(world: World) -> None:
    """In two steps the new one has a baseline of its own, and no id that could have moved it."""
    world.seed(100, policy="long", days=10)
    await world.sweep(**policy(LONG, 30, "digest00long"))
    await world.sweep(**policy(SHORT, 1, "digest0short"))

    await world.sweep(**policy(SHORT, 1, "digest2short", formerly=("long",)))

    assert "(100 do)" in (await halted(world))["detail"]


async def test_nor_to_observe_while_they_move(world: World) -> None:
    world.seed(100, policy="long", days=10)
    await world.sweep(**policy(LONG, 30, "digest00long"))
    await world.sweep(**policy(SHORT, 1, "digest0short"))
    await world.sweep(**policy(SHORT, 1, "digest2short", formerly=("long",), enforce=False))
    assert {"short"} == {world.record(id_).policy for id_ in world.sandbox.alive("thread")}

    await world.sweep(**policy(SHORT, 1, "digest3short", formerly=("long",)))

    assert "100 of 100" in (await halted(world))["detail"]


async def test_many_old_names_are_many_ids_together(world: World) -> None:
    names = tuple(f"long-{i}" for i in range(4))
    for name in names:
        world.seed(9, policy=name, days=10)
        await world.sweep(**policy(replace(LONG, policy=name), 30, f"digest{name}"))

    await world.sweep(**policy(SHORT, 1, "digest0short", formerly=names))

    assert "36 of 36" in (await halted(world))["detail"]


async def test_a_pure_renaming_goes_on_with_what_was_due_and_asks_nobody(world: World) -> None:
    world.unpromised = BACKDATED
    world.seed(30, policy="long", days=10)
    await world.sweep(**policy(LONG, 30, "digest00long"))
    world.seed(30, policy="long", days=40)  # a backlog

    report = await world.sweep(**policy(SHORT, 30, "digest0short", formerly=("long",)))

    assert ("completed", 30, 60) == (report.result, report.outcomes["deleted"], report.registered)
    assert "long" not in {world.record(id_).policy for id_ in world.sandbox.alive("thread")}


async def test_what_is_registered_under_the_old_name_later_was_told_the_new_rule(world: World) -> None:
    world.seed(3, policy="long", days=10)
    await world.sweep(**policy(LONG, 30, "digest00long"))
    renamed = policy(SHORT, 1, "digest0short", formerly=("long",))
    await world.sweep(**renamed)
    world.seed(40, policy="long", days=2)

    assert ("completed", 43) == ((await world.sweep(**renamed)).result, len(world.deletes()))


@pytest.mark.parametrize("keep", [(), (Keep(None, {"pin": "ture"}),)], ids=["taken away", "mistyped"])
async def test_a_keep_rule_taken_away_waits(world: World, keep: tuple[Keep, ...]) -> None:
    """What it kept, only the provider knows."""
    ids = world.sandbox.seed("thread", 40, metadata={"pin": "true"})
    for id_ in ids:
        world.registry.register("thread", id_, "short", created_at=1_700_000_000)
    await world.sweep(**policy(SHORT, 7, "digest0short", keep=PIN, max_newly_due=Share(99, 100)))
    assert [] == world.deletes()

    await world.sweep(**policy(SHORT, 7, "digest2short", keep=keep, max_newly_due=Share(99, 100)))

    assert 'the keep rule { metadata.pin = "true" } is taken away' in (await halted(world))["detail"]


async def test_a_first_enforcement_counts_what_is_due_by_an_expiry_of_its_own(world: World) -> None:
    world.seed(30, policy="short", days=1, expires_in="1s")
    at = world.raw.time()[0] * 1000
    world.raw.zadd(f"{world.slot()}short:explicit", dict.fromkeys(world.sandbox.alive("thread"), at - 1), xx=True)

    await world.sweep(**policy(SHORT, 7, "digest0short"))

    assert "30 of 30" in (await halted(world))["detail"]


async def test_no_limit_in_the_same_edit_is_no_leave(world: World) -> None:
    world.seed(30, policy="short", days=3)
    await world.sweep(**policy(SHORT, 7, "digest0short"))

    await world.sweep(**policy(SHORT, 1, "digest2short", max_newly_due=None))

    assert "30 of 30" in (await halted(world))["detail"]


async def test_a_stricter_limit_in_the_same_edit_holds_too(world: World) -> None:
    world.seed(30, policy="short", days=3)
    await world.sweep(**policy(SHORT, 7, "digest0short", max_newly_due=None))

    await world.sweep(**policy(SHORT, 1, "digest2short"))

    assert "30 of 30" in (await halted(world))["detail"]


# --- two workers, two files


async def test_a_worker_with_the_name_of_old_deletes_nothing_while_another_adopts_it(world: World) -> None:
    """One file has renamed the policy, the other still has it: neither deletes from under the other's rule."""
    world.seed(30, policy="long", days=40)
    long, short = policy(LONG, 60, "digest00long"), policy(SHORT, 1, "digest0short", formerly=("long",))
    await world.sweep(**long, context=world.context(host="host-1"))

    await world.sweep(**short, context=world.context(host="host-2"))
    assert "short|cutoff_jumped" in world.halts()
    report = await world.sweep(**policy(LONG, 30, "digest00long"), context=world.context(host="host-1"))

    assert ("divergence", []) == (report.result, world.deletes())


async def test_a_name_that_newer_rules_took_back_is_left_to_them(world: World) -> None:
    world.unpromised = BACKDATED
    world.seed(8, policy="long", days=10)
    short = policy(SHORT, 1, "digest0short", formerly=("long",))
    await world.sweep(**short | {"enforce": False}, context=world.context(host="host-2"))
    ids = set(world.seed(8, policy="long", days=10))
    await world.sweep(**policy(LONG, 30, "digest00long"), context=world.context(host="host-1"))

    await world.sweep(**short, context=world.context(host="host-2"))

    assert ids <= world.sandbox.alive("thread")
    assert {"long"} == {world.record(id_).policy for id_ in ids}


async def test_a_policy_that_a_worker_lost_is_refused_to_one_that_still_has_it(world: World) -> None:
    world.unpromised = BACKDATED
    long = policy(LONG, 30, "digest00long")
    one, other = (world.context(host=f"host-{i}") for i in (1, 2))
    world.seed(30, policy="long", days=10)
    await world.sweep(**long, context=one)
    await world.sweep(**long, context=other)
    world.seed(30, policy="long", days=40)

    assert 1 == await retire(other.ledger, [], SLOTS)
    assert 0 == await retire(other.ledger, [], SLOTS)
    report = await world.sweep(**long, context=one)
    assert ("divergence", []) == (report.result, world.deletes())
    assert not world.registry.register("thread", "thread_late", "long").managed

    # The one that took it away has it again.
    world.raw.delete(f"{world.slot()}halts")
    assert 30 == (await world.sweep(**long, context=other)).outcomes["deleted"]


async def test_only_what_a_worker_swept_itself_is_its_to_retire(world: World) -> None:
    long = policy(LONG, 30, "digest00long")
    await world.sweep(**long, context=world.context(host="host-1"))
    world.seed(3, policy="long", days=40)

    assert 0 == await retire(world.context(host="host-2").ledger, [], SLOTS)
    assert 3 == (await world.sweep(**long, context=world.context(host="host-1"))).outcomes["deleted"]


async def test_a_policy_known_by_an_old_name_is_not_retired(world: World) -> None:
    context = world.context(host="host-1")
    await world.sweep(**policy(LONG, 30, "digest00long"), context=context)
    renamed: Rule = replace(world.rule, partition=SHORT, formerly=("long",))

    assert 0 == await retire(context.ledger, [renamed], SLOTS)


@pytest.mark.parametrize("host", ["host-1", "host-2"], ids=["running", "restarted"])
async def test_an_old_name_that_no_file_says_any_more_manages_nothing(world: World, host: str) -> None:
    await world.sweep(**policy(LONG, 30, "digest00long"))
    await world.sweep(**policy(SHORT, 30, "digest0short", formerly=("long",)))
    assert world.registry.register("thread", "thread_1", "long").managed
    await world.sweep(**policy(SHORT, 30, "digest2short"), context=world.context(host=host))
    with capture_logs() as logs:
        assert 1 == await retire(world.context(host=host).ledger, [world.rule], SLOTS)
        assert 0 == await retire(world.context(host=host).ledger, [world.rule], SLOTS)

    told = world.registry.register("thread", "thread_2", "long")

    assert (None, "unmanaged", False) == (told.due, told.governed_by, told.managed)
    assert [("policy.retired", "long")] == [(one["event"], one["policy"]) for one in logs]
    assert world.registry.register("thread", "thread_3", "short").managed


async def test_an_old_name_goes_with_the_policy_that_took_it_over(world: World) -> None:
    """It was renamed once more, and the new name takes over the last one alone; or it was taken out."""
    context = world.context()
    await world.sweep(**policy(LONG, 30, "digest00long"))
    await world.sweep(**policy(SHORT, 30, "digest0short", formerly=("long",)))
    newest = policy(Partition("openai", "thread", "newest"), 30, "digestnewest", formerly=("short",))
    await world.sweep(**newest)
    assert 1 == await retire(world.context(host="host-2").ledger, [world.rule], SLOTS)
    managed = {name: world.registry.register("thread", "thread_1", name).managed for name in ("long", "short")}
    assert {"long": False, "short": True} == managed

    assert 2 == await retire(context.ledger, [], SLOTS)
    assert not world.registry.register("thread", "thread_1", "short").managed


@pytest.mark.parametrize("host", ["host-1", "host-2"])
async def test_an_old_name_is_not_retired_while_rules_in_force_take_it_over(world: World, host: str) -> None:
    """A file that says so no more is not swept with yet, or is an older one."""
    await world.sweep(**policy(LONG, 30, "digest00long"))
    await world.sweep(**policy(SHORT, 30, "digest0short", formerly=("long",)))
    edited = replace(world.rule, formerly=(), digest="digest2short")

    assert 0 == await retire(world.context(host=host).ledger, [edited], SLOTS)
    assert world.registry.register("thread", "thread_1", "long").managed


async def test_what_was_registered_under_a_retired_name_is_newly_due_where_it_is_taken_over_again(world: World) -> None:
    """Nobody told it the rules."""
    renamed = policy(SHORT, 1, "digest0short", formerly=("long",))
    await world.sweep(**policy(LONG, 30, "digest00long"))
    await world.sweep(**renamed)
    await world.sweep(**policy(SHORT, 1, "digest2short"))
    assert 1 == await retire(world.context().ledger, [world.rule], SLOTS)
    world.seed(30, policy="long", days=10)
    assert "completed" == (await world.sweep()).result

    await world.sweep(**renamed)

    assert "30 of 30" in (await halted(world))["detail"]


async def test_a_child_under_a_policy_of_another_file_stays(world: World) -> None:
    """What keeps it is said in the other file: this worker cannot know."""
    (file,) = world.sandbox.seed("file", 1)
    world.registry.register("file", file, "pinned")
    kept = replace(world.rule, partition=Partition("openai", "file", "pinned"), digest="digestpinned")
    await world.context(host="host-1").ledger.adopt(kept)
    (thread,) = world.sandbox.seed("thread", 1, tool_resources={"code_interpreter": {"file_ids": [file]}})
    world.registry.register("thread", thread, "chat", uses=[("file", file)], created_at=1_700_000_000)

    await world.sweep(cascade={"file": "delete"})

    assert [thread] == world.deletes()
    assert 1 == world.counters()["left||observed"]


# --- what earlier versions of lapse wrote


def as_before(world: World, name: str = "short") -> str:
    """Make a partition look as an earlier version left it: cut-offs, and no rule."""
    rules = f"{world.slot()}{name}:rules"
    world.raw.hdel(rules, "enforced", "pace_fence", "ramp_fence")
    return rules


async def test_cut_offs_of_an_earlier_version_are_what_was_enforced(world: World) -> None:
    world.unpromised = BACKDATED
    world.seed(30, policy="short", days=3)
    await world.sweep(**policy(SHORT, 7, "digest0short"))
    as_before(world)
    world.seed(30, policy="short", days=9)

    assert 30 == (await world.sweep(**policy(SHORT, 7, "digest0short"))).outcomes["deleted"]
    as_before(world)
    assert "halted" == (await world.sweep(**policy(SHORT, 1, "digest2short", max_newly_due=LIMIT))).result


async def test_what_an_earlier_version_kept_is_not_deleted_by_an_edit(world: World) -> None:
    """Which keep rules it enforced, it did not write down; that it kept something shows."""
    for id_ in world.sandbox.seed("thread", 3, metadata={"pin": "true"}):
        world.registry.register("thread", id_, "short", created_at=1_700_000_000)
    await world.sweep(**policy(SHORT, 7, "digest0short", keep=PIN))
    rules = as_before(world)
    assert "3" == str(world.raw.zcard(f"{world.slot()}short:kept"))

    await world.sweep(**policy(SHORT, 7, "digest2short"))

    assert "3 ids are kept" in (await halted(world))["detail"]
    assert world.raw.hexists(rules, "base_at")


async def test_an_edit_that_an_earlier_version_enforced_meanwhile_is_the_last(world: World) -> None:
    """Its cut-offs are newer than the rule that is stored: a rollout goes back and forth."""
    world.seed(30, policy="short", days=3)
    await world.sweep(**policy(SHORT, 1, "digest0short", max_newly_due=None))
    world.seed(30, policy="short", days=3)
    rules, now = f"{world.slot()}short:rules", world.raw.time()[0] * 1000
    world.raw.hset(rules, mapping={"base_at": now, "base_created": now - round(7 * DAY * 1000)})

    await world.sweep(**policy(SHORT, 1, "digest2short"))

    assert 30 == len(world.deletes())
    assert "30 of 30" in world.halts()["short|cutoff_jumped"]["detail"]


# --- counting


@pytest.mark.parametrize(
    ("percent", "counted", "stops"),
    [(35, 5000, True), (40, 2500, True), (46, 2500, False), (95, 5000, False)],
    ids=["at least too many", "too many by pages", "few enough by pages", "at most few enough"],
)
async def test_pages_decide_where_two_indexes_do_together(
    world: World, percent: float, counted: int, *, stops: bool
) -> None:
    """5,000 are idle for long enough by a new ttl, and half of these are due by their age already."""
    slot, now = world.slot(), world.raw.time()[0] * 1000
    for n, (created, idle) in enumerate([(100, 20)] * 2500 + [(50, 20)] * 2500 + [(100, 1)] * 500):
        for index, days in (("created", created), ("active", idle)):
            world.raw.zadd(f"{slot}short:{index}", {f"thread_{n}": now - round(days * DAY * 1000)})
    limit = Share(percent=percent, at_least=1)
    said = policy(SHORT, 30, "d1", anchor="last_active_at", max_age=60 * DAY, max_newly_due=limit)
    rule, ledger = replace(world.rule, **said), world.context().ledger
    await ledger.adopt(rule)
    await ledger.note(SHORT, **newly_due.baseline(rule, await ledger.survey(rule)))
    shorter = replace(rule, ttl=10 * DAY, digest="d2")
    await ledger.adopt(shorter)

    edit = (await newly_due.look(ledger, shorter, await ledger.survey(shorter))).edit

    assert (5000, stops) == (edit.most, edit.stops)
    # Counting ends as soon as it decides.
    assert edit.newly == counted or (counted == 2500 and percent * 55 < edit.newly <= counted) or not stops
    world.raw.flushall()
    world.policies.clear()


# --- max_deletions across windows


async def test_what_an_earlier_window_gave_is_given_back_to_no_later_one(world: World) -> None:
    """Ten claimed at the end of a window and given back in the next one let twenty go there."""
    world.seed(40, policy="short")
    pace = policy(SHORT, 7, "digest0short", max_deletions=Pace(10, 3600), max_newly_due=None)
    rule = replace(world.rule, **pace)
    world.decides(rule)
    context, rules = world.context(), f"{world.slot()}short:rules"
    await context.ledger.adopt(rule)
    first = await context.ledger.claim(rule, world.settings, 100)
    world.raw.hset(rules, "pace_from", 0)  # an hour goes by
    second = await context.ledger.claim(rule, world.settings, 100)
    assert (10, 10) == (len(first.claims), len(second.claims))

    back = [released(claim) for claim in first.claims]
    await context.ledger.settle(SHORT, OutcomeBatch(back, {}, 3, listable=False))

    assert "limited" == (await context.ledger.claim(rule, world.settings, 100)).status
    await context.ledger.settle(SHORT, OutcomeBatch([released(one) for one in second.claims], {}, 3, listable=False))
    assert 10 == len((await context.ledger.claim(rule, world.settings, 100)).claims)


async def test_what_an_earlier_step_of_the_ramp_gave_is_given_back_to_no_later_one(world: World) -> None:
    world.seed(60, policy="short")
    rule = replace(world.rule, **policy(SHORT, 7, "digest0short", max_newly_due=None))
    world.decides(rule)
    settings = replace(world.settings, ramp=900)
    context, rules = world.context(), f"{world.slot()}short:rules"
    await context.ledger.adopt(rule)
    first = await context.ledger.claim(rule, settings, 100)
    world.raw.hset(rules, "ramp_from", 0)
    second = await context.ledger.claim(rule, settings, 100)

    back = [released(claim) for claim in first.claims]
    await context.ledger.settle(SHORT, OutcomeBatch(back, {}, 3, listable=False))

    assert (10, 10) == (len(first.claims), len(second.claims))
    assert "limited" == (await context.ledger.claim(rule, settings, 100)).status


async def test_a_claim_of_an_id_that_was_moved_gives_nothing_back_to_its_new_policy(world: World) -> None:
    (id_,) = world.seed(1, policy="long")
    rule = replace(world.rule, **policy(LONG, 7, "digest00long", max_deletions=Pace(10, 3600)))
    world.decides(rule)
    context, rules = world.context(), f"{world.slot()}short:rules"
    await context.ledger.adopt(rule)
    (claim,) = (await context.ledger.claim(rule, world.settings, 1)).claims
    world.raw.hset(rules, mapping={"pace_from": 1, "pace_used": 10, "pace_fence": 0})
    world.registry.register("thread", id_, "short")

    await context.ledger.settle(LONG, OutcomeBatch([released(claim)], {}, 3, listable=False))

    assert "10" == world.raw.hget(rules, "pace_used")


def released(claim: Claim) -> Settled:
    """Return a claim as it is given back unbegun."""
    return settlement(claim, Verdict(Outcome.LIMITED))


def test_the_stored_rule_is_the_whole_rule(world: World) -> None:
    stored = enforced.stored(world.rule)

    assert {"partition", "every"} == {name for name in Rule.__slots__ if name not in stored}
