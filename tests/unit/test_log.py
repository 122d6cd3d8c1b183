"""What our processes log: named events, one way out, and no secret on it."""

import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from lapse import log

KEY = "sk-proj-Zz0123456789abcdefghij"
PASSWORD = "p/ä ss@wörd"
OPAQUE = "0fc3a1b2c4d5e6f7"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know none of the secrets of other tests."""
    monkeypatch.setattr(log, "_secrets", {})


@pytest.fixture
def stream() -> StringIO:
    made = StringIO()
    log.configure("INFO", stream=made)
    return made


@pytest.fixture
def lines(stream: StringIO) -> Lines:
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_time_level_and_fields(lines: Lines) -> None:
    structlog.get_logger("lapse.sweep.sweep").info("sweep.finished", deleted=3, policy="chat", share=0.5, last=None)

    (line,) = lines()

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "source": "lapse",
        "event": "sweep.finished",
        "level": "info",
        "logger": "lapse.sweep.sweep",
        "pid": os.getpid(),
        "deleted": 3,
        "policy": "chat",
        "share": 0.5,
        "last": None,
    }


@pytest.mark.parametrize(
    ("logger", "source"),
    [
        ("lapse", "lapse"),
        ("lapse.sweep.sweep", "lapse"),
        ("lapsed", "library"),
        ("celery.worker", "celery"),
        ("kombu.connection", "celery"),
        ("py.warnings", "library"),
        ("asyncio", "library"),
        ("root", "library"),
    ],
)
def test_whose_a_line_is(lines: Lines, logger: str, source: str) -> None:
    logging.getLogger(None if logger == "root" else logger).warning("something")
    (line,) = lines()
    assert (source, logger) == (line["source"], line["logger"])


def test_a_line_that_is_written_without_logging_is_as_one_that_is_logged(lines: Lines) -> None:
    text = "worker: Warm shutdown (MainProcess), redis://:hunter22@example.com:6379/0"
    logging.getLogger("celery.apps.worker").info(text)
    (logged,), said = lines(), json.loads(log.line("celery.apps.worker", text))
    assert list(logged) == list(said)
    assert logged | {"timestamp": ""} == said | {"timestamp": ""}
    assert "hunter22" not in said["event"]


@pytest.mark.filterwarnings("default::UserWarning")
def test_what_libraries_log_takes_the_same_way(lines: Lines) -> None:
    logging.getLogger("kombu.connection").warning("lost %s", "redis://:hunter22@example.com:6379/0")
    warnings.warn(f"careful with {KEY}", UserWarning, stacklevel=1)

    lost, warned = lines()

    assert lost["event"] == "lost redis://:***@example.com:6379/0"
    assert lost["logger"] == "kombu.connection"
    assert warned["logger"] == "py.warnings"
    assert KEY not in json.dumps(warned)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"Incorrect API key provided: {KEY}.", KEY),
        (f"Authorization: Bearer {OPAQUE}{OPAQUE}", OPAQUE),
        (f"{{'authorization': 'Bearer {OPAQUE}'}}", OPAQUE),
        (f"api-key: {OPAQUE}", OPAQUE),
        (f'{{"api_key": "{OPAQUE}", "kind": "thread"}}', OPAQUE),
        (f"OPENAI_API_KEY={OPAQUE}", OPAQUE),
        (f"client_secret={OPAQUE}&grant=x", OPAQUE),
        ("redis://:hunter22@10.0.0.1:6379/0 is away", "hunter22"),
        ("rediss://app:hu@nter22@db.example.com/0", "nter22"),
        ("https://me:hunter22@proxy.example.com", "hunter22"),
        (f"token eyJhbGciOiJIUzI1NiJ9.{OPAQUE}.{OPAQUE}", OPAQUE),
        ("Basic dXNlcjpwYXNzd29yZDEyMw==", "dXNlcjpwYXNz"),
        ("lapse/?Action=connect&X-Amz-Signature=0123456789abcdef", "0123456789abcdef"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, hidden: str) -> None:
    shown = log.redact(text)

    assert hidden not in shown
    assert log.HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    [
        "sweep.finished",
        "task-0123456789 of risk-assessments",
        "api_key_env: set OPENAI_API_KEY, or api_key_file",
        "the basic settings of a bearer",
        "redis://10.0.0.1:6379/0",
        "https://api.openai.com/v1/threads/thread_abc",
        "thread_abc123 asst_abc123 conv_0123456789abcdef",
        "at 12:30:01 a@b.example",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert log.redact(text) == text


def test_registered_values_are_hidden_wherever_they_appear(lines: Lines, stream: StringIO) -> None:
    log.register_secret(OPAQUE)
    log.register_url("redis://:correct-horse@localhost/0")
    events = structlog.get_logger("lapse")

    events.warning(f"odd.{OPAQUE}", nested={"deep": [("x", OPAQUE)], OPAQUE: 1}, raw=OPAQUE.encode(), path=Path(OPAQUE))
    events.warning("a.b", detail="pw correct-horse!")

    first, second = lines()
    assert OPAQUE not in stream.getvalue()
    assert first["nested"] == {"deep": [["x", "***"]], "***": 1}
    assert second["detail"] == "pw ***!"


def test_passwords_of_a_url_of_several_servers_are_hidden(stream: StringIO) -> None:
    log.register_url("redis+sentinel://u:white-horse@a,[::1]:26379/mymaster/0?sentinel_password=brown-horse#")
    log.register_url("sentinel://u:black%2fhorse@[::1]:1;sentinel://u:grey-horse@b")
    log.register_url("x://[::1")  # is no URL, and has no password

    structlog.get_logger("lapse").warning(
        "a.b", detail="white-horse, brown-horse, black%2fhorse, black/horse, grey-horse"
    )

    assert "horse" not in stream.getvalue()


def test_a_registered_value_is_hidden_percent_encoded_and_json_encoded_too(stream: StringIO) -> None:
    log.register_secret(PASSWORD)

    structlog.get_logger("lapse").info("a.b", raw=PASSWORD, url="redis://:p%2F%C3%A4%20ss%40w%C3%B6rd@h/0")

    for form in (PASSWORD, json.dumps(PASSWORD)[1:-1], "p%2F%C3%A4"):
        assert form not in stream.getvalue()


def test_a_field_named_like_a_secret_is_never_shown(lines: Lines) -> None:
    structlog.get_logger("lapse").info(
        "a.b", api_key="short", password="x", Authorization="y", openai_api_key="z", api_key_env="NAME", token=7
    )

    (line,) = lines()

    assert [line[name] for name in ("api_key", "password", "Authorization", "openai_api_key")] == ["***"] * 4
    assert (line["api_key_env"], line["token"]) == ("NAME", 7)


def test_exceptions_and_tracebacks_are_cleaned(lines: Lines, stream: StringIO) -> None:
    log.register_secret(OPAQUE)

    def fail() -> None:
        raise ConnectionError(f"redis://user:hunter22@h:1/0 refused {KEY}") from ValueError(OPAQUE)

    try:
        fail()
    except ConnectionError:
        structlog.get_logger("lapse").exception("sweep.failed")
        logging.getLogger("celery").exception("Task raised unexpected")

    ours, theirs = lines()
    for line in (ours, theirs):
        assert "ConnectionError" in line["exception"]
        assert "in fail" in line["exception"]
    for secret in (KEY, "hunter22", OPAQUE):
        assert secret not in stream.getvalue()


def test_an_uncaught_exception_is_logged_clean(lines: Lines, capfd: pytest.CaptureFixture[str]) -> None:
    def crash() -> None:
        raise RuntimeError(KEY)

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    try:
        crash()
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)

    in_thread, in_main = lines()
    assert in_thread["event"] == in_main["event"] == "process.crashed"
    assert "RuntimeError: sk-***" in in_main["exception"]
    assert KEY not in capfd.readouterr().err


def test_celerys_default_level_hides_its_chatter_and_not_the_sweeps() -> None:
    stream = StringIO()
    log.configure(logging.WARNING, stream=stream)

    structlog.get_logger("lapse").info("sweep.finished")
    logging.getLogger("celery.worker").info("Connected")
    logging.getLogger("celery.worker").warning("Lost")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["sweep.finished", "Lost"]


@pytest.mark.parametrize(("level", "shown"), [("INFO", []), ("DEBUG", ["Task received", "tick.needless"])])
def test_one_line_a_message_is_shown_for_debugging_only(level: str, shown: list[str]) -> None:
    stream = StringIO()
    log.configure(level, stream=stream)

    logging.getLogger("celery.worker.strategy").info("Task received")
    structlog.get_logger("lapse").debug("tick.needless")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == shown


def test_a_terminal_gets_readable_lines_without_secrets() -> None:
    stream = StringIO()
    log.configure("INFO", stream=stream, json=False)

    try:
        int(KEY)
    except ValueError:
        structlog.get_logger("lapse").exception("sweep.failed", policy="chat", url="redis://:hunter22@h/0")

    text = stream.getvalue()
    assert "sweep.failed" in text
    assert "ValueError" in text
    assert not text.startswith("{")
    for secret in (KEY, "hunter22"):
        assert secret not in text


def test_a_logfile_gets_json(tmp_path: Path) -> None:
    log.configure("INFO", logfile=str(tmp_path / "lapse.log"))

    structlog.get_logger("lapse").info("a.b")

    assert json.loads((tmp_path / "lapse.log").read_text())["event"] == "a.b"
    logging.getLogger().handlers[0].close()
