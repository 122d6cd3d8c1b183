"""Foundry's dialect under /foundry: Azure AI Foundry Agents, now called classic, as the azure-ai-agents client sees it.

The bodies are those of the Assistants API. Different are the api-version, which every request has to name, Entra's
bearer tokens, lists of threads, files that are listed whole, and Azure's words for an unknown route. The words for a
missing object are assumed: nobody has published them.
"""

import json

from lapse.sandbox.dialects import tokens
from lapse.sandbox.dialects.assistants import THREADS
from lapse.sandbox.dialects.openai import ROUTES, USUAL, OpenAI
from lapse.sandbox.state import Project, World
from lapse.sandbox.wire import ApiCall, ApiError, ApiRequest, ApiResponse, Headers, Routes, answer, encode

VERSIONS = ("v1", "2025-05-01", "2025-05-15-preview")
NO_TOKEN = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect (https://ai.azure.com), or have expired."  # noqa: S105 - Azure's words
)
EXPIRED = f"{NO_TOKEN} The token is expired."
MISSING = "The api-version query parameter (?api-version=) is required for all requests."
UNSUPPORTED = "The api-version '{}' is not supported."


def _list_files(_request: ApiRequest, project: Project, _ids: tuple[str, ...]) -> ApiResponse:
    return answer({"object": "list", "data": [stored.body for stored in project.listed("file").values()]}, "listed")


_SERVED = ("/threads", "/assistants", "/files", "/vector_stores")


class Foundry(OpenAI):
    """The dialect of a Foundry project's endpoint."""

    name = "foundry"
    prefix = "/foundry"
    routes = Routes(
        {
            **{route: call for route, call in ROUTES.items() if route.split(" ")[1].startswith(_SERVED)},
            "GET /threads": ApiCall("thread", THREADS.list, listing=True),
            "GET /files": ApiCall("file", _list_files, listing=True),
        }
    )

    def no_route(self, _request: ApiRequest) -> ApiResponse:
        """Return ``Resource not found``."""
        return _azure(404, "404", "Resource not found", "no_route").answer

    def check(self, request: ApiRequest, call: ApiCall, world: World) -> Project:
        """Refuse a request without a token that is valid and has not ended, or an api-version."""
        authorization = request.header("authorization")
        ours, expired = tokens.issued(authorization), tokens.expired(authorization)
        project = world.opened_by(authorization) if not ours else None if expired else world.default
        if project is None:
            raise _azure(401, "Unauthorized", EXPIRED if expired else NO_TOKEN)
        version = request.query_params.get("api-version")
        if not version:
            raise _azure(400, "MissingApiVersionParameter", MISSING)
        if version not in VERSIONS:
            raise _azure(400, "UnsupportedApiVersion", UNSUPPORTED.format(version))
        self.check_id(request, call)
        return project

    def headers(self, request_id: str, milliseconds: int) -> Headers:
        """Return the provider's own headers."""
        return ((b"x-request-id", request_id.encode()), (b"x-envoy-upstream-service-time", b"%d" % milliseconds))

    def error(self, status: int, message: str | None, code: str | None, kind: str | None) -> bytes:
        """Return Azure's error envelope."""
        del kind
        text = message or USUAL.get(status, (f"The request failed with status {status}.",))[0]
        return encode({"error": {"code": code or str(status), "message": text}}).encode()


def _azure(status: int, code: str, message: str, word: str = "refused") -> ApiError:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return ApiError(ApiResponse(status, body, word))
