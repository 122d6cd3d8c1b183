"""The stand-in's own endpoints under /sandbox: seed, look, count, reset, set faults.

No provider has them, and requests to them are not logged.

POST /sandbox/seed      {"kind": "thread", "count": 1000, ...}   -> {"ids": [...]}
GET  /sandbox/objects   ?kind=thread[&project=NAME]              -> {"ids": [...]}
GET  /sandbox/log                                                -> {"requests": 7, "counts": [...]}
GET  /sandbox/requests                                           -> {"requests": [...]}, the records
GET  /sandbox/faults                                             -> {"rules": [{"name": ..., "hits": 3}]}
PUT  /sandbox/faults    a fault script, as TOML or (application/json) as JSON
POST /sandbox/reset     forget every object, the log in memory and the faults
"""

import json
from typing import TYPE_CHECKING, Any

from lapse.errors import ConfigError
from lapse.sandbox import faults
from lapse.sandbox.seed import seed
from lapse.sandbox.wire import Answer, Json, Request, encode

if TYPE_CHECKING:
    from lapse.sandbox.app import App


class Control:
    """What answers every path outside the dialects."""

    def __init__(self, app: "App") -> None:
        self._app = app

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request; a mistake in it is 400 with the reason."""
        handler = {
            "POST /sandbox/seed": self._seed,
            "GET /sandbox/objects": self._objects,
            "GET /sandbox/log": self._log,
            "GET /sandbox/requests": self._requests,
            "GET /sandbox/faults": self._faults,
            "PUT /sandbox/faults": self._set_faults,
            "POST /sandbox/reset": self._reset,
        }.get(f"{request.method} {request.path}")
        if handler is None:
            return _answer(
                {"error": f"no such endpoint: {request.method} {request.path}; the provider is under /v1"},
                404,
            )
        try:
            return _answer(handler(request))
        except (ConfigError, TypeError, ValueError) as error:
            return _answer({"error": str(error)}, 400)

    def _seed(self, request: Request) -> Json:
        given = _table(request)
        return {"ids": seed(self._app.world, **given)}

    def _objects(self, request: Request) -> Json:
        return {"ids": objects(self._app, request.param("kind") or "", request.param("project"))}

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

    def _reset(self, _request: Request) -> Json:
        reset(self._app)
        return {}


def objects(app: "App", kind: str, project: str | None = None) -> list[str]:
    """Return the ids that exist of a kind.

    Raises:
        ConfigError: there is no such kind or project.

    """
    try:
        return app.world.alive(kind, project)
    except KeyError as error:
        raise ConfigError(f"no kind or project {error}: kinds are {', '.join(faults.KINDS)}") from None


def reset(app: "App") -> None:
    """Forget every object, the log in memory and the faults."""
    app.world.reset()
    app.log.reset()
    app.script = faults.Script()


def _table(request: Request) -> dict[str, Any]:
    body = json.loads(request.body or b"{}")
    if not isinstance(body, dict):
        raise ConfigError("send a JSON object")
    return body


def _answer(body: Json, status: int = 200) -> Answer:
    return Answer(status, encode(body).encode(), "control")
