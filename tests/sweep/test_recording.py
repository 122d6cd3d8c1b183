"""Every confirmation is counted once: batches sent again, scripts that end in the middle, refusals, a death."""

import asyncio
import json
import os
import re
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse.errors import ConfigError, RegistryRefused
from lapse.ledger.claim import Claim
from lapse.ledger.outbox import Outbox, Unrecorded, abandoned, check, of_group, of_system, replay
from lapse.ledger.partition import Ledger
from lapse.ledger.settle import OutcomeBatch, Settled, settlement
from lapse.policy import Share
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.codec import dump
from lapse.registry.model import Partition
from support.lua import named
from support.world import World

USED = [("thread", "thread_used_by_it")]
ENDS: dict[str, dict[str, Any]] = {
    "deleted": {"outcome": Outcome.DELETED, "items": 3, "extra": 2},
    "gone": {"outcome": Outcome.ALREADY_GONE},
    "unproven": {"outcome": Outcome.UNPROVEN},
    "error": {"outcome": Outcome.ERROR, "status": 500},
    "kept": {"outcome": Outcome.KEPT, "status": 200},
    "active": {"outcome": Outcome.ACTIVE, "active_at": time.time() - 3600},
    "unrecognised": {"outcome": Outcome.UNRECOGNISED, "status": 404, "detail": "what?"},
    "limited": {"outcome": Outcome.LIMITED},
}
"""What a claim may come to: one id of each in one batch."""


async def claimed(world: World) -> dict[str, Claim]:
    """Claim one id for each way to end."""
    world.registry.register("thread", "thread_used_by_it", "chat", expires_in="300d")
    ids = [f"thread_{name}" for name in ENDS]
    for id_ in ids:
        world.registry.register("thread", id_, "chat", created_at=1_600_000_000, uses=USED)
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    claims = (await ledger.claim(world.rule, world.settings, 100)).claims
    return {claim.resource.id.removeprefix("thread_"): claim for claim in claims}


def ended(claims: dict[str, Claim]) -> list[Settled]:
    return [settlement(claims[name], Verdict(identity="one", **{"status": None, **how})) for name, how in ENDS.items()]


def stored(world: World) -> dict[str, Any]:
    """Return all that a batch changes, without what only says when."""
    slot = world.slot()
    found: dict[str, Any] = {}
    for name in sorted(world.raw.keys(f"{slot}*")):
        short = name.removeprefix(slot)
        kind = world.raw.type(name)
        if kind == "zset":
            found[short] = sorted(world.raw.zrange(name, 0, -1))
        elif kind == "hash":
            found[short] = {field: _timeless(text) for field, text in world.raw.hgetall(name).items()}
        elif kind == "set":
            found[short] = sorted(world.raw.smembers(name))
    found["events"] = [(one["event"], one.get("id"), one.get("outcome")) for one in world.audit()]
    found.pop("marks", None)
    return found


def _timeless(text: str) -> str:
    return re.sub(r"\d{12,}", "T", text)


def broken(text: str, at: int) -> str:
    """Return a script whose call number ``at`` ends it."""
    counting = (
        "local calls_so_far = 0\n"
        "local function counted(...)\n"
        "  calls_so_far = calls_so_far + 1\n"
        f"  if calls_so_far == {at} then return error('ended in the middle') end\n"
        "  return redis.call(...)\n"
        "end\n"
    )
    return counting + text.replace("redis.call(", "counted(")


