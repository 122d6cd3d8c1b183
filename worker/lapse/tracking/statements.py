"""What one exchange with a provider says of objects: made, seen, used, deleted. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, NamedTuple

from lapse.tracking.apis.endpoints import Endpoints, Matched, Name, said, values


class Means(IntEnum):
    """What a statement says of its object; of two, the greater one says more."""

    USED = 1
    SEEN = 2
    """Made by the provider on the way: new, unless the registry knows of it."""
    CREATED = 3
    DELETED = 4


class Statement(NamedTuple):
    """One thing that an exchange says.

    Attributes:
        means: What it says.
        object: Of what.
        uses: What the object refers to, and keeps alive.
        answer: The provider's words for it, where the answer is this object.

    """

    means: Means
    object: Name
    uses: tuple[Name, ...] = ()
    answer: Any = None

    def and_(self, other: "Statement") -> "Statement":
        """Return what two statements about one object say together."""
        uses = tuple(dict.fromkeys(other.uses + self.uses))
        return Statement(max(self.means, other.means), self.object, uses, self.answer or other.answer)


@dataclass
class KnownRequest:
    """A request that a row knows.

    Attributes:
        endpoints: The API's rows.
        found: Its own, and what stands in the path.
        body: What the request says, or None if that is not JSON or nothing to read.

    """

    endpoints: Endpoints
    found: Matched
    body: Any = None

    @property
    def creates(self) -> bool:
        """True if the provider keeps an object that this made."""
        return bool(self.found.endpoint.creates) and self.found.endpoint.keeps(self.body)

    @cached_property
    def referred(self) -> tuple[Name, ...]:
        """What the body names."""
        return tuple(dict.fromkeys(self.endpoints.named(self.body))) if self.body else ()

    def asked(self) -> Iterator[Statement]:
        """Return what a successful request says by itself: its owner, in the path, refers to what its body names."""
        endpoint, named = self.found
        for name in named[:1] if not endpoint.deletes else ():
            means = Means.SEEN if endpoint.makes_path and said(self.body, endpoint.makes_path) else Means.USED
            yield Statement(means, name, () if endpoint.creates else self.referred)
        for name in (*(named[1:] if not endpoint.deletes else ()), *self.referred):
            yield Statement(Means.USED, name)

    def answered(self, answer: Any, id_field: str = "") -> Iterator[Statement]:
        """Return what an answer says, or one object out of a stream of them, with its id in a field of its own."""
        endpoint = self.found.endpoint
        if endpoint.deletes:
            yield from self._deleted(answer)
        elif isinstance(answer, dict):
            for id_ in values(answer, id_field or endpoint.id_field):
                if isinstance(id_, str) and id_:
                    yield from self._about(id_, answer)
            for reference in endpoint.answer:
                yield from (Statement(Means.USED, name) for name in reference.names(answer))
            for made in endpoint.makes:
                means = Means.SEEN if said(self.body, made.given) else Means.USED
                for name in made.names(answer):
                    yield Statement(means, name)

    def created(self, id_: str, answer: Any = None) -> Iterator[Statement]:
        """Return what it means that the answer is the object with this id: all that is known of one that was cut."""
        endpoint = self.found.endpoint
        if self.creates:
            there = bool(endpoint.found) and said(self.body, endpoint.found)
            yield Statement(Means.SEEN if there else Means.CREATED, Name(endpoint.creates, id_), self.referred, answer)

    def _about(self, id_: str, answer: dict[str, Any]) -> Iterator[Statement]:
        endpoint, named = self.found
        if endpoint.creates:
            yield from self.created(id_, answer)
        elif named and named[-1].id == id_:
            yield Statement(Means.USED, named[-1], (), answer)

    def _deleted(self, answer: Any) -> Iterator[Statement]:
        endpoint, named = self.found
        if not endpoint.confirmed_by:
            confirmed = answer in (None, {"status": "deleted"})
        else:
            facts = answer if isinstance(answer, dict) else {}
            confirmed = (facts.get("object"), facts.get("deleted"), facts.get("id")) == (
                endpoint.confirmed_by,
                True,
                named[-1].id,
            )
        if confirmed:
            yield Statement(Means.DELETED, named[-1])
