"""Foundry's dialect under /foundry: Azure AI Foundry Agents, now called classic, as the azure-ai-agents client sees it.

The bodies are those of the Assistants API. Different are the api-version, which every request has to name, Entra's
bearer tokens, lists of threads, files that are listed whole, and Azure's words for an unknown route. The words for a
missing object are assumed: nobody has published them.
"""

import json

from lapse.sandbox.dialects import tokens
from lapse.sandbox.dialects.assistants import unknown_thread
from lapse.sandbox.dialects.openai import ROUTES, USUAL, OpenAI, Route, pattern_of
from lapse.sandbox.paging import Window, page, window
from lapse.sandbox.state import Project, World
from lapse.sandbox.wire import ApiCall, Headers, Request, Response, answer, encode

VERSIONS = ("v1", "2025-05-01", "2025-05-15-preview")


class Foundry(OpenAI):
    """The dialect of a Foundry project's endpoint."""

    name = "foundry"
    prefix = "/foundry"

    def route(self, request: Request) -> ApiCall:
        """Return the call a request stands for; an unknown route is answered ``Resource not found``."""
        pattern, ids = pattern_of(request, self.prefix)
        found = _ROUTES.get(pattern)
        if found is None or not all(ids):
            return ApiCall("", (), False, _no_such_route)
        return ApiCall(found.kind, ids, found.listing, found.run)

    def refuse(self, request: Request, call: ApiCall, world: World) -> Response | None:
        """Return the refusal of a request without a valid token or an api-version."""
        if self.project(request, world) is None:
            expired = tokens.expired(request.header(b"authorization"))
            return _azure(401, "Unauthorized", EXPIRED if expired else NO_TOKEN)
        version = request.param("api-version")
        if version not in VERSIONS:
            code, message = (
                ("UnsupportedApiVersion", UNSUPPORTED) if version else ("MissingApiVersionParameter", MISSING)
            )
            return _azure(400, code, message.format(version))
        return self.malformed(request, call)

    def project(self, request: Request, world: World) -> Project | None:
        """Return the project of the request's token, None for one that is not accepted or has ended."""
        authorization = request.header(b"authorization")
        if tokens.issued(authorization):
            return None if tokens.expired(authorization) else world.default
        return world.opened_by(authorization)

    def headers(self, request_id: str, milliseconds: int) -> Headers:
        """Return the provider's own headers."""
        return ((b"x-request-id", request_id.encode()), (b"x-envoy-upstream-service-time", b"%d" % milliseconds))

    def error(
        self, status: int, message: str | None = None, *, code: str | None = None, kind: str | None = None
    ) -> bytes:
        """Return Azure's error envelope."""
        del kind
        text = message or USUAL.get(status, (f"The request failed with status {status}.",))[0]
        return encode({"error": {"code": code or str(status), "message": text}}).encode()


NO_TOKEN = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect (https://ai.azure.com), or have expired."  # noqa: S105 - Azure's words
)
EXPIRED = f"{NO_TOKEN} The token is expired."
MISSING = "The api-version query parameter (?api-version=) is required for all requests."
UNSUPPORTED = "The api-version '{}' is not supported."


def _list_threads(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    asked = window(request)
    kept = project.listed("thread")
    return page(kept, lambda id_: kept[id_].body, asked, unknown_thread) if isinstance(asked, Window) else asked


def _list_files(_request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    return answer({"object": "list", "data": [stored.body for stored in project.listed("file").values()]}, "listed")


def _azure(status: int, code: str, message: str, word: str = "refused") -> Response:
    return Response(status, json.dumps({"error": {"code": code, "message": message}}).encode(), word)


def _no_such_route(_request: Request, _project: Project, _ids: tuple[str, ...]) -> Response:
    return _azure(404, "404", "Resource not found", "no_route")


_SERVED = ("threads", "assistants", "files", "vector_stores")
_ROUTES = {
    **{pattern: route for pattern, route in ROUTES.items() if pattern.split(" ")[1].split("/")[0] in _SERVED},
    "GET threads": Route("thread", _list_threads, listing=True),
    "GET files": Route("file", _list_files, listing=True),
}
