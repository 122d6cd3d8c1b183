"""The fifth story: everything of a person, because a request says so; by the same claim, delete and settle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lapse.guards.context import SweepContext
from lapse.ledger.erasure import members
from lapse.ledger.erasure.request import ErasureRequest
from lapse.policy import Rule
from lapse.registry import codec
from lapse.registry.model import ERASURE, Partition, Resource
from lapse.sweep.batches import claim_erased
from lapse.sweep.executor import Executor
from lapse.sweep.opening import Warrant, opened, unruled
from lapse.sweep.report import Report
from lapse.sweep.session import Session


@dataclass(frozen=True, slots=True)
class SlotErasure:
    """What of a request is erased in one slot.

    Attributes:
        request: What was asked for.
        ids: Only these; None: all that belongs to the request.
        together: What uses an id and goes in the same step.

    """

    request: ErasureRequest
    ids: Sequence[str] | None = None
    together: Mapping[str, Sequence[Resource]] = field(default_factory=dict)


def rule_of(context: SweepContext, kind: str) -> Rule:
    """Return what an erasure goes by: no mode, no ttl, no keep rule, no pace; what an object contains goes with it."""
    name = context.provider.name
    theirs = [rule for rule in context.rules if (rule.partition.provider, rule.partition.kind) == (name, kind)]
    contained = {child.kind: "delete" for child in context.provider.kinds[kind].children}
    return unruled(Partition(name, kind, ERASURE), theirs, (), contained)


async def erase(
    context: SweepContext, kind: str, errand: SlotErasure, *, budget: float | None = None
) -> tuple[Report, dict[str, str]]:
    """Delete what of a request stands in one slot; return what was left, and why, by id.

    What other ids of the request use is left at first: once those are gone, nothing uses it, and it is asked again.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    context = replace(context, erases=errand.request.subject)
    session, left = Session(context, rule_of(context, kind), budget), dict[str, str]()
    if await opened(session, Warrant.ERASURE):
        async with session.executor(delete=session.delete, settle=session.settle) as executor:
            again = True
            while again and session.goes_on():
                before, left = session.report.outcomes.total(), {}
                await _pass(session, executor, errand, left)
                await executor.drain(session.budget.left())
                again = "used" in left.values() and session.report.outcomes.total() > before
    return await session.closed(), left


async def _pass(session: Session, executor: Executor, errand: SlotErasure, left: dict[str, str]) -> None:
    """Submit once everything that may go now."""
    at = session.rule.partition
    if errand.ids is not None:
        await _submit(session, executor, errand, left, errand.ids)
        return
    async for ids in members.pages(session.context.ledger, errand.request, (at.provider, at.kind)):
        await _submit(session, executor, errand, left, ids)


async def _submit(
    session: Session, executor: Executor, errand: SlotErasure, left: dict[str, str], ids: Sequence[str]
) -> None:
    wanted = dict.fromkeys(ids, 0)
    while wanted and (batch := await claim_erased(session, executor, wanted, _said(session, errand))):
        left |= batch.left
        executor.submit(batch.claims)


def _said(session: Session, errand: SlotErasure) -> dict[str, object]:
    """Return what every claim of an errand says, but for the ids."""
    request, rule = errand.request, session.rule
    return {
        "subject": request.subject,
        "erasure": request.id,
        "at": request.at,
        "place": session.context.provider.place,
        "along": rule.along or "",
        "going": {id_: [codec.edge_text(user) for user in users] for id_, users in errand.together.items()},
    }
