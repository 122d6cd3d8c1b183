"""What workers do for subjects: each slot knows who is held, ended holds let go, and older registrations are found."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from lapse.ledger.connection import LedgerConnection, apart
from lapse.registry import keys
from lapse.registry.protocol import asked
from lapse.registry.scripts import text
from lapse.registry.subjects import ENDED, Subjects, last_said

FACTS_A_STEP = 500
INDEXING = 5.0  # seconds of one round of housekeeping
APPLIED = 20_000  # ids of one subject in one slot, for one round of housekeeping
INDEXED_ANEW = 86400.0  # seconds; an application that runs an older version registers what no index has

log = structlog.get_logger("lapse")


class IndexProgress(NamedTuple):
    """How far the older registrations of a slot can be found by their subject: ``looked`` at of ``facts``, or whole."""

    looked: int
    facts: int
    whole: bool


async def keep(ledger: LedgerConnection, slots: Sequence[tuple[str, str]], until: float) -> None:
    """Bring every slot up to date, as far as time lasts.

    Args:
        ledger: The registry.
        slots: Every (provider, kind).
        until: When to leave off, on ``time.monotonic``'s clock.

    Raises:
        RegistryUnavailable: no answer in time; what is left is done next time.
        RegistryRefused: Redis refused what is about no slot alone.

    """
    subjects = Subjects(ledger.commands)
    if await ledger.carrier.say(subjects.regain(slots)):
        log.error("subjects.regained", fix="the list of held subjects was lost; it was written anew from a slot's copy")
    await _end_holds(ledger, subjects)
    number = await ledger.carrier.say(last_said(ledger.namespace))
    for slot in slots:
        with apart("subjects.not_told", provider=slot[0], kind=slot[1]):
            await _told(ledger, subjects, slot, number, until)
    until = min(until, time.monotonic() + INDEXING)
    for slot in slots:
        with apart("subjects.not_indexed", provider=slot[0], kind=slot[1]):
            while time.monotonic() < until and await _indexed(ledger, slot):
                pass


async def _told(ledger: LedgerConnection, subjects: Subjects, slot: tuple[str, str], number: int, until: float) -> None:
    """Let a slot know all that was said, and let go there what is held no more."""
    if await _known(ledger, slot) < number:
        await ledger.tell_subjects(*slot)
    for subject in await _ended(ledger, slot):
        if time.monotonic() < until:
            await ledger.carrier.say(subjects.apply(slot, subject, APPLIED))


async def index_progress(ledger: LedgerConnection, slots: Sequence[tuple[str, str]]) -> IndexProgress:
    """Return how far a worker has come with what clients of an older version registered."""
    names = [keys.slot(ledger.namespace, *slot) for slot in slots]
    said = await ledger.carrier.run(
        [
            command
            for name in names
            for command in (("HMGET", name + keys.SUBJECT_INDEX, "whole", "looked"), ("HLEN", name + keys.FACTS))
        ]
    )
    pairs = zip(said[::2], said[1::2], strict=True)
    done = [pair for pair in pairs if not any(isinstance(reply, Exception) for reply in pair)]
    return IndexProgress(
        sum(facts if whole else int(looked or 0) for (whole, looked), facts in done),
        sum(facts for _, facts in done),
        len(done) == len(names) and all(whole or not facts for (whole, _), facts in done),
    )


async def _end_holds(ledger: LedgerConnection, subjects: Subjects) -> None:
    """Say of holds that end by themselves that they have ended."""
    clock, listed = await ledger.carrier.run([("TIME",), ("HGETALL", keys.held_subjects(ledger.namespace))])
    now = int(clock[0]) * 1000 + int(clock[1]) // 1000
    for subject, hold in subjects.over(listed, now):
        await ledger.carrier.say(subjects.end(subject, hold))


async def _known(ledger: LedgerConnection, slot: tuple[str, str]) -> int:
    """Return up to which number a slot knows what was said; -1 if it was told nothing yet."""
    name = keys.slot(ledger.namespace, *slot) + keys.PROTECTED
    (number,) = await ledger.carrier.say(asked(("HGET", name, keys.SUBJECTS)))
    return int(number or -1)


async def _ended(ledger: LedgerConnection, slot: tuple[str, str]) -> list[str]:
    """Return the subjects whose hold is over, and whose ids are still to be let go."""
    name = keys.slot(ledger.namespace, *slot) + keys.SUBJECT_HOLDS
    (flat,) = await ledger.carrier.say(asked(("HGETALL", name)))
    return [text(name) for name, hold in zip(flat[::2], flat[1::2], strict=True) if text(hold) == ENDED]


async def _indexed(ledger: LedgerConnection, slot: tuple[str, str]) -> bool:
    """Look at some facts of a slot; True if there are more."""
    ((seconds, _),) = await ledger.carrier.run([("TIME",)])
    before = round((int(seconds) - INDEXED_ANEW) * 1000)
    call = ledger.on_slot("ledger/lua/housekeeping/index_subjects", *slot, FACTS_A_STEP, before, parse=int)
    return bool((await ledger.carrier.carry([call]))[0])
