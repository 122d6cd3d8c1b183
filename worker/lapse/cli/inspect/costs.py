"""What the answer to a halt gives up: how many ids it is about. And whether it is needed at all."""

from collections.abc import Iterable

from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.operate.remedies import EVERYTHING
from lapse.guards.edits import newly_due
from lapse.guards.integrity.protection import inspect
from lapse.guards.preexisting import COUNTED
from lapse.guards.recovery import place
from lapse.ledger.halts import Halt
from lapse.ledger.reasons import HaltReason
from lapse.registry import keys
from lapse.registry.model import Partition


async def given_up(access: RegistryAccess, session: Invocation, halt: Halt) -> int:
    """Return how many ids the answer to a halt that gives something up is about."""
    at = Partition(halt.provider, halt.kind, halt.policy)
    match halt.reason:
        case HaltReason.CUTOFF_JUMPED if rule := session.rule_for(at):
            asked = await newly_due.asked(access.ledger, at, halt.plan or "")
            survey = await newly_due.look(access.ledger, rule, await access.ledger.survey(rule))
            return asked.named if asked and asked.listed else survey.edit.named
        case HaltReason.ORPHAN_SHARE:
            return await _noted(access, session, at, "share_asked")
        case reason if reason == HaltReason.OLDER_THAN_REGISTRY:
            return await _noted(access, session, at, COUNTED)
        case HaltReason.NO_WITNESS:
            return await _sizes(access, session, at, (keys.WAITING,))
        case reason if reason == HaltReason.REGISTRY_DAMAGED:
            found = await inspect(access.carrier, session.namespace, at)
            return found.ids or await _sizes(access, session, at, keys.STANDING)
        case _:
            return await _sizes(access, session, at, keys.STANDING)


async def needless(access: RegistryAccess, session: Invocation, halt: Halt) -> str | None:
    """Return why a halt needs no answer any more: the one that loses nothing was given."""
    at = Partition(halt.provider, halt.kind, halt.policy)
    account = session.config.accounts.get(halt.provider)
    match halt.reason:
        case HaltReason.IDENTITY_CHANGED if account and await place(access.ledger, at) == account.place:
            return "the policy file names the account of these ids again"
        case reason if reason == HaltReason.REGISTRY_DAMAGED:
            rule = session.rule_for(at)
            lost = await access.control.lost_pauses(at, rule.formerly if rule else ())
            whole = not lost and not await inspect(access.carrier, session.namespace, at)
            return "what protects ids is there again" if whole else None
    return None


async def _noted(access: RegistryAccess, session: Invocation, at: Partition, field: str) -> int:
    (stored,) = await access.carrier.run([("HGET", session.key_of(at, keys.RULES), field)])
    return int(stored or 0)


async def _sizes(access: RegistryAccess, session: Invocation, at: Partition, names: Iterable[str]) -> int:
    """Return how many ids stand in these indexes of a partition, or of all of a slot."""
    slot = keys.slot(session.namespace, at.provider, at.kind)
    rule = session.rule_for(at)
    policies = sorted({at.policy, *((rule.partition.policy, *rule.formerly) if rule else ())})
    if at.policy == EVERYTHING:
        policies = keys.policies_named((await access.carrier.run([("SMEMBERS", slot + keys.POLICIES)]))[0])
    asked = [("ZCARD", f"{slot}{policy}:{name}") for policy in policies for name in names]
    return sum(await access.carrier.run(list(asked))) if asked else 0
