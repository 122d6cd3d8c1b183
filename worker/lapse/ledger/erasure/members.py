"""The ids that a request to erase a subject is to delete, and how each of them stands in the registry."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from lapse.ledger.connection import LedgerConnection
from lapse.ledger.erasure.request import ErasureRequest
from lapse.ledger.erasure.requests import slots
from lapse.ledger.partition import Ledger
from lapse.ledger.records import Seen, look
from lapse.registry import codec, keys
from lapse.registry.model import Resource
from lapse.registry.scripts import text
from lapse.registry.subjects import ERASURE

PAGE = 200
"""Ids that one script looks at."""

Slot = tuple[str, str]
USERS_SHOWN = 100
"""Of an id with more users than a look shows, nobody knows that all of them go."""


async def pages(ledger: LedgerConnection, request: ErasureRequest, slot: Slot) -> AsyncIterator[list[str]]:
    """Yield what a request is to delete in a slot, in pages: tracked, or settled as gone and remembered."""
    after = ""
    while True:
        call = ledger.on_slot(
            "ledger/lua/erasure/members",
            *slot,
            request.subject,
            request.until,
            after,
            PAGE,
            parse=lambda reply: list(map(text, reply)),
        )
        ((after, *ids),) = await ledger.carrier.carry([call])
        if ids:
            yield ids
        if not after:
            return


async def standing(
    ledger: Ledger, request: ErasureRequest, chosen: Iterable[Slot] | None = None
) -> dict[Resource, Seen]:
    """Return how everything stands that a request is to delete, and that is tracked."""
    found: dict[Resource, Seen] = {}
    for slot in await slots(ledger) if chosen is None else chosen:
        async for ids in pages(ledger, request, slot):
            seen = await look(ledger, *slot, ids, ())
            found |= {Resource(*slot, one.id): one for one in seen if one.record}
    return found


async def covering(ledger: LedgerConnection, resource: Resource, seen: Seen) -> list[str]:
    """Return the requests to erase a subject that an id belongs to."""
    said = seen.facts.get("subject") or []
    names = [said] if isinstance(said, str) else said
    if not names or not seen.tracked:
        return []
    key = keys.slot(ledger.namespace, resource.provider, resource.kind) + keys.SUBJECT_HOLDS
    (stored,) = await ledger.carrier.run([("HMGET", key, *(ERASURE + name for name in names))])
    found = [one for text_ in stored if text_ for one in json.loads(text_)]
    return [one["id"] for one in found if (seen.created or 0) < one["until"]]


def together(blocked: Mapping[Resource, Seen]) -> dict[Resource, Sequence[Resource]]:
    """Return the ids that are used by nothing but each other, with what uses them: they go in one step.

    Args:
        blocked: Ids of one request that something uses, and nothing else keeps.

    """
    users = {
        resource: [codec.edge(user) for user in one.used_by]
        for resource, one in blocked.items()
        if 0 < len(one.used_by) < USERS_SHOWN
    }
    while outside := [one for one, theirs in users.items() if not users.keys() >= set(theirs)]:
        for one in outside:
            del users[one]
    return dict(users)
