"""What belongs to an object that is about to be deleted, and goes first: each child on its own lease, in its own slot.

All that the registry knows of the children is asked first, and nothing is touched while one of them stands in the way.
Then a child is claimed, looked at, taken out of its parent, deleted and settled before the next one is; the parent goes
last. So whatever ends the worker in between, every id is in the registry, and the parent is tried again with what is
left.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from lapse.ledger.children import NOT_NOW, STAYS, UNPLANNED, claimed_among
from lapse.ledger.claim import ChildRequest, Claim
from lapse.ledger.nonces import Nonces
from lapse.ledger.settle import Act, settlement
from lapse.policy.preconditions import Preconditions, follows
from lapse.providers.deadline import Requests, cut_short
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Limited, Outcome, Spend, Verdict, exists, limited, taken_out
from lapse.providers.pagination import read_object
from lapse.providers.response import Reply, document
from lapse.registry.model import Partition, Resource
from lapse.sweep.deletion import ownership
from lapse.sweep.deletion.blocked import block
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.child_reads import Looks
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.descendants import Relative, Relatives
from lapse.sweep.deletion.members import Unreadable
from lapse.sweep.deletion.precheck import Target
from lapse.sweep.deletion.reactions import react
from lapse.sweep.deletion.recorder import Recorder

FAILURES = 100  # in a row; then the others of this attempt would fail too


@dataclass(slots=True)
class Family:
    """The children of one claimed resource. ``left`` counts those that stay, by why."""

    cascade: Cascade
    kind: Kind
    claim: Claim
    spend: Spend
    left: Counter[str] = field(default_factory=Counter)
    _done: int = 0
    _over: bool = False
    """True if no further child can be deleted in this attempt."""

    async def __call__(self, object_id: str, body: Mapping[str, Any]) -> Verdict | None:
        """Delete what goes with the parent; return why it has to stay for now, or None."""
        parent = replace(self.claim.resource, id=object_id)
        relatives = Relatives(self.cascade, replace(self.claim, resource=parent), self.spend)
        verdict: Verdict | None
        try:
            verdict = await self._emptied(relatives, body)
        except Limited as reason:
            verdict = limited(reason)
        except Unreadable as reason:
            return reason.verdict
        if verdict:
            await relatives.keep()
        return verdict

    async def _emptied(self, relatives: Relatives, body: Mapping[str, Any]) -> Verdict | None:
        """Decide about all children, then delete those that go."""
        while True:
            self.left.clear()
            done, found = self._done, await relatives.of(self.kind, body)
            everyone = [each for one in found for each in one.all()]
            if verdict := await self._hindered(relatives, everyone) or await self._looked(relatives, everyone):
                return verdict
            verdict = await self.deleted(relatives, found)
            # A list that was read over several attempts may have grown since, unless nothing in it had to go.
            if verdict or not relatives.stale or self._done == done:
                return verdict
            await relatives.read_anew()

    async def _hindered(self, relatives: Relatives, found: Sequence[Relative]) -> Verdict | None:
        """Return what stands in the way by all that the registry knows; nothing was touched yet."""
        for one in found:
            if verdict := _hindrance(one):
                return await self._blocked(relatives, one, verdict)
        # Two parents that go at the same time would each leave a child to the other.
        users = sorted({user for one in found for user in one.users})
        rivals = await claimed_among(self.cascade.context.ledger, users)
        for one in found:
            for rival in sorted(one.users & rivals):
                return _waits(one, f"is used by {rival.kind} {rival.id}, which goes now")
        return None

    async def _blocked(self, relatives: Relatives, one: Relative, verdict: Verdict) -> Verdict:
        ledger = self.cascade.context.ledger
        await block(ledger, self.claim.policy, self.claim.resource, one, relatives.active)
        return verdict

    async def _looked(self, relatives: Relatives, found: Sequence[Relative]) -> Verdict | None:
        """Read the children whose keep rule would keep their parent too, before any is deleted."""
        looks, failed = Looks(self.cascade, self.claim.resource, self.spend), list[Verdict]()
        try:
            async for one, verdict in looks.at([one for one in found if one.child.users and one.goes]):
                # Claimed for the record alone: as kept or backed off, the child is not read again for every parent.
                status, claim = await self._claimed(relatives, one)
                if claim:
                    await self.attempted(claim, partial(_said, verdict))
                if verdict.outcome is Outcome.KEPT:
                    return await self._blocked(relatives, one, _stays(one, "kept"))
                failed.append(_failure(one, verdict) if claim else _waits(one, f"waits: {status}"))
                if verdict.outcome in _EVERYBODYS or len(failed) >= FAILURES:
                    break
        finally:
            await looks.remember()
        return _summary(failed)

    async def deleted(self, relatives: Relatives, found: Sequence[Relative]) -> Verdict | None:
        """Delete what goes of one level; one that fails holds up what it uses and its parent, and nothing else."""
        failed, behind, row = list[Verdict](), set[Resource](), 0
        for one in found:
            if one.status in STAYS:
                self.left["foreign" if one.status == "used" else one.status] += 1
                continue
            verdict = None
            if one.resource in behind or behind & one.siblings:
                verdict = _waits(one, "waits for another")
            elif one.status != "gone":
                verdict = await self._one(relatives, one) if one.goes else _waits(one, f"waits: {one.status}")
                row = row + 1 if verdict else 0
            if verdict:
                failed.append(verdict)
                behind.add(one.resource)
            if self._over or row >= FAILURES:
                return failed[-1] if self._over else _summary(failed)
        return _summary(failed)

    async def _one(self, relatives: Relatives, one: Relative) -> Verdict | None:
        """Delete one child if it is ours and nothing else wants it; return why its parent has to stay, or None."""
        status, claim = await self._claimed(relatives, one)
        if claim is None:
            return self._unclaimed(status, one)
        errand = Errand(self, relatives, one, claim)
        verdict, act = await self.attempted(claim, errand.run)
        if act == Act.DONE:
            self._done += 1
            return None
        # No list shows it any more, and it lives: unless that is remembered, the parent would go without it.
        if errand.taken_out:
            await relatives.members[one.going[-1]].taken(one.resource.id)
        if errand.strayed:
            return self._unclaimed("foreign", one)
        if act == Act.KEEP:
            return self._unclaimed("kept", one)
        self._over = verdict.outcome in _EVERYBODYS
        return _failure(one, verdict)

    def _unclaimed(self, status: str, one: Relative) -> Verdict | None:
        if status == "gone":
            return None
        if status not in STAYS:
            self._over = status not in {"waiting", "claimed"}
            return _waits(one, f"waits: {status}")
        if one.child.users:
            return _stays(one, status)
        self.left["foreign" if status == "used" else status] += 1
        return None

    async def _claimed(self, relatives: Relatives, one: Relative) -> tuple[str, Claim | None]:
        context, rules = self.cascade.context, await self.cascade.told(one.child.kind)

        async def claim(stamped: str = "") -> tuple[str, Claim | None]:
            asked = ChildRequest(
                one.resource,
                rules,
                one.going,
                context.settings.lease,
                self.claim.deadline,
                since=self.claim.at,  # who used it after that did not know that its parent goes
                stamped=stamped,
                named=not one.child.users,
                active=relatives.active,
            )
            return await context.ledger.claim_child(asked, context.watch.expected())

        status, claimed = await claim()
        kind = context.provider.kinds[one.child.kind]
        # Nobody registered it. A stamp makes it ours if it was given to this very object: metadata gets copied.
        unknown = status == "foreign" and one.status == "unknown" and kind.has_metadata and kind.witness
        if unknown and (policy := await self._stamp(kind, one.resource.id)):
            return await claim(policy)
        return status, claimed

    async def _stamp(self, kind: Kind, object_id: str) -> str | None:
        """Return the policy in this registry's own stamp on an object, or None."""
        context = self.cascade.context
        epoch, also = await context.control.epoch(), await context.control.also_ours()
        await self.spend(1)
        reply = await context.provider.read(kind, object_id)
        found = read_object(kind, document(reply)) if exists(kind, object_id, reply) else None
        said = ownership.stamp(found, context.ledger.namespace, epoch, also) if found else ownership.Stamp()
        if said.says != ownership.OURS:
            return None
        nonces = Nonces(context.ledger.carrier, context.ledger.namespace)
        child = replace(self.claim.resource, kind=kind.name, id=object_id)
        return said.policy if await nonces.belongs(said.nonce, child) else None

    async def attempted(self, claim: Claim, work: Callable[[], Awaitable[Verdict]]) -> tuple[Verdict, str]:
        """Record what came of the work on a claimed child; return the verdict and what the registry made of it."""
        context, resource = self.cascade.context, claim.resource
        partition = Partition(resource.provider, resource.kind, claim.policy)
        proof = self.cascade.proof(partition)
        ended: asyncio.CancelledError | None = None
        with Requests(claim.deadline) as requests:
            try:
                verdict = await work()
                verdict = await proof.judge(claim, verdict)
                await react(context, partition, proof, resource.id, verdict)
            except Limited as reason:
                verdict = limited(reason, requests.items)
            except asyncio.CancelledError as error:
                verdict, ended = cut_short("the worker ended before an answer came", requests), error
        settled = settlement(claim, verdict, outage=context.throttle.shut)
        recorded = await Recorder(context, partition, None).record([settled])
        # The end waits for the record: an answer that was there must not be lost with the task that asked for it.
        if ended:
            raise ended
        return verdict, "refused" if recorded.refused else settled.act


