"""A request to erase a subject: everything that is the person's alone goes, all else stays and is named."""

import json
import time
from dataclasses import replace

from lapse.ledger.erasure.account import unsubjected
from lapse.policy import Keep
from lapse.registry import codec
from support.erasing import Erasing
from support.world import DAY, World

S = "user:42"
OLD = 1_600_000_000


async def test_everything_of_a_subject_goes_whatever_mode_age_and_pace_say(world: World) -> None:
    world.rule = replace(world.rule, enforce=False)
    mine = world.seed(30, subject=S, days=1) + world.seed(1, kind="file", subject=S, days=1)
    other = world.seed(3, subject="user:7", days=1)
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    assert set(mine) == set(world.deletes())
    assert set(other) == world.sandbox.alive("thread")
    account = await erasing.account(request)
    assert {"erased": 31} == account.counts
    assert all(one.status == 200 and one.request_id and one.at for one in account.ids)
    assert "open" == await erasing.state(request)
    assert 30 == world.counters()["deletions|chat|thread"]


async def test_it_is_complete_once_the_time_for_late_ones_is_over(world: World) -> None:
    world.seed(2, subject=S)
    erasing = Erasing(world)
    request = await erasing.ask(S, ago=2 * DAY)
    await erasing.work()
    assert "complete" == await erasing.state(request)
    said = [one["event"] for one in world.audit() if one["event"].startswith("erasure")]
    assert ["erasure_requested", "erasure_completed"] == said


async def test_what_is_held_used_or_anothers_too_stays_and_is_named(world: World) -> None:
    (held,), (both,) = world.seed(1, subject=S), world.seed(1, subject=[S, "user:7"])
    (file,) = world.seed(1, kind="file", subject=S)
    (user,) = world.seed(1, subject="user:7", uses=[("file", file)])
    world.registry.hold("thread", held, reason="case 7")
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    account = await erasing.account(request)
    told = {one.resource.id: (str(one.fate), one.detail) for one in account.ids}
    assert told == {
        held: ("held", "case 7"),
        both: ("in_use", "it is user:7's too"),
        file: ("in_use", f"used by thread {user}"),
    }
    assert [] == world.deletes()
    world.registry.unhold("thread", held)
    await erasing.ask("user:7")
    await erasing.work()
    await erasing.work()
    assert {held, both, file, user} == set(world.deletes())
    assert {held: "erased", both: "erased", file: "erased"} == await erasing.fates(request)


async def test_what_uses_each_other_goes_in_one_step(world: World) -> None:
    one, other = world.seed(2, subject=S)
    world.registry.register("thread", one, "chat", uses=[("thread", other)])
    world.registry.register("thread", other, "chat", uses=[("thread", one)])
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    assert {one: "erased", other: "erased"} == await erasing.fates(request)


async def test_of_what_uses_each_other_none_goes_while_one_may_not(world: World) -> None:
    one, other = world.seed(1, subject=S)[0], world.seed(1, subject=S, policy="fresh")[0]
    world.registry.register("thread", one, "chat", uses=[("thread", other)])
    world.registry.register("thread", other, "fresh", uses=[("thread", one)])
    await world.context().control.pause("openai/thread/chat", "a look", slots=[("openai", "thread")])
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    assert [] == world.deletes()
    assert {one: "pending", other: "in_use"} == await erasing.fates(request)
    await world.context().control.unpause("openai/thread/chat", slots=[("openai", "thread")])
    await erasing.work()
    assert {one: "erased", other: "erased"} == await erasing.fates(request)


async def test_what_one_uses_that_stays_is_in_use_however_far_it_is_away(world: World) -> None:
    (last,), (file,) = world.seed(1, subject=S), world.seed(1, kind="file", subject=S)
    (middle,) = world.seed(1, subject=S, uses=[("thread", last)])
    (held,) = world.seed(1, subject=S, uses=[("thread", middle), ("file", file)])
    world.registry.hold("thread", held, reason="case 7")
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    assert {held: "held", middle: "in_use", last: "in_use", file: "in_use"} == await erasing.fates(request)
    told = {one.resource.id: one.detail for one in (await erasing.account(request)).ids}
    assert f"used by thread {held}, which stays: held" == told[file]


async def test_what_was_backed_off_or_quarantined_is_tried_at_once_and_then_as_its_back_off_says(world: World) -> None:
    (mine,) = world.seed(1, subject=S)
    world.sandbox.faults([{"method": "DELETE", "ids": [mine], "effect": "error", "status": 400}])
    await world.sweep()
    assert "quarantined" == world.state(mine)
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    await erasing.work()
    assert 2 == len(world.deletes())
    assert {mine: "pending"} == await erasing.fates(request)


