"""Each guard is taken out of a real run against a real Redis and the stand-in, and the oracle reports the accident."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lapse.guards import enforcement
from lapse.guards.absence.absences import Absences
from lapse.guards.enforcement import Stand
from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.policy import Pace, Share
from lapse.providers.outcomes import Outcome, Verdict
from lapse.sweep.deletion import delete
from support.world import DAY, World

Cut = Callable[[str, str, str], None]
Reported = Callable[[], set[str]]


async def test_without_the_hold_check(world: World, cut: Cut, reported: Reported) -> None:
    cut("claim", "if held(id) then", "if false then")
    cut("hold", "set_aside(id, record, 'parked', now)", "index(id, record)")
    (id_,) = world.seed(1)
    world.registry.hold("thread", id_, reason="case 7")
    await world.sweep()
    assert {"held"} == reported()


async def test_without_the_hold_check_of_subjects(world: World, cut: Cut, reported: Reported) -> None:
    cut("claim", "if held(id) then", "if false then")
    cut("register", "or hold_among(subjects_in(kept))", "")
    world.registry.hold_subject("user:42", reason="case 7")
    world.seed(1, subject="user:42")
    await world.sweep()
    assert {"held"} == reported()


async def test_without_the_reference_check(world: World, cut: Cut, reported: Reported) -> None:
    cut(
        "claim",
        "elseif protected(id, redis.call('HGET', part(record.p, 'rules'), 'along') or nil) then",
        "elseif false then",
    )
    (used,) = world.seed(1)
    world.registry.register("thread", "thread_user", "other", uses=[("thread", used)])
    await world.sweep()
    assert {"referenced"} == reported()


async def test_without_the_due_check(world: World, cut: Cut, reported: Reported) -> None:
    cut("claim", "now - rules.ttl", "now")
    cut("claim", "if due and due <= now then", "if due then")
    world.seed(3, days=1)
    await world.sweep()
    assert {"early"} == reported()


async def test_without_forgetting(world: World, cut: Cut, reported: Reported) -> None:
    cut("forget", "if tracked then take(id, record) end\n", "")
    (id_,) = world.seed(1)
    world.registry.forget("thread", id_)
    await world.sweep()
    assert {"forgotten"} <= reported()


async def test_without_touching(world: World, cut: Cut, reported: Reported) -> None:
    cut("touch", "record.a, record.c, record.f = math.max(at, record.f), record.f, nil", "")
    (id_,) = world.seed(1)
    world.registry.touch("thread", id_)
    await world.sweep(anchor="last_active_at")
    assert {"early"} == reported()


async def test_without_moving_to_another_policy(world: World, cut: Cut, reported: Reported) -> None:
    cut("register", "  record.p = policy\n", "")
    (id_,) = world.seed(1)
    world.registry.register("thread", id_, "archive", created_at=time.time() - 30 * DAY)
    await world.sweep()
    assert {"moved"} == reported()


async def test_without_fencing(world: World, cut: Cut, reported: Reported) -> None:
    cut("settle", " and record.t == one.token", "")
    (id_,) = world.seed(1)
    context = world.context()
    await context.ledger.adopt(world.rule)
    zombie = await context.ledger.claim(world.rule, world.settings, 1)
    world.raw.zadd(f"{world.slot()}chat:claims", {id_: 0})
    await context.ledger.claim(world.rule, world.settings, 1)
    await context.ledger.claim(world.rule, world.settings, 1, alone=True)
    late = [settlement(zombie.claims[0], Verdict(Outcome.DELETED))]
    await context.ledger.settle(world.rule.partition, OutcomeBatch(late, {}, 3, listable=False))
    assert {"record"} <= reported()


async def test_without_intents(world: World, cut: Cut, reported: Reported) -> None:
    cut("claim", "audit('intent', id, record.p,", "local _ = (")
    world.seed(1)
    await world.sweep()
    assert {"record"} <= reported()


async def test_without_a_pace(world: World, cut: Cut, reported: Reported) -> None:
    cut("claim", "if amount < 0 then return math.huge end", "if true then return math.huge end")
    world.seed(8)
    await world.sweep(max_deletions=Pace(amount=3, window=3600))
    assert {"pace"} == reported()


async def test_without_a_request_budget(world: World, cut: Cut, reported: Reported) -> None:
    cut("take", "if rate < 0 then", "if true then")
    world.budget = 10.0
    world.seed(40)
    await world.sweep(context=world.context(rate=10.0))
    assert {"rate"} == reported()


async def test_with_counters_that_skip(world: World, cut: Cut, reported: Reported) -> None:
    cut("settle", "owe_count(own, 'deletions|' .. record.p .. '|' .. kind)", "")
    world.seed(2)
    await world.sweep()
    assert {"count", "uncounted"} == reported()


async def test_with_a_metric_and_an_audit_that_skip_the_same(world: World, cut: Cut, reported: Reported) -> None:
    """Both are written by one script: only the provider's log says what they lack."""
    cut("settle", "owe_count(own, 'deletions|' .. record.p .. '|' .. kind .. '_item', items)", "")
    cut("settle", "if (one.items or 0) > 0 then more = more .. string.format(',\"items\":%d', one.items) end", "")
    (id_,) = world.sandbox.seed("conversation", 1, items=3)
    world.registry.register("conversation", id_, "chat", created_at=time.time() - 30 * DAY)
    await world.sweep(partition=replace(world.rule.partition, kind="conversation"))
    assert {"uncounted"} == reported()


