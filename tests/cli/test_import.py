"""import: a table of ids, what of it cannot be registered, and what of it would be due."""

import json
import re
import signal
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lapse.sandbox.redis_server import free_port
from support.commandline import DAY, ENFORCED, Desk

LONG_AGO = 1_760_000_000
SLOT = "lapse:{openai:thread}:"
MANY = 50_000
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

    assert (shown.json["registered"], shown.json["new"], shown.json["known"]) == (3, 2, 1)
    assert shown.json["due"]["openai/thread/other"] == {"never": 1}
    record = desk.registry.get("conversation", "conv_1")
    assert record is not None
    assert (record.subject, record.labels) == (None, {"a": "b"}), "the first line of an id is what counts"


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
        ('{"id": "t"', 5, "1 row of ids.csv refused"),
        ("[1]\n", 2, "there is no column '[1]'"),
        ("id\nthread_1\n", 5, "1 row of ids.csv refused"),
        ("", 0, ""),
        ("\n\n", 0, ""),
        ('{"id": "t", "kind": ["thread"], "policy": "chat"}', 5, "1 row of ids.csv refused"),
    ],
    ids=["a strange column", "no column id", "no JSON", "an array", "no kind", "nothing", "blank lines", "a list"],
)
def test_a_file_of_which_nothing_can_be_registered(desk: Desk, text: str, code: int, says: str) -> None:
    shown = desk.run("import", written(desk, text))

    assert (shown.code, says in shown.err) == (code, True), shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("how", ["its name", "its path", "a symbolic link", "a hard link", "the default", "stdin"])
def test_the_table_is_never_where_refused_rows_go(desk: Desk, how: str) -> None:
    text = "id,created_at\nthread_1,yesterday\nthread_2,\n"
    table = desk.directory / written(desk, text)
    link, default = desk.directory / "link", desk.directory / "ids.csv.bad"
    asked, bad, given = "ids.csv", "link", ""
    match how:
        case "its name":
            bad = "ids.csv"
        case "its path":
            bad = str(table)
        case "a symbolic link":
            link.symlink_to("ids.csv")
        case "a hard link":
            link.hardlink_to(table)
        case "the default":
            default.symlink_to("ids.csv")
            bad = ""
        case "stdin":  # what the script is given is a file
            asked, bad, given = "-", "/proc/self/fd/0", text
    options = ("--bad", bad) if bad else ()
    shown = desk.run("import", asked, "--kind", "thread", "--policy", "chat", *options, given=given)

    assert (shown.code, "the table itself: give --bad another file" in shown.err) == (2, True), shown
    assert table.read_text() == text
    assert desk.registry.get("thread", "thread_2") is None, "nothing was begun"


@pytest.mark.parametrize(("bad", "says"), [("nowhere/bad", "there is no folder nowhere"), (".", "it is a folder")])
def test_where_refused_rows_cannot_go_is_said_before_anything_is_registered(desk: Desk, bad: str, says: str) -> None:
    name = written(desk, "id,created_at\nthread_1,yesterday\nthread_2,\n")
    shown = desk.run("import", name, "--kind", "thread", "--policy", "chat", "--bad", bad)

    assert (shown.code, says in shown.err, "Traceback" in shown.err) == (2, True, False), shown.err
    assert desk.registry.get("thread", "thread_2") is None


def test_refused_rows_that_cannot_be_written_stop_the_import_where_it_goes_on(desk: Desk) -> None:
    name = written(desk, "id,created_at\nthread_1,yesterday\nthread_2,\n")
    (desk.directory / "ids.csv.bad").symlink_to("nowhere/bad")
    asked = ("import", name, "--kind", "thread", "--policy", "chat")
    shown = desk.run(*asked)

    assert (shown.code, "Traceback" in shown.err) == (5, False), shown.err
    assert "done up to line 0; go on with --from-line 1" in shown.err
    assert "ids.csv.bad cannot be written" in shown.err
    assert desk.run(*asked, "--from-line", "1", "--bad", "other").code == 5
    assert desk.registry.get("thread", "thread_2") is not None


def test_a_policy_that_no_worker_knows_is_told(desk: Desk) -> None:
    name = written(desk, CSV)
    desk.worker(sweeps=0)
    typed = desk.good("import", name, "--kind", "thread", "--policy", "chatt")
    assert "lapse stored openai/thread/chatt as unmanaged: no worker knows it" in typed.err
    assert "did you mean openai/thread/chat?" in typed.err

    right = desk.good("import", name, "--kind", "thread", "--policy", "chat")
    assert "unmanaged" not in right.err


