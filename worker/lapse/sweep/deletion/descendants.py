"""What belongs to an object that is about to be deleted, level by level, and how each of it stands in the registry."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from lapse.ledger.children import FREE, STAYS, UNPLANNED, ChildState, Question, last_active, standings, users
from lapse.ledger.claim import Claim
from lapse.policy.preconditions import follows
from lapse.providers.kinds import Child, Kind
from lapse.providers.outcomes import Spend
from lapse.providers.response import Reply
from lapse.registry.keys import ID
from lapse.registry.model import Resource
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.members import PAGE, Members


@dataclass(slots=True)
class Relative:
    """One child: of what kind of object, along with what it goes, and how it stands.

    ``siblings``: others that go too and use it, so they go before it. ``inner``: its own children, which go first.
    """

    parent: Kind
    child: Child
    resource: Resource
    going: tuple[Resource, ...]
    protects: bool = False
    status: str = "free"
    users: frozenset[Resource] = frozenset()
    siblings: frozenset[Resource] = frozenset()
    policy: str = ""
    inner: "list[Relative]" = field(default_factory=list)

    def all(self) -> "Iterator[Relative]":
        """Yield it and all that is below it."""
        yield self
        for one in self.inner:
            yield from one.all()

    @property
    def goes(self) -> bool:
        """True if nothing in the registry is in the way."""
        return self.status in FREE and not self.protects


@dataclass(slots=True)
class Relatives:
    """The family of one claimed resource."""

    cascade: Cascade
    claim: Claim
    spend: Spend
    active: int | None = None
    members: dict[Resource, Members] = field(default_factory=dict)

    async def of(self, kind: Kind, body: Mapping[str, Any]) -> list[Relative]:
        """Return all that belongs to the resource, in the order in which it goes.

        Raises:
            Limited: no request tokens in time.
            Unreadable: a list could not be read.

        """
        self.active = await last_active(self.cascade.context.ledger, self.claim.resource)
        return await self._below(kind, body, (self.claim.resource,))

    @property
    def stale(self) -> bool:
        """True if a list was not read in this attempt alone."""
        return any(one.stale for one in self.members.values())

    async def read_anew(self) -> None:
        """Read every list anew from now on."""
        for one in self.members.values():
            await one.forget()

    async def keep(self) -> None:
        """Let the next attempt go on with the lists of this one."""
        for one in self.members.values():
            await one.keep_all()

    async def _below(self, kind: Kind, body: Mapping[str, Any], going: tuple[Resource, ...]) -> list[Relative]:
        found: list[Relative] = []
        for child in follows(self.cascade.rule, kind):
            ids = dict.fromkeys(await self._ids(kind, child, body, going[-1]))
            protects = self.cascade.rule.cascade[child.kind] == "protect"
            level = [Relative(kind, child, replace(going[-1], kind=child.kind, id=id_), going, protects) for id_ in ids]
            await self._stand(level, child, going)
            inner = self.cascade.context.provider.kinds[child.kind]
            for one in level if any(each.path for each in inner.children) else []:
                if one.goes:
                    one.inner = await self._below(inner, {}, (*going, one.resource))
            found += _users_first(level)
        return found

    async def _stand(self, level: Sequence[Relative], child: Child, going: tuple[Resource, ...]) -> None:
        """Ask the registry about one level, a slice at a time."""
        if not level:
            return
        context = self.cascade.context
        asked = Question([one.resource.id for one in level], going, not child.users, self.active, self.claim.at)
        rules, expected = await self.cascade.told(child.kind), context.watch.expected()
        slot = self.claim.resource.provider, child.kind
        found = await standings(context.ledger, slot, [asked], rules, expected)
        resources = {one.resource for one in level}
        for one, standing in zip(level, found, strict=True):
            _set(one, standing, resources if child.users else set())
            if not (one.protects or one.status in STAYS or one.status == "gone" or self._may_go(one)):
                one.status = UNPLANNED

    def _may_go(self, one: Relative) -> bool:
        """Return True unless a plan decides what goes, and does not name it."""
        companions = self.cascade.context.companions
        return companions is None or companions.may_go(one.resource, one.going[-1], uses=one.child.users)

    async def _ids(self, kind: Kind, child: Child, body: Mapping[str, Any], owner: Resource) -> list[str]:
        context = self.cascade.context
        if child.users:
            return await users(context.ledger, owner, child.kind)
        if not child.path:
            return _inside(body, child.field)
        members = self.members.setdefault(owner, Members(context.ledger.carrier, context.ledger.namespace, owner))

        async def fetch(after: str) -> Reply:
            await self.spend(1)
            cursor = f"&after={quote(after, safe='')}" if after else ""
            path = f"{child.path}?limit={PAGE}&order=asc{cursor}"
            return await context.provider.part("items", "GET", kind, owner.id, path)

        return await members.read(context.provider, kind, fetch)


def _set(one: Relative, standing: ChildState, level: Iterable[Resource]) -> None:
    one.status, one.users, one.policy = standing.status, standing.users, standing.policy
    if standing.users and standing.users <= set(level):
        one.status, one.users, one.siblings = "free", frozenset(), standing.users


def _users_first(level: Sequence[Relative]) -> list[Relative]:
    """Return children so that none goes before one that uses it; what uses each other in a circle is used."""
    waiting = {one.resource: len(one.siblings) for one in level}
    uses: dict[Resource, list[Relative]] = {}
    for one in level:
        for user in one.siblings:
            uses.setdefault(user, []).append(one)
    ready, order = deque(one for one in level if not one.siblings), list[Relative]()
    while ready:
        one = ready.popleft()
        order.append(one)
        for used in uses.get(one.resource, ()):
            waiting[used.resource] -= 1
            if not waiting[used.resource]:
                ready.append(used)
    left = [one for one in level if waiting[one.resource]]
    for one in left:
        one.status, one.users = "used", one.siblings
    return order + left


def _inside(body: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Return the ids in a list that lies so deep inside an object; what cannot be an id cannot be ours."""
    found: Any = body
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return [id_ for id_ in found if isinstance(id_, str) and ID.fullmatch(id_)] if isinstance(found, list) else []
