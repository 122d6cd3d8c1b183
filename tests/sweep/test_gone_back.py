"""A registry that goes back to before a claim while its request is at the provider: after a crash, or a failover."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lapse.audit import shipper
from lapse.audit.chain import Seal
from lapse.audit.shipper import FileSink, Mover
from lapse.audit.verify import Verification
from lapse.guards.integrity import continuity
from lapse.ledger.claim import Claim
from lapse.ledger.reasons import HaltReason
from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.policy.tables import Pace
from lapse.providers.outcomes import Outcome, Verdict
from lapse.registry.aio import Carrier
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis
from lapse.sweep.deletion.recorder import progress
from support.erased_places import lapse_leases, wait_out
from support.world import World


@dataclass
class Crashing:
    """A world whose registry forgets what was written since it was last kept."""

    world: World
    server: EmbeddedRedis

    def keep(self) -> None:
        self.world.raw.save()

    def go_back(self) -> None:
        self.server.stop(kill=True)
        self.server.start()


@pytest.fixture
async def crashing(sandbox: Sandbox) -> AsyncIterator[Crashing]:
    with EmbeddedRedis() as server:
        world = World(server.url, sandbox, Carrier(server.url, 5))
        # What is written of a claim, the audit's intent included, is gone with it: the tests look for themselves.
        world.unpromised |= {"record", "lost"}
        yield Crashing(world, server)
        await world.end()


ANSWERS: dict[str, dict[str, Any]] = {
    "deleted": {},
    "an error": {"effect": "error", "status": 500},
    "lost": {"effect": "reset", "execute": True},
}


async def nothing(world: World, id_: str) -> None:
    pass


async def held(world: World, id_: str) -> None:
    assert world.registry.hold("thread", id_, reason="case 7")


async def touched(world: World, id_: str) -> None:
    assert world.registry.touch("thread", id_)


async def registered_anew(world: World, id_: str) -> None:
    assert world.registry.register("thread", id_, "chat")


Then = Callable[[World, str], Awaitable[None]]


@pytest.mark.parametrize("then", [nothing, held, touched, registered_anew])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_what_was_asked_for_is_counted_and_what_was_said_since_stands(
    crashing: Crashing, answer: str, then: Then
) -> None:
    """What the provider confirms is counted; where it did not, what stands is what the application says since."""
    world = crashing.world
    world.rule = replace(world.rule, anchor="last_active_at")
    gone, used = world.seed(2)
    assert world.registry.touch("thread", used)
    await world.sweep()
    assert {used} == world.sandbox.alive("thread")
    (id_,) = world.seed(1)
    crashing.keep()
    world.sandbox.faults([{"method": "DELETE", "latency": "700ms", **ANSWERS[answer]}])
    sweeping = asyncio.create_task(world.sweep())
    await world.until(lambda: world.state(id_) == "claimed")
    crashing.go_back()
    assert world.state(id_) == "tracked"

    await then(world, id_)
    await sweeping
    world.sandbox.faults([])
    for _ in range(3):
        lapse_leases(world)
        wait_out(world)
        await world.sweep()

    assert [gone, id_] == list(dict.fromkeys(world.deletes()))
    confirmed = 1 + (answer == "deleted" or (answer == "an error" and then is nothing))
    assert confirmed == world.counters()["deletions|chat|thread"]
    if answer == "deleted" or then is nothing:
        assert world.state(id_) is None
        assert {used} == world.sandbox.alive("thread")
    else:
        assert ("held" if then is held else "tracked") == world.state(id_)
        assert world.deletes().count(id_) == 1


def due_conversation(world: World) -> None:
    """Let the one policy be of conversations, and one of them be due."""
    world.rule = replace(world.rule, partition=replace(world.rule.partition, kind="conversation"))
    world.decides(world.rule)
    (id_,) = world.sandbox.seed("conversation", 1)
    world.registry.register("conversation", id_, "chat", created_at=1_600_000_000, last_active_at=1_600_000_000)


async def claimed(world: World, host: str) -> tuple[Claim, Any]:
    context = world.context(host=host)
    await context.ledger.adopt(world.rule)
    (claim,) = (await context.ledger.claim(world.rule, world.settings, 1)).claims
    return claim, context.ledger


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.LIMITED, Outcome.UNRECOGNISED, Outcome.KEPT])
async def test_a_lost_claim_says_nothing_of_the_one_that_took_its_place(crashing: Crashing, outcome: Outcome) -> None:
    """Both are of one id, and of one registry's count of claims, which went back too."""
    world = crashing.world
    (id_,) = world.seed(1)
    crashing.keep()
    lost, first = await claimed(world, "host-1")
    crashing.go_back()
    standing, second = await claimed(world, "host-2")
    assert lost.token < standing.token

    said = settlement(lost, Verdict(outcome))
    at = world.rule.partition
    recorded = await first.settle(at, OutcomeBatch([said], {}, 3, listable=False))

    assert (id_,) == recorded.refused
    assert "claimed" == world.state(id_)
    assert not world.registry.hold("thread", id_, reason="it is being deleted")
    deleted = settlement(standing, Verdict(Outcome.DELETED))
    assert not (await second.settle(at, OutcomeBatch([deleted], {}, 3, listable=False))).refused
    assert (None, 1) == (world.state(id_), world.counters()["deletions|chat|thread"])
    world.unpromised |= {"unconfirmed", "living", "uncounted", "count", "held"}  # no request was ever sent