def test_rows_without_a_provider_are_told_which_option_names_one(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id\nthread_1\n")
    (desk.directory / "config" / "retention.toml").unlink()
    environ = {"LAPSE_REGISTRY__URL": desk.environ["REDIS_URL"]}
    desk.run("import", str(tmp_path / "ids.csv"), "--kind", "thread", "--policy", "chat", **environ)

    told = json.loads((tmp_path / "ids.csv.bad").read_text())
    assert told["why"] == "no provider: fill that column, give --provider, or set LAPSE_PROVIDER"


def test_what_the_registry_knows_stays_as_it_is(desk: Desk) -> None:
    then = float(round(time.time() - 3 * DAY))
    desk.registry.register("thread", "known", "other", created_at=then, last_active_at=then)
    desk.registry.register("thread", "forgotten", "chat")
    desk.registry.forget("thread", "forgotten")
    desk.raw.zadd(SLOT + "tombstones", {"gone": 1})
    desk.registry.hold("thread", "held", reason="case 7")
    named = ("known", "forgotten", "gone", "held", "new", "new")
    name = written(desk, "id,created_at\n" + "".join(f"{id_},2026-03-01\n" for id_ in named))
    shown = desk.good("import", name, "--kind", "thread", "--policy", "chat")

    assert "4 registered, 2 new, 0 refused" in shown.out
    assert "2 registered already, or on an earlier line: left as they are" in shown.err
    assert "1 left out: forgotten by the application" in shown.err
    assert "1 left out: deleted or gone" in shown.err
    known, held = desk.registry.get("thread", "known"), desk.registry.get("thread", "held")
    assert known is not None
    assert held is not None
    assert (known.policy, known.last_active_at.timestamp()) == ("other", then)  # type: ignore[union-attr]
    assert (held.state, held.created_at) == ("held", datetime(2026, 3, 1, tzinfo=UTC))
    assert desk.registry.get("thread", "forgotten") is None
    assert desk.registry.get("thread", "gone") is None
    assert not desk.raw.exists(SLOT + "said"), "an import is no use by the application"
    left_out = written(desk, "id\nforgotten\n")
    nothing = desk.run("import", left_out, "--kind", "thread", "--policy", "chat")
    assert (nothing.code, nothing.err.splitlines()[-1]) == (5, "lapse: ids.csv: no id is registered")


def test_what_is_stored_is_what_registering_stores(desk: Desk) -> None:
    said: list[dict[str, Any]] = [
        {"kind": "thread", "id": "plain", "policy": "chat", "created_at": LONG_AGO, "last_active_at": LONG_AGO},
        {"kind": "thread", "id": "used", "policy": "chat", "created_at": LONG_AGO, "last_active_at": LONG_AGO + 1},
        {"kind": "thread", "id": "told", "policy": "other", "created_at": LONG_AGO, "last_active_at": LONG_AGO,
         "subject": "user:42", "labels": {"plan": "frée/1", "app": "web"}},
        {"kind": "file", "id": "held", "policy": "files", "created_at": LONG_AGO, "last_active_at": LONG_AGO},
        {"kind": "file", "id": "held_and_used", "policy": "files", "created_at": LONG_AGO, "last_active_at": 1.77e9},
    ]  # fmt: skip

    def stored(load: Callable[[], object]) -> dict[str, Any]:
        desk.raw.flushall()
        for id_ in ("held", "held_and_used"):
            desk.registry.hold("file", id_, reason="case 7")
        load()
        # When these two were held is of each run its own.
        return {name: content(desk, name) for name in map(str, desk.raw.keys()) if not name.endswith(":last_said")}

    registered = stored(lambda: desk.registry.register_many(said))
    assert "lapse:{openai:file}:files:parked" in registered
    assert registered == stored(lambda: desk.good("import", "-", given="\n".join(map(json.dumps, said))))


def test_an_interrupted_import_goes_on_at_the_line_that_it_names(desk: Desk, wait_until: Callable[..., None]) -> None:
    name = written(desk, "id,created_at\n" + "".join(f"thread_{n:06d},2026-03-01\n" for n in range(MANY)))
    asked = ("import", name, "--kind", "thread", "--policy", "chat")
    with desk.start(*asked) as process:
        wait_until(lambda: int(desk.raw.zcard(SLOT + "chat:active")) > 1000, what="the first rows")
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    found = re.search(r"done up to line (\d+); go on with --from-line (\d+)", err)
    assert found, err
    done = int(found[1]) - 1
    assert 1000 <= done <= int(desk.raw.zcard(SLOT + "chat:active")) < MANY

    shown = desk.good(*asked, "--from-line", found[2], "--json").json

    assert shown["registered"] == MANY - done
    assert desk.raw.zcard(SLOT + "chat:active") == desk.raw.zcard(SLOT + "chat:created") == MANY


def content(desk: Desk, key: str) -> Any:
    """Return what a key holds, but for the moment at which something was held or put aside."""
    raw: Any = desk.raw
    match raw.type(key):
        case "set":
            return raw.smembers(key)
        case "zset":
            scored = raw.zrange(key, 0, -1, withscores=True)
            return [id_ for id_, _score in scored] if key.endswith(":parked") else scored
        case "hash":
            return {field: untimed(json.loads(value)) for field, value in raw.hgetall(key).items()}
        case other:
            return other


def untimed(value: Any) -> Any:
    """Return a record or a hold without the moment that it begins with."""
    if not isinstance(value, dict):
        return value
    return {part: said for part, said in value.items() if part not in {"d", "since"}}


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


def test_what_is_imported_is_found_by_its_subject_and_held_with_it(desk: Desk) -> None:
    desk.registry.hold_subject("user:9", reason="case 7")
    desk.registry.register("thread", "thread_0", "chat")
    desk.registry.hold_subject("user:8", reason="so that the kind knows of both")
    (desk.directory / "ids.csv").write_text("id,subject\nthread_1,user:42\nthread_2,user:9\n")
    desk.good("import", "ids.csv", "--kind", "thread", "--policy", "chat")

    held = {one: desk.registry.resources(subject=one).records[0] for one in ("user:42", "user:9")}
    assert ("thread_1", "thread_2") == tuple(one.resource.id for one in held.values())
    assert ["tracked", "held"] == [one.state for one in held.values()]
