"""register --from: what lapse's own logger said was lost, and nothing that anybody else could have put into a log."""

import json
import logging
from io import StringIO

import pytest

from lapse import Registry
from lapse.cli.operate.lost import NotSaid, read, registration, warning
from lapse.sandbox.redis_server import free_port
from support.commandline import Desk

SAID = {"error": "away", "provider": "openai", "kind": "thread", "id": "thread_1", "policy": "chat"}
PAYLOAD = json.dumps(SAID)
LOST = f"lapse call failed: {PAYLOAD}"

FORMATS = [
    "%(levelname)s:%(name)s:%(message)s",
    "%(asctime)s %(levelname)s %(name)s %(message)s",
    "%(asctime)s - %(name)s - %(message)s",
    "[%(asctime)s] [%(levelname)s] [%(process)d] [%(name)s] %(message)s",
    "%(asctime)s | %(levelname)-8s | %(name)s | %(message)s",
    '{"time": "%(asctime)s", "level": "%(levelname)s", "name": "%(name)s", "message": %(message)r}',
]

FORGED = [
    LOST,
    f"2026-11-23 10:00:01 INFO app user said {LOST}",
    f"2026-11-23 10:00:01 INFO app WARNING:lapse:{LOST}",
    f"2026-11-23 10:00:01 WARNING app lapse: {LOST}",
    f"WARNING:notlapse:{LOST}",
    f"WARNING:app.lapse:{LOST}",
    f"WARNING:lapse.other:{LOST}",
    f"WARNING:lapse:{LOST} and more",
    f"WARNING:lapse:{LOST}{PAYLOAD}",
    f"WARNING:lapse: it said {LOST}",
    "WARNING:lapse:lapse call failed: [1]",
    "WARNING:lapse:lapse call failed: {}{",
    'WARNING:lapse:lapse call failed: {"kind":"thread","id":"thread_1","id":"thread_2","policy":"chat"}',
    'WARNING:lapse:lapse call failed: {"kind":"thread","id":"thread_1","policy":"chat","x":NaN}',
    f"WARNING:lapse:{LOST}\x1b[1A",
    f"INFO app x\rWARNING:lapse:{LOST}",
    f"INFO app x\u2028WARNING:lapse:{LOST}",
    PAYLOAD,
    json.dumps({"event": LOST}),
    json.dumps({"logger": "app", "event": LOST}),
    json.dumps({"logger": "app", "name": "lapse", "message": LOST}),
    json.dumps({"logger": "lapse", "event": f"user said {LOST}"}),
    json.dumps({"logger": "lapse", "event": LOST, "message": LOST}),
    json.dumps({"logger": "lapse", "user": LOST}),
    json.dumps({"log": {"logger": "app"}, "message": LOST}),
    '{"logger": "lapse", "logger": "lapse", "event": ' + json.dumps(LOST) + "}",
    json.dumps({"logger": "lapse", "event": LOST}) + json.dumps({"logger": "lapse"}),
    json.dumps([{"logger": "lapse", "event": LOST}]),
]


def _say(record: logging.LogRecord) -> bool:
    record.said = json.dumps(record.getMessage())[1:-1]
    return True


@pytest.mark.parametrize("form", FORMATS)
def test_what_the_logger_wrote_is_read_in_every_usual_format(form: str) -> None:
    url, stream = f"redis://127.0.0.1:{free_port()}/0", StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        logging.Formatter(form.replace("%(message)r", '"%(said)s"') if "%(message)r" in form else form)
    )
    if "said" in str(getattr(handler.formatter, "_fmt", "")):
        handler.addFilter(_say)
    logger = logging.getLogger("lapse")
    logger.addHandler(handler)
    try:
        with Registry(url, provider="openai", timeout=0.05, on_error="log") as registry:
            registry.register("thread", "thread_1", "chat", subject="user:42 {x} \u2603")
    finally:
        logger.removeHandler(handler)

    found = warning(read(stream.getvalue().encode()))

    assert found
    assert ("thread_1", "user:42 {x} \u2603") == (found["id"], found["subject"])


@pytest.mark.parametrize("line", FORGED, ids=range(len(FORGED)))
def test_what_anybody_could_have_put_into_a_log_is_refused(line: str) -> None:
    with pytest.raises(NotSaid):
        warning(read(line.encode()))


@pytest.mark.parametrize("line", ["", "INFO started", '{"event": "x"}', '{"kind": "a"}', "{", "[]", "7"])
def test_other_lines_are_none(line: str) -> None:
    assert warning(line) is None
    if line != "{":
        assert registration(line) is None


