"""Following what workers erase, with a bar, until nothing more is to be expected soon."""

import asyncio
import time

from lapse.cli import output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.inprocess import WORKERS_LIVE
from lapse.cli.progress import Advance, progress
from lapse.ledger.erasure.account import account_of
from lapse.ledger.erasure.request import ErasureAccount, Fate
from lapse.ledger.erasure.requests import slots
from lapse.registry import keys

LOOK_EVERY = 0.5
"""Seconds between two looks at how many are gone."""
SOON = 30.0
"""Seconds; what is tried again later than that is not waited for."""
PATIENCE = 120.0
"""Seconds without anything gone, after which it is left to the workers."""


def follow(session: Invocation, account: ErasureAccount, *, quiet: bool) -> None:
    """Show how what a request found goes, until what is left waits for somebody; Ctrl-C leaves it to the workers."""
    output.note("workers erase; this may be left, lapse erase status goes on telling", output.DIM)
    with progress("erasing", len(account.ids), quiet=quiet) as advance:
        session.run(lambda access: _follow(access, account.request.id, advance))


async def _follow(access: RegistryAccess, request_id: str, advance: Advance) -> None:
    prefixes = [keys.slot(access.ledger.namespace, *slot) for slot in await slots(access.ledger)]
    names, before = [f"{prefix}{name}:{request_id}" for prefix in prefixes for name in keys.OUTCOMES], -1
    moved = time.monotonic()
    while time.monotonic() - moved < PATIENCE:
        gone = sum(await access.carrier.run([("HLEN", name) for name in names]))
        advance(gone)
        # Every id is looked at only while nothing moves: that is one read of each.
        if gone == before and not await _goes_on(access, request_id):
            return
        moved = moved if gone == before else time.monotonic()
        before = gone
        await asyncio.sleep(LOOK_EVERY)
    output.note("nothing moved for a while: it is left to the workers", output.WARN)


async def _goes_on(access: RegistryAccess, request_id: str) -> bool:
    """Return True if workers are about to erase something more."""
    now = await access.control.now()
    beat = (await access.control.published()).get("beat")
    if not beat or now - int(beat) > WORKERS_LIVE * 1000:
        output.note("no worker runs: it goes on when one does", output.WARN)
        return False
    left = (await account_of(access.ledger, request_id)).open
    return any(one.fate is Fate.PENDING and not one.blocked and (one.again or 0) < now + SOON * 1000 for one in left)
