"""What one sweep knows of the children of what it deletes: their policies, pauses and paces, and proofs by kind."""

from dataclasses import replace
from typing import Any

from lapse.guards.absence.absences import Scope
from lapse.guards.absence.proof import Proof
from lapse.guards.context import SweepContext
from lapse.policy import Pace, Rule
from lapse.policy.preconditions import follows
from lapse.registry.model import Partition

UNLIMITED = -1


class Cascade:
    """The children of one sweep's parents: under which rules they go, and what is known of their kinds."""

    def __init__(self, context: SweepContext, rule: Rule) -> None:
        self.context = context
        self.rule = rule
        self.subject = context.erases
        self._proofs: dict[str, Proof] = {}

    def proof(self, partition: Partition) -> Proof:
        """Return what this sweep knows of whether absences of a kind can be believed."""
        if partition.kind not in self._proofs:
            context, kind = self.context, self.context.provider.kinds[partition.kind]
            self._proofs[partition.kind] = Proof(
                Scope(context, kind, partition, lenient=kind.native_expiry, quiet=context.stop.is_set)
            )
        return self._proofs[partition.kind]

    async def closed(self) -> None:
        """Count the requests about children that no settled claim carried: looks at what turned out not to be ours."""
        context, partition = self.context, self.rule.partition
        for child in follows(self.rule, context.provider.kinds[partition.kind]):
            counters = context.provider.drain_counters(child.kind).get(child.kind, {})
            await context.ledger.count(replace(partition, kind=child.kind), counters)

    def rules(self, kind: str) -> dict[str, Rule]:
        """Return the policies for a kind of child, by every name that they have or had."""
        provider = self.rule.partition.provider
        return {
            name: replace(rule, keep=(), enforce=True, max_deletions=None) if self.subject else rule
            for rule in self.context.rules
            if (rule.partition.provider, rule.partition.kind) == (provider, kind)
            for name in (*rule.formerly, rule.partition.policy)
        }

    async def told(self, kind: str) -> dict[str, Any]:
        """Return what ``claim_child.lua`` has to know of a kind's policies, and of an operator's pauses, now."""
        # Asked anew for each child: a pause or an edit that comes in the middle of a family holds for the rest of it.
        provider, pauses = self.rule.partition.provider, await self.context.control.pauses()
        whole = not pauses.keys().isdisjoint({"*", provider, f"{provider}/{kind}"})
        paused = {scope.removeprefix(f"{provider}/{kind}/") for scope in pauses}
        policies = {
            name: {
                "digest": rule.digest,
                "enforce": rule.enforce,
                "paused": not paused.isdisjoint({rule.partition.policy, *rule.formerly}),
                **_pace(rule.max_deletions),
            }
            for name, rule in self.rules(kind).items()
        }
        place = self.context.provider.place
        told = {"policies": policies, "paused": whole, "place": place, **_pace(self.rule.max_deletions)}
        return told | {"subject": self.subject} if self.subject else told


def _pace(pace: Pace | None) -> dict[str, int]:
    return {"amount": pace.amount, "window": round(pace.window * 1000)} if pace else {"amount": UNLIMITED, "window": 0}
