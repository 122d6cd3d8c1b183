"""Due objects that use each other: none is free before the others, so they are due as a whole, with the last of them.

No script sees more than one slot. So the worker finds the members, claims one after the other as going along with the
rest, asks each once more when all are claimed, and only then deletes the first.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from lapse.guards.context import SweepContext, named
from lapse.ledger.claim import CircleMember, Claim
from lapse.ledger.settle import Act
from lapse.policy import Rule
from lapse.policy.preconditions import follows, preconditions_of
from lapse.providers.deadline import Deadline
from lapse.providers.outcomes import Limited, Outcome, Spend, Verdict
from lapse.registry import codec, keys
from lapse.registry.model import Partition, Resource
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.family import Family
from lapse.sweep.deletion.precheck import Target
from lapse.sweep.session import Session

log = structlog.get_logger("lapse")

MOST = 100  # members
NEW = 1000  # parked since the last look; one of them is the last of every circle that became due
OLD = 100  # of the others, in turn


@dataclass(frozen=True, slots=True)
class Look:
    """How one id stands: its policy, whether it is due but for its users, and these."""

    policy: str
    due: bool
    users: frozenset[Resource]


class Circles:
    """The circles that the ids of one sweep's partition are in."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._context: SweepContext = session.context
        self._partition = session.rule.partition
        self._rules = {
            rule.partition: rule for rule in (*session.context.rules, session.rule) if rule.enforce and not rule.orphan
        }
        self._looks: dict[Resource, Look | None] = {}

    async def run(self) -> None:
        """Delete every circle that is due and whose members nothing else uses."""
        over = set[Resource]()
        for one in await self._candidates():
            if one not in over and self._session.budget.left() > 0 and not self._context.stop.is_set():
                circle = await self._circle(one)
                over |= circle.keys()
                if circle:
                    await _Going(self._session, circle).run()

    async def _candidates(self) -> list[Resource]:
        """Return ids that were found used when they were due: those parked since the last look, and some others."""
        at, carrier = self._partition, self._context.ledger.carrier
        prefix = self._context.ledger.prefix(at)
        ((since, turn),) = await carrier.run([("HMGET", prefix + keys.RULES, "circles_at", "circles_from")])
        now = await self._context.control.now()
        new, old = await carrier.run(
            [
                ("ZRANGE", prefix + keys.PARKED, int(since or 0), "+inf", "BYSCORE", "LIMIT", 0, NEW),
                ("ZRANGE", prefix + keys.PARKED, int(turn or 0), "+inf", "BYSCORE", "LIMIT", 0, OLD, "WITHSCORES"),
            ]
        )
        further = int(float(old[-1])) + 1 if len(old) == 2 * OLD else 0
        if new or old or int(turn or 0):
            await self._context.ledger.note(at, circles_at=now, circles_from=further)
        ids = dict.fromkeys(id_.decode() for id_ in (*new, *old[::2]))
        found = [Resource(at.provider, at.kind, id_) for id_ in ids]
        await self._look(found)
        return [one for one in found if self._due(one)]

    async def _circle(self, one: Resource) -> dict[Resource, Rule]:
        """Return the members of the circle that an id is in, with their rules; none if it is in none that is due."""
        members, edge = {one}, {one}
        while edge:
            await self._look([each for each in edge if each not in self._looks])
            if not all(self._due(each) for each in edge):
                return {}
            edge = {user for each in edge for user in self._users(each)} - members
            members |= edge
            if len(members) > MOST:
                return {}
        return {each: self._rules[self._at(each)] for each in members} if self._mutual(one, members) else {}

    def _mutual(self, one: Resource, members: set[Resource]) -> bool:
        """Return True if each member uses the first, by way of others: what only uses a circle goes before it."""
        used, edge = set[Resource](), {one}
        while edge:
            edge = {each for each in members - used if self._users(each) & edge}
            used |= edge
        return used == members

    async def _look(self, resources: Iterable[Resource]) -> None:
        slots: defaultdict[tuple[str, str], list[Resource]] = defaultdict(list)
        for one in resources:
            slots[one.provider, one.kind].append(one)
        for (provider, kind), ids in slots.items():
            for at in range(0, len(ids), MOST):
                part = ids[at : at + MOST]
                call = self._context.ledger.on_slot(
                    "sweep/lua/look_circle", provider, kind, codec.dump([one.id for one in part])
                )
                said = json.loads((await self._context.ledger.carrier.carry([call]))[0])
                self._looks.update({one: _look(each) if each else None for one, each in zip(part, said, strict=True)})

    def _users(self, one: Resource) -> frozenset[Resource]:
        seen = self._looks[one]
        return seen.users if seen else frozenset()

    def _due(self, one: Resource) -> bool:
        seen = self._looks[one]
        return bool(seen and seen.due and 0 < len(seen.users) <= MOST and self._at(one) in self._rules)

    def _at(self, one: Resource) -> Partition:
        seen = self._looks[one]
        return Partition(one.provider, one.kind, seen.policy if seen else "")


