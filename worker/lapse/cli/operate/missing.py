"""``lapse orphans --missing KIND``: registered ids that the provider's list does not show."""

from collections.abc import Sequence
from typing import Any

from lapse import log
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inprocess import context_of
from lapse.ledger.records import look, registered
from lapse.providers.pagination import Listed

LAG = 60_000
"""Milliseconds within which a list may not show yet what was created."""
PAGE = 100


def missing(session: Invocation, kind: str, limit: int, *, as_json: bool) -> int:
    """Print how many registered ids a complete list does not show, and the first of them; nothing is changed.

    Raises:
        Refused: the kind cannot be listed, or the list is not complete or is empty: it says nothing then.

    """
    log.configure("ERROR")
    found = session.run(lambda access: _compared(access, session, kind))
    ids = found["missing"][:limit]
    if as_json:
        output.document({**found, "count": len(found["missing"]), "missing": ids})
        return Code.OK
    several = formatting.plural(kind)
    output.note(f"{found['listed']:,} {several} listed at {session.provider}, {found['registered']:,} registered.")
    if found["recent"]:
        output.note(f"{found['recent']:,} were registered too lately for the list to show them.")
    output.note(f"{len(found['missing']):,} registered ids are not listed. They stay registered: absence is no proof.")
    for id_ in ids:
        output.say(id_)
    return Code.OK


async def _compared(access: RegistryAccess, session: Invocation, kind: str) -> dict[str, Any]:
    listed, began = set[str](), await access.control.now()

    async def take(page: Sequence[Listed]) -> None:
        listed.update(item.id for item in page)

    async with context_of(access, session, session.provider) as context:
        known = context.provider.kinds.get(kind)
        if known is None or not known.listable:
            raise Refused(Code.USAGE, f"{session.provider} cannot list {formatting.plural(kind)}")
        listing = await context.provider.listing(known, context.throttle.spend, take=take)
    if not listing.complete or not listed:
        raise Refused(Code.TEMPORARY, f"the list says nothing: {listing.reason or 'it is empty'}")
    held = {id_ async for id_ in registered(access.carrier, session.namespace, session.provider, kind)}
    absent, recent = sorted(held - listed), set[str]()
    for start in range(0, len(absent), PAGE):
        for one in await look(
            access.ledger, session.provider, kind, absent[start : start + PAGE], session.config.rules
        ):
            if max(one.created or 0, one.active or 0) > began - LAG or not one.tracked:
                recent.add(one.id)
    return {
        "provider": session.provider,
        "kind": kind,
        "listed": len(listed),
        "registered": len(held),
        "recent": len(recent),
        "missing": [id_ for id_ in absent if id_ not in recent],
    }
