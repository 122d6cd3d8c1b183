"""What ``lapse metrics`` serves: /metrics, /livez, /readyz, /startupz, and more if told. Nothing here changes anything.

``/livez`` is about this process alone: restarting it helps nobody whose worker is gone. ``/readyz`` is about the whole
deployment. ``/startupz`` says that the registry has answered since this process began.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis
import structlog

import lapse_health
from lapse import moments
from lapse.errors import ConfigError
from lapse.guards.integrity.continuity import ContinuityCheck
from lapse.guards.integrity.statefile import state_file_of
from lapse.ledger import failures
from lapse.log import register_secret, register_url
from lapse.metrics import causes
from lapse.metrics.collector import compressed, exposition
from lapse.metrics.erasures import ErasureReader
from lapse.metrics.snapshot import Overview, View
from lapse.policy import Config
from lapse.policy.reload import ConfigFile, find, registry_source
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.credentials.password_file import tell
from lapse.registry.pools.plain import reader_of

log = structlog.get_logger("lapse")

HOST = "127.0.0.1"
PORT = 9108
TIMEOUT = 2.0
"""Seconds for the registry to answer: a scrape has to say that it does not before Prometheus gives the scrape up."""
PACKET = 1400
"""Bytes that one packet takes: such a page is not compressed."""
SILENT = 3  # intervals
SHORTEST_SILENCE = 15.0
STANDSTILL = 30.0
"""Seconds without a turn after which the loop that accepts connections does not turn any more."""

TOLD = 5.0
"""Seconds between two words to systemd."""

BELOW = "*"
"""At the end of a page's path: it answers for whatever has one more part."""
ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
METHODS = "GET, HEAD"


class PageRequest(NamedTuple):
    """What a page may answer to: the path and the query as they were sent, and the header ``Accept``."""

    path: str
    query: str
    accept: str


class PageAnswer(NamedTuple):
    """What a page answers; ``headers`` are those beside its type, its length and ``ALWAYS``."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


Page = Callable[[PageRequest], PageAnswer]


@dataclass(frozen=True, slots=True)
class ExporterParts:
    """What the pages of one exporter have in common: the config, the registry, and what they remember of it."""

    file: ConfigFile
    endpoint: RedisEndpoint
    continuity: ContinuityCheck
    erasures: ErasureReader


class Health:
    """The readiness of one registry and one config: each check is named and says what it found."""

    def __init__(self, client: redis.Redis, file: ConfigFile, continuity: ContinuityCheck | None = None) -> None:
        self._client = client
        self._file = file
        self._continuity = continuity
        self._answered = False

    def started(self) -> tuple[bool, str]:
        """Return whether the registry has answered since this was made; once it has, nobody is asked again."""
        if not self._answered:
            try:
                self._answered = bool(self._client.ping())
            except (redis.RedisError, OSError) as error:
                return False, f"the registry did not answer yet: {error}"
        return True, "the registry has answered"

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Return every check: whether it passed, and in words."""
        config = self._file.current()
        found = {"config": (self._file.ok, self._file.error or f"in use: {config.hash}")}
        try:
            view = View(self._client, config.registry.namespace, self._continuity)
            seen = view.look(config.rules, config.accounts)
            pauses, troubles = view.pauses(), self._troubles(view, config, seen)
        except (redis.RedisError, OSError) as error:
            return found | {"registry": (False, f"did not answer: {error}")}
        self._answered = True
        halted = sorted({f"{one.partition}: {halt.reason}" for one in seen.partitions for halt in one.halts})
        paused = sorted(f"{'everything' if scope == '*' else scope}: {why['reason']}" for scope, why in pauses.items())
        return found | {
            "registry": (True, "answers"),
            "halted": (not halted, "; ".join(halted) or "nothing is"),
            "paused": (True, "; ".join(paused) or "nothing is"),
            "beat": ticked(config, seen.published.get("beat"), seen.now, never="beat has never sent one"),
            "worker": came_back(config, seen.published.get("tick"), seen.now),
            **troubles,
        }

    def _troubles(self, view: View, config: Config, seen: Overview) -> dict[str, tuple[bool, str]]:
        """Say what stands in the way of deletions that halts nothing: providers, sweeps, workers that are gone."""
        flows, now = view.flows(config.accounts), seen.now
        held = [causes.breaker(name, throttle, now) for name, throttle in flows.items()]
        held += [causes.shut(f"{one.provider}/{one.kind}", one.shut, now) for one in seen.slots]
        waiting = [causes.waits(name, throttle, now) for name, throttle in flows.items()]
        rows = failures.look(self._client, config.registry.namespace, [rule.partition for rule in config.rules])
        workers = view.workers()
        gone = causes.gone(workers, now)
        present = not workers or any(now - int(one["at"]) <= causes.RECENT for one in workers.values())
        said = "; ".join(gone) or ("none is gone" if workers else "none has shown itself within an hour")
        return {
            "providers": (not any(held), "; ".join(filter(None, [*held, *waiting])) or "none holds requests back"),
            "sweeps": (not rows, "; ".join(row.told(now) for row in rows) or "none fails again and again"),
            "workers": (present, said),
        }


