"""Running the stand-in: in a thread of this process, or as a process of its own."""

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from lapse.errors import ConfigError
from lapse.sandbox import admin, faults
from lapse.sandbox.app import App
from lapse.sandbox.requestlog import RequestLog
from lapse.sandbox.wire import Json

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as missing:
    raise ConfigError(
        f"the provider stand-in needs {missing.name}: install lapse with its extra, lapse[sandbox]"
    ) from missing

HOST = "127.0.0.1"
# Longer than clients keep an idle connection, so that it is never closed under a request.
KEEP_ALIVE = 120
BACKLOG = 4096

T = TypeVar("T")


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which also shows the application the connection: a reset is no part of ASGI."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["lapse.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


class _Server(uvicorn.Server):
    """Uvicorn's server, which ends without waiting for unanswered requests, and by a signal with success."""

    def __init__(self, app: App, ready: Callable[[asyncio.AbstractEventLoop], None]) -> None:
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
                timeout_keep_alive=KEEP_ALIVE,
                backlog=BACKLOG,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready(asyncio.get_running_loop())

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


class Sandbox:
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
        self._port = port
        self._log = RequestLog(log)
        self._app = App(keys, self._log, script or faults.FaultScript(), latency)
        self._socket: socket.socket | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server = _Server(self._app, self._is_ready)
        self._thread = threading.Thread(target=self._serve, name="lapse-sandbox", daemon=True)

    @property
    def root(self) -> str:
        """The server's URL, under which its own endpoints are.

        Raises:
            RuntimeError: it is not running.

        """
        if self._socket is None:
            raise RuntimeError("the provider stand-in is not running: call start()")
        return f"http://{HOST}:{self._socket.getsockname()[1]}"

    @property
    def url(self) -> str:
        """The base URL of OpenAI's dialect; the others' are ``{root}/foundry`` and ``{root}/langgraph``."""
        return f"{self.root}/v1"

    def start(self) -> Self:
        """Start serving; returns when requests are answered.

        Raises:
            ConfigError: the port is taken, or the log cannot be written.
            RuntimeError: it did not start within 10 s.

        """
        self._socket = _listen(self._port)
        try:
            self._log.open()
        except ConfigError:
            self._socket.close()
            raise
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the provider stand-in did not start within 10 s")
        return self

    def stop(self) -> None:
        """Stop serving and close the log; unanswered requests lose their connection."""
        self._server.should_exit = True
        if self._loop is not None:
            self._thread.join(10)
        self._log.close()

    def seed(self, kind: str, count: int = 1, **given: Any) -> list[str]:
        """Make objects; return their ids. ``given``: dialect, metadata, name, created_at, items, ids, ..."""
        return self._do(lambda: admin.plant(self._app, kind=kind, count=count, **given))

    def alive(self, kind: str, project: str | None = None, *, dialect: str = "openai") -> set[str]:
        """Return the ids that exist of a kind, of LangGraph's runs those that still work."""
        return self._do(lambda: set(admin.objects(self._app, kind, project, dialect)))

    def token(self, seconds: float = 3600.0) -> str:
        """Return an Entra token for Foundry that ends in so many seconds; negative: that has ended."""
        made = self._do(lambda: admin.token(self._app, "https://ai.azure.com", seconds))
        return str(made["access_token"])

    def requests(self) -> list[Json]:
        """Return the request log since the start or the last reset, a dict per request as in the file."""
        return self._do(lambda: [record._asdict() for record in self._log.records])

    def counts(self) -> list[Json]:
        """Return the number of requests by method, kind, status and answer."""
        return self._do(self._log.summary)

    def faults(self, rules: str | Sequence[Mapping[str, Any]] = (), *, seed: int = 0) -> None:
        """Put these faults in force instead of those before: a script's text, or its rules as dicts.

        Raises:
            ConfigError: a rule is wrong.

        """
        if isinstance(rules, str):
            script = faults.parse(rules)
        else:
            script = faults.from_tables({"seed": seed, "rule": [dict(rule) for rule in rules]})
        self._do(lambda: setattr(self._app, "script", script))

    def latency(self, seconds: float) -> None:
        """Make every answer wait so many seconds from now on."""
        self._do(lambda: setattr(self._app, "latency", seconds))

    def reset(self) -> None:
        """Forget every object, the log in memory, the faults and the latency."""
        self._do(lambda: admin.reset(self._app))
        self.latency(0.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        assert self._socket is not None  # noqa: S101 - start() made it
        self._server.run(sockets=[self._socket])

    def _is_ready(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._started.set()

    def _do(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the server's loop, so that no request comes between."""
        if self._loop is None:
            raise RuntimeError("the provider stand-in is not running: call start()")

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)


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

    def ready(_loop: asyncio.AbstractEventLoop) -> None:
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