async def test_items_of_a_lost_claim_and_of_the_one_in_its_place_are_all_counted(crashing: Crashing) -> None:
    world = crashing.world
    due_conversation(world)
    crashing.keep()
    lost, first = await claimed(world, "host-1")
    crashing.go_back()
    standing, second = await claimed(world, "host-2")
    await progress(first, lost, 8)
    await progress(second, standing, 16)

    for claim, ledger, items, told in ((lost, first, 10, 0), (standing, second, 20, 16)):
        said = replace(settlement(claim, Verdict(Outcome.LIMITED, items=items)), told=told)
        await ledger.settle(world.rule.partition, OutcomeBatch([said], {}, 3, listable=False))

    assert 30 == world.counters("conversation")["deletions|chat|conversation_item"]
    world.unpromised |= {"uncounted"}  # no item was ever asked for


async def test_workers_that_look_again_late_do_not_insist_on_what_was_lost(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file takes Redis a while to load: what was read of the registry before is an old reading by then."""
    world = crashing.world
    world.seed(3)
    await world.watch.look()
    crashing.keep()
    for _ in range(3):
        world.raw.hincrby("lapse:epoch", "at", -1000)
        await world.watch.look()
    assert 4 == int(world.raw.hget("lapse:epoch", "sequence"))
    crashing.go_back()
    assert 1 == int(world.raw.hget("lapse:epoch", "sequence"))
    monkeypatch.setattr(continuity, "SETTLED", 0)

    for _ in range(2):
        assert None is await world.watch.look()

    assert 3 == (await world.sweep()).outcomes["deleted"]


async def test_a_replica_that_was_behind_and_took_over_halts_however_late_workers_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server runs on, and lacks what a worker read while it ran: that was lost in no crash of this one."""
    world.seed(3)
    await world.until(lambda: world.raw.info("server")["uptime_in_seconds"] > 2)
    for _ in range(3):
        world.raw.hincrby("lapse:epoch", "at", -1000)
        await world.watch.look()
    world.raw.hset("lapse:epoch", mapping={"sequence": 1, "at": round((time.time() - 20) * 1000)})
    monkeypatch.setattr(continuity, "SETTLED", 0)

    await world.watch.look()
    trouble = await world.watch.look()

    assert trouble is not None
    assert (HaltReason.REGISTRY_ROLLED_BACK, True) == (trouble.reason, "a replica that was behind" in trouble.detail)
    assert "halted" == (await world.sweep()).result


@dataclass
class Moving:
    """An audit file, and whoever moves lines to it: another process each time."""

    world: World
    path: Path
    seal: Seal

    async def move(self, at_most: int = 1000) -> int:
        mover = Mover(self.world.carrier, "lapse", FileSink(self.path), self.seal)
        return await mover.move("openai", "thread", at_most=at_most)

    def write(self, *ids: str) -> None:
        for id_ in ids:
            self.world.raw.xadd("lapse:{openai:thread}:audit", {"e": json.dumps({"event": "settled", "id": id_})})

    def verified(self) -> list[str]:
        """Return the ids of the file's lines, in order, once each; nothing is wrong with it."""
        verdict = Verification([self.seal]).verify([self.path])
        assert [] == verdict.wrong
        lines = {line["seq"]: line["id"] for line in map(json.loads, self.path.read_text().splitlines())}
        return list(lines.values())


@pytest.fixture(params=[b"", b"k" * 32], ids=["no key", "key"])
def moving(request: pytest.FixtureRequest, crashing: Crashing, tmp_path: Path) -> Moving:
    return Moving(crashing.world, tmp_path / "audit.jsonl", Seal(request.param))


async def test_lines_that_the_registry_lost_and_those_in_their_place_verify(crashing: Crashing, moving: Moving) -> None:
    moving.write("one", "two")
    await moving.move()
    crashing.keep()
    for lost in ("lost", "lost too"):
        moving.write(lost)
        assert 1 == await moving.move()
    crashing.go_back()

    moving.write("three")
    assert 1 == await moving.move()
    moving.write("four", "five")
    assert 2 == await moving.move()

    assert ["one", "two", "lost", "lost too", "three", "four", "five"] == moving.verified()
    text = moving.path.read_text()
    moving.path.write_text("".join(line for line in text.splitlines(keepends=True) if '"lost too"' not in line))
    assert Verification([moving.seal]).verify([moving.path]).wrong


async def test_lines_that_the_registry_has_again_are_those_of_before(crashing: Crashing, moving: Moving) -> None:
    """That they were moved is what it forgot, of some; others are gone."""
    moving.write("one")
    await moving.move()
    moving.write("two", "three")
    crashing.keep()
    moving.write("lost")
    assert 3 == await moving.move()
    crashing.go_back()

    moving.write("four")
    assert [2, 1] == [await moving.move(2), await moving.move()]

    assert ["one", "two", "three", "lost", "four"] == moving.verified()


async def test_the_first_lines_of_all_are_lost_and_so_are_those_after_them(crashing: Crashing, moving: Moving) -> None:
    moving.write("one")
    crashing.keep()
    for number in range(3):
        moving.write(f"lost {number}")
        assert 2 == await moving.move()
        crashing.go_back()
    moving.write("two")
    assert 2 == await moving.move()

    assert ["one", "lost 0", "lost 1", "lost 2", "two"] == moving.verified()


async def test_more_was_lost_than_is_read_of_the_file(
    crashing: Crashing, moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a backup of hours ago."""
    moving.write("one")
    await moving.move()
    crashing.keep()
    lost = [f"lost {number}" for number in range(50)]
    moving.write(*lost)
    await moving.move()
    crashing.go_back()
    monkeypatch.setattr(shipper, "READ_BACK", 2000)

    moving.write("two", "three")
    await moving.move()
    moving.write("four")
    await moving.move()

    assert ["one", *lost, "two", "three", "four"] == moving.verified()


async def test_lines_of_a_server_that_took_over_with_a_clock_behind_are_moved_too(
    crashing: Crashing, moving: Moving
) -> None:
    """What was read is lost before it is trimmed, and what came instead has an earlier number."""
    stream = "lapse:{openai:thread}:audit"
    moving.write("one", "lost")

    class Failing(FileSink):
        def write(self, lines: bytes) -> None:
            super().write(lines)
            ((first, _), *_) = crashing.world.raw.xrange(stream)
            crashing.world.raw.delete(stream)
            at = f"{int(first.split('-')[0]) - 5000}-0"
            crashing.world.raw.xadd(stream, {"e": json.dumps({"event": "settled", "id": "two"})}, id=at)

    await Mover(crashing.world.carrier, "lapse", Failing(moving.path), moving.seal).move("openai", "thread", at_most=9)
    await moving.move()

    assert ["one", "lost", "two"] == moving.verified()


async def test_items_that_were_told_and_forgotten_are_told_again(crashing: Crashing) -> None:
    """The claim stands: what the worker says next is what it has deleted in all."""
    world = crashing.world
    due_conversation(world)
    claim, ledger = await claimed(world, "host-1")
    crashing.keep()
    assert await progress(ledger, claim, 8)
    crashing.go_back()

    assert await progress(ledger, claim, 16)
    said = replace(settlement(claim, Verdict(Outcome.LIMITED, items=20)), told=16)
    await ledger.settle(world.rule.partition, OutcomeBatch([said], {}, 3, listable=False))

    counters = world.counters("conversation")
    assert 20 == counters["deletions|chat|conversation_item"]
    assert not [name for name in counters if name.startswith("progress|")]
    world.unpromised |= {"uncounted"}  # no item was ever asked for


@pytest.mark.parametrize("claim_too", [True, False], ids=["with its claim", "alone"])
async def test_an_outcome_that_was_acknowledged_and_forgotten_counts_once_if_it_is_sent_again(
    crashing: Crashing, *, claim_too: bool
) -> None:
    """As from an outbox whose process ended before it had noted the acknowledgement."""
    world = crashing.world
    world.unpromised |= {"unconfirmed", "living", "uncounted", "count"}  # no request was ever sent
    (id_,) = world.seed(1)
    if claim_too:
        crashing.keep()
    claim, ledger = await claimed(world, "host-1")
    if not claim_too:
        crashing.keep()
    batch = OutcomeBatch([settlement(claim, Verdict(Outcome.DELETED))], {"requests||delete|200": 1}, 3, listable=False)
    await ledger.settle(world.rule.partition, batch)
    crashing.go_back()
    assert ("tracked" if claim_too else "claimed") == world.state(id_)

    for _ in range(2):
        await ledger.settle(world.rule.partition, batch)

    counters = world.counters()
    assert (1, 1) == (counters["deletions|chat|thread"], counters["requests||delete|200"])
    assert None is world.state(id_)
    assert not [name for name in counters if name.startswith("paid|")]


async def test_a_hold_of_a_subject_that_was_forgotten_keeps_no_worker_waiting(crashing: Crashing) -> None:
    """A process remembers the number of the last one, and insists that slots know of it."""
    world = crashing.world
    ids = world.seed(2)
    await world.watch.look()
    crashing.keep()
    world.registry.hold_subject("user:7", reason="case 7")
    await world.watch.look()
    crashing.go_back()

    for _ in range(2):
        await world.sweep()

    assert not set(ids) & world.sandbox.alive("thread")


@pytest.mark.parametrize("times", [1, 2])
async def test_a_pace_is_not_refunded_by_a_claim_that_was_forgotten(crashing: Crashing, times: int) -> None:
    world = crashing.world
    world.unpromised |= {"unconfirmed", "living", "uncounted", "count"}  # no request was ever sent
    world.rule = replace(world.rule, max_deletions=Pace(3, 86400.0))
    world.decides(world.rule)
    world.seed(3)
    crashing.keep()
    lost, first = await claimed(world, "host-1")
    crashing.go_back()
    await claimed(world, "host-2")
    rules = "lapse:{openai:thread}:chat:rules"
    assert "1" == world.raw.hget(rules, "pace_used")

    for _ in range(times):
        said = settlement(lost, Verdict(Outcome.LIMITED))
        await first.settle(world.rule.partition, OutcomeBatch([said], {}, 3, listable=False))

    assert "1" == world.raw.hget(rules, "pace_used")
