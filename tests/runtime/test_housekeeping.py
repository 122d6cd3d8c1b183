"""A housekeeping message that waited while another was worked on has nothing left to ask for."""

import asyncio

from lapse.runtime.host import Host
from lapse.runtime.jobs import Work
from support.commandline import Desk, desk

__all__ = ["desk"]


COPY = "paused|openai/thread/chat"


def kept(desk: Desk, sent: int | None) -> bool:
    """Let a worker take a housekeeping message; True if it kept house: a pause without a copy got one."""

    async def run() -> None:
        work = Work(Host(desk.environ, desk.directory))
        try:
            await work.housekeep(sent)
        finally:
            await work.aclose()

    desk.raw.hset("lapse:control", "openai/thread/chat", "{}")
    desk.raw.hdel("lapse:epoch", COPY)
    asyncio.run(run())
    return bool(desk.raw.hexists("lapse:epoch", COPY))


def last(desk: Desk) -> int:
    return int(desk.raw.hget("lapse:published", "kept") or 0)


def test_it_is_kept_once_for_all_messages_that_were_sent_before(desk: Desk) -> None:
    assert kept(desk, 1_700_000_000_000)
    began = last(desk)

    assert not kept(desk, began - 1)
    assert str(began - 1) == desk.raw.hget("lapse:published", "tick")
    assert kept(desk, began)
    assert kept(desk, None)


def test_a_server_whose_clock_was_ahead_keeps_nobody_from_it(desk: Desk) -> None:
    assert kept(desk, None)
    desk.raw.hset("lapse:published", "kept", last(desk) + 300_000)

    assert kept(desk, last(desk) - 300_001)
