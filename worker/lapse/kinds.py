"""What lapse knows of each kind of object at each type of provider: a table. No I/O.

A new kind is one entry here and its tests. The facts come from the providers' API references and published
error bodies; what a provider neither documents nor was seen to answer is not in the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from typing import NamedTuple

from lapse.errors import ConfigError


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


# https://platform.openai.com/docs/deprecations: announced 2025-08-26, shut down a year later.
_ASSISTANTS_SUNSET = {
    "api.openai.com": Sunset(date(2026, 8, 26), "conversation"),
}
_ASSISTANTS_BETA = {"OpenAI-Beta": "assistants=v2"}

CONVERSATION_ITEM = Kind(
    name="conversation_item",
    plural="conversation_items",
    path="/items",
    deleted_object="conversation",  # the answer to deleting an item is the conversation it was in
    not_found=("Item with id {id} not found", "No item found with id {id}"),
    listable=True,
    has_metadata=False,
)

_OPENAI = (
    Kind(
        name="thread",
        plural="threads",
        path="/threads",
        deleted_object="thread.deleted",
        not_found=("No thread found with id {id}",),
        headers=_ASSISTANTS_BETA,
        # Threads have no list; whoever serves threads serves assistants beside them.
        probe="/assistants?limit=1",
        sunsets=_ASSISTANTS_SUNSET,
    ),
    Kind(
        name="assistant",
        plural="assistants",
        path="/assistants",
        deleted_object="assistant.deleted",
        not_found=("No assistant found with id {id}",),
        headers=_ASSISTANTS_BETA,
        listable=True,
        probe="/assistants?limit=1",
        has_name=True,
        sunsets=_ASSISTANTS_SUNSET,
    ),
    Kind(
        name="conversation",
        plural="conversations",
        path="/conversations",
        deleted_object="conversation.deleted",
        not_found=("Conversation with id {id} not found",),
        # "Items in the conversation will not be deleted" (API reference, conversations/delete).
        child=CONVERSATION_ITEM,
    ),
)

KINDS: Mapping[str, Mapping[str, Kind]] = {"openai": {kind.name: kind for kind in _OPENAI}}
"""Provider type -> kind name -> kind."""

_SINGULARS = {
    word: kind.name for kinds in KINDS.values() for kind in kinds.values() for word in (kind.name, kind.plural)
}


def singular(text: str) -> str:
    """Return the name of the kind that a person wrote in singular or plural.

    Raises:
        ConfigError: no provider type has such a kind; the text says which there are.

    """
    word = text.strip().lower().replace("-", "_")
    if word in _SINGULARS:
        return _SINGULARS[word]
    close = get_close_matches(word, _SINGULARS, n=1)
    hint = (
        f"did you mean {_SINGULARS[close[0]]!r}?"
        if close
        else f"there are {', '.join(sorted(set(_SINGULARS.values())))}"
    )
    raise ConfigError(f"kind {text!r} is not known: {hint}")