async def test_with_a_child_that_is_counted_twice(world: World, cut: Cut, reported: Reported) -> None:
    cut(
        "settle",
        "owe_count(own, 'deletions|' .. record.p .. '|' .. kind)",
        "owe_count(own, 'deletions|' .. record.p .. '|' .. kind, kind == 'file' and 2 or 1)",
    )
    (file,) = world.sandbox.seed("file", 1)
    world.registry.register("file", file, "chat")
    (thread,) = world.sandbox.seed("thread", 1, tool_resources={"code_interpreter": {"file_ids": [file]}})
    ago = time.time() - 30 * DAY
    world.registry.register("thread", thread, "chat", uses=[("file", file)], created_at=ago, last_active_at=ago)
    await world.sweep(cascade={"file": "delete"}, digest="digest00000c")
    assert {"count", "uncounted"} == reported()


async def test_with_a_release_that_loses_ids(world: World, cut: Cut, reported: Reported) -> None:
    cut("settle", "record.o = nil\n    move_back(one.id, own.p, record)\n  else", "leave(one.id, own.p)\n  else")
    world.seed(1)
    world.sandbox.faults([{"effect": "error", "status": 401}])
    await world.sweep()
    assert {"lost"} == reported()


async def test_with_a_proof_that_always_says_yes(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported
) -> None:
    async def proven(*_: object) -> str:
        return ""

    monkeypatch.setattr(Absences, "_unproven", proven)
    world.seed(5)
    world.sandbox.faults([{"effect": "wrong_project"}])
    await world.sweep()
    assert {"unproven", "living"} == reported()


async def test_with_an_answer_that_is_always_believed(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported
) -> None:
    monkeypatch.setattr(delete, "classify", lambda *_, **__: Verdict(Outcome.DELETED, status=200))
    world.seed(1)
    world.sandbox.faults([{"method": "DELETE", "effect": "deleted_false"}])
    await world.sweep()
    assert {"unconfirmed"} <= reported()


ACCIDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "observing": ("unasked", {"enforce": False}),
    "a shortened ttl": ("jump", {"ttl": 2 * DAY, "digest": "digest000002", "max_newly_due": Share(20, 10)}),
    "a first enforcement": ("jump", {"max_newly_due": Share(20, 10)}),
    "no touches": ("untouched", {"anchor": "last_active_at"}),
}


@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_with_a_guard_that_lets_everything_pass(
    world: World, monkeypatch: pytest.MonkeyPatch, reported: Reported, accident: str
) -> None:
    promise, rule = ACCIDENTS[accident]
    if accident == "a shortened ttl":
        world.seed(1)
        await world.sweep(max_newly_due=Share(20, 10))
        world.seed(50, days=3)
    else:
        world.policies.clear()
        world.seed(50)
    monkeypatch.setattr(enforcement, "stand", lambda *_: Stand("completed"))
    await world.sweep(**rule)
    assert {promise} == reported()
