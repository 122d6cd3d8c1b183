"""Logging of our own processes: worker, beat, exporter and command line. Never loaded into an application.

Events are named ``noun.verb``. They go to stderr: one JSON object a line, or readable lines on a terminal.
What Celery and other libraries log takes the same way, so that everything passes the redaction below first.
``source`` says whose a line is: ``lapse``, ``celery`` or ``library``; an audit record on stdout has ``audit``.
"""

import logging
import logging.handlers
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TextIO
from urllib.parse import parse_qsl, quote, unquote

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

HIDDEN = "***"

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
"""How every line tells when it was written: RFC 3339, UTC, to the microsecond."""

# Below this length a registered value is more likely a word of the log than a secret.
SHORTEST_SECRET = 6

# Their lines say per message what one line of ours says per sweep.
_CELERY = frozenset({"celery", "kombu", "amqp", "vine", "billiard", "multiprocessing"})
"""Whose loggers are Celery's: its own, and those of what it is made of."""

_CHATTY = ("celery.beat", "celery.worker.strategy", "celery.app.trace", "httpx2", "httpcore2", "openai")

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(://)([^\s/:@'\"]*):([^\s/'\"]*)@"), rf"\1\2:{HIDDEN}@"),
    (re.compile(r"\b(sk|rk|pk|sess)-[A-Za-z0-9_\-]{8,}"), rf"\1-{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=\-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b(basic)\s+[A-Za-z0-9+/]{16,}=*"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b(x-amz-signature=)[0-9a-f]{8,}"), rf"\1{HIDDEN}"),
    (re.compile(r"\beyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]*"), HIDDEN),
    (
        re.compile(
            r"(?i)((?:api[-_ ]?key|authorization|passw(?:or)?d|client[-_]secret|(?:access|security)[-_]token)"
            r"[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic)\s+)?)([^\s\"',;&)}\]]+)"
        ),
        rf"\1{HIDDEN}",
    ),
)
_SECRET_KEYS = re.compile(
    r"(?i)(^|[-_])(api[-_]?key|authorization|password|passwd|secret|credential|access[-_]token|bearer)s?$"
)

_secrets: dict[str, None] = {}


def register_secret(value: str | None) -> None:
    """Hide ``value`` wherever this process logs it, percent-encoded too; ignored below 6 characters."""
    for form in (value or "", quote(value or "", safe="")):
        if len(form) >= SHORTEST_SECRET:
            _secrets[form] = None


def register_url(url: str) -> None:
    """Hide the passwords of ``url``, or of each that a ``;`` parts, wherever this process logs them."""
    for one in url.split(";"):
        authority = re.split("[/?#]", one.partition("://")[2], maxsplit=1)[0]
        password = authority.rpartition("@")[0].partition(":")[2]
        query = one.partition("?")[2].partition("#")[0]
        for name, value in [("password", password), ("password", unquote(password)), *parse_qsl(query)]:
            register_secret(value if name.endswith("password") else None)


def redact(text: str) -> str:
    """Return ``text`` without registered secrets, keys, bearer tokens and passwords of URLs."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def configure(
    level: int | str = logging.INFO,
    *,
    stream: TextIO | None = None,
    logfile: str | None = None,
    json: bool | None = None,
) -> None:
    """Send all that this process logs through one redacting handler; a second call replaces the first.

    Celery's ``--loglevel`` defaults to WARNING, which would hide the one line a sweep writes: at WARNING
    lapse's own events are still logged from INFO on. ``json`` unset means: unless ``stream`` (stderr) is a
    terminal.
    """
    number = level if isinstance(level, int) else logging.getLevelNamesMapping()[level.upper()]
    stream = stream or sys.stderr
    handler: logging.Handler = logging.StreamHandler(stream)
    if logfile:
        handler = logging.handlers.WatchedFileHandler(logfile, encoding="utf-8")
    as_json = json if json is not None else bool(logfile) or not stream.isatty()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(as_json=as_json)],
            foreign_pre_chain=_first(),
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.getLogger("lapse").setLevel(logging.INFO if number == logging.WARNING else number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_first(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _first() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt=TIME, utc=True),
        _add_source,
        _add_process,
    ]


def _last(*, as_json: bool) -> list[Processor]:
    # Tracebacks become text before redaction: nothing may be rendered after it that has not passed it.
    chain: list[Processor] = [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact,
    ]
    if as_json:
        return [*chain, structlog.processors.JSONRenderer()]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return [*chain, _without_process, renderer]


def line(logger: str, text: str) -> str:
    """Return the line of JSON that ``logger`` would write of a text at INFO, for where nothing may be logged."""
    event: EventDict = {"event": text, "level": "info", "logger": logger}
    for add in (structlog.processors.TimeStamper(fmt=TIME, utc=True), _add_source, _add_process):
        event = add(None, "info", event)
    return str(structlog.processors.JSONRenderer()(None, "info", _redact(None, "info", event)))


def _add_source(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    origin = str(event.get("logger", "lapse")).partition(".")[0]
    event["source"] = "lapse" if origin == "lapse" else "celery" if origin in _CELERY else "library"
    return event


def _add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["pid"] = os.getpid()
    return event


def _without_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop("pid", None)
    event.pop("source", None)  # the logger's name says it to a person
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {name: event[name] for name in ("timestamp", "source", "level", "event") if name in event}
    return {redact(str(key)): _clean(value, key) for key, value in {**first, **event}.items()}


def _clean(value: object, key: object = "") -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(key, str) and _SECRET_KEYS.search(key):
        return HIDDEN
    if isinstance(value, Mapping):
        return {redact(str(name)): _clean(inner, name) for name, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray):
        return [_clean(inner) for inner in value]
    if isinstance(value, bytes | bytearray):
        value = value.decode("utf-8", "replace")
    return redact(str(value))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger("lapse").critical("process.crashed", exc_info=(kind, error, trace))


def _uncaught_in_thread(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_type is not SystemExit and crash.exc_value is not None:
        _uncaught(crash.exc_type, crash.exc_value, crash.exc_traceback)
