"""Which object a stamp belongs to: the first one that was seen with its nonce. Copies of its metadata prove nothing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from lapse.providers.pagination import Listed
from lapse.registry import codec, keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Resource

NOBODY = ""
"""Whose a nonce is that two objects of one moment were first seen with: none of them is provably ours."""


@dataclass(frozen=True, slots=True)
class Nonces:
    """The owners of nonces, in a hash of the namespace: a copy may be of another kind, or at another provider."""

    carrier: Carrier
    namespace: str

    async def owners(self, nonces: Sequence[str]) -> dict[str, str]:
        """Return whose these are, as edges name a resource, without those that nobody was seen with."""
        if not nonces:
            return {}
        # The application says whose a stamp is when the provider answers it, before any list can show a copy.
        places = (keys.nonces(self.namespace), keys.stamped(self.namespace))
        seen, told = await self.carrier.run([("HMGET", place, *nonces) for place in places])
        known = {nonce: owner.decode() for nonce, owner in zip(nonces, told, strict=True) if owner is not None}
        owners = {nonce: owner for nonce, owner in known.items() if not owner.endswith("|")}
        return owners | {nonce: owner.decode() for nonce, owner in zip(nonces, seen, strict=True) if owner is not None}

    async def bind(self, owners: Mapping[str, str]) -> dict[str, str]:
        """Give nonces to owners, unless they have one; return whose they are."""
        if not owners:
            return {}
        name, known = keys.nonces(self.namespace), await self.owners(list(owners))
        fresh = [("HSETNX", name, nonce, owner) for nonce, owner in owners.items() if nonce not in known]
        if not fresh:
            return known
        await self.carrier.write(*fresh)
        return await self.owners(list(owners))

    async def belongs(self, nonce: str, resource: Resource) -> bool:
        """Return True if a nonce is this object's, which takes it if it is the first one seen with it."""
        name = codec.edge_text(resource)
        return (await self.bind({nonce: name}))[nonce] == name


@dataclass(slots=True)
class Copies:
    """The copies in one listing of a kind: ``ids``, complete once the list is.

    The oldest of several that share a nonce is the original, whichever the list shows first: so nothing is decided
    before its end.
    """

    nonces: Nonces
    provider: str
    kind: str
    ids: set[str]
    _new: defaultdict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))

    async def page(self, stamped: Iterable[tuple[Listed, str]]) -> None:
        """Take the objects of a page that carry our stamp, each with its nonce."""
        seen = list(stamped)
        owners = await self.nonces.owners(sorted({nonce for _item, nonce in seen}))
        for item, nonce in seen:
            if nonce not in owners:
                self._new[nonce].append((inf if item.created_at is None else item.created_at, item.id))
            elif owners[nonce] != self._name(item.id):
                self.ids.add(item.id)

    async def end(self) -> None:
        """Give every new nonce to the oldest object that carries it; the list is complete."""
        bound = await self.nonces.bind({nonce: self._first(found) for nonce, found in self._new.items()})
        for nonce, found in self._new.items():
            self.ids |= {id_ for _created, id_ in found if self._name(id_) != bound[nonce]}

    def _first(self, found: list[tuple[float, str]]) -> str:
        (created, id_), *others = sorted(found)
        return NOBODY if others and others[0][0] == created else self._name(id_)

    def _name(self, id_: str) -> str:
        return codec.edge_text(Resource(self.provider, self.kind, id_))
