"""What the provider created before this registry began: it may be used by what the registry has never heard of.

After a flush, with another Redis or under another namespace every such object looks unused. So it is an orphan only
after an operator has seen the list and said so, once for each epoch and rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from lapse.guards.context import SweepContext, named
from lapse.ledger.halts import plan_hash
from lapse.ledger.reasons import HaltReason
from lapse.policy import Rule
from lapse.registry import keys

APPROVED = "older_ok"
"""Field of a partition's rules: what ``scope`` returned when an operator said yes."""

COUNTED = "older"
"""Field of a partition's rules: how many there were at the last complete listing."""

log = structlog.get_logger("lapse")


def scope(digest: str, began: int) -> str:
    """Return what an approval holds for: one rule, and one beginning of the registry."""
    return f"{digest}|{began}"


def older(sighting: Mapping[str, Any], began: int) -> bool:
    """Return True if what was listed may have been created before the registry began, in milliseconds.

    Providers tell whole seconds: what was created in the second in which it began may be older.
    """
    return float(sighting["c"]) * 1000 < began


@dataclass(slots=True)
class Elders:
    """The elders of one listing under one rule; ``began`` in registry milliseconds."""

    context: SweepContext
    rule: Rule
    began: int
    approved: bool

    @classmethod
    async def of(cls, context: SweepContext, rule: Rule) -> "Elders":
        """Return them as the registry has it now."""
        began = await context.control.began()
        rules = context.ledger.prefix(rule.partition) + keys.RULES
        (stored,) = await context.ledger.carrier.run([("HGET", rules, APPROVED)])
        return cls(context, rule, began, stored is not None and stored.decode() == scope(rule.digest, began))

    def waits(self, sighting: Mapping[str, Any]) -> bool:
        """Return True if a candidate waits for an operator."""
        return not self.approved and older(sighting, self.began)

    async def tell(self, number: int) -> None:
        """Say how many wait, as a halt that stops nothing else; end it if none does."""
        at, control = self.rule.partition, self.context.control
        await self.context.ledger.note(at, **{COUNTED: number})
        plan = plan_hash(at, self.rule.digest, HaltReason.OLDER_THAN_REGISTRY, self.began)
        for halt in await control.halts([(at.provider, at.kind)]):
            if (halt.policy, halt.reason) == (at.policy, HaltReason.OLDER_THAN_REGISTRY) and (
                not number or halt.plan != plan
            ):
                await control.lift(halt, "nothing waits under this plan any more", "lapse")
        detail = f"{number} unused since before this registry began: it may not know what uses them"
        if number and await control.halt(at, HaltReason.OLDER_THAN_REGISTRY, detail, plan=plan):
            log.warning("guard.tripped", guard=HaltReason.OLDER_THAN_REGISTRY, detail=detail, plan=plan, **named(at))