def ticked(
    config: Config, stamp: str | None, now: int, *, never: str, last: str = "the last wake-up"
) -> tuple[bool, str]:
    """Say whether a wake-up is recent enough: beat sends one each interval of ``[schedule] sweep`` at the least.

    Args:
        config: The one in use.
        stamp: When the last one was sent, in registry milliseconds; None if there was none.
        now: Registry time in milliseconds.
        never: What to say if there was none.
        last: What to call it if there was one.

    """
    at = int(stamp or 0)
    if at <= 0:
        return False, f"no wake-up: {never}"
    silence = (now - at) / 1000
    allowed = max(SHORTEST_SILENCE, SILENT * config.schedule.sweep)
    if silence < -allowed:
        detail = f"{last} is stamped {moments.both(at, now)}: the registry's clock has gone back"
        return False, detail
    return silence <= allowed, f"{last} was sent {moments.told(at, now)}"


def came_back(config: Config, stamp: str | None, now: int) -> tuple[bool, str]:
    """Say the same of the wake-ups that went the whole way."""
    last = "the last wake-up that came back through a worker"
    return ticked(config, stamp, now, never="none has come back through a worker", last=last)


class Server(ThreadingHTTPServer):
    """One thread a connection; a client that went away is no news."""

    daemon_threads = True
    turned = told = 0.0
    environ: Mapping[str, str] = MappingProxyType({})

    def service_actions(self) -> None:
        """Note that the loop turns, and tell systemd."""
        self.turned = time.monotonic()
        if self.turned - self.told >= TOLD:
            self.told = self.turned
            lapse_health.notify(self.environ, "serves")

    def live(self) -> tuple[bool, str]:
        """Return whether the loop that accepts connections turns: one that is open already would not notice."""
        silence = time.monotonic() - self.turned
        return silence <= STANDSTILL, f"the loop turned {silence:.0f} s ago"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the standard library's own
        """Log what a connection ended with."""
        log.info("connection.lost", error=repr(sys.exception()))


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of its pages."""

    protocol_version = "HTTP/1.1"
    timeout = 120  # seconds without a request, after which a connection gives its thread back
    error_content_type = "text/plain"
    error_message_format = "%(code)d %(message)s\n"
    pages: Mapping[str, Page]

    def do_GET(self) -> None:
        """Answer one request."""
        self.wfile.write(self._answered())

    def do_HEAD(self) -> None:
        """Answer with the status and the headers that GET would get."""
        self._answered()

    def _answered(self) -> bytes:
        """Send the status and the headers of a page; return its body."""
        parts = urlsplit(self.path)
        folder = parts.path[: parts.path.rfind("/") + 1]
        page = self.pages.get(parts.path) or self.pages.get(folder + BELOW) or self._nowhere
        try:
            status, kind, body, more = page(PageRequest(parts.path, parts.query, self.headers.get("Accept", "")))
        except Exception:
            log.exception("page.failed", path=parts.path)
            status, kind, body, more = PageAnswer(500, "text/plain", b"failed; the log of lapse metrics says why\n")
        headers, body = compressed(body, self.headers.get("Accept-Encoding", "") if len(body) > PACKET else "")
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers, **more}.items():
            self.send_header(name, value)
        self.end_headers()
        return body

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer, an error of the standard library's too."""
        super().send_response(code, message)
        for name, value in ALWAYS.items():
            self.send_header(name, value)

    def do_POST(self) -> None:
        """Refuse what could change something: nothing here can be changed."""
        self.close_connection = True  # what was sent along is not read
        self.send_response(405)
        for name, value in {"Allow": METHODS, "Content-Length": "0", "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST  # noqa: N815 - the standard library's own

    def _nowhere(self, _request: PageRequest) -> PageAnswer:
        return PageAnswer(404, "text/plain", f"{' '.join(self.pages)}\n".encode())

    def log_message(self, *_: object) -> None:
        """Keep scrapes out of the log."""


def serve(
    environ: Mapping[str, str],
    cwd: Path,
    host: str = HOST,
    port: int = PORT,
    more: Callable[[ExporterParts], Mapping[str, Page]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        environ: The environment.
        cwd: Where the policy file is looked for.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        more: Makes pages beside those of an exporter; None: there are none.

    Raises:
        ConfigError: no valid config, no registry URL, or the port cannot be used.

    """
    file = ConfigFile(find(environ, cwd), environ)
    source = registry_source(file.current(), environ)
    tell(register_secret)
    register_url(source.url)
    client = reader_of(source.endpoint, TIMEOUT)
    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise ConfigError(
            f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port"
        ) from None
    witness = state_file_of(file.current(), environ)
    continuity = ContinuityCheck(witness.load() if witness else None)
    erasures = ErasureReader()
    health = Health(client, file, continuity)
    Handler.pages = {
        "/metrics": lambda asked: PageAnswer(200, *exposition(client, file, continuity, erasures, accept=asked.accept)),
        **pages(server, health),
        **(more(ExporterParts(file, source.endpoint, continuity, erasures)) if more else {}),
    }
    _stop_on_signals(server)
    log.info("registry.source", role="metrics", url=source.url, origin=source.origin)
    log.info("metrics.serving", url=f"http://{host}:{server.server_address[1]}/metrics")
    with server:
        server.turned, server.environ = time.monotonic(), environ
        server.serve_forever(poll_interval=0.2)
    client.close()


def pages(server: Server, health: Health) -> dict[str, Page]:
    """Return the health pages; with ``?verbose`` each check of ``/readyz`` is shown."""
    return {
        "/livez": lambda _asked: _brief(*server.live()),
        "/readyz": lambda asked: _readyz(health, verbose="verbose" in asked.query),
        "/startupz": lambda _asked: _brief(*health.started()),
    }


def _brief(passed: bool, text: str) -> PageAnswer:  # noqa: FBT001 - one of the pair that a check is
    return PageAnswer(200 if passed else 503, "text/plain", b"ok\n" if passed else f"{text}\n".encode())


def _readyz(health: Health, *, verbose: bool) -> PageAnswer:
    checks = health.checks()
    ready = all(passed for passed, _text in checks.values())
    if not verbose:
        failed = ", ".join(name for name, (passed, _text) in checks.items() if not passed)
        body = b"ready\n" if ready else f"not ready: {failed}\n".encode()
        return PageAnswer(200 if ready else 503, "text/plain", body)
    shown = {name: {"ok": passed, "detail": text} for name, (passed, text) in checks.items()}
    told = json.dumps({"ready": ready, "at": time.time(), "checks": shown}, indent=2)
    return PageAnswer(200 if ready else 503, "application/json", told.encode() + b"\n")


def _stop_on_signals(server: ThreadingHTTPServer) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
