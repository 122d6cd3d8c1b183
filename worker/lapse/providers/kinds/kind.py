"""What lapse knows of one kind of object at one type of provider: the fields of the table. No I/O."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Sunset(NamedTuple):
    """An endpoint that a host shuts down: from which day on, and the kind that takes its place."""

    date: dt.date
    successor: str

    def over(self, today: dt.date) -> bool:
        """Return True once the endpoint is gone; until then it is served, and worth a warning."""
        return today >= self.date


class Runs(NamedTuple):
    """Work on an object that has a list of its own, below the object's URL; ``active``: statuses of what still runs."""

    path: str
    active: frozenset[str]


class Child(NamedTuple):
    """How objects of another kind belong to one.

    Attributes:
        kind: Theirs.
        field: Where the object names their ids: keys, one inside the other. Empty if it does not.
        path: The list of them below the object's URL, from which one is taken before it is deleted; None without one.
        users: True for those whose registration names the object in ``uses``.

    """

    kind: str
    field: tuple[str, ...] = ()
    path: str | None = None
    users: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object at one type of provider.

    Attributes:
        name: The singular, as in ``lapse_deletions_total{kind="thread"}``.
        not_found: How a 404 names an object that is not there; ``{id}`` is the whole id, quoted or not.
        plural: As people and URLs write several of them; the name with an s unless given.
        path: The collection below the base URL, or of a child, below its parent's; ``/plural`` unless given.
        deleted_object: What ``object`` says in the answer to a DELETE that worked; ``name.deleted`` unless given.
        absence: Where the GET of a missing object names nothing: what below its URL does, POSTed with ``{}``.
        confirmation: A whole body that confirms a DELETE without naming the id, where servers answer so.
        no_content: True if a bare 204 is the documented answer to a DELETE that worked.
        denied: Messages of a 5xx that speak of the credential, and that no retry heals.
        headers: Sent with every request about this kind.
        id_field: The field with the object's own id.
        listable: True if the provider can list all of them. If not, the registry is the only record of them.
        search: Path of the search that lists them, POSTed with limit and offset and answered with an array; None
            where a GET of ``path`` with a cursor lists them.
        unpaged: True if a list may come whole, without has_more, and asked for without limit and order.
        page_size: Objects asked for at once: the most that the provider gives.
        probe: Path and query of a GET that needs no id and works wherever this kind does; None without one. What
            has a ``search`` is probed with that.
        has_name: True if the objects have a name.
        name_field: Where it stands.
        has_metadata: True if the objects have ``metadata``.
        created_field: The field with the creation time: seconds since 1970, or ISO 8601 with an offset.
        active_field: The field with the last activity, where the provider keeps one; None where it does not.
        busy: What ``status`` says while work runs on an object: it is read just before its deletion, and left alone.
        runs: The work on an object, where that is a list of its own: its newest entry is read just before its deletion.
        cancel: What is POSTed below the object's URL, or a run's, to end the work; None: there is no such thing.
        longest_run: Seconds after which no work that began still runs; None: it may run for any time.
        system: Metadata of objects that the provider made for itself and that are never deleted: read as ``busy`` is.
        create: What a POST to ``path`` takes to make an empty object that costs nothing; None where there is none.
        native_expiry: True if the provider deletes them by itself, so that one being gone already is no news.
        witness: True if one may be read to learn whether it exists; False where reading it keeps it alive.
        child: What has to be deleted before it, because the provider keeps it otherwise.
        children: Objects in their own right that belong to it: what becomes of them is for the policy to say.
        sunsets: Hosts that no longer serve this kind. A host stands for its subdomains too.

    """

    name: str
    not_found: tuple[str, ...]
    plural: str = ""
    path: str = ""
    deleted_object: str = ""
    absence: str | None = None
    no_content: bool = False
    confirmation: Mapping[str, Any] | None = None
    denied: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    id_field: str = "id"
    listable: bool = False
    search: str | None = None
    unpaged: bool = False
    page_size: int = 100
    probe: str | None = None
    has_name: bool = False
    name_field: str = "name"
    has_metadata: bool = True
    created_field: str = "created_at"
    active_field: str | None = None
    busy: frozenset[str] = frozenset()
    runs: Runs | None = None
    cancel: str | None = None
    longest_run: float | None = None
    system: Mapping[str, str] = field(default_factory=dict)
    create: Mapping[str, Any] | None = None
    native_expiry: bool = False
    witness: bool = True
    child: "Kind | None" = None
    children: tuple[Child, ...] = ()
    sunsets: Mapping[str, Sunset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Derive from the name what was not given."""
        object.__setattr__(self, "plural", self.plural or f"{self.name}s")
        object.__setattr__(self, "path", self.path or f"/{self.plural}")
        object.__setattr__(self, "deleted_object", self.deleted_object or f"{self.name}.deleted")

    @property
    def items(self) -> str | None:
        """The path of the collection to empty first, below the object's own URL; None if there is none."""
        return self.child.path if self.child else None

    @property
    def tells_activity(self) -> bool:
        """True if the provider keeps the time of last activity of each."""
        return self.active_field is not None

    def is_system(self, metadata: Mapping[str, str]) -> bool:
        """Return True if an object with this metadata is the provider's own."""
        return bool(self.system) and self.system.items() <= metadata.items()

    def sunset(self, host: str) -> Sunset | None:
        """Return the sunset that covers a host name, its subdomains included, or None; it may be still to come."""
        return next((sunset for gone, sunset in self.sunsets.items() if is_below(host, (gone,))), None)


def is_below(host: str, domains: Iterable[str]) -> bool:
    """Return True if a host name is one of these domains, or below one."""
    name = host.lower().rstrip(".")
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)
