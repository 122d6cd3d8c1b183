"""The bar of a sweep by hand: it ends with the sweep, whatever it was waiting for just then."""

import asyncio

import pytest

from lapse.cli import inprocess
from lapse.cli.context import Invocation, RegistryAccess
from support.commandline import ENFORCED, Desk

ENOUGH = 60  # seconds for all of them; a bar that went on would never let one end


def session_of(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Invocation:
    desk.configure(ENFORCED)
    for name, value in desk.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(desk.directory)
    return Invocation(str(desk.config))


def test_a_bar_ends_while_it_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation that came with a reply was lost with it: the bar went on, and the command for ever."""
    session = session_of(desk, monkeypatch)
    monkeypatch.setattr(inprocess, "SHOW_EVERY", 0.0)

    async def work(access: RegistryAccess) -> None:
        for turns in range(300):
            async with inprocess.watched(access, session.rules("thread"), lambda _n: None):
                for _ in range(turns % 30):
                    await asyncio.sleep(0)

    async def within(access: RegistryAccess) -> None:
        await asyncio.wait_for(work(access), ENOUGH)

    session.run(within)


def test_a_bar_without_a_registry_ends_no_sweep(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(desk, monkeypatch)
    monkeypatch.setattr(inprocess, "SHOW_EVERY", 0.01)

    async def work(access: RegistryAccess) -> str:
        moved = asyncio.Event()
        async with inprocess.watched(access, session.rules("thread"), lambda _n: moved.set()):
            await moved.wait()
            desk.raw.config_set("maxclients", 1)
            desk.raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.2)
            desk.raw.config_set("maxclients", 10_000)
        return "swept"

    assert "swept" == session.run(work)
