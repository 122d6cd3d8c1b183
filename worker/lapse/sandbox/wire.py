"""What passes between the server and a dialect: one request, one answer, one routed call. No I/O."""

import json
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Scope

from lapse.sandbox.state import Json, Project, World

JSON, HTML = "application/json", "text/html"
Headers = tuple[tuple[bytes, bytes], ...]

encode = json.JSONEncoder(separators=(",", ":")).encode


class ApiRequest(Request):
    """One HTTP request, read whole: ``content`` is its body, ``path`` is still percent-encoded."""

    def __init__(self, scope: Scope, content: bytes = b"") -> None:
        super().__init__(scope)
        self.content = content
        self.path: str = scope["raw_path"].decode("ascii")

    def header(self, name: str) -> str:
        """Return a header's first value, empty if it was not sent: with ``headers`` an answer takes 1 us longer."""
        sent = name.encode()
        for key, value in self.scope["headers"]:
            if key == sent:
                return str(value, "latin-1")
        return ""

    @property
    def query(self) -> str:
        """The query as it was sent."""
        return str(self.scope["query_string"].decode("ascii"))

    @property
    def target(self) -> str:
        """The path with its query, as the request log shows it."""
        return f"{self.path}?{query}" if (query := self.query) else self.path


class ApiResponse(Response):
    """What a request is answered with.

    Args:
        status: The HTTP status.
        body: The whole body.
        word: What the answer says, for the request log: ``deleted``, ``created``, ``listed``, ``unknown``.
        media: The content type; None sends none.

    Attributes:
        executed: Whether the request changed what the server keeps.
        silence: ``hang``, ``reset``, ``close`` or ``cut`` where the answer is not sent, or not whole.

    """

    body: bytes
    executed = False
    silence = ""

    def __init__(self, status: int, body: bytes, word: str, media: str | None = JSON) -> None:
        super().__init__(body, status, media_type=media)
        self.word = word


class ApiError(Exception):
    """What a dialect refuses; ``answer`` says how."""

    def __init__(self, answer: ApiResponse) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


Run = Callable[[ApiRequest, Project, tuple[str, ...]], ApiResponse]


class ApiCall(NamedTuple):
    """What a request stands for.

    Attributes:
        kind: Kind of the object it is about; empty for a route the dialect does not have.
        run: Carries it out in a project.
        listing: Whether it answers with one page of a list.
        ids: The ids in its path, the parent's first.

    """

    kind: str
    run: Run
    listing: bool = False
    ids: tuple[str, ...] = ()


_Calls = defaultdict[tuple[str, str], list[tuple[re.Pattern[str], ApiCall]]]


class Routes:
    """A dialect's routes: "GET /threads/{thread}" to the call that it is.

    Starlette's Router looks at the decoded path, in which an id may have a slash, and takes as long as all else of an
    answer. Its patterns are used on the path as it was sent, those of one method and collection at a time.
    """

    def __init__(self, calls: Mapping[str, ApiCall]) -> None:
        self._calls: _Calls = defaultdict(list)
        for route, call in calls.items():
            method, path = route.split(" ")
            self._calls[method, path.split("/")[1]].append((compile_path(path)[0], call))

    def find(self, method: str, path: str) -> ApiCall | None:
        """Return the call with the ids in the path, None if there is no such route."""
        for pattern, call in self._calls.get((method, path[1:].partition("/")[0]), ()):
            if found := pattern.match(path):
                ids = found.groups()
                return ApiCall(call.kind, call.run, call.listing, tuple(map(unquote, ids)) if "%" in path else ids)
        return None


class ApiDialect(ABC):
    """One provider's way of talking: routes, checks, bodies and headers. ``holds``: what its projects are."""

    name: str
    prefix: str
    routes: Routes
    holds: type[Project] = Project

    def route(self, request: ApiRequest) -> ApiCall:
        """Return the call that a request stands for; an unknown route answers as the provider answers it."""
        found = self.routes.find(request.method, request.path[len(self.prefix) :])
        return found or ApiCall("", lambda *_: self.no_route(request))

    @abstractmethod
    def no_route(self, request: ApiRequest) -> ApiResponse:
        """Return the answer to a route that the provider does not have."""

    @abstractmethod
    def check(self, request: ApiRequest, call: ApiCall, world: World) -> Project:
        """Return the project whose objects a request may see.

        Raises:
            ApiError: it fails a check that is made before its object is looked at.

        """

    @abstractmethod
    def headers(self, request_id: str, milliseconds: int) -> Headers:
        """Return the headers that every answer carries."""

    @abstractmethod
    def error(self, status: int, message: str | None, code: str | None, kind: str | None) -> bytes:
        """Return the body of an error; without a message the one the provider sends with that status."""


def answer(body: object, word: str, *, executed: bool = False) -> ApiResponse:
    """Return a JSON answer."""
    made = ApiResponse(200, encode(body).encode(), word)
    made.executed = executed
    return made


def refusal(
    status: int, message: str, word: str = "refused", *, param: str | None = None, code: str | None = None
) -> ApiError:
    """Return an error in OpenAI's envelope, all four keys present."""
    body: Json = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return ApiError(ApiResponse(status, encode({"error": body}).encode(), word))
