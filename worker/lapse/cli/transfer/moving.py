"""What ``lapse export --move`` does before the first line is written: from there on nothing here is deleted."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.ledger.reasons import HaltReason
from lapse.registry import keys
from lapse.registry.model import PURGED

AGAIN = 0.2
"""Seconds between two looks at what is in flight."""


@contextmanager
def moved(session: Invocation, slots: Sequence[tuple[str, str]], target: str | None, patience: float) -> Iterator[None]:
    """Halt everything as moved, unless there is no target; take that back if what is done under it fails.

    Raises:
        Refused: deletions in flight did not end in time, or the registry was moved before.

    """
    if target is None:
        yield
        return
    before = session.run(lambda access: access.control.moved())
    if before not in {None, target}:
        raise Refused(Code.HALTED, f"this registry was moved to {before} before")
    try:
        session.run(lambda access: _move(access, slots, target))
        _wait(session, slots, patience)
        yield
    except BaseException:
        if before is None:
            _take_back(session, slots, target)
        raise


async def _move(access: RegistryAccess, slots: Sequence[tuple[str, str]], target: str) -> None:
    await access.lasting()
    await access.control.move(slots, target)


def _wait(session: Invocation, slots: Sequence[tuple[str, str]], patience: float) -> None:
    deadline, told = time.monotonic() + patience, False
    while flying := _in_flight(session, slots):
        if time.monotonic() > deadline:
            waited = f"{formatting.count(flying, 'deletion')} did not come to an end within {patience:.0f} s"
            raise Refused(Code.TEMPORARY, f"{waited}: nothing was exported; --wait gives them longer")
        if not told:
            output.note(f"{formatting.count(flying, 'deletion')} in flight: waiting for their end.", output.DIM)
            told = True
        time.sleep(AGAIN)


def _in_flight(session: Invocation, slots: Sequence[tuple[str, str]]) -> int:
    """Return how many ids are leased: a lease that ran out is nobody's."""
    client: Any = session.exact
    now, found = session.view.now(), 0
    for slot in slots:
        prefix = keys.slot(session.namespace, *slot)
        for policy in (PURGED, *client.smembers(prefix + keys.POLICIES)):
            found += client.zcount(f"{prefix}{policy}:{keys.CLAIMS}", now, "+inf")
    return found


def _take_back(session: Invocation, slots: Sequence[tuple[str, str]], target: str) -> None:
    async def lift(access: RegistryAccess) -> None:
        for halt in await access.control.halts(slots):
            if halt.reason == HaltReason.MOVED:
                await access.control.lift(halt, "the export did not come to its end")
        await access.control.accept(HaltReason.MOVED)

    try:
        session.run(lift)
    except Exception:  # noqa: BLE001 - whatever it is, the first error is the one to tell
        output.note(
            f"This registry is halted as moved to {target}, and nothing was moved. Export again, or go on with it:"
            f' lapse resume --reason "..." --moved-to {target}',
            output.WARN,
        )
