"""Edges of a source that is registered again while a worker removes those of its earlier life."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from lapse.ledger.children import users
from lapse.ledger.edges import Release
from lapse.registry.commands import Commands
from lapse.registry.model import Resource
from lapse.registry.scripts import Call
from support.world import World

if TYPE_CHECKING:
    from lapse.registry.aio import Carrier

T = TypeVar("T")

STEPS = 5
"""Round trips of a pass: read, mark, read again, remove, let go."""


class Interleaved:
    """A worker's carrier. Each call that an application says is carried out before the step that is its turn.

    ``unprotected`` are the steps after which its target was not protected, though all its calls had been answered.
    """

    def __init__(self, world: World, used: str, says: Sequence[Call[Any]], turns: Sequence[int]) -> None:
        self.world, self.used, self.says, self.turns = world, used, list(says), list(turns)
        self.carrier = world.context().ledger.carrier
        self.steps, self.unprotected = 0, list[int]()

    async def carry(self, calls: Iterable[Call[Any]]) -> list[Any]:
        """Carry calls once the application had its turn."""
        return await self._step(lambda: self.carrier.carry(calls))

    async def carry_lasting(self, calls: Iterable[Call[Any]]) -> list[Any]:
        """Carry calls likewise: there is no replica here."""
        return await self.carry(calls)

    async def run(self, commands: Sequence[tuple[str | float, ...]]) -> list[Any]:
        """Run commands once the application had its turn."""
        return await self._step(lambda: self.carrier.run(commands))

    async def write(self, *commands: tuple[str | float, ...]) -> list[Any]:
        """Write once the application had its turn."""
        return await self._step(lambda: self.carrier.write(*commands))

    async def say(self) -> None:
        """Have what the application says next carried out."""
        self.turns.pop(0)
        await self.carrier.carry([self.says.pop(0)])

    async def _step(self, work: Callable[[], Awaitable[T]]) -> T:
        while self.says and self.turns[0] == self.steps:
            await self.say()
        answer = await work()
        self.steps += 1
        if not self.says and not self.world.registry.get("thread", self.used).used_by:  # type: ignore[union-attr]
            self.unprotected.append(self.steps)
        return answer


@pytest.mark.parametrize("turns", list(combinations_with_replacement(range(STEPS + 1), 3)))
async def test_what_is_registered_again_is_protected_from_its_answer_on(world: World, turns: tuple[int, ...]) -> None:
    """Wherever the calls of one registration lie between a worker's steps; the worker may end after any of them."""
    (used,) = world.seed(1)
    given: dict[str, Any] = {"uses": [("thread", used)]}
    world.registry.register("thread", "thread_source", "other", **given)
    world.registry.forget("thread", "thread_source", release=True)
    commands = Commands("lapse", "openai")
    says = commands.register(commands.registration("thread", "thread_source", "other", **given)).calls
    between = Interleaved(world, used, says, turns)

    await Release(cast("Carrier", between), commands, "openai", "thread").run()
    while between.says:
        await between.say()
    await world.context().ledger.release_edges("openai", "thread")
    await world.sweep()

    assert [] == between.unprotected
    assert between.steps <= STEPS
    assert {used} == world.sandbox.alive("thread")
    assert "referenced" == world.state(used)
    world.registry.register("thread", "thread_source", "other", **given)  # for the oracle, which saw no call of it


async def test_two_passes_at_once_remove_an_edge_once_and_leave_nothing(world: World) -> None:
    (used,) = world.seed(1)
    world.registry.register("thread", "thread_source", "other", uses=[("thread", used)])
    world.registry.forget("thread", "thread_source", release=True)
    commands, other = Commands("lapse", "openai"), world.context().ledger
    inner = Interleaved(world, used, (), ())

    async def pass_by(calls: Iterable[Call[Any]]) -> list[Any]:
        chosen = list(calls)
        if chosen[0].script.name == "unrefer":
            await other.release_edges("openai", "thread")
        return await inner.carrier.carry(chosen)

    inner.carry = pass_by  # type: ignore[method-assign]
    await Release(cast("Carrier", inner), commands, "openai", "thread").run()

    assert [] == await users(other, Resource("openai", "thread", used), "thread")
    assert [] == world.raw.keys("lapse:{openai:thread}:leaving") + world.raw.keys("lapse:{openai:thread}:released")