async def batch_of(world: World) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of one batch over freshly claimed ids."""
    world.raw.flushall()
    claims = await claimed(world)
    batch = OutcomeBatch(ended(claims), {"requests||delete|200": 7}, 3, listable=False, name="b1", wall=Share(50, 20))
    return [world.slot()], ["openai", "thread", dump(batch.stored("worker-1"))]


async def test_a_batch_sent_again_after_an_error_at_any_call_has_the_effect_and_the_reply_of_once(world: World) -> None:
    world.unpromised = {
        "count",
        "uncounted",
        "unconfirmed",
        "record",
        "lost",
        "unproven",
        "early",
        "overdue",
        "unasked",
    }
    text = named("settle").text
    keys, args = await batch_of(world)
    once = world.raw.eval(text, 1, *keys, *args)
    expected = stored(world)
    assert once == world.raw.eval(text, 1, *keys, *args)
    assert expected == stored(world), "sent again whole"

    at = 1
    while True:
        keys, args = await batch_of(world)
        try:
            world.raw.eval(broken(text, at), 1, *keys, *args)
        except redis.ResponseError as error:
            broke = str(error)
        else:
            break  # there are fewer calls than that
        assert "ended in the middle" in broke
        again = world.raw.eval(text, 1, *keys, *args)
        assert once[1:] == again[1:], f"the reply after an error at call {at}"
        assert expected == stored(world), f"the state after an error at call {at}"
        at += 1
    assert at > 80, "every call was broken once"
    world.raw.flushall()


async def test_a_batch_sent_again_takes_nothing_from_the_claim_that_came_between(world: World) -> None:
    world.unpromised = {"lost", "record"}
    (id_,) = world.seed(1)
    ledger, claims = world.context().ledger, f"{world.slot()}chat:claims"
    await ledger.adopt(world.rule)
    (claim,) = (await ledger.claim(world.rule, world.settings, 1)).claims
    batch = OutcomeBatch([settlement(claim, Verdict(Outcome.LIMITED))], {}, 3, listable=False)
    text, said = named("settle").text, (world.slot(), "openai", "thread", dump(batch.stored("worker-1")))
    with pytest.raises(redis.ResponseError, match="ended in the middle"):
        world.raw.eval(text.replace("\npay()\n", "\nerror('ended in the middle')\n"), 1, *said)
    (anew,) = (await ledger.claim(world.rule, world.settings, 1)).claims

    world.raw.eval(text, 1, *said)

    assert anew.token > claim.token
    assert [id_] == world.raw.zrange(claims, 0, -1), "or its lease would never end"


async def test_a_batch_that_was_cut_off_and_is_never_sent_again_stops_no_claim(world: World) -> None:
    world.unpromised = {"lost", "record"}
    world.settings = replace(world.settings, lease=0.1)
    (id_,) = world.seed(1)
    ledger, claims = world.context().ledger, f"{world.slot()}chat:claims"
    await ledger.adopt(world.rule)
    (claim,) = (await ledger.claim(world.rule, world.settings, 1)).claims
    batch = OutcomeBatch([settlement(claim, Verdict(Outcome.LIMITED))], {}, 3, listable=False)
    said = (world.slot(), "openai", "thread", dump(batch.stored("worker-1")))
    cut = named("settle").text.replace(
        "redis.call('ZREM', part(policy, 'claims'), id)\nend", "error('cut off')\nend", 1
    )
    with pytest.raises(redis.ResponseError, match="cut off"):
        world.raw.eval(cut, 1, *said)
    await world.until(lambda: world.raw.time()[0] > claim.at // 1000 + 1)
    assert [id_] == world.raw.zrange(claims, 0, -1)

    world.settings = replace(world.settings, lease=10)
    (anew,) = (await ledger.claim(world.rule, world.settings, 1)).claims

    assert id_ == anew.resource.id


REFUSALS = [
    "BUSY Redis is busy",
    "NOREPLICAS Not enough good replicas",
    "OOM command not allowed",
    "MISCONF disk",
    "LOADING Redis is loading",
    "NOPERM no permissions",
    "ERR user_script:1: something",
]


@pytest.mark.parametrize("text", REFUSALS)
async def test_one_refusal_ends_neither_the_recording_nor_a_count(world: World, text: str) -> None:
    world.seed(120)
    context = world.context()
    recording, refused = context.ledger.record, iter([False, True, True, False])

    async def record(partition: Partition, batch: Any) -> Any:
        if next(refused, False):
            raise RegistryRefused(f"the registry refused: {text}")
        return await recording(partition, batch)

    context.ledger.record = record  # type: ignore[method-assign]

    assert {"deleted": 120} == dict((await world.sweep(context=context)).outcomes)
    assert 120 == world.counters()["deletions|chat|thread"]


async def test_the_one_outcome_that_is_refused_for_good_halts_its_partition_and_the_others_are_recorded(
    world: World, tmp_path: Path
) -> None:
    ids = sorted(world.seed(30))  # the order in which they go
    world.settings = replace(world.settings, lease=60)  # for half of it what is refused is tried again
    context = replace(world.context(), outbox=Outbox(tmp_path / "outbox"))
    recording = context.ledger.record

    async def record(partition: Partition, batch: Any) -> Any:
        if any(one["id"] == ids[7] for one in batch["settled"]):
            raise RegistryRefused("the registry refused: WRONGTYPE")
        return await recording(partition, batch)

    context.ledger.record = record  # type: ignore[method-assign]

    report = await world.sweep(context=context)

    assert "halted" == report.result
    assert ["chat|unrecordable"] == list(world.halts())
    assert 29 == world.counters()["deletions|chat|thread"]
    assert context.outbox
    context.outbox.close()
    (file,) = abandoned(tmp_path / "outbox")
    assert [[ids[7]]] == [[one["id"] for one in batch.said["settled"]] for batch in file.batches]

    assert 1 == await replay(world.context().ledger, context.outbox, world.watch.epoch)
    assert 30 == world.counters()["deletions|chat|thread"]
    assert [] == list((tmp_path / "outbox").iterdir())


class Away:
    """A Redis that takes no outcome until it is back: ``refused`` counts how often it said so."""

    def __init__(self, ledger: Ledger, text: str) -> None:
        self.back = False
        self.refused = 0
        self._recording, self._text = ledger.record, text
        ledger.record = self._record  # type: ignore[method-assign]

    async def _record(self, partition: Partition, batch: Any) -> Any:
        if batch["settled"] and not self.back:
            self.refused += 1
            raise RegistryRefused(f"the registry refused: {self._text}")
        return await self._recording(partition, batch)


async def test_while_outcomes_wait_nothing_is_claimed(world: World) -> None:
    world.seed(400)
    context = world.context(concurrency=8)
    away = Away(context.ledger, "BUSY")
    sweeping = asyncio.create_task(world.sweep(context=context))
    await world.until(lambda: away.refused > 2)

    assert len(world.deletes()) <= 100 + 2 * 8
    away.back = True
    assert {"deleted": 400} == dict((await sweeping).outcomes)


async def test_a_confirmation_is_final_whatever_redis_does_with_what_it_means_for_others(world: World) -> None:
    world.seed(5)
    context = world.context()

    async def react(verdict: Verdict) -> str | None:
        raise RegistryRefused(f"the registry refused: LOADING {verdict.outcome}")

    context.throttle.react = react  # type: ignore[method-assign]

    assert {"deleted": 5} == dict((await world.sweep(context=context)).outcomes)


# --- leases that were taken over


@pytest.fixture
async def taken_over(world: World) -> Any:
    """Return a claim whose lease ran out, and the ledger of the worker that is late."""
    (id_,) = world.seed(1)
    ledger = world.context().ledger
    await ledger.adopt(world.rule)
    (late,) = (await ledger.claim(world.rule, world.settings, 10)).claims
    world.raw.zadd(f"{world.slot()}chat:claims", {id_: 0})
    await ledger.claim(world.rule, world.settings, 10)
    world.unpromised = {"count", "uncounted", "living", "unconfirmed", "record", "lost", "unproven", "duplicate"}
    return late, ledger


LIVES = ["waiting", "claimed", "already_gone", "deleted", "registered anew"]


@pytest.mark.parametrize("life", LIVES)
async def test_a_confirmed_deletion_of_a_lease_taken_over_is_counted_once(
    world: World, taken_over: tuple[Claim, Ledger], life: str
) -> None:
    late, ledger = taken_over
    id_ = late.resource.id
    if life != "waiting":
        (own,) = (await ledger.claim(world.rule, world.settings, 1, alone=True)).claims
        outcome = {"already_gone": Outcome.ALREADY_GONE}.get(life, Outcome.DELETED)
        if life != "claimed":
            await ledger.settle(
                world.rule.partition, OutcomeBatch([settlement(own, Verdict(outcome))], {}, 3, listable=False)
            )
    if life == "registered anew":
        world.registry.register("thread", id_, "chat", expires_in="30d")
    before = world.counters()

    for _ in range(2):
        done = await ledger.settle(
            world.rule.partition, OutcomeBatch([settlement(late, Verdict(Outcome.DELETED))], {}, 3, listable=False)
        )
        assert () == done.refused

    counters = world.counters()
    assert 1 + before.get("deletions|chat|thread", 0) == counters["deletions|chat|thread"]
    assert all(counters[name] >= n for name, n in before.items()), "no counter is lowered"
    assert 1 == sum(one["event"] == "corrected" for one in world.audit())
    assert ("tracked" if life == "registered anew" else None) == world.state(id_)
    assert not world.raw.hexists(f"{world.slot()}graves", id_)


# --- the outbox


def test_an_outbox_that_others_could_write_or_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").write_text("")
    for name, why in {"link": "symbolic link", "open": "written by others", "file": "cannot be made"}.items():
        with pytest.raises(ConfigError, match=why):
            check(tmp_path / name)
    for new in ("new", "open/state"):
        check(tmp_path / new)
        assert 0o700 == (tmp_path / new).stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "user", "volume"),
    [
        (0o42775, 0, 10001, 10001, True),
        (0o42775, 0, 0, 10001, False),
        (0o42775, 5, 10001, 10001, False),
        (0o42770, 10001, 10001, 10001, True),
        (0o40770, 10001, 10001, 10001, False),
        (0o42770, 10001, 7, 10001, False),
        (0o40775, 0, 0, 0, False),
    ],
)
def test_a_volume_that_kubernetes_gives_to_a_group_is_no_strangers(
    mode: int, uid: int, gid: int, user: int, volume: bool
) -> None:
    told = os.stat_result((mode, 1, 1, 2, uid, gid, 0, 0, 0, 0))

    assert volume == of_group(told, user, {user, 10001})


@pytest.mark.parametrize(
    ("mode", "uid", "user", "followed"),
    [(0o120777, 0, 64187, True), (0o120777, 5, 64187, False), (0o120777, 0, 0, False), (0o40700, 0, 64187, False)],
)
def test_a_link_that_systemd_makes_for_a_unit_is_followed(mode: int, uid: int, user: int, followed: bool) -> None:
    assert followed == of_system(os.stat_result((mode, 1, 1, 1, uid, uid, 0, 0, 0, 0)), user)


def files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.outbox")


async def test_what_a_killed_process_left_is_recorded_by_the_next_and_once(world: World, tmp_path: Path) -> None:
    """It is killed after its line was on disk: before or after Redis took the batch, nobody can know."""
    world.unpromised = {"count", "uncounted", "living", "unconfirmed", "record", "lost", "duplicate"}
    (first, second) = world.seed(2)
    ledger = world.context().ledger
    await world.watch.look()
    await ledger.adopt(world.rule)
    claims = (await ledger.claim(world.rule, world.settings, 10)).claims
    outbox = Outbox(tmp_path / "outbox")
    for claim, taken in zip(claims, (True, False), strict=True):
        batch = OutcomeBatch([settlement(claim, Verdict(Outcome.DELETED))], {}, 3, listable=False).stored("w")
        outbox.keep(Unrecorded("lapse", world.watch.epoch, "openai", "thread", batch["batch"], batch))
        if taken:
            await ledger.record(world.rule.partition, batch)
    assert [] == list(abandoned(tmp_path / "outbox")), "its process lives"
    (path,) = files(tmp_path / "outbox")
    assert 0o600 == path.stat().st_mode & 0o777
    with path.open("ab") as file:
        file.write(b'{"namespace": "lapse", "ep')  # a line that the kill cut off
    os.close(outbox._file)  # type: ignore[arg-type]

    other = Outbox(tmp_path / "outbox")
    assert 0 == await replay(ledger, other, "another epoch")
    assert [path] == list(files(tmp_path / "outbox"))
    assert 2 == await replay(ledger, other, world.watch.epoch)

    assert 2 == world.counters()["deletions|chat|thread"]
    assert [None, None] == [world.state(first), world.state(second)]
    assert [] == list(files(tmp_path / "outbox"))
    assert 0 == await replay(ledger, other, world.watch.epoch)


def unrecorded(batch: str, epoch: str = "one") -> Unrecorded:
    said = {"id": batch, "token": 5, "policy": "chat", "due": 1, "act": "done", "outcome": "deleted"}
    stored = {"batch": batch, "worker": "w", "attempts": 3, "listable": False, "counters": {}, "settled": [said]}
    return Unrecorded("lapse", epoch, "openai", "thread", batch, stored)


def test_what_is_kept_after_a_full_disk_cut_a_line_off_is_no_part_of_that_line(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.keep(unrecorded("before"))
    (path,) = files(tmp_path / "outbox")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            outbox.keep(unrecorded("cut off"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    outbox.keep(unrecorded("after"))
    outbox.close()

    (file,) = abandoned(tmp_path / "outbox")
    assert ["before", "after"] == [one.batch for one in file.batches]


async def test_a_batch_is_recorded_once_though_another_registrys_keeps_its_file(world: World, tmp_path: Path) -> None:
    world.unpromised = {"count", "uncounted", "living", "unconfirmed", "record", "lost", "duplicate"}
    outbox, ledger = Outbox(tmp_path / "outbox"), world.context().ledger
    outbox.keep(unrecorded("mine"))
    outbox.keep(unrecorded("lost", epoch="another"))
    outbox.close()

    assert 1 == await replay(ledger, outbox, "one")
    assert 0 == await replay(ledger, outbox, "one"), "weeks later Redis would not know it any more"

    (file,) = abandoned(tmp_path / "outbox")
    assert ["lost"] == [one.batch for one in file.batches]


async def test_confirmations_are_on_disk_while_redis_refuses_and_gone_once_it_took_them(
    world: World, tmp_path: Path
) -> None:
    ids = world.seed(3)
    context = replace(world.context(), outbox=Outbox(tmp_path / "outbox"))
    away = Away(context.ledger, "NOREPLICAS")
    sweeping = asyncio.create_task(world.sweep(context=context))
    await world.until(lambda: list(files(tmp_path / "outbox")))
    (path,) = files(tmp_path / "outbox")
    kept = [one["id"] for line in path.read_text().splitlines() for one in json.loads(line)["said"]["settled"]]
    assert kept
    assert set(kept) <= set(ids)
    away.back = True

    assert {"deleted": 3} == dict((await sweeping).outcomes)
    assert [] == list(files(tmp_path / "outbox"))


async def test_a_worker_that_is_to_end_does_not_wait_for_redis_for_ever(world: World, tmp_path: Path) -> None:
    """What was confirmed is on disk; its leases run out by themselves."""
    world.unpromised = {"count", "record", "lost", "overdue", "unconfirmed"}
    world.settings = replace(world.settings, lease=2.0)
    ids = world.seed(3)
    context = replace(world.context(), outbox=Outbox(tmp_path / "outbox"))
    away = Away(context.ledger, "MISCONF")

    with pytest.raises(RegistryRefused):
        await world.sweep(context=context)

    assert away.refused > 1
    assert context.outbox
    context.outbox.close()
    (file,) = abandoned(tmp_path / "outbox")
    kept = {one["id"] for batch in file.batches for one in batch.said["settled"]}
    assert set(ids) - world.sandbox.alive("thread") == kept
    away.back = True
    assert len(kept) == await replay(context.ledger, context.outbox, world.watch.epoch)
    assert len(kept) == world.counters()["deletions|chat|thread"]


@pytest.mark.parametrize("told_to_end", [False, True])
async def test_what_is_confirmed_while_others_wait_for_redis_is_on_disk_as_well(
    world: World, tmp_path: Path, told_to_end: bool
) -> None:
    """Answers come in while earlier ones are said again and again: 16 deletions were lost so by each process."""
    world.unpromised = {"count", "record", "lost", "overdue", "unconfirmed"}
    world.settings = replace(world.settings, lease=6.0)
    ids = world.seed(60)
    world.sandbox.faults([{"method": "DELETE", "latency": "100ms"}])
    context = replace(world.context(concurrency=8), outbox=Outbox(tmp_path / "outbox"))
    away = Away(context.ledger, "MISCONF")
    away.back = True
    sweeping = asyncio.create_task(world.sweep(context=context))
    await world.until(lambda: len(world.deletes()) > 12)
    away.back = False
    await world.until(lambda: away.refused)
    world.stop.on = told_to_end

    with pytest.raises(RegistryRefused):
        await sweeping

    assert context.outbox
    context.outbox.close()
    (file,) = abandoned(tmp_path / "outbox")
    kept = [one["id"] for batch in file.batches for one in batch.said["settled"] if one["outcome"] == "deleted"]
    gone, recorded = set(ids) - world.sandbox.alive("thread"), world.counters()["deletions|chat|thread"]
    assert len(gone) == recorded + len(set(kept))
    assert set(kept) <= gone
    away.back = True
    await replay(context.ledger, context.outbox, world.watch.epoch)
    assert len(gone) == world.counters()["deletions|chat|thread"]


async def test_items_that_were_confirmed_are_counted_however_the_attempt_ends(world: World) -> None:
    """The provider hangs in the middle of a conversation, and the worker is told to end: the attempt is cancelled."""
    world.settings = replace(world.settings, lease=60)
    world.unpromised = {"duplicate", "overdue"}
    world.rule = replace(world.rule, partition=Partition("openai", "conversation", "chat"))
    (id_,) = world.sandbox.seed("conversation", 1, items=30)
    world.registry.register("conversation", id_, "chat", created_at=1_600_000_000)
    world.sandbox.faults([{"method": "DELETE", "path": "*/items/*", "after": 12, "effect": "hang"}])
    sweeping = asyncio.create_task(world.sweep())
    await world.until(lambda: len(world.deletes()) >= 12)
    world.stop.on = True
    await sweeping

    items = [one for one in world.sandbox.requests() if one["answer"] == "deleted" and "/items/" in one["path"]]
    assert items
    assert len(items) == world.counters("conversation")["deletions|chat|conversation_item"]
