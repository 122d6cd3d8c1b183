"""Which ids a request and its answer name, and what each means: the form of a row, and how one is found. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Name(NamedTuple):
    """An object of a provider's: kind and id."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Reference:
    """Where ids of one kind stand in an answer.

    Attributes:
        kind: Their kind.
        path: Names of fields, from the outermost; ``[]`` behind one says that it is a list. What stands there is an
            id, a list of ids, or an object with an ``id``.
        given: What the request has to say for the ids to be new (``said``); "" for no condition.

    """

    kind: str
    path: str
    given: str = ""

    def names(self, body: Any) -> Iterator[Name]:
        """Return what a body names there."""
        for value in values(body, self.path):
            yield from (Name(self.kind, id_) for id_ in ids(value))


def values(body: Any, path: str) -> Iterator[Any]:
    """Return what stands at a path of a JSON value, once for each element of the lists on the way."""
    if not path:
        yield body
        return
    if path.isidentifier():  # most of them
        yield body.get(path) if isinstance(body, dict) else None
        return
    field, _, rest = path.partition(".")
    value = body.get(field.removesuffix("[]")) if isinstance(body, dict) else None
    for one in (value if isinstance(value, list) else ()) if field.endswith("[]") else (value,):
        yield from values(one, rest)


def said(body: Any, condition: str) -> bool:
    """Return True if a body says what a condition asks for: ``path`` or ``path=text``; any does for ""."""
    path, _, text = condition.partition("=")
    found = values(body, path) if path else iter((True,))
    return any(value == text if text else bool(value) for value in found)


def ids(value: Any) -> Iterator[str]:
    """Return the ids in what a field says: one, a list of them, or an object with one."""
    for one in value if isinstance(value, list) else (value,):
        id_ = one.get("id") if isinstance(one, dict) else one
        if isinstance(id_, str) and id_:
            yield id_


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a 2xx answer to a request of one method and path means.

    Attributes:
        method: The HTTP method.
        path: The template below the base URL, as the SDK writes it.
        creates: The kind of the object that the answer is, if the request made it.
        found: What the request has to say for the answer to be perhaps an object that was there (``said``); "" if it is
            new always.
        deletes: True if a confirmed answer says that the last object in the path is gone.
        confirmed_by: ``object`` of a JSON answer that confirms it; "" for a bare 204 or ``{"status": "deleted"}``.
        id_field: Where the answer has its object's id.
        reads_body: Whether the request's JSON body may name ids.
        answer: What the answer names.
        makes: What the answer names that is new the first time it is seen.
        makes_path: What the request has to say for the object in its path to be new (``said``); "" if none is made so.
        events: Type of a server-sent event -> where its data has the object that an answer would have been, and its id
            (``id_field`` otherwise); "" is the type of data without one. None if the answer is never a stream.
        stamps: Whether what is created has metadata that a stamp can be put into.
        store: Whether the provider keeps the object if the request's ``store`` says nothing; None if there is no such
            field.

    """

    method: str
    path: str
    creates: str = ""
    found: str = ""
    deletes: bool = False
    confirmed_by: str = ""
    id_field: str = "id"
    reads_body: bool = True
    answer: tuple[Reference, ...] = ()
    makes: tuple[Reference, ...] = ()
    makes_path: str = ""
    events: Mapping[str, tuple[str, str]] | None = None
    stamps: bool = False
    store: bool | None = None

    @property
    def reads_answer(self) -> bool:
        """True if the answer says more than that it was a success."""
        return bool(self.creates or self.deletes or self.answer or self.makes)

    def keeps(self, body: Any) -> bool:
        """Return True if the provider keeps what this request made."""
        said = body.get("store") if isinstance(body, dict) else None
        return self.store is not False if said is None or self.store is None else bool(said)

    def segments(self) -> list[str]:
        """Return the parts of the path."""
        return self.path.strip("/").split("/")


class Matched(NamedTuple):
    """A row, and the objects that stand in the path, outermost first."""

    endpoint: Endpoint
    named: tuple[Name, ...]


class Endpoints:
    """The rows of one API.

    Args:
        rows: What is known of it.
        parameters: Name of a path's parameter -> the kind of its ids; those of others are no ids of lapse's.
        fields: Name of a field, wherever it stands in a request's body -> the kind of the ids in it.
        reasons: Beginning of a path -> why what is made and deleted there has no row.

    """

    def __init__(
        self,
        rows: Iterable[Endpoint],
        parameters: Mapping[str, str],
        fields: Mapping[str, str],
        reasons: Mapping[str, str],
    ) -> None:
        self.rows = tuple(rows)
        self.parameters = parameters
        self.fields = fields
        self.reasons = reasons
        self._by_shape: dict[tuple[str, str, int], list[tuple[Endpoint, list[str]]]] = {}
        for row in sorted(self.rows, key=lambda row: row.path.count("{")):  # /threads/runs is no thread
            parts = row.segments()
            self._by_shape.setdefault((row.method, parts[0], len(parts)), []).append((row, parts))

    def find(self, method: str, path: str) -> Matched | None:
        """Return the row of a request, by its path below the base URL; most have none, for one look into a dict."""
        parts = path.strip("/").split("/")
        for row, template in self._by_shape.get((method, parts[0], len(parts)), ()):
            named = self._match(template, parts)
            if named is not None:
                return Matched(row, named)
        return None

    def named(self, body: Any) -> Iterator[Name]:
        """Return every object that a request's body names, wherever: an SDK gives them new places every few weeks."""
        if isinstance(body, list):
            for one in body:
                yield from self.named(one)
        elif isinstance(body, dict):
            for field, value in body.items():
                kind = self.fields.get(field)
                if kind and not (kind == "file" and "container_id" in body):  # inside a container, they are others
                    yield from (Name(kind, id_) for id_ in ids(value))
                if field != "metadata" and isinstance(value, dict | list):
                    yield from self.named(value)

    def _match(self, template: list[str], parts: list[str]) -> tuple[Name, ...] | None:
        if template == parts:
            return ()
        named = []
        for expected, part in zip(template, parts, strict=True):
            if not expected.startswith("{"):
                if expected != part:
                    return None
            elif not part:
                return None
            elif kind := self.parameters.get(expected[1:-1]):
                named.append(Name(kind, part))
        return tuple(named)
