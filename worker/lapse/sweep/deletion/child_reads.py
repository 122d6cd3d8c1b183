"""Reading the children whose keep rules decide, before any of them is deleted, over as many attempts as that takes."""

from collections.abc import AsyncIterator, Sequence

from lapse.policy.preconditions import Preconditions
from lapse.providers.outcomes import Outcome, Spend, Verdict
from lapse.registry import keys
from lapse.registry.model import Resource
from lapse.registry.scripts import Call, script
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.descendants import Relative
from lapse.sweep.deletion.precheck import Target, look

LASTS = 6 * 3600 * 1000  # ms; each is read once more just before its own deletion


class Looks:
    """What was read of one parent's children."""

    def __init__(self, cascade: Cascade, parent: Resource, spend: Spend) -> None:
        self._cascade = cascade
        self._spend = spend
        slot = keys.slot(cascade.context.ledger.namespace, parent.provider, parent.kind)
        self._name = f"{slot}{keys.SEEN}:{parent.id}"
        self._new: list[str] = []

    async def at(self, children: Sequence[Relative]) -> AsyncIterator[tuple[Relative, Verdict]]:
        """Read those that no attempt has read yet; yield each that is not to be deleted now, and why."""
        kept = {
            (kind, name): rule.keep
            for kind in {one.child.kind for one in children}
            for name, rule in self._cascade.rules(kind).items()
        }
        asked = [one for one in children if kept.get((one.child.kind, one.policy))]
        if not asked:
            return
        seen = await self._seen()
        for one in asked:
            if _field(one) in seen:
                continue
            kind = self._cascade.context.provider.kinds[one.child.kind]
            preconditions = Preconditions(keep=kept[one.child.kind, one.policy])
            target = Target(self._cascade.context.provider, kind, one.resource.id, self._spend)
            sight = await look(target, preconditions)
            # Gone already: its own DELETE will say so.
            if sight.verdict is None or sight.verdict.outcome is Outcome.ALREADY_GONE:
                self._new.append(_field(one))
            else:
                yield one, sight.verdict

    async def remember(self) -> None:
        """Let the next attempt go on from here."""
        if self._new:
            fields = [part for name in self._new for part in (name, 1)]
            self._new = []
            await self._cascade.context.ledger.carrier.carry(
                [Call(script("sweep/lua/remember"), self._name, (LASTS, *fields), int)]
            )

    async def _seen(self) -> set[str]:
        (fields,) = await self._cascade.context.ledger.carrier.run([("HKEYS", self._name)])
        return {name.decode() for name in fields}


def _field(one: Relative) -> str:
    return f"{one.resource.kind}|{one.resource.id}"