async def test_what_comes_late_joins_by_its_own_time_and_what_is_made_after_does_not(world: World) -> None:
    erasing = Erasing(world)
    world.seed(1, subject=S)
    request = await erasing.ask(S, ago=3 * DAY)
    await erasing.work()
    assert "complete" == await erasing.state(request)
    (late,) = world.seed(1, subject=S, days=2.5)
    (after,) = world.seed(1, subject=S, days=1)
    await erasing.work()
    assert "complete" == await erasing.state(request)
    assert "erased" == (await erasing.fates(request))[late]
    assert {after} == world.sandbox.alive("thread")


async def test_a_claim_that_was_out_already_is_credited(world: World) -> None:
    (mine,) = world.seed(1, subject=S)
    erasing = Erasing(world)
    requests = []

    context = world.context()
    settle = context.ledger.settle

    async def asked_meanwhile(*args: object) -> object:
        requests.append(await erasing.ask(S))
        return await settle(*args)  # type: ignore[arg-type]

    context.ledger.settle = asked_meanwhile  # type: ignore[method-assign,assignment]
    await world.sweep(context=context)
    assert {mine: "erased"} == await erasing.fates(requests[0])


async def test_an_entry_that_is_left_in_the_index_makes_no_id_the_subjects(world: World) -> None:
    """As of a move to another subject that ended in the middle: it is not deleted, and keeps nothing open."""
    (other,), (nobodys,) = world.seed(1, subject="user:7"), world.seed(1)
    world.raw.zadd(f"{world.slot()}subjects", {f"{S}\x1f{other}": 0, f"{S}\x1f{nobodys}": 0})
    erasing = Erasing(world)
    request = await erasing.ask(S, ago=2 * DAY)
    await erasing.work()
    assert {} == await erasing.fates(request)
    assert "complete" == await erasing.state(request)
    assert {other, nobodys} == world.sandbox.alive("thread")


async def test_two_at_once_both_have_everything(world: World) -> None:
    mine = world.seed(3, subject=S)
    erasing = Erasing(world)
    one, other = await erasing.ask(S), await erasing.ask(S)
    await erasing.work()
    assert dict.fromkeys(mine, "erased") == await erasing.fates(one) == await erasing.fates(other)


async def test_of_what_nobody_has_nothing_is_found(world: World) -> None:
    erasing = Erasing(world)
    request = await erasing.ask("user:nobody", ago=2 * DAY)
    await erasing.work()
    assert {} == await erasing.fates(request)
    assert "complete" == await erasing.state(request)


async def test_children_go_with_it_that_are_provably_the_subjects_and_the_others_stay(world: World) -> None:
    """A file without a subject that only this store names is the subject's; a foreign or another one's is not."""
    (nobodys,), (anothers,), (foreign,) = (world.sandbox.seed("file", 1) for _ in range(3))
    world.registry.register("file", nobodys, "chat", created_at=OLD)
    world.registry.register("file", anothers, "chat", created_at=OLD, subject="user:7")
    (store,) = world.sandbox.seed("vector_store", 1, file_ids=[nobodys, anothers, foreign])
    uses = [("file", nobodys), ("file", anothers)]
    world.registry.register("vector_store", store, "chat", created_at=OLD, subject=S, uses=uses)
    world.rule = replace(world.rule, enforce=False)
    world.others = (
        replace(world.rule, partition=replace(world.rule.partition, kind="file"), keep=(Keep(name="*", metadata={}),)),
    )
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    assert {foreign, anothers} == world.sandbox.alive("file")
    assert {store: "erased", nobodys: "erased"} == await erasing.fates(request)


async def test_what_a_spool_held_back_for_three_days_joins(world: World) -> None:
    """Said two days before the request, heard a day after it: it was created before, and belongs to it."""
    erasing = Erasing(world)
    world.seed(1, subject="user:7")
    request = await erasing.ask(S, ago=DAY + 60)
    await erasing.work()
    assert "complete" == await erasing.state(request)
    (late,), (after,) = world.sandbox.seed("thread", 1), world.sandbox.seed("thread", 1)
    now = time.time()
    for id_, said in ((late, now - 3 * DAY), (after, now - 30)):
        facts = codec.dump({"said": round(said * 1000), "subject": S})
        with world.registry.recorded(
            [{"kind": "thread", "id": id_, "policy": "chat", "subject": S, "created_at": said}]
        ):
            ledger = world.context().ledger
            call = ledger.on_slot("registry/lua/register", "openai", "thread", id_, "chat", facts, parse=str)
            await ledger.carrier.carry([call])
    await erasing.work()
    assert {late: "erased"} == await erasing.fates(request)
    assert after in world.sandbox.alive("thread")


