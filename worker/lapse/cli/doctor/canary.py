"""The canary: make an empty object at the provider, have it deleted as everything is, and delete it once more.

What it proves: the key may delete, the provider confirms as lapse reads it, and the second answer is one that is known
for "it is not there".

The object's id is not lost either. It is registered at once, due at that moment, in a partition of its own, and goes
the way of every deletion. If this process is killed before that, the id stands there, ``lapse status`` shows it, and
the next canary deletes it. Between the provider's answer and the registration lies one round trip: an object that is
lost there is empty, and says in its metadata what it is; the audit says when it was asked for.
"""

import secrets
from dataclasses import replace

from lapse.errors import LapseError
from lapse.guards.absence import canaries
from lapse.guards.context import SweepContext
from lapse.guards.integrity.preflight import Finding, Level
from lapse.policy import Rule
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Limited, Outcome, classify
from lapse.providers.response import say
from lapse.registry.model import Partition
from lapse.sweep.purge import rule_of
from lapse.sweep.report import Report
from lapse.sweep.sweep import sweep

POLICY = "lapse-canary"
"""The partition in which canaries stand: no policy of any file, so that nothing but a canary deletes there."""

_RULES = "canary-rules"
_FIX_CREATE = "give the key the right to create too, or leave the canary out"


async def canary(context: SweepContext, kind: Kind) -> Finding:
    """Send one canary of a kind, and return what came of it."""
    name = f"canary {context.provider.name}/{kind.name}"
    try:
        return await _flight(name, context, kind)
    except Limited as error:
        return Finding(name, Level.UNKNOWN, f"not sent: {error}", "try again when the budget has room")
    except LapseError as error:
        return Finding(name, Level.FATAL, str(error), "lapse status shows what is left; the next canary deletes it")


async def _flight(name: str, context: SweepContext, kind: Kind) -> Finding:
    rule = _rule(Partition(context.provider.name, kind.name, POLICY))
    nonce = secrets.token_hex(6)
    await context.throttle.spend(1)
    await context.control.record(rule.partition, "canary", nonce=nonce)
    made, reply = await canaries.create(context, kind, nonce)
    if made is None:
        await _counted(context, rule)
        return Finding(name, Level.FATAL, f"could not be created: {say(reply)}", _FIX_CREATE)
    try:
        await canaries.register(context, rule.partition, made)
    except LapseError as error:
        fix = f"delete {made} at {context.provider.name} by hand: nothing else knows of it"
        return Finding(name, Level.FATAL, f"{made} was created and could not be registered: {error}", fix)
    report = await sweep(context, rule)
    if not report.outcomes[Outcome.DELETED] or report.result != "completed":
        return Finding(name, Level.FATAL, f"{made} was not deleted: {_said(report)}", "lapse status says what stops it")
    return await _again(name, context, kind, rule, made)


async def _again(name: str, context: SweepContext, kind: Kind, rule: Rule, made: str) -> Finding:
    """Delete what is gone, and look whether the answer is known for that."""
    await context.throttle.spend(1)
    verdict = classify(kind, made, await context.provider.delete(kind, made), context.provider.recognisers)
    await _counted(context, rule)
    if verdict.outcome is Outcome.ALREADY_GONE:
        detail = "created, deleted, and known to be gone"
        return Finding(name, Level.OK, detail)
    if verdict.outcome is Outcome.DELETED:
        return Finding(
            name, Level.WARNING, "the provider confirms a deletion of what is gone already", "nothing to mend"
        )
    detail = f"deleted; a second deletion was answered as {verdict.outcome}: {verdict.detail}"
    return Finding(name, Level.FATAL, detail, f"add that text to not_found of provider {context.provider.name}")


async def _counted(context: SweepContext, rule: Rule) -> None:
    kind = rule.partition.kind
    await context.ledger.count(rule.partition, context.provider.drain_counters(kind).get(kind, {}))


def _said(report: Report) -> str:
    outcomes = ", ".join(f"{n} {outcome}" for outcome, n in report.outcomes.items() if n)
    return ": ".join(part for part in (report.result, report.detail, outcomes) if part)


def _rule(partition: Partition) -> Rule:
    """Return the rule of the partition: what has an expiry of its own goes by it, and nothing else stands there."""
    return replace(rule_of(partition, (), ()), partition=partition, enforce=True, digest=_RULES)
