"""Empty objects that lapse makes itself, to see that what it deletes here is deleted.

A canary is registered, due at that moment, before anything else is done with it: if the process ends, it is deleted as
what is due is. Between the provider's answer and the registration lies one round trip: an object that is lost there is
empty, and says in its metadata what it is.
"""

import secrets

from lapse.guards.context import SweepContext
from lapse.ledger.claim import PlannedIds
from lapse.ledger.settle import OutcomeBatch, settlement
from lapse.policy import Rule
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Outcome, Spend, Verdict, classify
from lapse.providers.response import Reply, document
from lapse.registry.commands import Commands
from lapse.registry.model import Partition

_CREATED = range(200, 300)


async def create(context: SweepContext, kind: Kind, nonce: str) -> tuple[str | None, Reply]:
    """Make an empty object; return its id, None if it was not made, and the answer."""
    reply = await context.provider.create(kind, {"lapse_canary": nonce})
    made = document(reply).get(kind.id_field) if reply.status in _CREATED else None
    return (made if isinstance(made, str) else None), reply


async def register(context: SweepContext, partition: Partition, made: str) -> int:
    """Register a canary as due now; return when that is, in registry milliseconds.

    Raises:
        RegistryUnavailable: it is not registered, and nobody but the caller knows of it.

    """
    now = await context.control.now()
    commands = Commands(context.ledger.namespace, partition.provider)
    one = commands.registration(partition.kind, made, partition.policy, expires_at=now / 1000)
    operation = commands.register(one)
    operation.finish(await context.ledger.carrier.carry(operation.calls))
    return now


async def prove(context: SweepContext, rule: Rule, kind: Kind, spend: Spend) -> Verdict | None:
    """Make an object and delete it; return the confirmation, or None if there was none.

    Raises:
        Limited: no time or tokens; what was made is registered, and due.

    """
    await spend(2)
    nonce = secrets.token_hex(6)
    await context.control.record(rule.partition, "canary", nonce=nonce)
    made, _reply = await create(context, kind, nonce)
    if made is None:
        return None
    due = await register(context, rule.partition, made)
    planned = PlannedIds("canary", {made: due})
    claims = await context.ledger.claim_planned(rule, context.settings, planned, context.watch.expected())
    if not claims.claims:
        return None
    reply = await context.provider.delete(kind, made)
    verdict = classify(kind, made, reply, context.provider.recognisers)
    settled = settlement(claims.claims[0], verdict)
    batch = OutcomeBatch([settled], {}, context.settings.max_attempts, listable=kind.listable)
    await context.ledger.settle(rule.partition, batch)
    return verdict if verdict.outcome is Outcome.DELETED else None
