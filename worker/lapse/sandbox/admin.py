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
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lapse.errors import ConfigError
from lapse.sandbox import faults
from lapse.sandbox.app import App
from lapse.sandbox.dialects import tokens
from lapse.sandbox.seed import OPENAI, seed
from lapse.sandbox.state import KINDS, Json, World

NOT_HERE = "no such endpoint: {} {}; the providers are under /v1, /foundry and /langgraph"
MISTAKES = (ConfigError, KeyError, TypeError, ValueError)


class Admin:
    """The endpoints of one stand-in."""

    def __init__(self, app: App) -> None:
        self._app = app

    def endpoints(self) -> Starlette:
        """Return what answers every path outside of the dialects; a mistake in a request is 400 with the reason."""
        routes = [
            Route("/sandbox/seed", self._seed, methods=["POST"]),
            Route("/sandbox/objects", self._objects),
            Route("/sandbox/log", self._log),
            Route("/sandbox/requests", self._requests),
            Route("/sandbox/faults", self._faults),
            Route("/sandbox/faults", self._set_faults, methods=["PUT"]),
            Route("/sandbox/reset", self._reset, methods=["POST"]),
            Route("/sandbox/identity", self._identity),
            Route("/sandbox/identity", self._set_identity, methods=["PUT"]),
        ]
        handlers: dict[Any, Any] = dict.fromkeys((404, 405), _nowhere) | dict.fromkeys(MISTAKES, _mistaken)
        made = Starlette(routes=routes, exception_handlers=handlers)
        made.router.redirect_slashes = False
        return made

    async def _seed(self, request: Request) -> JSONResponse:
        given = await _table(request)
        dialect = given.pop("dialect", OPENAI)
        return JSONResponse({"ids": seed(self._world(dialect), dialect, **given)})

    async def _objects(self, request: Request) -> JSONResponse:
        asked = request.query_params
        world = self._world(asked.get("dialect") or OPENAI)
        try:
            return JSONResponse({"ids": world.alive(asked.get("kind", ""), asked.get("project"))})
        except KeyError as error:
            raise ConfigError(f"no kind or project {error}: kinds are {', '.join(KINDS)}") from None

    async def _log(self, _request: Request) -> JSONResponse:
        return JSONResponse({"requests": self._app.log.counts.total(), "counts": self._app.log.summary()})

    async def _requests(self, _request: Request) -> JSONResponse:
        return JSONResponse({"requests": [record._asdict() for record in self._app.log.records]})

    async def _faults(self, _request: Request) -> JSONResponse:
        script = self._app.script
        shown = zip(script.rules, script.hits, strict=True)
        rules = [{"name": rule.name or rule.effect or "latency", "hits": hits} for rule, hits in shown]
        return JSONResponse({"rules": rules})

    async def _set_faults(self, request: Request) -> JSONResponse:
        if request.headers.get("content-type", "").startswith("application/json"):
            script = faults.from_tables(await _table(request))
        else:
            script = faults.parse((await request.body()).decode())
        self._app.script = script
        return JSONResponse({"rules": len(script.rules)})

    async def _identity(self, request: Request) -> JSONResponse:
        expires_on, resource = time.time() + self._app.token_seconds, request.query_params.get("resource", "")
        return JSONResponse(
            {
                "access_token": tokens.issue(resource, expires_on),
                "expires_on": str(int(expires_on)),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": tokens.CLIENT,
            }
        )

    async def _set_identity(self, request: Request) -> JSONResponse:
        self._app.token_seconds = float((await _table(request))["seconds"])
        return JSONResponse({})

    async def _reset(self, _request: Request) -> JSONResponse:
        self._app.reset()
        return JSONResponse({})

    def _world(self, dialect: str) -> World:
        if dialect not in self._app.worlds:
            raise ConfigError(f"no dialect {dialect!r}: one of {', '.join(self._app.worlds)}")
        return self._app.worlds[dialect]


async def _table(request: Request) -> Json:
    body = json.loads(await request.body() or b"{}")
    if not isinstance(body, dict):
        raise ConfigError("send a JSON object")
    return body


async def _nowhere(request: Request, _error: Exception) -> JSONResponse:
    path = request.scope["raw_path"].decode("ascii")
    return JSONResponse({"error": NOT_HERE.format(request.method, path)}, 404)


async def _mistaken(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 400)
