"""--json: every command that prints has it, and those that change something say what; the schemas hold every member."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lapse import Registry
from lapse.cli.main import lapse
from lapse.registry.spool import statements
from lapse.registry.spool.statements import Origin
from lapse.registry.spool.store import SpoolStore
from lapse.sandbox.redis_server import free_port
from support.commandline import ENFORCED, Desk, Result

JUMPING = ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n"
STRANGE = [{"method": "DELETE", "effect": "error", "status": 404, "message": "Thread is unknown to this server"}]
WITHOUT = {
    "demo": "tells a story, and ends",
    "docs": "shows pages",
    "metrics": "serves",
    "sandbox": "serves",
    "schema": "prints JSON",
    "export": "prints JSON lines: the registry",
    "audit export": "prints JSON lines: the records",
    "receipt issue": "prints JSON: the receipt",
}


def printing(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that prints: a group prints only where it runs without a command of it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield before + name, command
        if isinstance(command, click.Group):
            yield from printing(command, f"{before}{name} ")


def test_every_command_that_prints_has_json_but_those_named_here() -> None:
    found = dict(printing(lapse))
    plain = {name for name, command in found.items() if not any("--json" in one.opts for one in command.params)}
    assert set(WITHOUT) == plain
    assert {"status", "quarantine retry", "erase", "erase list"} <= set(found)


def test_init_says_where_it_wrote(desk: Desk) -> None:
    shown = desk.good("init", "--config", "new.toml", "--json").json
    assert {"path": "new.toml", "schema": "new.schema.json"} == shown


def test_pause_and_what_takes_it_back(desk: Desk) -> None:
    everything = desk.good("pause", "--json").json
    one = desk.good("pause", "openai/threads", "--reason", "a complaint", "--json").json
    assert {"scope": "*", "reason": "no reason given", "resume": "lapse resume"} == everything
    assert {"scope": "openai/thread", "reason": "a complaint", "resume": "lapse resume openai/thread"} == one

    shown = desk.good("resume", "openai/threads", "--json").json
    assert [{"scope": "openai/thread", "ended": "pause", "why": "a complaint"}] == shown["resumed"]
    assert ({"*": "lapse resume"}, []) == (shown["paused"], shown["halted"])


def test_resume_names_the_halts_that_it_ended_and_those_that_stay(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(2)
    desk.sandbox.faults([{"effect": "sunset"}])
    desk.worker()

    shown = desk.good("resume", "--json").json
    assert [] == shown["resumed"]
    (halt,) = shown["halted"]
    assert ("openai/thread", "endpoint_missing", None) == (halt["scope"], halt["reason"], halt["plan"])
    assert "To check:" == halt["answers"][0]

    shown = desk.good("resume", "--reason", "base_url mended", "--json").json
    assert [{"scope": "openai/thread", "ended": "halt", "reason": "endpoint_missing"}] == shown["resumed"]
    assert [] == shown["halted"]


def test_resume_of_a_provider_says_how_long_it_would_have_waited(desk: Desk) -> None:
    seconds, _ = desk.raw.time()
    desk.raw.hset("lapse:{openai}:flow", "blocked_until", (seconds + 7200) * 1000)
    (ended,) = desk.good("resume", "--provider", "openai", "--json").json["resumed"]
    assert ("openai", "retry_after") == (ended["scope"], ended["ended"])
    assert 7100 < ended["seconds"] <= 7201
    assert [] == desk.good("resume", "--provider", "openai", "--json").json["resumed"]


def test_a_resume_that_fails_halfway_says_what_it_had_ended(desk: Desk) -> None:
    desk.configure(ENFORCED)
    for since, (kind, reason) in enumerate((("conversation", "endpoint_missing"), ("thread", "no_witness"))):
        stored = {"detail": "for a test", "since": since + 1}
        desk.raw.hset(f"lapse:{{openai:{kind}}}:halts", f"chat|{reason}", json.dumps(stored))
    del desk.environ["OPENAI_API_KEY"]  # the answer to no_witness holds for one key

    shown = desk.run("resume", "--reason", "mended", "--confirm=openai", "--json")

    assert 2 == shown.code
    assert "OPENAI_API_KEY is not set here" in shown.err
    assert ["openai/conversation/chat"] == [one["scope"] for one in shown.json["resumed"]]
    assert ["openai/thread/chat"] == [one["scope"] for one in shown.json["halted"]]


def test_approve_says_what_it_gave_up(desk: Desk) -> None:
    desk.configure(JUMPING)
    desk.seed(3)
    desk.worker()
    (halt,) = desk.halts().values()
    refused = desk.run("approve", halt["plan"], "--json")
    assert (8, "") == (refused.code, refused.out)

    shown = desk.good("approve", halt["plan"], "--confirm=openai", "--json").json

    assert (halt["plan"], "cutoff_jumped", 3) == (shown["plan"], shown["reason"], shown["ids"])
    assert ("openai", "thread", "chat", True) == tuple(
        shown[name] for name in ("provider", "kind", "policy", "enforcing")
    )


def quarantined(desk: Desk, count: int) -> list[str]:
    desk.configure(ENFORCED)
    ids = desk.seed(count)
    desk.sandbox.faults(STRANGE)
    desk.worker()
    return sorted(ids)


def test_retry_and_drop_name_what_they_changed_and_what_they_missed(desk: Desk) -> None:
    ids = quarantined(desk, 3)

    def done(verb: str, *given: str) -> Result:
        return desk.run("quarantine", verb, "threads", *given, "--json")

    retried = done("retry", ids[0], "thread_0")
    at = {"provider": "openai", "kind": "thread"}
    assert (5, {**at, "done": "retry", "ids": ids[:1], "missed": ["thread_0"]}) == (retried.code, retried.json)
    dropped = done("drop", "--all", "--confirm=openai")
    assert (0, {**at, "done": "drop", "ids": ids[1:], "missed": []}) == (
        dropped.code,
        {**dropped.json, "ids": sorted(dropped.json["ids"])},
    )


def test_undo_says_of_each_id_what_became_of_it(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1, days=1)
    ids = sorted(desk.seed(2))
    desk.sandbox.faults([{"effect": "wrong_project", "ids": ids}])
    desk.worker()
    desk.sandbox.faults()
    desk.registry.forget("thread", ids[1])

    shown = desk.run("quarantine", "undo", "threads", *ids, "thread_0", "--confirm=openai", "--json")

    assert (5, "undo", ids[:1], ["thread_0"]) == (shown.code, *(shown.json[name] for name in ("done", "ids", "missed")))
    assert {"tracked": ids[:1], "forgotten": ids[1:]} == {
        what: those for what, those in shown.json["outcomes"].items() if those
    }


def test_flush_counts(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.spool"
    with (
        Registry(f"redis://127.0.0.1:{free_port()}/0", provider="openai", on_error="spool", spool=path) as gone,
        SpoolStore(path) as store,
    ):
        commands = gone.protocol.commands
        store.append(
            statements.of(commands.register(commands.registration("thread", "t1", "chat")), Origin("lapse", 0), None)
        )
    shown = desk.good("spool", "flush", "--file", str(path), "--json").json
    assert {"sent": 1, "refused": 0, "old": 0} == shown


def test_an_error_is_no_json(desk: Desk) -> None:
    shown = desk.run("pause", "nobody", "--json")
    assert (2, "") == (shown.code, shown.out)
    with pytest.raises(json.JSONDecodeError):
        json.loads(shown.err)
