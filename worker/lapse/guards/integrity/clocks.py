"""Is Redis TIME right? Two other clocks are asked: this host's own, and the ``Date`` of the provider's answers.

Redis TIME decides what is due, so a Redis that starts a month ahead would delete a month early, and nobody who did not
know it before could see a jump. The clock of one host may be wrong: only a Redis that is far from both is. None of the
two ever decides what is due.
"""

import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from lapse import durations
from lapse.guards.context import SweepContext
from lapse.guards.integrity.continuity import Trouble
from lapse.ledger.reasons import HaltReason
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Limited
from lapse.providers.response import Reply
from lapse.registry.model import Partition

if TYPE_CHECKING:
    from lapse.providers.provider import Provider

APART = 300_000
"""How many milliseconds Redis TIME may be from another clock."""

NOBODY = "lapse-asks-for-the-date"
"""An id that nothing has, for a kind that offers nothing else to ask for."""

FAR = "from every other clock"
_PATIENCE = 2.0  # seconds for a request token


def wall() -> int:
    """Return this host's time of day in milliseconds."""
    return round(time.time() * 1000)


def date_of(reply: Reply) -> int | None:
    """Return the ``Date`` of an answer in milliseconds (RFC 9110 section 6.6.1), or None if it says none."""
    try:
        return round(parsedate_to_datetime(reply.headers.get("date", "")).timestamp() * 1000)
    except ValueError:
        return None


def right(now: int, others: Iterable[int]) -> bool:
    """Return True if Redis TIME is near one of the other clocks at least."""
    return any(abs(now - other) <= APART for other in others)


def astray(now: int, own: int, date: int) -> Trouble | None:
    """Return what is wrong with Redis TIME if it is far from both other clocks."""
    if right(now, (own, date)):
        return None
    said = [f"{_apart(now, own)} this host's clock", f"{_apart(now, date)} the provider's"]
    return Trouble(HaltReason.CLOCK_JUMPED, f"Redis TIME is far {FAR}: {' and '.join(said)}")


def _apart(now: int, other: int) -> str:
    return f"{durations.show(abs(now - other) / 1000)} {'ahead of' if now > other else 'behind'}"


async def asked(provider: "Provider", kind: Kind) -> int | None:
    """Return the provider's time, by one request that changes nothing; None without an answer that says it."""
    reply = await provider.probe(kind) if kind.probe or kind.search else None
    reply = reply or await provider.read(kind, NOBODY)
    return date_of(reply)


async def doubt(context: SweepContext, partition: Partition) -> tuple[str, str] | None:
    """Halt everything while Redis TIME is astray, or end that halt; return the result of the sweep and why, or None.

    The provider is asked only if this host's clock and Redis TIME differ.
    """
    now = await context.control.now()
    if not right(now, (wall(),)):
        date = await _spent(context, partition)
        if date is None:
            return "refused", "Redis TIME is not this host's, and the provider does not say which of them is right"
        now = await context.control.now()
        if trouble := astray(now, wall(), date):
            await context.watch.halt(trouble)
            return "halted", trouble.detail
    for halt in await context.control.halts([(partition.provider, partition.kind)]):
        if halt.reason == HaltReason.CLOCK_JUMPED and FAR in halt.detail:
            await context.watch.trust_clock("it is near the other clocks again")
            break
    return None


async def _spent(context: SweepContext, partition: Partition) -> int | None:
    try:
        await context.throttle.spend(1, within=_PATIENCE)
        return await asked(context.provider, context.provider.kinds[partition.kind])
    except Limited:
        return None
