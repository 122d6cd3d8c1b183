"""What belongs to an object that is about to be deleted, and goes first: each child on its own lease, in its own slot.

A child is claimed, looked at, taken out of its parent, deleted and settled before the next one is; the parent goes
last. So whatever ends the worker in between, every id is in the registry, and the parent is tried again with what is
left.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from lapse import belonging, guard
from lapse.answers import Reply, document
from lapse.deadline import Requests
from lapse.deletion import delete
from lapse.heeding import heed
from lapse.keys import ID
from lapse.kinds import Child, Kind
from lapse.ledger import Claim
from lapse.listing import MAX_PAGES, read_object, read_page
from lapse.means import Means
from lapse.model import Partition, Resource
from lapse.outcomes import (
    Limited,
    Outcome,
    Spend,
    Verdict,
    classify_read,
    cut_short,
    exists,
    limited,
    taken_out,
    unconfirmed,
)
from lapse.policy import Pace, Rule
from lapse.proof import Proof
from lapse.recorder import Recorder
from lapse.terms import Terms, follows, named_inside

STAYS = frozenset({"foreign", "held", "used", "kept", "quarantined", "observed", "active"})
PAGE = 100
UNLIMITED = -1


class Cascade:
    """The children of one sweep's parents; ``family`` gives what deletes those of one of them."""

    def __init__(self, means: Means, rule: Rule) -> None:
        self.means = means
        self.rule = rule
        self._proofs: dict[str, Proof] = {}

    def family(self, claim: Claim, spend: Spend) -> "Family | None":
        """Return what deletes the children of a claimed resource, or None if its policy leaves them."""
        kind = self.means.provider.kinds[claim.resource.kind]
        return Family(self, kind, claim, spend) if follows(self.rule, kind) else None

    def proof(self, partition: Partition) -> Proof:
        """Return what this sweep knows of whether absences of a kind can be believed."""
        if partition.kind not in self._proofs:
            means, kind = self.means, self.means.provider.kinds[partition.kind]
            self._proofs[partition.kind] = Proof(
                means, kind, partition, lenient=kind.native_expiry, quiet=means.stop.is_set
            )
        return self._proofs[partition.kind]

    async def closed(self) -> None:
        """Count the requests about children that no settled claim carried: looks at what turned out not to be ours."""
        means, partition = self.means, self.rule.partition
        for child in follows(self.rule, means.provider.kinds[partition.kind]):
            counters = means.provider.drain_tally(child.kind).get(child.kind, {})
            await means.ledger.count(replace(partition, kind=child.kind), counters)

    def rules(self, kind: str) -> dict[str, Rule]:
        """Return the policies for a kind of child, by every name that they have or had."""
        provider = self.rule.partition.provider
        return {
            name: rule
            for rule in self.means.rules
            if (rule.partition.provider, rule.partition.kind) == (provider, kind)
            for name in (*rule.formerly, rule.partition.policy)
        }

    async def told(self, kind: str) -> dict[str, Any]:
        """Return what ``claim_child.lua`` has to know of a kind's policies, and of an operator's pauses, now."""
        provider, pauses = self.rule.partition.provider, await self.means.control.pauses()
        whole = not pauses.keys().isdisjoint({"*", provider, f"{provider}/{kind}"})
        policies = {
            name: {
                "digest": rule.digest, "enforce": rule.enforce, "paused": str(rule.partition) in pauses,
                **_pace(rule.max_deletions),
            }
            for name, rule in self.rules(kind).items()
        }  # fmt: skip
        place = self.means.provider.place
        return {"policies": policies, "paused": whole, "place": place, **_pace(self.rule.max_deletions)}


def _pace(pace: Pace | None) -> dict[str, int]:
    return {"amount": pace.amount, "window": round(pace.window * 1000)} if pace else {"amount": UNLIMITED, "window": 0}


