"""What OpenAI's plainer kinds have in common: a collection with create, list, read, update and delete."""

from collections.abc import Callable
from dataclasses import dataclass

from lapse.sandbox.bodies import read, refuse
from lapse.sandbox.paging import LARGEST, USUAL, Window, page, window
from lapse.sandbox.state import Project, Stored
from lapse.sandbox.wire import Json, Request, Response, answer, refusal


@dataclass(frozen=True, slots=True)
class Collection:
    """One kind of object.

    Attributes:
        kind: The stand-in's and lapse's name of it.
        unknown: The message of its 404; ``{id}`` is the id.
        deleted_object: ``object`` in the answer to a DELETE.
        make: Makes a new object, with its id, of a request's body.
        show: Returns an object's body as it stands now.
        updates: Fields that ``POST /{kind}/{id}`` may change.
        largest: The largest page of its list.
        usual: The page without a ``limit``.
        ascending: True if the list is oldest first unless asked otherwise.
        param: ``param`` of the 404.

    """

    kind: str
    unknown: str
    deleted_object: str
    make: Callable[[Json], Stored]
    show: Callable[[Stored], Json] = lambda stored: stored.body
    updates: tuple[str, ...] = ("metadata",)
    largest: int = LARGEST
    usual: int = USUAL
    ascending: bool = False
    param: str | None = None

    def missing(self, id_: str) -> Response:
        """Return the answer to an id that the provider does not know."""
        return refusal(404, self.unknown.format(id=id_), "unknown", param=self.param)

    def create(self, request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
        """``POST`` to the collection."""
        stored = self.make(read(request))
        project.kept[self.kind][stored.body["id"]] = stored
        return answer(self.show(stored), "created", executed=True)

    def list(self, request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
        """``GET`` of the collection: one page."""
        asked = window(request, largest=self.largest, usual=self.usual, ascending=self.ascending)
        if not isinstance(asked, Window):
            return asked
        listed = project.listed(self.kind)
        return page(listed, lambda id_: self.show(listed[id_]), asked, self.missing)

    def retrieve(self, _request: Request, project: Project, ids: tuple[str, ...]) -> Response:
        """``GET`` of one object."""
        stored = project.kept[self.kind].get(ids[0])
        return self.missing(ids[0]) if stored is None else answer(self.show(stored), "read")

    def update(self, request: Request, project: Project, ids: tuple[str, ...]) -> Response:
        """``POST`` to one object."""
        given = read(request)
        stored = project.kept[self.kind].get(ids[0])
        if stored is None:
            return self.missing(ids[0])
        if not given:
            raise refuse("Missing required parameter: 'metadata'.", "metadata", "missing_required_parameter")
        stored.body |= {name: given[name] for name in self.updates if name in given}
        return answer(self.show(stored), "updated", executed=True)

    def delete(self, _request: Request, project: Project, ids: tuple[str, ...]) -> Response:
        """``DELETE`` of one object."""
        if project.kept[self.kind].pop(ids[0], None) is None:
            return self.missing(ids[0])
        return answer({"id": ids[0], "object": self.deleted_object, "deleted": True}, "deleted", executed=True)
