"""What stands in the way of deletions without a halt: in words for ``lapse status``, and as a document."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lapse.cli import output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.ledger import failures
from lapse.ledger.housekeeping.creations import Building, building
from lapse.ledger.housekeeping.subjects import IndexProgress, index_progress
from lapse.metrics import causes
from lapse.metrics.erasures import standing
from lapse.registry import keys
from lapse.registry.model import Partition

LOOK, FOLLOW = "  lapse doctor", "  lapse status --watch"
"""What to type where something is to be mended elsewhere, and where workers are at it."""


def told(session: Invocation, partitions: Sequence[Partition], now: int) -> Iterator[tuple[str, str]]:
    """Say why requests are held back, which sweeps fail again and again, and which workers are gone, with the answer.

    Args:
        session: Of this command.
        partitions: Those that it shows.
        now: Registry time in milliseconds.

    """
    yield from _held_back(session, partitions, now)
    for row in failures.look(session.client, session.namespace, partitions):
        yield f"{row.told(now)}.", output.BAD
        yield LOOK, output.STRONG
    for host in causes.gone(session.view.workers(), now):
        yield f"workers: {host}.", output.WARN
        yield LOOK, output.STRONG
    for one in indexing(session, partitions):
        done = f"{one.indexed:,} of {one.ids:,} touched ids are indexed by their creation"
        yield f"{one.partition}: {done}; until all are, nothing is deleted there.", output.WARN
        yield FOLLOW, output.STRONG
    known = found_by_subject(session)
    if not known.whole:
        yield (
            f"subjects: {known.looked:,} of {known.facts:,} older registrations are indexed; workers go on.",
            output.WARN,
        )
        yield FOLLOW, output.STRONG
    yield from _erasures(session, now)


def _held_back(session: Invocation, partitions: Sequence[Partition], now: int) -> Iterator[tuple[str, str]]:
    for name in sorted({at.provider for at in partitions}):
        throttle = session.view.throttle(name)
        if held := causes.breaker(name, throttle, now):
            yield f"{held}.", output.BAD
            yield '  lapse resume --reason "..."', output.STRONG
        if waits := causes.waits(name, throttle, now):
            yield f"{waits}.", output.WARN
            yield f"  lapse resume --provider {name}", output.STRONG
    for slot in session.view.slots(sorted({(at.provider, at.kind) for at in partitions})):
        if shut := causes.shut(f"{slot.provider}/{slot.kind}", slot.shut, now):
            yield f"{shut}.", output.BAD
            yield f"  lapse resume --provider {slot.provider}", output.STRONG
        if full := causes.full(f"{slot.provider}/{slot.kind}", slot.audit_pending, session.config.audit.max_pending):
            yield f"{full}.", output.BAD
            yield LOOK, output.STRONG


def _erasures(session: Invocation, now: int) -> Iterator[tuple[str, str]]:
    found = standing(session.client, session.namespace)
    if not found.open and not found.asked:
        return
    yield f"requests to erase a subject: {found.told(now)}.", output.BAD if found.urgent(now) else ""
    yield "  lapse erase list", output.STRONG


def found_by_subject(session: Invocation) -> IndexProgress:
    """Return how far workers have come with the subjects of what older clients registered."""

    async def read(access: RegistryAccess) -> IndexProgress:
        slots = [slot for slot in await session.slots(access) if all(map(keys.NAME.fullmatch, slot))]
        return await index_progress(access.ledger, slots)

    return session.run(read)


def indexing(session: Invocation, partitions: Sequence[Partition]) -> list[Building]:
    """Return the partitions in which nothing is deleted until their ids are indexed by their creation."""

    async def read(access: RegistryAccess) -> list[Building]:
        return await building(access.ledger, partitions)

    return session.run(read)


def described(session: Invocation, partitions: Sequence[Partition], now: int) -> dict[str, Any]:
    """Return the same as members of a document: times in seconds since 1970, None where nothing stands in the way."""
    flows = session.view.flows(sorted({at.provider for at in partitions}))
    slots = session.view.slots(sorted({(at.provider, at.kind) for at in partitions}))
    erasures = standing(session.client, session.namespace)
    return {
        "providers": [
            {"provider": name, "breaker": _breaker(throttle), "retry_after_until": _blocked(throttle, now)}
            for name, throttle in flows.items()
        ],
        "kinds": [{"provider": one.provider, "kind": one.kind, "breaker": _shut(one.shut)} for one in slots],
        "failing": [
            {
                **asdict(row.partition),
                "since": row.since / 1000,
                "sweeps": row.times,
                "result": row.result,
                "detail": row.detail,
            }
            for row in failures.look(session.client, session.namespace, partitions)
        ],
        "workers_gone": causes.gone(session.view.workers(), now),
        "subjects": found_by_subject(session)._asdict(),
        "indexing": [
            {**asdict(row.partition), "indexed": row.indexed, "ids": row.ids} for row in indexing(session, partitions)
        ],
        "erasures": {
            **erasures.counts,
            "received": None if erasures.received is None else erasures.received / 1000,
            "due": None if erasures.due is None else erasures.due / 1000,
        },
    }


def _breaker(throttle: Mapping[str, str]) -> dict[str, Any] | None:
    if "breaker" not in throttle:
        return None
    return {
        "reason": throttle["breaker"],
        "since": causes.since(throttle) / 1000,
        "detail": throttle.get("cause_detail", ""),
        "key": throttle.get("cause_key") or None,
        "until": int(throttle.get("breaker_until", 0)) / 1000,
    }


def _blocked(throttle: Mapping[str, str], now: int) -> float | None:
    until = int(throttle.get("blocked_until", 0))
    return until / 1000 if until > now else None


def _shut(state: tuple[str, str, int] | None) -> dict[str, Any] | None:
    return None if state is None else {"reason": state[0], "detail": state[1], "until": state[2] / 1000}
