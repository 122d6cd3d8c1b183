"""import: a table of ids, what of it cannot be registered, and what of it would be due."""

import json
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lapse.cli.operate.rows import labels, moment, rows
from lapse.errors import InvalidResource
from lapse.sandbox.redis_server import free_port
from support.commandline import ENFORCED, Desk

LONG_AGO = 1_760_000_000
CSV = f"""id,created_at,subject,labels
thread_1,{LONG_AGO},user:42,plan=free;app=web
thread_2,2026-03-01,,
thread_3,,,
"""


def written(desk: Desk, text: str, name: str = "ids.csv") -> str:
    desk.configure(ENFORCED)
    (desk.directory / name).write_text(text, encoding="utf-8")
    return name


def test_a_table_with_a_header(desk: Desk) -> None:
    shown = desk.good("import", written(desk, CSV), "--kind", "thread", "--policy", "chat")

    assert "3 registered, 3 new, 0 refused" in shown.out
    assert "openai/thread/chat: due 2 now, 1 within 7 days" in shown.out
    assert "Last activity is now where the file says none" in shown.err
    first = desk.registry.get("thread", "thread_1")
    assert first is not None
    assert (first.subject, first.labels, first.policy) == ("user:42", {"plan": "free", "app": "web"}, "chat")
    assert first.created_at.timestamp() == LONG_AGO  # type: ignore[union-attr]
    assert time.time() - first.last_active_at.timestamp() < 60  # type: ignore[union-attr]
    second = desk.registry.get("thread", "thread_2")
    assert second is not None
    assert second.created_at == datetime(2026, 3, 1, tzinfo=UTC)
    assert "0 new" in desk.good("import", "ids.csv", "--kind", "thread", "--policy", "chat").out


def test_last_activity_may_be_the_creation(desk: Desk) -> None:
    name = written(desk, CSV)
    shown = desk.good("import", name, "--kind", "thread", "--policy", "chat", "--last-active", "created")

    first = desk.registry.get("thread", "thread_1")
    assert first is not None
    assert first.last_active_at == first.created_at
    assert "may be due at once" in shown.err


def test_objects_a_line_each_from_stdin(desk: Desk) -> None:
    desk.configure(ENFORCED)
    said = [
        {"id": "conv_1", "kind": "conversations", "policy": "chat", "created_at": LONG_AGO, "labels": {"a": "b"}},
        {"id": "conv_1", "kind": "conversation", "policy": "chat", "subject": "user:1"},
        {"id": "thread_1", "kind": "thread", "policy": "other", "last_active_at": "2026-03-01T12:00:00+01:00",
         "created_at": "2026-03-01T12:00:00+01:00"},
    ]  # fmt: skip
    shown = desk.good("import", "-", "--json", given="\n\n".join(map(json.dumps, said)))

    assert shown.json["registered"] == 2
    assert shown.json["due"]["openai/thread/other"] == {"never": 1}
    record = desk.registry.get("conversation", "conv_1")
    assert record is not None
    assert record.subject == "user:1"


def test_rows_that_cannot_be_registered_go_to_a_file_with_the_reason(desk: Desk) -> None:
    text = CSV + 'thread_4,yesterday,,\nthread_5,2026-03-01T12:00:00,,\n,,,\nthread_6\n"thread_7,,,\n'
    shown = desk.run("import", written(desk, text), "--kind", "thread", "--policy", "chat")

    bad = desk.directory / "ids.csv.bad"
    told = [json.loads(line) for line in bad.read_text().splitlines()]
    assert (shown.code, "3 registered" in shown.out) == (5, True)
    assert "5 rows of ids.csv refused: see ids.csv.bad" in shown.err
    assert [(one["line"], one["why"].split(": ")[0]) for one in told] == [
        (5, "'yesterday' is no time"),
        (6, "2026-03-01T12:00:00 has no time zone"),
        (7, "no id"),
        (8, "1 fields below 4 names"),
        (9, "no CSV"),
    ]
    assert told[0]["row"] == {"id": "thread_4", "created_at": "yesterday"}
    assert stat.S_IMODE(bad.stat().st_mode) == 0o600