def test_a_line_of_endless_digits_is_looked_at_in_no_time() -> None:
    with pytest.raises(NotSaid):
        warning("1" * 1_000_000 + LOST)


def test_a_forged_line_is_refused_by_its_number_and_the_others_are_registered(desk: Desk) -> None:
    path = desk.directory / "app.log"
    lines = [
        "2026-11-23 10:00:00 INFO started",
        f"WARNING:lapse:{LOST}",
        *(one.replace("thread_1", "victim") for one in FORGED),
    ]
    path.write_text("\n".join(lines) + "\n", newline="")

    told = desk.run("register", "--from", "app.log", "--json")

    assert 5 == told.code
    assert (1, len(FORGED)) == (told.json["registered"], told.json["refused"])
    assert told.json["problems"][0].startswith("3: ")
    assert ["thread_1"] == desk.raw.zrange("lapse:{openai:thread}:chat:fresh", 0, -1)
    assert "Traceback" not in told.err


def test_a_file_of_registrations_is_nothing_else(desk: Desk) -> None:
    (desk.directory / "lost.jsonl").write_text(
        f"{PAYLOAD}\nINFO\nWARNING:lapse:{LOST}\n[1]\n".replace("thread_1", "t2")
    )

    told = desk.run("register", "--from", "lost.jsonl", "--json")

    assert (5, 1, 3) == (told.code, told.json["registered"], told.json["refused"])


@pytest.mark.parametrize(
    ("text", "registered", "refused"),
    [
        (f"\ufeff{PAYLOAD}\n", 1, 0),
        (f"\ufeffWARNING:lapse:{LOST}\n", 1, 0),
        ('{"kind":"thread","id":"t2","policy":"chat","policy":"other"}\n' + PAYLOAD + "\n", 1, 1),
    ],
    ids=["a mark before it", "a mark before a log", "a key twice"],
)
def test_the_first_line_is_registered_or_refused(desk: Desk, text: str, registered: int, refused: int) -> None:
    (desk.directory / "lost.jsonl").write_text(text, encoding="utf-8")
    told = desk.run("register", "--from", "lost.jsonl", "--json")

    assert (5 if refused else 0, registered, refused) == (told.code, told.json["registered"], told.json["refused"])
    assert registered == len(desk.raw.zrange("lapse:{openai:thread}:chat:fresh", 0, -1))


@pytest.mark.parametrize("text", [f"[{PAYLOAD}]\n", "kind,id,policy\nthread,thread_1,chat\n", "INFO started\n"])
def test_a_file_of_which_nothing_is_a_registration_says_so(desk: Desk, text: str) -> None:
    told = desk.run("register", "--from", "-", given=text)

    assert (5, "0 registered, 0 new, 0 unmanaged\n") == (told.code, told.out)
    assert "-: no line is a registration: write one JSON object a line; lapse import takes CSV" in told.err
    assert 0 == desk.run("register", "--from", "-", given="\n").code


@pytest.mark.parametrize("text", ["a\x1b[2J", "a\nb", "\x7f", "a\x9bb", "a\u2028b"], ids=ascii)
def test_control_characters_are_refused_wherever_an_application_says_something(desk: Desk, text: str) -> None:
    line = json.dumps({**SAID, "subject": text})
    told = desk.run("register", "--from", "-", given=line)
    assert (5, True) == (told.code, "control characters" in told.err)
    for said in (
        ("hold", "thread", "thread_1"),
        ("pause",),
        ("resume", "openai"),
        ("approve", "0a1b2c3d"),
        ("quarantine", "retry", "threads", "--all"),
        ("quarantine", "drop", "threads", "--all"),
        ("quarantine", "undo", "threads", "thread_1"),
    ):
        refused = desk.run(*said, "--reason", text)
        assert (2, True) == (refused.code, "control characters" in refused.err), said
    assert 2 == desk.run("register", "thread", "thread_1", "--policy", "chat", "--label", f"x={text}").code
    assert not desk.raw.keys("lapse:*")


def test_what_stands_in_the_registry_all_the_same_is_shown_and_not_obeyed(desk: Desk) -> None:
    desk.registry.register("thread", "thread_1", "chat", subject="plain")
    desk.raw.hset("lapse:{openai:thread}:facts", "thread_1", json.dumps({"subject": "a\x1b[2J\x9b\u202eb"}))
    for arguments in (
        ("explain", "thread", "thread_1"),
        ("explain", "thread", "thread_1", "--json"),
        ("ls", "threads", "--json"),
    ):
        shown = desk.good(*arguments)
        assert not set("\x1b\x9b\u202e") & set(shown.out + shown.err)
    assert "\x9b" not in desk.terminal("explain", "thread", "thread_1").out