async def test_an_undone_absence_is_due_again_under_its_request(world: World) -> None:
    (mine,) = world.seed(1, subject=S)
    world.sandbox.reset()
    world.seed(1, subject="user:7", days=1)
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    assert {mine: "already_gone"} == await erasing.fates(request)
    assert S not in json.dumps(world.raw.hgetall(f"{world.slot()}graves"))
    assert not world.raw.hexists(f"{world.slot()}facts", mine)
    ledger = world.context().ledger
    call = ledger.on_slot("ledger/lua/quarantine", "openai", "thread", "undo", '"ann"', '"a test"', mine, parse=list)
    await ledger.carrier.carry([call])
    assert {mine: "pending"} == await erasing.fates(request)
    await erasing.work()
    assert {mine: "already_gone"} == await erasing.fates(request)


async def test_what_was_settled_as_gone_before_is_told_and_leaves_no_name(world: World) -> None:
    (mine,) = world.seed(1, subject=S)
    world.sandbox.reset()
    world.seed(1, subject="user:7", days=1)
    await world.sweep()
    assert world.raw.hexists(f"{world.slot()}graves", mine)
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    ((told,),) = [(await erasing.account(request)).ids]
    assert (mine, "already_gone", "it was gone before the request, as the audit says") == (
        told.resource.id,
        told.fate,
        told.detail,
    )
    assert not world.raw.hexists(f"{world.slot()}facts", mine)


async def test_what_the_application_forgets_or_deletes_meanwhile_is_told_as_that(world: World) -> None:
    forgotten, gone = world.seed(2, subject=S)
    world.registry.hold("thread", forgotten, reason="case 7")
    world.registry.hold("thread", gone, reason="case 7")
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    world.registry.forget("thread", forgotten)
    world.registry.deleted("thread", gone)
    await erasing.work()
    assert {forgotten: "unprovable", gone: "already_gone"} == await erasing.fates(request)


async def test_after_its_records_end_only_counts_are_left(world: World) -> None:
    world.seed(2, subject=S)
    erasing = Erasing(world, records=DAY)
    request = await erasing.ask(S, ago=3 * DAY)
    await erasing.work()
    await erasing.housekeep()
    stored = world.raw.hget("lapse:erasures", request.id)
    assert S not in stored
    assert {"erased": 2} == json.loads(stored)["counts"]
    assert [] == list(world.raw.scan_iter("*erased:*"))
    assert not any(S in field for field in world.raw.hkeys(f"{world.slot()}subject_holds"))


async def test_a_pause_of_one_policy_and_a_halt_keep_its_ids_and_nothing_else(world: World) -> None:
    (paused,), (other,) = world.seed(1, subject=S), world.seed(1, subject=S, policy="fresh")
    context = world.context()
    await context.control.pause("openai/thread/chat", "a look", slots=[("openai", "thread")])
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    assert {paused: "pending", other: "erased"} == await erasing.fates(request)


async def test_a_pause_holds_what_stands_under_the_policys_old_name_too(world: World) -> None:
    (old,) = world.seed(1, subject=S, policy="before")
    world.rule = replace(world.rule, formerly=("before",))
    await world.context().control.pause("openai/thread/chat", "a look", slots=[("openai", "thread")])
    erasing = Erasing(world)
    await erasing.ask(S)
    await erasing.work()
    assert {old} == world.sandbox.alive("thread")


async def test_what_was_given_back_unbegun_is_tried_at_once_again(world: World) -> None:
    """Quarantined before; this time the key is refused, which says nothing of the id: with the right one it goes."""
    (mine,) = world.seed(1, subject=S)
    world.settings = replace(world.settings, max_attempts=1)
    world.sandbox.faults([{"method": "DELETE", "ids": [mine], "effect": "error", "status": 500}])
    await world.sweep()
    assert "quarantined" == world.state(mine)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 401}])
    erasing = Erasing(world)
    request = await erasing.ask(S)
    await erasing.work()
    (told,) = (await erasing.account(request)).ids
    assert "the breaker of openai is open" == told.detail
    world.sandbox.faults()
    await world.context().control.retry("openai")
    await erasing.work()
    assert {mine: "erased"} == await erasing.fates(request)


async def test_a_request_whose_words_did_not_reach_a_slot_is_told_there_by_a_worker(world: World) -> None:
    (mine,) = world.seed(1, subject=S)
    erasing = Erasing(world)
    request = await erasing.ask(S)
    world.raw.delete("lapse:held_subjects")
    world.raw.delete(f"{world.slot()}subject_holds")
    world.raw.hdel(f"{world.slot()}protected", "subjects")
    await erasing.work()
    assert {mine: "erased"} == await erasing.fates(request)


async def test_ids_that_were_registered_without_the_subject_that_was_wanted_are_counted(world: World) -> None:
    world.seed(2, labels={"lapse.missing": "subject"})
    world.seed(1, subject=S, labels={"lapse.missing": "subject"})
    world.seed(1, labels={"lapse.missing": "plan"})
    assert 2 == await unsubjected(world.context().ledger)