def family_of(cascade: Cascade, claim: Claim, spend: Spend) -> Family | None:
    """Return what deletes the children of a claimed resource, or None if its policy leaves them."""
    kind = cascade.context.provider.kinds[claim.resource.kind]
    return Family(cascade, kind, claim, spend) if follows(cascade.rule, kind) else None


@dataclass(slots=True)
class Errand:
    """The deletion of one claimed child.

    ``taken_out``: it is in its object's list no more. ``strayed``: it was not, before we came: it is no child.
    """

    family: Family
    relatives: Relatives
    one: Relative
    claim: Claim
    taken_out: bool = False
    strayed: bool = False

    async def run(self) -> Verdict:
        """Look at it, take it out of its object, delete it."""
        cascade, id_ = self.family.cascade, self.claim.resource.id
        rule = cascade.rules(self.one.child.kind).get(self.claim.policy)
        preconditions = Preconditions(keep=rule.keep if rule else (), cancel=cascade.rule.cancel)
        provider = cascade.context.provider
        kind = provider.kinds[self.one.child.kind]
        target = Target(provider, kind, id_, self.family.spend)
        return await delete(target, preconditions=preconditions, family=self._leave, invented=cascade.context.invented)

    async def _leave(self, object_id: str, _body: Mapping[str, Any]) -> Verdict | None:
        # What is below it first, then out of its parent's list, then itself: wherever that ends, what is left can be
        # found from a parent that is still there.
        if verdict := await self.family.deleted(self.relatives, self.one.inner):
            return verdict
        if self.one.child.path and (verdict := await self._take_out(self.one.child.path, object_id)):
            return verdict
        await self.family.spend(1)  # the DELETE's own
        return None

    async def _take_out(self, path: str, object_id: str) -> Verdict | None:
        """Take a child out of its parent's list, or that would go on counting it; return what went wrong, or None."""
        await self.family.spend(1)
        provider, parent, owner = self.family.cascade.context.provider, self.one.parent, self.one.going[-1]
        reply: Reply = await provider.part("items", "DELETE", parent, owner.id, f"{path}/{quote(object_id, safe='')}")
        verdict = taken_out(parent, owner.id, object_id, reply, provider.recognisers)
        if verdict:
            return verdict
        # That it was in the list is what makes it a child: one that was taken out by others may be theirs by now.
        self.taken_out = document(reply).get("deleted") is True or object_id in self.relatives.members[owner].out
        if not self.taken_out:
            self.strayed = True
            return Verdict(Outcome.LIMITED, detail=f"it is not in {owner.kind} {owner.id} any more", reacted=True)
        return None