def _look(said: Mapping[str, Any]) -> Look:
    return Look(said["p"], said["due"], frozenset(codec.edge(user) for user in said.get("users", ())))


class _Going:
    """One circle on its way out."""

    def __init__(self, session: Session, members: Mapping[Resource, Rule]) -> None:
        self._session = session
        self._context: SweepContext = session.context
        # One whose children go along comes last: these may be members too.
        self._members = dict(sorted(members.items(), key=lambda item: (bool(self._children(*item)), item[0])))
        self._names = [codec.edge_text(one) for one in self._members]
        self._deadline = Deadline.of(session.context.settings.lease)

    async def run(self) -> None:
        """Claim all, ask all again, delete all; give back what is claimed wherever that ends."""
        if await self._stopped():
            return
        # No lock spans slots. So all are leased first, and each is asked again under its own token: from the second
        # answer on nobody can touch one without the lease showing it, and only then is the first DELETE sent.
        claims: list[Claim] = []
        done = 0
        try:
            for one, rule in self._members.items():
                claim = await self._ask(one, rule)
                if claim is None:
                    return
                claims.append(claim)
            for claim in claims:
                if await self._ask(claim.resource, self._members[claim.resource], claim.token) is None:
                    return
            log.info("circle.found", ids=[one.id for one in self._members], **named(self._session.rule.partition))
            for claim in claims:
                act = await self._deleted(claim)
                done += 1
                if act != Act.DONE:
                    return
        finally:
            for claim in claims[done:]:
                await self._family(claim).attempted(claim, _given_back)

    async def _stopped(self) -> bool:
        rules = {(rule.partition, rule.formerly) for rule in self._members.values()}
        return any([await self._context.control.stopped(*names) for names in sorted(rules)])

    async def _ask(self, one: Resource, rule: Rule, token: int | None = None) -> Claim | None:
        context = self._context
        member = CircleMember(one.id, self._names, context.provider.place, token)
        asked = context.ledger.circle(rule, context.settings, member, context.watch.expected())
        status, now, fence, due, by, attempts, unknown = await context.ledger.lease(asked, self._deadline)
        if status != b"granted":
            return None
        partition = rule.partition
        return Claim(one, partition.policy, fence, due, by.decode(), attempts, unknown == 1, self._deadline, now)

    async def _deleted(self, claim: Claim) -> str:
        rule, spend = self._members[claim.resource], self._spend
        family = self._family(claim)
        kind = self._context.provider.kinds[claim.resource.kind]
        preconditions = preconditions_of(rule, kind, claim.by, claim.at)

        async def work() -> Verdict:
            await spend(1)  # the DELETE's own
            chosen = family if self._children(claim.resource, rule) else None
            target = Target(self._context.provider, kind, claim.resource.id, spend)
            return await delete(target, preconditions=preconditions, family=chosen)

        verdict, act = await family.attempted(claim, work)
        if rule.partition == self._session.rule.partition:
            self._session.report.outcomes[str(verdict.outcome)] += act != Act.RELEASE
        return act

    async def _spend(self, requests: int = 1) -> None:
        if time.monotonic() > self._deadline.begin_by:
            raise Limited("no further request is to be sent for this circle")
        await self._session.budget.spend(requests)

    def _family(self, claim: Claim) -> Family:
        spend: Spend = self._spend
        kind = self._context.provider.kinds[claim.resource.kind]
        return Family(Cascade(self._context, self._members[claim.resource]), kind, claim, spend)

    def _children(self, one: Resource, rule: Rule) -> bool:
        return bool(follows(rule, self._context.provider.kinds[one.kind]))


async def _given_back() -> Verdict:
    return Verdict(Outcome.LIMITED, detail="not begun", reacted=True)
