"""What passes between the server and a dialect: one request, one answer, one routed call. No I/O."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from lapse.sandbox.state import Project, World

Headers = tuple[tuple[bytes, bytes], ...]
Json = dict[str, Any]

JSON: Headers = ((b"content-type", b"application/json"),)
HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"),)

encode = json.JSONEncoder(separators=(",", ":")).encode


class Request(NamedTuple):
    """One HTTP request as it came. ``path`` is still percent-encoded, header names are lower-case."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes:
        """Return a header's value, empty if it was not sent."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    def param(self, name: str) -> str | None:
        """Return a query parameter's first value, None if it was not sent."""
        if not self.query:
            return None
        found = parse_qs(self.query, keep_blank_values=True).get(name)
        return found[0] if found else None

    @property
    def target(self) -> str:
        """The path with its query, as the request log shows it."""
        return f"{self.path}?{self.query}" if self.query else self.path


class Response(NamedTuple):
    """What a request is answered with.

    Attributes:
        status: The HTTP status.
        body: The whole body.
        word: What the answer says, for the request log: ``deleted``, ``created``, ``listed``, ``unknown``.
        executed: Whether the request changed what the server keeps.
        headers: Sent besides the dialect's own.
        silence: ``hang``, ``reset``, ``close`` or ``cut`` where the answer is not sent, or not whole.

    """

    status: int
    body: bytes
    word: str
    executed: bool = False
    headers: Headers = JSON
    silence: str = ""


class ApiCall(NamedTuple):
    """A request with its place in the dialect.

    Attributes:
        kind: Kind of the object it is about; empty for a route the dialect does not have.
        ids: The ids in its path, the parent's first.
        listing: Whether it answers with one page of a list.
        run: Carries it out in a project.

    """

    kind: str
    ids: tuple[str, ...]
    listing: bool
    run: "Callable[[Request, Project, tuple[str, ...]], Response]"


class ApiDialect(Protocol):
    """One provider's way of talking: routes, checks, bodies and headers. ``holds``: what its projects are."""

    name: str
    prefix: str
    holds: "type[Project]"

    def route(self, request: Request) -> ApiCall:
        """Return the call that a request stands for; an unknown route answers as the provider answers it."""
        ...

    def refuse(self, request: Request, call: ApiCall, world: "World") -> Response | None:
        """Return the answer to a request that fails the checks made before its object is looked at."""
        ...

    def project(self, request: Request, world: "World") -> "Project | None":
        """Return the project whose objects a request may see, None for a key that is not accepted."""
        ...

    def headers(self, request_id: str, milliseconds: int) -> Headers:
        """Return the headers that every answer carries."""
        ...

    def error(
        self, status: int, message: str | None = None, *, code: str | None = None, kind: str | None = None
    ) -> bytes:
        """Return the body of an error; without a message the one the provider sends with that status."""
        ...


def answer(body: Json, word: str, *, status: int = 200, executed: bool = False) -> Response:
    """Return a JSON answer."""
    return Response(status, encode(body).encode(), word, executed)


def refusal(
    status: int,
    message: str,
    word: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> Response:
    """Return an error in OpenAI's envelope, all four keys present; ``kind`` is its ``type``."""
    return answer({"error": {"message": message, "type": kind, "param": param, "code": code}}, word, status=status)