@dataclass(slots=True)
class Family:
    """The children of one claimed resource. ``left`` counts those that stay, by why."""

    cascade: Cascade
    kind: Kind
    claim: Claim
    spend: Spend
    left: Counter[str] = field(default_factory=Counter)

    async def __call__(self, object_id: str, body: Mapping[str, Any]) -> Verdict | None:
        """Delete what goes with the parent; return why it has to stay for now, or None."""
        try:
            return await self._emptied(self.kind, object_id, body, (self.claim.resource,))
        except Limited as reason:
            return limited(reason)

    async def _emptied(
        self, kind: Kind, object_id: str, body: Mapping[str, Any], going: Sequence[Resource]
    ) -> Verdict | None:
        for child in follows(self.cascade.rule, kind):
            protects = self.cascade.rule.cascade[child.kind] == "protect"
            async for id_, refusal in self._named(kind, object_id, child, body):
                if refusal:
                    return refusal
                resource = replace(self.claim.resource, kind=child.kind, id=id_)
                verdict = await (self._protected(resource) if protects else self._one(kind, child, resource, going))
                if verdict:
                    return verdict
        return None

    async def _protected(self, child: Resource) -> Verdict | None:
        if await self.cascade.means.ledger.settled_before(child):
            return None
        return Verdict(Outcome.KEPT, detail=f"its {child.kind} {child.id} is protected")

    async def _named(
        self, kind: Kind, object_id: str, child: Child, body: Mapping[str, Any]
    ) -> AsyncIterator[tuple[str, Verdict | None]]:
        """Yield the ids of one kind of children, or why they cannot be known."""
        if child.users:
            parent = replace(self.claim.resource, kind=kind.name, id=object_id)
            for id_ in await self.cascade.means.ledger.users(parent, child.kind, 10_000):
                yield id_, None
        elif child.path:
            async for named in self._listed(kind, object_id, child.path):
                yield named
        else:
            for id_ in _inside(body, child.field):
                yield id_, None

    async def _listed(self, kind: Kind, object_id: str, path: str) -> AsyncIterator[tuple[str, Verdict | None]]:
        """Read the list below an object, each page after the last id that stayed: what was taken out is no cursor."""
        provider, after, done = self.cascade.means.provider, "", set[str]()
        for _ in range(MAX_PAGES):
            await self.spend(1)
            cursor = f"&after={quote(after, safe='')}" if after else ""
            reply = await provider.part("items", "GET", kind, object_id, f"{path}?limit={PAGE}&order=asc{cursor}")
            page = read_page(kind, reply)
            if page is None:
                verdict = classify_read(kind, object_id, reply, provider.recognisers)
                if verdict.outcome is not Outcome.ALREADY_GONE:  # what that means is for its own DELETE to say
                    yield "", verdict
                return
            fresh = [item.id for item in page.items if item.id not in done]
            for id_ in fresh:
                stayed = self.left.total()
                yield id_, None
                done.add(id_)
                if self.left.total() > stayed:
                    after = id_
            if page.last:
                return
            if not fresh:
                yield "", unconfirmed(reply, "still lists what was taken out")
                return

    async def _one(self, kind: Kind, child: Child, resource: Resource, going: Sequence[Resource]) -> Verdict | None:
        """Delete one child if it is ours and nothing else wants it; return why its parent has to stay, or None."""
        status, claim = await self._claimed(resource, going)
        if status == "used" and (rival := await self.cascade.means.ledger.claimed_user(resource, going)):
            # Two parents that go at the same time would each leave it to the other.
            detail = f"its {resource.kind} {resource.id} is used by {rival.kind} {rival.id}, which goes now"
            return Verdict(Outcome.CONFLICT, detail=detail)
        if claim is None:
            return self._unclaimed(status, child, resource)
        verdict, act = await self._attempted(kind, child, claim, going)
        if act == "done":
            return None
        if act == "keep":
            return self._unclaimed("kept", child, resource)
        detail = f"its {resource.kind} {resource.id}: {verdict.detail or verdict.outcome}"
        if verdict.outcome in _PARENTS_TOO:
            return replace(verdict, unknown=False, detail=detail, request_id=None)
        return Verdict(Outcome.CONFLICT, status=verdict.status, detail=detail)

    def _unclaimed(self, status: str, child: Child, resource: Resource) -> Verdict | None:
        if status == "gone":
            return None
        if status not in STAYS:
            return Verdict(Outcome.CONFLICT, detail=f"its {resource.kind} {resource.id} waits: {status}")
        if child.users:
            return Verdict(Outcome.KEPT, detail=f"{resource.kind} {resource.id} uses it and stays: {status}")
        self.left["foreign" if status == "used" else status] += 1
        return None

    async def _claimed(self, child: Resource, going: Sequence[Resource]) -> tuple[str, Claim | None]:
        means, rules = self.cascade.means, await self.cascade.told(child.kind)

        async def claim(stamped: str = "") -> tuple[str, Claim | None]:
            return await means.ledger.claim_child(
                child, rules, going, means.settings.lease, self.claim.deadline,
                since=self.claim.at, stamped=stamped, expected=means.watch.expected(),
            )  # fmt: skip

        status, claimed = await claim()
        kind = means.provider.kinds[child.kind]
        if status == "foreign" and kind.has_metadata and kind.witness and (policy := await self._stamp(kind, child.id)):
            return await claim(policy)
        return status, claimed

    async def _stamp(self, kind: Kind, object_id: str) -> str | None:
        """Return the policy in this registry's own stamp on an object, or None."""
        means = self.cascade.means
        epoch = await means.control.epoch()
        await self.spend(1)
        reply = await means.provider.read(kind, object_id)
        found = read_object(kind, document(reply)) if exists(kind, object_id, reply) else None
        said, policy = belonging.stamp(found, means.ledger.namespace, epoch) if found else ("", "")
        return policy if said == belonging.OURS else None

    async def _attempted(
        self, parent: Kind, child: Child, claim: Claim, going: Sequence[Resource]
    ) -> tuple[Verdict, str]:
        """Delete one claimed child and record what came of it; return the verdict and what the registry made of it."""
        means, resource = self.cascade.means, claim.resource
        partition = Partition(resource.provider, resource.kind, claim.policy)
        proof = self.cascade.proof(partition)
        ended: asyncio.CancelledError | None = None
        with Requests(claim.deadline) as requests:
            try:
                verdict = await self._deleted(parent, child, claim, going)
                verdict = await proof.judge(claim, verdict)
                await heed(means, partition, proof, resource.id, verdict)
            except Limited as reason:
                verdict = limited(reason)
            except asyncio.CancelledError as error:
                verdict, ended = cut_short("the worker ended before an answer came", deleting=requests.deleting), error
        settled = guard.settlement(claim, verdict)
        recorded = await Recorder(means, partition, None).record([settled])
        if ended:
            raise ended
        return verdict, "refused" if recorded.refused else settled.act

    async def _deleted(self, parent: Kind, child: Child, claim: Claim, going: Sequence[Resource]) -> Verdict:
        means, kind = self.cascade.means, self.cascade.means.provider.kinds[claim.resource.kind]
        rule = self.cascade.rules(kind.name).get(claim.policy)
        terms = Terms(
            keep=rule.keep if rule else (), cancel=self.cascade.rule.cancel, whole=named_inside(self.cascade.rule, kind)
        )

        async def inner(object_id: str, body: Mapping[str, Any]) -> Verdict | None:
            if child.path and (verdict := await self._taken_out(parent, going[-1].id, child.path, object_id)):
                return verdict
            verdict = await self._emptied(kind, object_id, body, (*going, claim.resource))
            await self.spend(1)  # the DELETE's own
            return verdict

        return await delete(
            means.provider, kind, claim.resource.id, terms=terms, spend=self.spend, family=inner,
            invented=means.invented,
        )  # fmt: skip

    async def _taken_out(self, parent: Kind, parent_id: str, path: str, object_id: str) -> Verdict | None:
        """Take a child out of its parent's list, or that would go on counting it; return what went wrong, or None."""
        await self.spend(1)
        provider = self.cascade.means.provider
        reply: Reply = await provider.part("items", "DELETE", parent, parent_id, f"{path}/{quote(object_id, safe='')}")
        return taken_out(parent, parent_id, object_id, reply, provider.recognisers)


_PARENTS_TOO = frozenset(
    {
        Outcome.ERROR,
        Outcome.UNCONFIRMED,
        Outcome.LIMITED,
        Outcome.AUTH,
        Outcome.FORBIDDEN,
        Outcome.QUOTA,
        Outcome.RATE_LIMITED,
    }
)


def _inside(body: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Return the ids in a list that lies so deep inside an object; what cannot be an id cannot be ours."""
    found: Any = body
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return [id_ for id_ in found if isinstance(id_, str) and ID.fullmatch(id_)] if isinstance(found, list) else []
