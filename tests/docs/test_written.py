"""The reference has a row for each log event and each audit record that lapse writes, and for no other."""

import re
import uuid

from docs.blocks import DOCS
from docs.written import AT, audit_events, log_events
from support.commandline import ENFORCED, Desk

EVERY_RECORD = {"seq", "at", "event", "provider", "kind", "policy", "id", "chain", "n", "mac", "after"}


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells behind the first of each row that begins with a name in code."""
    lines = (DOCS / "reference" / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    return {first.strip("`"): others for first, *others in cells if "," not in first}


def fields(cell: str) -> set[str]:
    named = set(re.findall(r"`(\w+)`", cell))
    return named | set(AT) if re.search(r"\bat\b", re.sub(r"`\w+`", "", cell)) else named


def test_every_log_event_has_its_row_and_every_row_its_event() -> None:
    assert sorted(log_events()) == sorted(rows("log-events.md"))


def test_a_row_says_the_levels_and_the_fields_that_an_event_has() -> None:
    table = rows("log-events.md")
    for name, event in log_events().items():
        level, named, _ = table[name]
        assert event.levels == set(level.split(", ")), name
        assert event.fields <= fields(named), name
        assert event.open or event.fields == fields(named), name


def test_the_events_of_the_log_stand_in_order() -> None:
    parts = (DOCS / "reference" / "log-events.md").read_text(encoding="utf-8").split("\n## ")
    for part in parts:
        named = re.findall(r"^\| `([a-z_.]+)` ", part, re.MULTILINE)
        assert sorted(named) == named


def test_every_audit_record_has_its_row_and_every_row_its_record() -> None:
    table = rows("audit-records.md")
    common = {"seq", "at", "event", "id"}
    assert sorted(audit_events()) == sorted(table.keys() - common)


def test_a_record_has_no_field_but_those_of_its_row(desk: Desk) -> None:
    """Of a day with a deletion, holds, quarantine and its answers, a pause, and an erasure."""
    table = rows("audit-records.md")
    settled = fields(table["settled"][0])
    _a_day(desk)

    told = desk.good("audit", "export").records

    for record in told:
        cell = table[record["event"]][0]
        assert record.keys() - EVERY_RECORD <= (settled if cell == "as `settled`" else fields(cell)), record
    assert {"intent", "settled", "hold", "unhold", "quarantined", "requeued", "dropped", "paused", "unpaused"} <= {
        record["event"] for record in told
    }
    assert {"forget", "hold_subject", "unhold_subject", "erasure_requested", "rules"} <= {one["event"] for one in told}


def _a_day(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1, days=1)
    first, second, *_ = sorted(desk.seed(6))
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 404, "ids": [first, second]}])
    desk.worker()
    desk.sandbox.faults()
    desk.good("quarantine", "retry", "threads", first)
    desk.good("quarantine", "drop", "threads", second, "--confirm=openai")
    desk.registry.register("thread", "thread_held", "chat", subject="user:1")
    desk.registry.hold("thread", "thread_held", reason="a case")
    desk.registry.unhold("thread", "thread_held")
    desk.registry.forget("thread", "thread_held")
    desk.registry.hold_subject("user:1", reason="a case")
    desk.worker()
    desk.registry.unhold_subject("user:1")
    desk.good("pause", "openai/threads", "--reason", "a complaint")
    desk.good("resume", "openai/threads")
    desk.good("erase", "--subject", "user:1", "--request-id", str(uuid.uuid4()), "--no-wait", "--confirm=openai")
    desk.erases()
