"""What a sweep works with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from lapse.guards.integrity.monitor import Watch
from lapse.ledger.halts import Halts
from lapse.ledger.outbox import Outbox
from lapse.ledger.partition import Ledger
from lapse.policy import Rule, SweepSection
from lapse.providers.invented import Invented
from lapse.providers.throttle import Throttle
from lapse.registry.model import Partition, Resource

if TYPE_CHECKING:
    from lapse.providers.provider import Provider  # it loads the openai client; what only asks the registry needs none


log = structlog.get_logger("lapse")


class StopSignal(Protocol):
    """Says that this process is to end: no new DELETE from then on."""

    def is_set(self) -> bool:
        """Return True once it is."""
        ...


class Companions(Protocol):
    """Says what may go along with a parent, where more than the parent's policy decides."""

    def may_go(self, child: Resource, parent: Resource, *, uses: bool) -> bool:
        """Return True if a child may; ``uses``: it is one that uses the parent, which then stays with it."""
        ...


@dataclass(frozen=True, slots=True)
class SweepContext:
    """What a sweep works with.

    ``rules``: every policy of the file, for those that govern children. ``outbox``: where confirmations go that Redis
    does not take; None: nowhere but this process' memory. ``invented``: what this sweep knows of how the provider
    answers to ids that never existed; None before a sweep. ``erases``: the subject that is erased, if that is why.
    ``companions``: which children a plan lets go along; None: each that its parent's policy takes.
    """

    ledger: Ledger
    control: Halts
    provider: "Provider"
    throttle: Throttle
    settings: SweepSection
    stop: StopSignal
    watch: Watch
    rules: tuple[Rule, ...] = ()
    outbox: Outbox | None = None
    invented: Invented | None = None
    erases: str = ""
    companions: Companions | None = None

    async def trip(
        self, partition: Partition, reason: str, detail: str, *, plan: str | None = None, wide: bool = False
    ) -> bool:
        """Set a halt, and log it where it is news; ``wide``: of the whole kind. True if it did not stand already."""
        news = await self.control.halt(partition, reason, detail, whole_kind=wide, plan=plan)
        if news:
            about = {"plan": plan} if plan else {}
            log.error("guard.tripped", guard=reason, detail=detail, **about, **named(partition))
        return news


def named(partition: Partition) -> dict[str, str]:
    """Return a partition as the fields of a log line."""
    return {"provider": partition.provider, "kind": partition.kind, "policy": partition.policy}
