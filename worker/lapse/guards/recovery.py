"""A mistake that was put back ends its own halt, whoever put it back: this process, a restarted one, another host.

What cannot be seen to be right again waits for an operator. A halt that is ended here and whose cause stands is set
again by the guard that set it, before anything is claimed.
"""

from lapse.guards.context import SweepContext
from lapse.ledger.halts import Halt
from lapse.ledger.known import known_before
from lapse.ledger.partition import Ledger
from lapse.ledger.reasons import BESIDE, OF_A_RULE, HaltReason
from lapse.policy import Rule
from lapse.providers.outcomes import Limited, exists, probe_ok
from lapse.registry import keys
from lapse.registry.model import Partition

ELSEWHERE = frozenset({HaltReason.NO_WITNESS, "endpoint_missing"})
"""Halts of a provider that did not know what is there: what can be read there again ends them."""

LISTED = frozenset({HaltReason.LISTING_SHRUNK, HaltReason.ORPHAN_SHARE})
"""Halts of what a list showed: only the next list can end them."""

WITNESSES = 5
_PATIENCE = 2.0  # seconds for a request token


def diverged(rule: Rule, host: str) -> str:
    """Return what the halt of a worker with older rules says."""
    return f"rules {rule.digest} of worker {host} are older than those in force"


async def recover(context: SweepContext, rule: Rule) -> None:
    """End the halts of a partition whose cause was put right."""
    at = rule.partition
    standing = [
        halt for halt in await context.control.halts([(at.provider, at.kind)]) if halt.policy in {"*", at.policy}
    ]
    for halt in standing:
        if why := await _right(context, rule, halt):
            await context.control.lift(halt, why, "lapse")


async def _right(context: SweepContext, rule: Rule, halt: Halt) -> str | None:
    """Return why the cause of a halt has ended, or None."""
    match halt.reason:
        case HaltReason.CONFIG_DIVERGENCE if f" of worker {context.ledger.host} " in halt.detail:
            return "this worker has the rules in force"
        case HaltReason.IDENTITY_CHANGED if await place(context.ledger, rule.partition) == context.provider.place:
            return "the policy file names the account of these ids again"
        case reason if reason in OF_A_RULE and await _changed_since(context.ledger, rule.partition, halt):
            return "the rules were changed since"
        case reason if reason in ELSEWHERE and await _seen(context, rule, halt):
            await context.ledger.mark(halt.provider, halt.kind, f"unproven|{rule.partition.policy}", 0)
            return "what is registered can be read there again"
    return None


async def place(ledger: Ledger, partition: Partition) -> str | None:
    """Return the account that the ids of a slot belong to, or None before a first enforced sweep."""
    key = keys.slot(ledger.namespace, partition.provider, partition.kind) + keys.MARKS
    (stored,) = await ledger.carrier.run([("HGET", key, "place")])
    return None if stored is None else stored.decode()


async def _changed_since(ledger: Ledger, partition: Partition, halt: Halt) -> bool:
    rules = ledger.prefix(partition) + keys.RULES
    (since,) = await ledger.carrier.run([("HGET", rules, "since")])
    return since is not None and int(since) > halt.since


async def _seen(context: SweepContext, rule: Rule, halt: Halt) -> bool:
    """Return True if the provider shows what a halt could not see: its endpoint, or one of the newest ids."""
    kind, at = context.provider.kinds[rule.partition.kind], rule.partition
    try:
        if halt.reason == "endpoint_missing" and (kind.probe or kind.search):
            await context.throttle.spend(1, within=_PATIENCE)
            reply = await context.provider.probe(kind)
            return reply is not None and probe_ok(kind, reply)
        for id_ in await _registered(context.ledger, at, halt) if kind.witness else ():
            await context.throttle.spend(1, within=_PATIENCE)
            if exists(kind, id_, await context.provider.witness(kind, id_)):
                return True
    except Limited:
        return False
    return False


async def _registered(ledger: Ledger, at: Partition, halt: Halt) -> list[str]:
    """Return some of the ids that were registered before a halt, those first that were not found."""
    waiting = ledger.prefix(at) + keys.WAITING
    (missed,) = await ledger.carrier.run([("ZRANGE", waiting, 0, WITNESSES - 1)])
    others = await known_before(ledger.carrier, ledger.namespace, at, halt.since)
    return [*(id_.decode() for id_ in missed), *others[:WITNESSES]]


async def by_listing(context: SweepContext, rule: Rule) -> bool:
    """Return True if nothing but what a list showed halts an enforced orphan rule: then the list is read again."""
    halts = await context.control.halts([(rule.partition.provider, rule.partition.kind)])
    mine = {halt.reason for halt in halts if halt.policy in {"*", rule.partition.policy}} - BESIDE
    return rule.enforce and rule.orphan is not None and bool(mine) and mine <= LISTED


async def lift(context: SweepContext, rule: Rule, reason: str, why: str) -> None:
    """End a policy's halt of one reason, if it stands."""
    at = rule.partition
    for halt in await context.control.halts([(at.provider, at.kind)]):
        if (halt.policy, halt.reason) == (at.policy, reason):
            await context.control.lift(halt, why, "lapse")
