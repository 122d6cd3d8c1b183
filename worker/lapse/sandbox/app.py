"""The ASGI application: route a request, apply the faults, carry it out, log it, answer it or keep silent."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lapse.sandbox.dialects.foundry import Foundry
from lapse.sandbox.dialects.langgraph import LangGraph
from lapse.sandbox.dialects.openai import OpenAI
from lapse.sandbox.effects import apply
from lapse.sandbox.faults import Decision, FaultScript
from lapse.sandbox.requestlog import LoggedRequest, RequestLog
from lapse.sandbox.state import Project, World
from lapse.sandbox.wire import ApiCall, ApiDialect, ApiError, ApiRequest, ApiResponse

_UNDELAYED = Decision(0.0, None)
_WITHOUT_BODY = frozenset({"GET", "DELETE", "HEAD", "OPTIONS"})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_TOKEN_SECONDS = 3600.0


class App:
    """The stand-in as one ASGI application.

    Args:
        keys: API key to project name. None: any key is accepted, and all see the same objects.
        log: Where requests to a dialect are recorded.
        script: The faults in force; ``script`` may be replaced while it runs.
        latency: Seconds that every answer of a dialect waits.

    Attributes:
        elsewhere: Answers the paths outside of the dialects.

    """

    def __init__(
        self, keys: Mapping[str, str] | None, log: RequestLog, script: FaultScript, latency: float = 0.0
    ) -> None:
        dialects: tuple[ApiDialect, ...] = (OpenAI(), Foundry(), LangGraph())
        self._dialects = {dialect.prefix: dialect for dialect in dialects}
        self.worlds = {dialect.name: World(keys, dialect.holds) for dialect in dialects}
        self.log = log
        self.script = script
        self.latency = latency
        self.token_seconds = _TOKEN_SECONDS
        self.elsewhere: ASGIApp = Response(status_code=404)
        self._request_ids = int.from_bytes(os.urandom(12)) << 32

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI calls it."""
        arrived, began = time.time(), time.perf_counter()
        request, method = ApiRequest(scope), scope["method"]
        dialect = self._dialects.get("/" + request.path[1:].partition("/")[0])
        if dialect is None:
            await self.elsewhere(scope, receive, send)
            return
        if method not in _WITHOUT_BODY:
            try:
                request.content = await Request(scope, receive).body()
            except ClientDisconnect:
                return
        call = dialect.route(request)
        decision = self.script.decide(request, call) if self.script.rules else _UNDELAYED
        answer = self._carry_out(request, call, dialect, decision)
        if delay := self.latency + decision.latency:
            await asyncio.sleep(delay)
        transport = scope["lapse.transport"]
        lost = bool(answer.silence) or transport.is_closing()
        fault = (decision.rule.name or decision.rule.effect) if decision.rule else ""
        status = 0 if lost else answer.status_code
        self.log.append(
            LoggedRequest(arrived, method, request.target, status, call.kind, answer.executed, answer.word, fault)
        )
        if answer.silence:
            await _keep_silent(answer, transport, receive, send)
            return
        self._request_ids += 1
        answer.raw_headers += dialect.headers(
            f"req_{self._request_ids:032x}", int((time.perf_counter() - began) * 1000)
        )
        await answer(scope, receive, send)

    def reset(self) -> None:
        """Forget every object, the log in memory and the faults."""
        for world in self.worlds.values():
            world.reset()
        self.token_seconds = _TOKEN_SECONDS
        self.log.reset()
        self.script = FaultScript()

    def _carry_out(self, request: ApiRequest, call: ApiCall, dialect: ApiDialect, decision: Decision) -> ApiResponse:
        world = self.worlds[dialect.name]

        def carry(given: ApiRequest, elsewhere: Project | None) -> ApiResponse:
            try:
                project = dialect.check(given, call, world) if call.kind else Project()
                return call.run(given, elsewhere or project, call.ids)
            except ApiError as refused:
                return refused.answer

        rule = decision.rule
        answer = apply(rule, request, call, dialect, carry) if rule else carry(request, None)
        if self.script.rules and call.listing and answer.word.startswith("list"):
            self.script.note(request, call, answer.body)
        return answer


async def _keep_silent(answer: ApiResponse, transport: asyncio.Transport, receive: Receive, send: Send) -> None:
    """Do what the silence says, then wait until the connection is gone."""
    if answer.silence == "reset":
        sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    elif answer.silence == "close":
        transport.close()
    elif answer.silence == "cut":
        await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
