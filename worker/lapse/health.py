"""What ``lapse metrics`` serves: /metrics, /livez and /readyz. Nothing here changes anything."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import redis
import structlog

from lapse.errors import ConfigError
from lapse.log import register_url
from lapse.metrics import exposition
from lapse.policy import Config
from lapse.settings import ConfigFile, find, registry_source
from lapse.view import View

log = structlog.get_logger("lapse")

HOST = "127.0.0.1"
PORT = 9108
TIMEOUT = 5.0
BEAT_SILENT = 3  # intervals
SHORTEST_SILENCE = 15.0


class Health:
    """The readiness of one registry and one config: each check is named and says what it found."""

    def __init__(self, client: redis.Redis, file: ConfigFile) -> None:
        self._client = client
        self._file = file

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Return every check: whether it passed, and in words."""
        config = self._file.current()
        found = {"config": (self._file.ok, self._file.error or f"in use: {config.hash}")}
        try:
            view = View(self._client, config.registry.namespace)
            partitions, published, now = view.partitions(config.rules, config.accounts), view.published(), view.now()
        except (redis.RedisError, OSError) as error:
            return found | {"registry": (False, f"did not answer: {error}")}
        halted = sorted({f"{one.partition}: {halt.reason}" for one in partitions for halt in one.halts})
        return found | {
            "registry": (True, "answers"),
            "halted": (not halted, "; ".join(halted) or "nothing is"),
            "beat": _beat(config, published, now),
            "worker": ("config" in published, "has published" if "config" in published else "has never published"),
        }


def _beat(config: Config, published: Mapping[str, str], now: int) -> tuple[bool, str]:
    """Say whether beat lives: it ticks with every wake-up that it sends, so as often as the shortest interval."""
    if not config.rules:
        return True, "has nothing to send"
    if "beat" not in published:
        return False, "has never sent a wake-up"
    silence = (now - int(published["beat"])) / 1000
    allowed = max(SHORTEST_SILENCE, BEAT_SILENT * min(rule.every for rule in config.rules))
    return silence <= allowed, f"last tick {silence:.0f} s ago"


class Server(ThreadingHTTPServer):
    """One thread a connection; a client that went away is no news."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the standard library's own
        """Log what a connection ended with."""
        log.info("connection.lost", error=repr(sys.exception()))


class Handler(BaseHTTPRequestHandler):
    """Answers GET of three paths."""

    protocol_version = "HTTP/1.1"
    timeout = 120  # seconds without a request, after which a connection gives its thread back
    pages: Mapping[str, Callable[[str], tuple[int, str, bytes]]]

    def do_GET(self) -> None:
        """Answer one request."""
        parts = urlsplit(self.path)
        page = self.pages.get(parts.path)
        try:
            status, kind, body = page(parts.query) if page else (404, "text/plain", b"/metrics /livez /readyz\n")
        except Exception:
            log.exception("page.failed", path=parts.path)
            status, kind, body = 500, "text/plain", b"failed; the log of lapse metrics says why\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep scrapes out of the log."""


def serve(environ: Mapping[str, str], cwd: Path, host: str = HOST, port: int = PORT) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: no valid config, no registry URL, or the port cannot be used.

    """
    file = ConfigFile(find(environ, cwd), environ)
    source = registry_source(file.current(), environ)
    register_url(source.url)
    client = redis.Redis.from_url(
        source.url, decode_responses=True, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
    )
    health = Health(client, file)
    Handler.pages = {
        "/metrics": lambda query: (200, *exposition(client, file, query)),
        "/livez": lambda _query: (200, "text/plain", b"ok\n"),
        "/readyz": lambda query: _readyz(health, verbose="verbose" in query),
    }
    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise ConfigError(
            f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port"
        ) from None
    _stop_on_signals(server)
    log.info("registry.source", role="metrics", url=source.url, origin=source.origin)
    log.info("metrics.serving", url=f"http://{host}:{server.server_address[1]}/metrics")
    with server:
        server.serve_forever(poll_interval=0.2)
    client.close()


def _readyz(health: Health, *, verbose: bool) -> tuple[int, str, bytes]:
    checks = health.checks()
    ready = all(passed for passed, _text in checks.values())
    if not verbose:
        return (200 if ready else 503), "text/plain", b"ready\n" if ready else b"not ready\n"
    shown = {name: {"ok": passed, "detail": text} for name, (passed, text) in checks.items()}
    body = json.dumps({"ready": ready, "at": time.time(), "checks": shown}, indent=2)
    return (200 if ready else 503), "application/json", body.encode() + b"\n"


def _stop_on_signals(server: ThreadingHTTPServer) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