_EVERYBODYS = frozenset({Outcome.LIMITED, Outcome.AUTH, Outcome.FORBIDDEN, Outcome.QUOTA, Outcome.RATE_LIMITED})
_ITS_OWN = frozenset({Outcome.ERROR, Outcome.UNCONFIRMED})


async def _said(verdict: Verdict) -> Verdict:
    return verdict


def _hindrance(one: Relative) -> Verdict | None:
    """Return why a parent cannot go, by how its child stands, or None."""
    if one.protects:
        detail = f"its {one.resource.kind} {one.resource.id} is protected"
        return None if one.status == "gone" else Verdict(Outcome.KEPT, detail=detail, reacted=True)
    if one.status in NOT_NOW:
        return _waits(one, f"waits: {one.status}")
    if one.child.users and one.status == UNPLANNED:
        return _waits(one, "is not in the plan")
    return _stays(one, one.status) if one.child.users and one.status in STAYS else None


def _stays(one: Relative, status: str) -> Verdict:
    detail = f"{one.resource.kind} {one.resource.id} uses it and stays: {status}"
    return Verdict(Outcome.KEPT, detail=detail, reacted=True)


def _waits(one: Relative, why: str) -> Verdict:
    return Verdict(Outcome.CONFLICT, detail=f"its {one.resource.kind} {one.resource.id} {why}", reacted=True)


def _failure(one: Relative, verdict: Verdict) -> Verdict:
    """Return what a child's failure means for its parent: it waits, and that is no attempt of its own."""
    detail = f"its {one.resource.kind} {one.resource.id}: {verdict.detail or verdict.outcome}"
    if verdict.outcome in _EVERYBODYS:
        return replace(verdict, unknown=False, detail=detail, request_id=None, reacted=True)
    outcome = verdict.outcome if verdict.outcome in _ITS_OWN else Outcome.CONFLICT
    return Verdict(outcome, detail=detail, reacted=True)


def _summary(failed: Sequence[Verdict]) -> Verdict | None:
    if not failed:
        return None
    more = f"; and {len(failed) - 1:,} more" if len(failed) > 1 else ""
    return replace(failed[0], detail=f"{failed[0].detail}{more}")
