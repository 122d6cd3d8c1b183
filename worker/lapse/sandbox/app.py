"""The ASGI application: route a request, apply the faults, carry it out, log it, answer it or keep silent."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lapse.sandbox.admin import Admin
from lapse.sandbox.bodies import BadRequest
from lapse.sandbox.dialects.foundry import Foundry
from lapse.sandbox.dialects.langgraph import LangGraph
from lapse.sandbox.dialects.openai import OpenAI
from lapse.sandbox.effects import apply
from lapse.sandbox.faults import Decision, FaultScript
from lapse.sandbox.requestlog import LoggedRequest, RequestLog
from lapse.sandbox.state import Project, World
from lapse.sandbox.wire import ApiCall, ApiDialect, Request, Response

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_UNDELAYED = Decision(0.0, None)
_WITHOUT_BODY = frozenset({"GET", "DELETE", "HEAD", "OPTIONS"})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class App:
    """The stand-in as one ASGI application.

    Args:
        keys: API key to project name. None: any key is accepted, and all see the same objects.
        log: Where requests to a dialect are recorded.
        script: The faults in force; ``script`` may be replaced while it runs.
        latency: Seconds that every answer of a dialect waits.

    """

    def __init__(
        self, keys: Mapping[str, str] | None, log: RequestLog, script: FaultScript, latency: float = 0.0
    ) -> None:
        self._dialects: tuple[ApiDialect, ...] = (OpenAI(), Foundry(), LangGraph())
        self.worlds = {dialect.name: World(keys, dialect.holds) for dialect in self._dialects}
        self.log = log
        self.script = script
        self.latency = latency
        self.token_seconds = 3600.0
        self._control = Admin(self)
        self._request_ids = int.from_bytes(os.urandom(12)) << 32

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI calls it."""
        arrived, began = time.time(), time.perf_counter()
        method = scope["method"]
        body = b"" if method in _WITHOUT_BODY else await _body(receive)
        request = Request(
            method,
            scope["raw_path"].decode("ascii"),
            scope["query_string"].decode("ascii"),
            scope["headers"],
            body,
        )
        dialect = self._dialect(request.path)
        if dialect is None:
            await _send(send, self._control.answer(request), ())
            return
        call = dialect.route(request)
        decision = self.script.decide(request, call) if self.script.rules else _UNDELAYED
        answer = self._carry_out(request, call, dialect, decision)
        if delay := self.latency + decision.latency:
            await asyncio.sleep(delay)
        transport = scope["lapse.transport"]
        lost = bool(answer.silence) or transport.is_closing()
        fault = (decision.rule.name or decision.rule.effect) if decision.rule else ""
        status = 0 if lost else answer.status
        self.log.append(
            LoggedRequest(arrived, method, request.target, status, call.kind, answer.executed, answer.word, fault)
        )
        if answer.silence:
            await _keep_silent(answer, transport, receive, send)
            return
        self._request_ids += 1
        headers = dialect.headers(f"req_{self._request_ids:032x}", int((time.perf_counter() - began) * 1000))
        await _send(send, answer, headers)

    def _dialect(self, path: str) -> ApiDialect | None:
        for dialect in self._dialects:
            if path.startswith(dialect.prefix) and path[len(dialect.prefix) :][:1] in {"", "/"}:
                return dialect
        return None

    def _carry_out(self, request: Request, call: ApiCall, dialect: ApiDialect, decision: Decision) -> Response:
        world = self.worlds[dialect.name]

        def carry(given: Request, project: Project | None) -> Response:
            try:
                if call.kind and (refused := dialect.refuse(given, call, world)):
                    return refused
                return call.run(given, project or dialect.project(given, world) or Project(), call.ids)
            except BadRequest as refused:
                return refused.answer

        rule = decision.rule
        answer = apply(rule, request, call, dialect, carry) if rule else carry(request, None)
        if self.script.rules and call.listing and answer.word.startswith("list"):
            self.script.note(request, call, answer.body)
        return answer


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, answer: Response, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    length = () if answer.status == 204 else ((b"content-length", b"%d" % len(answer.body)),)
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [*answer.headers, *length, *headers],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})


async def _keep_silent(answer: Response, transport: asyncio.Transport, receive: Receive, send: Send) -> None:
    """Do what the silence says, then wait until the connection is gone."""
    if answer.silence == "reset":
        sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    elif answer.silence == "close":
        transport.close()
    elif answer.silence == "cut":
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
