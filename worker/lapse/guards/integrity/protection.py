"""Whether what protects ids is whole: the holds, edges and forgotten ids of a slot, and the operators' pauses.

A key of Redis that is gone protects nothing, and nobody would see it: a slot counts what was put there
(``registry/lua/include/protection.lua``), and each pause stands a second time beside the registry's epoch.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lapse.guards.context import SweepContext
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.ledger.reasons import HaltReason
from lapse.policy import Rule
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.registry.scripts import Call, script

PLACES = {"holds": "hold", "edges": "use", "forgotten": "forgotten id"}


@dataclass(frozen=True, slots=True)
class Damage:
    """What protects no more.

    Attributes:
        keys: The slot's keys that are gone, or were put back from an older copy.
        counts: How often something was ever put into each key of the slot.
        pauses: The scopes of pauses that nobody took back and that are not there.

    """

    keys: tuple[str, ...]
    counts: Mapping[str, int]
    pauses: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys or self.pauses)

    @property
    def detail(self) -> str:
        """What happened, as a halt tells it."""
        said = [f"the key {name}, into which {_times(self.counts[name], PLACES[name])}" for name in self.keys]
        said += [f"the pause on {'everything' if scope == '*' else scope}" for scope in self.pauses]
        gone = "gone, or an older copy" if self.keys else "gone"
        return f"{' and '.join(said)}, {'is' if len(said) == 1 else 'are'} {gone}: what it protected is not known"

    @property
    def ids(self) -> int:
        """How many ids were protected there at most."""
        return sum(self.counts[name] for name in self.keys)


def _times(number: int, what: str) -> str:
    return f"{number:,} {what}{'s were' if number != 1 else ' was'} ever put"


async def inspect(carrier: Carrier, namespace: str, partition: Partition, *, accept: bool = False) -> Damage:
    """Return what is damaged in the slot of a partition; ``accept``: and take it as it is from now on.

    The first look at a registry that never counted begins to count.
    """
    slot = keys.slot(namespace, partition.provider, partition.kind)
    call = Call(script("guards/lua/inspect"), slot, (partition.provider, partition.kind, int(accept)), json.loads)
    said = (await carrier.carry([call]))[0]
    return Damage(tuple(said["damaged"] or ()), said["counts"])


async def damage(context: SweepContext, rule: Rule) -> str | None:
    """Halt what lost its protection, or end such a halt once all is there again; return why nothing may be deleted."""
    ledger, control, partition = context.ledger, context.control, rule.partition
    found = await inspect(ledger.carrier, ledger.namespace, partition)
    lost = await control.lost_pauses(partition, rule.formerly)
    standing = [
        halt
        for halt in await control.halts([(partition.provider, partition.kind)])
        if halt.reason == HaltReason.REGISTRY_DAMAGED and halt.policy in {"*", partition.policy}
    ]
    for cause, whole_kind in ((found, True), (Damage((), {}, lost), False)):
        mine = [halt for halt in standing if (halt.policy == "*") is whole_kind]
        if cause:
            await context.trip(partition, HaltReason.REGISTRY_DAMAGED, cause.detail, wide=whole_kind)
        for halt in mine if not cause else ():
            await control.lift(halt, "what protects ids is there again", "lapse")
    return " and ".join(cause.detail for cause in (found, Damage((), {}, lost)) if cause) or None


async def accept(ledger: Ledger, control: Halts, partition: Partition, formerly: Collection[str]) -> None:
    """Take what is there for all there was: the answer of an operator."""
    await inspect(ledger.carrier, ledger.namespace, partition, accept=True)
    await control.forget_pauses(await control.lost_pauses(partition, formerly))