def test_refused_rows_of_before_stay_where_an_import_goes_on(desk: Desk) -> None:
    name = written(desk, "id,created_at\nthread_1,yesterday\nthread_2,\nthread_3,tomorrow\n")
    desk.run("import", name, "--kind", "thread", "--policy", "chat")
    again = desk.run("import", name, "--kind", "thread", "--policy", "chat", "--from-line", "3")

    told = [json.loads(line)["line"] for line in (desk.directory / "ids.csv.bad").read_text().splitlines()]
    assert (again.code, told) == (5, [2, 4, 4])


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("id,when\nthread_1,1\n", 2, "there is no column 'when'"),
        ("kind,policy\nthread,chat\n", 2, "no column id"),
        ('{"id": "t"', 1, "1 row of ids.csv refused"),
        ("[1]\n", 2, "there is no column '[1]'"),
        ("id\nthread_1\n", 1, "1 row of ids.csv refused"),
        ("", 0, ""),
        ("\n\n", 0, ""),
    ],
    ids=["a strange column", "no column id", "no JSON", "an array", "no kind", "nothing", "blank lines"],
)
def test_a_file_of_which_nothing_can_be_registered(desk: Desk, text: str, code: int, says: str) -> None:
    shown = desk.run("import", written(desk, text))

    assert (shown.code, says in shown.err) == (code, True), shown.err


def test_what_is_no_utf_8_is_named_with_the_line_before_it(desk: Desk) -> None:
    name = written(desk, CSV)
    path = desk.directory / name
    path.write_bytes(path.read_bytes() + b"thread_\xff,,,\n")
    shown = desk.run("import", name, "--kind", "thread", "--policy", "chat")

    assert shown.code == 5
    assert "no UTF-8" in shown.err


def test_a_registry_that_is_lost_half_way_says_where_to_go_on(desk: Desk) -> None:
    name = written(desk, CSV)
    away = {"LAPSE_REGISTRY__URL": f"redis://127.0.0.1:{free_port()}/0"}
    lost = desk.run("import", name, "--kind", "thread", "--policy", "chat", **away)
    assert lost.code == 4

    shown = desk.good("import", name, "--kind", "thread", "--policy", "chat", "--from-line", "3")

    assert "2 registered" in shown.out
    assert desk.registry.get("thread", "thread_1") is None


def test_an_application_s_host_without_a_policy_file_imports_too(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id\nthread_1\n")
    (desk.directory / "config" / "retention.toml").unlink()
    environ = {"LAPSE_PROVIDER": "openai", "LAPSE_REGISTRY__URL": desk.environ["REDIS_URL"]}
    shown = desk.good("import", str(tmp_path / "ids.csv"), "--kind", "thread", "--policy", "chat", **environ)

    assert "openai/thread/chat: due 1 never" in shown.out


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (LONG_AGO, LONG_AGO),
        (f" {LONG_AGO}", LONG_AGO),
        (" 2026-03-01 ", 1_772_323_200),
        ("2026-03-01T01:00+01:00", 1_772_323_200),
    ],
)
def test_a_time(given: str | int, seconds: float) -> None:
    assert moment(given) == seconds


@pytest.mark.parametrize(
    ("given", "comes_to"),
    [('{"a": "b"}', {"a": "b"}), ("a=b; c=d=e;", {"a": "b", "c": "d=e"}), ({"a": "b"}, {"a": "b"})],
    ids=["JSON text", "pairs", "an object"],
)
def test_labels(given: object, comes_to: object) -> None:
    assert labels(given) == comes_to


@pytest.mark.parametrize("given", ["{", "a;b=c"])
def test_labels_that_are_none(given: str) -> None:
    with pytest.raises(InvalidResource, match="labels"):
        labels(given)


def test_a_field_may_have_line_breaks() -> None:
    found = list(rows(["id,subject\n", '"thread_1","a\n', 'b"\n', "\n", "thread_2,\n"]))

    assert [(row.line, dict(row.given)) for row in found] == [
        (3, {"id": "thread_1", "subject": "a\nb"}),
        (5, {"id": "thread_2"}),
    ]
