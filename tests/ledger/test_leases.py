"""Requests and the lease they belong to: what is begun late, cut off, or lies in a buffer when the lease is over."""

import asyncio
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lapse import Answer
from lapse.policy import Keep
from lapse.sweep import executor
from providers.stalled import StalledPeer
from support.sweep_stalled import LEASE, LONGER
from support.world import DAY, World

FULL = b"\r\n\r\n"  # the end of a request without a body: before it, nobody can act on it


def when_leased(world: World, kind: str) -> float:
    """Return when the one claim of a kind was made, in seconds since 1970."""
    (intent,) = [one for one in world.audit(kind) if one["event"] == "intent"]
    return float(intent["at"]) / 1000


def events(world: World) -> list[str]:
    """Return what became of the one id, in order."""
    return [one["event"] for one in world.audit() if "id" in one and one["event"] != "rules"]


async def test_no_item_is_deleted_when_its_claim_may_begin_no_more(world: World) -> None:
    """All of them had their tokens in time, and stood in line for the account's only connection."""
    (conversation,) = world.sandbox.seed("conversation", 1, items=8)
    ago = time.time() - 30 * DAY
    world.registry.register("conversation", conversation, "chat", created_at=ago, last_active_at=ago)
    world.sandbox.faults([{"method": "DELETE", "latency": "400ms"}])
    world.settings = replace(world.settings, lease=2)
    partition = replace(world.rule.partition, kind="conversation")

    await world.sweep(context=world.context(concurrency=1), partition=partition)

    leased = [one["at"] / 1000 for one in world.audit("conversation") if one["event"] == "intent"]
    deleted = [one["time"] for one in world.sandbox.requests() if one["method"] == "DELETE"]
    waited = [min(at - since for since in leased if since <= at) for at in deleted]
    assert 9 == len(deleted)
    assert max(waited) < world.settings.lease / 2 + 0.2
    assert len(leased) > 1
    assert set() == world.sandbox.alive("conversation")
    assert 8 == world.counters("conversation")["deletions|chat|conversation_item"]


class TestSliceEnd:
    """A sweep that is over waits a little for what is in flight, and cuts off the rest."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(executor, "PATIENCE", 0.2)

    async def swept(self, world: World, method: str) -> str:
        (id_,) = world.seed(1)
        world.settings = replace(world.settings, budget=0.5)
        world.sandbox.faults([{"method": method, "effect": "hang"}])
        await world.sweep(keep=(Keep(name=None, metadata={"keep": "yes"}),))
        return id_

    async def test_is_no_attempt_of_what_was_only_read(self, world: World) -> None:
        id_ = await self.swept(world, "GET")

        assert ["intent", "released"] == events(world)
        assert "tracked" == world.state(id_)
        assert 0 == world.record(id_).attempts

    async def test_is_one_of_what_a_delete_was_sent_for(self, world: World) -> None:
        id_ = await self.swept(world, "DELETE")

        assert ["intent", "retried"] == events(world)
        assert ("waiting", 1) == (world.state(id_), world.record(id_).attempts)


async def test_nothing_leaves_a_stopped_worker_after_its_lease(world: World) -> None:
    """Its DELETE lies in the kernel's buffer before a stalled link when it is stopped; a hold says ok meanwhile."""
    world.rule = replace(world.rule, partition=replace(world.rule.partition, kind="file"))
    world.decides(world.rule)
    (id_,) = world.seed(1, kind="file")
    with StalledPeer() as peer:
        command = (sys.executable, "-m", "support.sweep_stalled", world.url, peer.url)
        process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[1])
        await world.until(lambda: peer.accepted.is_set() and "claimed" == world.state(id_, "file"))
        await asyncio.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        assert Answer.TOO_LATE is world.registry.hold("file", id_, reason="looking into it")
        await asyncio.sleep(when_leased(world, "file") + LEASE + 0.05 - time.time())
        world.account = replace(world.account, base_url=peer.url, organization=LONGER)
        await world.sweep()  # another worker's, which finds the lease run out
        assert "held" == world.state(id_, "file")

        assert Answer.OK is world.registry.hold("file", id_, reason="looking into it")
        await asyncio.to_thread(peer.go_on)
        process.send_signal(signal.SIGCONT)
        await process.wait()

    assert peer.told.startswith(b"DELETE ")
    assert FULL not in peer.told
    assert "held" == world.state(id_, "file")
    assert "deletions|chat|file" not in world.counters("file")
