"""What lapse knows of one kind of object at one type of provider: the fields of the table. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple


class Sunset(NamedTuple):
    """An endpoint that a host has shut down: when, and the kind that took its place. None still to come."""

    date: date
    successor: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object at one type of provider.

    Attributes:
        name: The singular, as in ``lapse_deletions_total{kind="thread"}``.
        plural: As people and URLs write several of them.
        path: The collection below the base URL; of a child, below its parent's URL.
        deleted_object: What ``object`` says in the answer to a DELETE that worked.
        not_found: How a 404 names an object that is not there; ``{id}`` is the whole id, quoted or not.
        headers: Sent with every request about this kind.
        listable: True if the provider can list all of them. If not, the registry is the only record of them.
        probe: Path and query of a GET that needs no id and works wherever this kind does; None without one.
        has_name: True if the objects have a ``name``.
        has_metadata: True if the objects have ``metadata``.
        created_field: The field with the creation time in seconds since 1970.
        native_expiry: True if the provider deletes them by itself, so that one being gone already is no news.
        witness: True if one may be read to learn whether it exists; False where reading it keeps it alive.
        child: What has to be deleted before it, because the provider keeps it otherwise.
        sunsets: Hosts that no longer serve this kind. A host stands for its subdomains too.

    """

    name: str
    plural: str
    path: str
    deleted_object: str
    not_found: tuple[str, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    listable: bool = False
    probe: str | None = None
    has_name: bool = False
    has_metadata: bool = True
    created_field: str = "created_at"
    native_expiry: bool = False
    witness: bool = True
    child: "Kind | None" = None
    sunsets: Mapping[str, Sunset] = field(default_factory=dict)

    @property
    def items(self) -> str | None:
        """The path of the collection to empty first, below the object's own URL; None if there is none."""
        return self.child.path if self.child else None

    def sunset(self, host: str) -> Sunset | None:
        """Return the sunset that covers a host name, its subdomains included, or None."""
        name = host.lower().rstrip(".")
        return next(
            (sunset for gone, sunset in self.sunsets.items() if name == gone or name.endswith(f".{gone}")),
            None,
        )
