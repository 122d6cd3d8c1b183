"""The stand-in's own endpoints under /sandbox: seed, look, count, reset, set faults.

No provider has them, and requests to them are not logged.

POST /sandbox/seed      {"kind": "thread", "count": 1000, ...}   -> {"ids": [...]}
GET  /sandbox/objects   ?kind=thread[&project=NAME][&dialect=langgraph]   -> {"ids": [...]}
GET  /sandbox/log                                                -> {"requests": 7, "counts": [...]}
GET  /sandbox/requests                                           -> {"requests": [...]}, the records
GET  /sandbox/faults                                             -> {"rules": [{"name": ..., "hits": 3}]}
PUT  /sandbox/faults    a fault script, as TOML or (application/json) as JSON
POST /sandbox/reset     forget every object, the log in memory and the faults
GET  /sandbox/identity  ?resource=https://ai.azure.com: a token, as an App Service's managed identity endpoint gives it
PUT  /sandbox/identity  {"seconds": 60}: how long tokens last from now on
"""

import json
import time
from typing import TYPE_CHECKING, Any

from lapse.errors import ConfigError
from lapse.sandbox import faults
from lapse.sandbox.dialects import tokens
from lapse.sandbox.seed import OPENAI, seed
from lapse.sandbox.state import World
from lapse.sandbox.wire import Json, Request, Response, encode

if TYPE_CHECKING:
    from lapse.sandbox.app import App


class Admin:
    """What answers every path outside the dialects."""

    def __init__(self, app: "App") -> None:
        self._app = app

    def answer(self, request: Request) -> Response:
        """Return the answer to a request; a mistake in it is 400 with the reason."""
        handler = {
            "POST /sandbox/seed": self._seed,
            "GET /sandbox/objects": self._objects,
            "GET /sandbox/log": self._log,
            "GET /sandbox/requests": self._requests,
            "GET /sandbox/faults": self._faults,
            "PUT /sandbox/faults": self._set_faults,
            "POST /sandbox/reset": self._reset,
            "GET /sandbox/identity": self._identity,
            "PUT /sandbox/identity": self._set_identity,
        }.get(f"{request.method} {request.path}")
        if handler is None:
            dialects = "/v1, /foundry and /langgraph"
            return _answer(
                {"error": f"no such endpoint: {request.method} {request.path}; the providers are under {dialects}"},
                404,
            )
        try:
            return _answer(handler(request))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            return _answer({"error": str(error)}, 400)

    def _seed(self, request: Request) -> Json:
        given = _table(request)
        return {"ids": plant(self._app, **given)}

    def _objects(self, request: Request) -> Json:
        dialect = request.param("dialect") or OPENAI
        return {"ids": objects(self._app, request.param("kind") or "", request.param("project"), dialect)}

    def _log(self, _request: Request) -> Json:
        return {"requests": self._app.log.counts.total(), "counts": self._app.log.summary()}

    def _requests(self, _request: Request) -> Json:
        return {"requests": [record._asdict() for record in self._app.log.records]}

    def _faults(self, _request: Request) -> Json:
        script = self._app.script
        shown = zip(script.rules, script.hits, strict=True)
        return {"rules": [{"name": rule.name or rule.effect or "latency", "hits": hits} for rule, hits in shown]}

    def _set_faults(self, request: Request) -> Json:
        if request.header(b"content-type").startswith(b"application/json"):
            self._app.script = faults.from_tables(_table(request))
        else:
            self._app.script = faults.parse(request.body.decode())
        return {"rules": len(self._app.script.rules)}

    def _identity(self, request: Request) -> Json:
        return token(self._app, request.param("resource") or "")

    def _set_identity(self, request: Request) -> Json:
        self._app.token_seconds = float(_table(request)["seconds"])
        return {}

    def _reset(self, _request: Request) -> Json:
        reset(self._app)
        return {}


def plant(app: "App", *, dialect: str = OPENAI, **given: Any) -> list[str]:
    """Make objects in a dialect's world; return their ids.

    Raises:
        ConfigError: there is no such dialect, or ``seed`` refuses what is given.

    """
    return seed(_world(app, dialect), dialect, **given)


def token(app: "App", resource: str, seconds: float | None = None) -> Json:
    """Return a new access token, as the managed identity endpoint of an App Service shows it."""
    expires_on = time.time() + (app.token_seconds if seconds is None else seconds)
    return {
        "access_token": tokens.issue(resource, expires_on),
        "expires_on": str(int(expires_on)),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": tokens.CLIENT,
    }


def _world(app: "App", dialect: str) -> World:
    if dialect not in app.worlds:
        raise ConfigError(f"no dialect {dialect!r}: one of {', '.join(app.worlds)}")
    return app.worlds[dialect]


def objects(app: "App", kind: str, project: str | None = None, dialect: str = OPENAI) -> list[str]:
    """Return the ids that exist of a kind.

    Raises:
        ConfigError: there is no such kind, project or dialect.

    """
    try:
        return _world(app, dialect).alive(kind, project)
    except KeyError as error:
        raise ConfigError(f"no kind or project {error}: kinds are {', '.join(faults.KINDS)}") from None


def reset(app: "App") -> None:
    """Forget every object, the log in memory and the faults."""
    for world in app.worlds.values():
        world.reset()
    app.token_seconds = 3600.0
    app.log.reset()
    app.script = faults.FaultScript()


def _table(request: Request) -> dict[str, Any]:
    body = json.loads(request.body or b"{}")
    if not isinstance(body, dict):
        raise ConfigError("send a JSON object")
    return body


def _answer(body: Json, status: int = 200) -> Response:
    return Response(status, encode(body).encode(), "control")
