"""Which orphans an edit of an orphan rule made so: the old rule and the new one over the same listing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lapse.guards import enforcement
from lapse.guards.edits import newly_due
from lapse.ledger.reasons import HaltReason
from lapse.policy import Rule, enforced
from lapse.policy.enforced import Past
from lapse.providers.pagination import Listed
from lapse.registry import keys
from lapse.sweep.deletion import ownership
from lapse.sweep.session import Session


@dataclass(slots=True)
class Widening:
    """What a listing shows as an orphan now and not under the rules that were last enforced."""

    session: Session
    rules: Sequence[Past]
    new: set[str] = field(default_factory=set)
    times: dict[str, int] = field(default_factory=dict)
    """Candidates that the registry knows nothing against: on how many listings in a row."""

    @classmethod
    async def of(cls, session: Session) -> "Widening":
        """Return what compares a rule with those that were last enforced, as they are stored."""
        (stored,) = await session.context.ledger.carrier.run([("HGET", _rules(session), "enforced")])
        return cls(session, enforced.past(enforced.stored_in(stored)))

    def see(self, item: Listed, now: int) -> None:
        """Remember an object that could be an orphan, and could not before."""
        if any(_spared(one, self.session.rule, item, now) for one in self.rules):
            self.new.add(item.id)

    def _count(self) -> tuple[int, bool]:
        """Return how many became orphans by an edit, and whether none of them is still to be seen again."""
        seen = self.session.rule.orphan.seen if self.session.rule.orphan else 0
        ripe = {id_ for id_, times in self.times.items() if times >= seen}
        mine = self.new & self.times.keys()
        before = [one.orphan.seen for one in self.rules if one.orphan]
        if len(before) < len(self.rules):
            # Enforced for the first time: what is ripe, as max_share has it.
            return len(mine & ripe), mine <= ripe
        sooner = {id_ for id_ in ripe if self.times[id_] < max(before, default=0)}
        return len(mine | sooner), True

    async def allows(self, listed: int) -> bool:
        """Return True if no more became orphans by an edit than it may make due without an approval."""
        rule, ledger = self.session.rule, self.session.context.ledger
        count, whole = self._count()
        fields = ("orphans_ok", "share_ok")
        approved, share = (await ledger.carrier.run([("HMGET", _rules(self.session), *fields)]))[0]
        digest, _, most = (approved or b" 0").decode().partition(" ")
        known = max(int(most) if digest == rule.digest else 0, int(share or 0))
        if count <= max(enforced.allows(enforced.limits(rule, self.rules), listed), known):
            if whole:
                await self._enforced()
            return True
        detail = f"{count} of {listed} listed would become orphans at once, which they were not under the rule before"
        stand = enforcement.Stand("halted", HaltReason.CUTOFF_JUMPED, detail, plan=True, named=count)
        plan = await newly_due.plan(ledger, rule, stand, await ledger.survey(rule), listed=True)
        await self.session.context.trip(rule.partition, HaltReason.CUTOFF_JUMPED, detail, plan=plan)
        return self.session.ends("halted", detail)

    async def _enforced(self) -> None:
        """Make the whole rule the one that objects stand under from now on."""
        ledger, rule = self.session.context.ledger, self.session.rule
        (at,) = await ledger.carrier.run([("HGET", _rules(self.session), "base_at")])
        await ledger.note(rule.partition, enforced=enforced.text(int(at), [enforced.stored(rule)]))
        await ledger.carrier.run([("HDEL", _rules(self.session), "orphans_ok")])


def _spared(past: Past, rule: Rule, item: Listed, now: int) -> bool:
    """Return True if a rule as it was made no orphan of an object."""
    if past.orphan is None:
        return True
    before = ownership.Judge(rule, past.orphan, "", "")
    if before.ripens(item) > now:
        return True
    return any(keep.matches(item.name, item.metadata) for keep in past.listed_keep)


def _rules(session: Session) -> str:
    return session.context.ledger.prefix(session.rule.partition) + keys.RULES
