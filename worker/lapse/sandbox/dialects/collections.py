"""What OpenAI's kinds have in common: a collection with create, list, read, update and delete, and what lies in it."""

from collections.abc import Callable
from dataclasses import dataclass

from lapse.sandbox.bodies import missing, read
from lapse.sandbox.paging import USUAL, Window
from lapse.sandbox.state import Json, Project, Stored, now
from lapse.sandbox.wire import ApiCall, ApiError, ApiRequest, ApiResponse, answer, refusal


@dataclass(frozen=True, slots=True)
class Collection:
    """One kind of object.

    Attributes:
        kind: The stand-in's and lapse's name of it.
        unknown: The message of its 404; ``{id}`` is the id.
        deleted_object: ``object`` in the answer to a DELETE.
        ids: Draws so many fresh ids.
        new: Makes an object of its id, a request's body and the time it is created at.
        show: Returns an object's body as it stands now.
        updates: Fields that ``POST /{kind}/{id}`` may change.
        needs: What an update without any field is told to lack; empty where it is none.
        window: How its list is read.
        param: ``param`` of the 404.
        leaves: Keeps what a deleted object leaves behind.

    """

    kind: str
    unknown: str
    deleted_object: str
    ids: Callable[[int], list[str]]
    new: Callable[[str, Json, int], Stored]
    show: Callable[[Stored], Json] = lambda stored: stored.body
    updates: tuple[str, ...] = ("metadata",)
    needs: str = "metadata"
    window: Window = USUAL
    param: str | None = None
    leaves: Callable[[Project, Stored], None] = lambda _project, _stored: None

    def missing(self, id_: str) -> ApiError:
        """Return the answer to an id that the provider does not know."""
        return refusal(404, self.unknown.format(id=id_), "unknown", param=self.param)

    def find(self, project: Project, id_: str) -> Stored:
        """Return an object.

        Raises:
            ApiError: the provider does not know it.

        """
        stored = project.kept[self.kind].get(id_)
        if stored is None:
            raise self.missing(id_)
        return stored

    def add(self, project: Project, given: Json) -> Stored:
        """Make an object of a request's body, and keep it."""
        [id_] = self.ids(1)
        stored = project.kept[self.kind][id_] = self.new(id_, given, now())
        return stored

    def create(self, request: ApiRequest, project: Project, _ids: tuple[str, ...]) -> ApiResponse:
        """``POST`` to the collection."""
        return answer(self.show(self.add(project, read(request))), "created", executed=True)

    def list(self, request: ApiRequest, project: Project, _ids: tuple[str, ...]) -> ApiResponse:
        """``GET`` of the collection: one page."""
        listed = project.listed(self.kind)
        return self.window.page(request, listed, lambda id_: self.show(listed[id_]), self.missing)

    def retrieve(self, _request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
        """``GET`` of one object."""
        return answer(self.show(self.find(project, ids[0])), "read")

    def update(self, request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
        """``POST`` to one object."""
        given = read(request)
        stored = self.find(project, ids[0])
        if self.needs and not given:
            raise missing(self.needs)
        stored.body |= {name: given[name] for name in self.updates if name in given}
        return answer(self.show(stored), "updated", executed=True)

    def delete(self, _request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
        """``DELETE`` of one object."""
        stored = project.kept[self.kind].pop(ids[0], None)
        if stored is None:
            raise self.missing(ids[0])
        self.leaves(project, stored)
        return answer({"id": ids[0], "object": self.deleted_object, "deleted": True}, "deleted", executed=True)

    def routes(self, path: str, *, listing: bool = True) -> dict[str, ApiCall]:
        """Return the routes of the collection under a path."""
        routes = {
            f"POST {path}": ApiCall(self.kind, self.create),
            f"GET {path}/{{id}}": ApiCall(self.kind, self.retrieve),
            f"DELETE {path}/{{id}}": ApiCall(self.kind, self.delete),
        }
        if self.updates:
            routes[f"POST {path}/{{id}}"] = ApiCall(self.kind, self.update)
        if listing:
            routes[f"GET {path}"] = ApiCall(self.kind, self.list, listing=True)
        return routes


@dataclass(frozen=True, slots=True)
class Inside:
    """One kind of object that lies in those of a collection.

    Attributes:
        parent: The collection.
        kind: The stand-in's and lapse's name of it.
        unknown: The message of its 404; ``{id}`` is the id, ``{parent}`` its parent's.
        deleted_object: ``object`` in the answer to a DELETE; empty where the parent's body is the answer.
        shown: Says whether a list has it.

    """

    parent: Collection
    kind: str
    unknown: str
    deleted_object: str = ""
    shown: Callable[[Project, str], bool] = lambda _project, _id: True

    def missing(self, parent: str, id_: str) -> ApiError:
        """Return the answer to an id that is not in its parent."""
        return refusal(404, self.unknown.format(id=id_, parent=parent), "unknown")

    def list(self, request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
        """``GET`` of all in a parent: one page."""
        inside = self.parent.find(project, ids[0]).children
        shown = {id_: body for id_, body in inside.items() if self.shown(project, id_)}
        return USUAL.page(request, shown, shown.__getitem__, lambda id_: self.missing(ids[0], id_))

    def retrieve(self, _request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
        """``GET`` of one."""
        body = self.parent.find(project, ids[0]).children.get(ids[1])
        if body is None:
            raise self.missing(*ids)
        return answer(body, "read")

    def delete(self, _request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
        """``DELETE`` of one."""
        stored = self.parent.find(project, ids[0])
        if stored.children.pop(ids[1], None) is None:
            raise self.missing(*ids)
        deleted = {"id": ids[1], "object": self.deleted_object, "deleted": True}
        return answer(deleted if self.deleted_object else stored.body, "deleted", executed=True)
