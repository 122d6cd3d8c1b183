"""What is printed, typed as it stands and in its order by somebody who does not read: no living id is lost."""

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lapse.cli.operate.remedies import CONFIRM, REMEDIES, told
from lapse.ledger.halts import Halt, Halts
from lapse.ledger.reasons import UNANSWERED
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from support.commandline import ENFORCED, Desk

THREADS = Partition("openai", "thread", "chat")
GUARDED = ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n"
IDLE = """
[policies.idle]
kind = "assistant"
orphan = { min_age = "1s", seen = 2, uses = "none", max_share = "unlimited" }
mode = "enforce"
"""


def printed(*texts: str) -> list[str]:
    """Return the commands that were shown, in their order, each once."""
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("lapse ")))


def shown(desk: Desk) -> list[str]:
    return printed(desk.run("status").out, desk.run("plan").out, desk.run("resume").err)


def typed(desk: Desk) -> None:
    """Type all that is printed, and let workers sweep after each."""
    for command in shown(desk):
        desk.run(*shlex.split(command)[1:])
        desk.worker()


def reasons(desk: Desk, kind: str = "thread") -> set[str]:
    return {name.partition("|")[2] for name in desk.halts(kind)}


@dataclass(frozen=True, slots=True)
class Case:
    """A mistake that halts: how it comes about, returning ids that have to live, and how it is put back."""

    come_about: Callable[[Desk], set[str]]
    put_back: Callable[[Desk], None]
    reason: str
    kind: str = "thread"


def shorten(desk: Desk) -> set[str]:
    desk.configure(GUARDED)
    desk.worker()
    alive = set(desk.seed(9, days=3))
    desk.worker()
    desk.configure(GUARDED.replace("7d", "1d"))
    desk.worker()
    return alive


def move_away(desk: Desk) -> set[str]:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.worker()
    alive = set(desk.seed(6, days=3))
    desk.configure(ENFORCED.replace("7d", "2d"), type='"openai"\nproject = "proj_other"')
    desk.worker()
    return alive


def lose_the_sight(desk: Desk) -> set[str]:
    desk.configure(ENFORCED)
    alive = set(desk.seed(4))
    desk.sandbox.faults([{"effect": "wrong_project"}])
    for _ in range(3):
        desk.worker()
        soon(desk, alive)
    return alive


def soon(desk: Desk, ids: set[str]) -> None:
    """Let what waits be tried again at once."""
    for id_ in ids:
        desk.raw.zadd("lapse:{openai:thread}:chat:waiting", {id_: 1}, xx=True)


def lose_the_holds(desk: Desk) -> set[str]:
    desk.configure(ENFORCED + IDLE)
    desk.worker()
    desk.raw.hset("lapse:epoch", "created", 1)
    alive = set(desk.seed(4, kind="assistant", policy="idle"))
    for id_ in alive:
        desk.registry.hold("assistant", id_, reason="a case")
    desk.raw.rename("lapse:{openai:assistant}:holds", "away")
    desk.worker(sweeps=2)
    return alive


def put_the_holds_back(desk: Desk) -> None:
    desk.raw.rename("away", "lapse:{openai:assistant}:holds")


def forget_what_uses_them(desk: Desk) -> set[str]:
    """Flush the registry while no worker runs; the application registers its assistants, and not what uses them."""
    desk.configure(ENFORCED + IDLE)
    alive = set(desk.seed(4, kind="assistant", policy="idle"))
    desk.raw.flushall()
    desk.worker()
    for id_ in alive:
        desk.registry.register("assistant", id_, "idle")
    desk.raw.hincrby("lapse:epoch", "created", -60_000)
    desk.worker(sweeps=3)
    return alive


def register_their_users(desk: Desk) -> None:
    for id_ in desk.sandbox.alive("assistant"):
        desk.registry.register("thread", f"thread_of_{id_}", "chat", uses=[("assistant", id_)])


CASES = (
    Case(shorten, lambda desk: desk.configure(GUARDED), "cutoff_jumped"),
    Case(move_away, lambda desk: desk.configure(ENFORCED), "identity_changed"),
    Case(lose_the_sight, lambda desk: desk.sandbox.faults(), "no_witness"),
    Case(lose_the_holds, put_the_holds_back, "registry_damaged", "assistant"),
    Case(forget_what_uses_them, register_their_users, "older_than_registry", "assistant"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda one: one.reason)
def test_without_the_edit_what_is_printed_gives_nothing_up(desk: Desk, case: Case) -> None:
    alive = case.come_about(desk)
    assert case.reason in reasons(desk, case.kind)

    typed(desk)

    assert alive <= desk.sandbox.alive(case.kind)
    assert case.reason in reasons(desk, case.kind)
    assert not alive & set(desk.raw.hkeys(f"lapse:{{openai:{case.kind}}}:graves"))


@pytest.mark.parametrize("case", [one for one in CASES if one.reason != "no_witness"], ids=lambda one: one.reason)
def test_with_the_edit_made_first_the_halt_ends_and_everybody_lives(desk: Desk, case: Case) -> None:
    alive = case.come_about(desk)
    told_before = shown(desk)

    case.put_back(desk)
    desk.worker(sweeps=2)
    for command in told_before:  # even with the name: after the answer that loses nothing it is refused
        desk.run(*shlex.split(command.replace("PROVIDER", "openai"))[1:])
    desk.worker(sweeps=2)

    assert {} == desk.halts(case.kind)
    assert alive <= desk.sandbox.alive(case.kind)


async def halted(desk: Desk) -> None:
    carrier = Carrier(desk.environ["REDIS_URL"], 5)
    try:
        for reason in REMEDIES:
            plan = "3f2a91c0d4e5" if reason in {"cutoff_jumped", "orphan_share", "older_than_registry"} else None
            await Halts(carrier, "lapse").halt(THREADS, reason, "a case", plan=plan)
    finally:
        await carrier.aclose()


@pytest.mark.timeout(600)
def test_nothing_printed_answers_what_gives_something_up(desk: Desk) -> None:
    """All halts at once: the answer to one that loses nothing is none to the others."""
    desk.configure(ENFORCED)
    desk.worker()
    asyncio.run(halted(desk))

    for command in shown(desk):
        desk.run(*shlex.split(command)[1:])

    waiting = {reason for reason, one in REMEDIES.items() if one.gives_up or reason in UNANSWERED}
    assert waiting - {"cutoff_jumped"} == reasons(desk)  # its plan is none: counted again, nothing stands in the way


def test_the_other_answer_says_how_many_ids_it_gives_up(desk: Desk) -> None:
    shorten(desk)
    plan = next(halt["plan"] for halt in desk.halts().values())

    refused = desk.run("approve", plan)

    assert 8 == refused.code
    assert "give up 9 ids: what became due by the edit is deleted" in refused.err
    assert 8 == desk.run("approve", plan, "--confirm=PROVIDER").code
    assert 0 == desk.run("approve", plan, "--confirm=openai").code


@pytest.mark.parametrize("reason", REMEDIES)
def test_every_halt_is_told_in_the_same_order(reason: str) -> None:
    lines = list(told(Halt("openai", "thread", "*", reason, "a case", 1_700_000_000_000)))

    assert ("To check:", True) == (lines[0], lines[1].startswith("  lapse "))
    risky = [line for line in lines if CONFIRM in line]
    assert risky == ([lines[-1]] if REMEDIES[reason].gives_up else [])
    assert not any("{" in line or "  lapse resume  " in line for line in lines)
