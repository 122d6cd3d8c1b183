"""What an operator says of answers that nothing proves: these ids are gone, these credentials are right."""

import json

from lapse.guards.absence.principals import IN_USE
from lapse.ledger.partition import Ledger
from lapse.registry import keys
from lapse.registry.model import Partition

PAGE = 500


async def believe(ledger: Ledger, partition: Partition, identity: str) -> int:
    """Let what was not found under this identity, and waits for a proof, settle at its next not-found.

    Returns:
        How many ids that are. With an empty identity they are counted alone, whatever they were not found under.

    """
    found = rank = 0
    while True:
        call = ledger.on(partition, "guards/lua/believe", identity, rank, PAGE, parse=list)
        believed, looked_at = (await ledger.carrier.carry([call]))[0]
        found, rank = found + int(believed), rank + int(looked_at)
        if looked_at < PAGE:
            return found


async def accept_refused(ledger: Ledger, provider: str, kind: str) -> list[str]:
    """Accept every refused credential of a (provider, kind); return their identities."""
    key = keys.slot(ledger.namespace, provider, kind) + keys.PRINCIPALS
    (flat,) = await ledger.carrier.run([("HGETALL", key)])
    stored = {identity.decode(): json.loads(text) for identity, text in zip(flat[::2], flat[1::2], strict=True)}
    refused = [identity for identity, one in stored.items() if one["state"] in {"refused", "partial"}]
    for identity in refused:
        call = ledger.commands.on_slot(
            "guards/lua/principal", provider, kind, identity, "accepted", "", IN_USE, parse=list
        )
        await ledger.carrier.carry([call])
    return refused
