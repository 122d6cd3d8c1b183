"""Running the stand-in: in a thread of this process, or as a process of its own."""

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lapse.errors import ConfigError
from lapse.sandbox import faults
from lapse.sandbox.admin import Admin
from lapse.sandbox.app import App
from lapse.sandbox.control import Control
from lapse.sandbox.dialects import tokens
from lapse.sandbox.requestlog import RequestLog

HOST = "127.0.0.1"
# Longer than clients keep an idle connection, so that it is never closed under a request.
KEEP_ALIVE = 120
BACKLOG = 4096


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which also shows the application the connection: a reset is no part of ASGI."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["lapse.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


class _Server(uvicorn.Server):
    """Uvicorn's server, which ends without waiting for unanswered requests, and by a signal with success."""

    def __init__(self, app: App, ready: Callable[[], None]) -> None:
        app.elsewhere = Admin(app).endpoints()
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                loop="auto",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                backlog=BACKLOG,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def leave(_number: int, _frame: FrameType | None) -> None:
            self.should_exit = True

        before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Sandbox(Control):
    """The stand-in in a thread of this process, on a loopback port. A context manager.

    Args:
        port: The port; 0 takes a free one.
        log: The request log's file; None keeps it in memory only.
        script: The faults in force from the start.
        latency: Seconds that every answer waits.
        keys: API key to project name. None: any key is accepted, and all see the same objects.

    """

    def __init__(
        self,
        port: int = 0,
        *,
        log: Path | None = None,
        script: faults.FaultScript | None = None,
        latency: float = 0.0,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._port = port
        self._app = App(keys, RequestLog(log), script or faults.FaultScript(), latency)
        self._started = threading.Event()
        self._server = _Server(self._app, self._started.set)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Start serving; returns when requests are answered.

        Raises:
            ConfigError: the port is taken, or the log cannot be written.
            RuntimeError: it did not start within 10 s.

        """
        listening = _listen(self._port)
        try:
            self._app.log.open()
        except ConfigError:
            listening.close()
            raise
        self._root = f"http://{HOST}:{listening.getsockname()[1]}"
        run = {"sockets": [listening]}
        self._thread = threading.Thread(target=self._server.run, kwargs=run, name="lapse-sandbox", daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the provider stand-in did not start within 10 s")
        return self

    def stop(self) -> None:
        """Stop serving and close the log; unanswered requests lose their connection."""
        self._server.should_exit = True
        if self._started.is_set():
            self._thread.join(10)
        self._app.log.close()

    def token(self, seconds: float = 3600.0) -> str:
        """Return an Entra token for Foundry that ends in so many seconds; negative: that has ended."""
        return tokens.issue("https://ai.azure.com", time.time() + seconds)

    def latency(self, seconds: float) -> None:
        """Make every answer wait so many seconds from now on."""
        self._app.latency = seconds

    def reset(self) -> None:
        """Forget every object, the log in memory, the faults and the latency."""
        super().reset()
        self.latency(0.0)


def serve(
    port: int = 0,
    *,
    log: Path | None = None,
    script: Path | None = None,
    latency: float = 0.0,
    keys: Mapping[str, str] | None = None,
    host: str = HOST,
) -> None:
    """Run the stand-in in this process until SIGTERM or SIGINT; its base URL is the one line on stdout.

    Args:
        port: The port; 0 takes a free one.
        log: The request log's file.
        script: The fault script's file.
        latency: Seconds that every answer waits.
        keys: API key to project name. None: any key is accepted, and all see the same objects.
        host: The address to listen on.

    Raises:
        ConfigError: the port is taken, the log cannot be written, or the fault script is wrong.

    """
    rules = faults.load(script) if script else faults.FaultScript()
    requests = RequestLog(log)

    def ready() -> None:
        sys.stdout.write(f"http://{host}:{listening.getsockname()[1]}/v1\n")
        sys.stdout.flush()

    listening = _listen(port, host)
    try:
        requests.open()
        _Server(App(keys, requests, rules, latency), ready).run(sockets=[listening])
    finally:
        listening.close()
        requests.close()


def _listen(port: int, host: str = HOST) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"port {port} on {host} cannot be used ({error.strerror}): choose another, or 0 for a free one"
        ) from error
    return listening
