"""``lapse docs`` finds what a reader of an output, an alert or a log may ask for, and says so where it does not."""

import os
import re
from pathlib import Path

import pytest
import yaml

from docs.written import audit_events, log_events
from lapse.cli.inspect.manual import manual, plain
from lapse.cli.main import SECTIONS
from lapse.ledger.reasons import HaltReason
from lapse.metrics.catalog import TABLE
from lapse.policy.schema import Policy
from support.commandline import ENFORCED, Desk

ROOT = Path(__file__).parents[2]
COMMANDS = [name for section in SECTIONS.values() for name in section]
ALERTS = [
    rule["alert"]
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
STATES = [
    "observing",
    "enforcing",
    "limited",
    "paused",
    "halted",
    "unmanaged",
    "overdue",
    "waiting",
    "claimed",
    "held",
    "registered",
    "tracked",
    "parked",
    "kept",
    "quarantined",
    "referenced",
    "partition",
    "witness",
    "breaker",
    "wake-up",
    "ramp",
    "pace",
    "canary",
    "already_gone",
    "orphan",
    "stamp",
    "epoch",
    "outbox",
]


def test_without_a_word_it_lists_every_page(desk: Desk) -> None:
    shown = desk.good("docs").out

    assert [] == [page.name for page in manual().pages if f"- `{page.name}`: {page.title}" not in shown]
    assert "- `start`: Start: the first confirmed deletion" in shown


def test_no_two_pages_have_one_name() -> None:
    book = manual()

    assert len(book.pages) == len(book.by_name)


@pytest.mark.parametrize(
    "words",
    [
        [one.name for one in TABLE],
        [*log_events()],
        [*audit_events()],
        [*map(str, HaltReason)],
        [*Policy.model_fields],
        STATES,
    ],
    ids=["metrics", "log events", "audit records", "guards", "policy keys", "words of an output"],
)
def test_a_word_is_explained(words: list[str]) -> None:
    known = manual().words

    assert [] == [word for word in words if plain(word) not in known]


def test_each_command_and_each_alert_is_found(desk: Desk) -> None:
    commands = desk.good("docs", *COMMANDS).out
    alerts = desk.good("docs", *ALERTS).out

    assert [] == [name for name in COMMANDS if f"# lapse {name}\n" not in commands]
    assert [] == [name for name in ALERTS if f"# {name}\n" not in alerts]


def test_the_glossary_goes_first_and_each_says_where_it_stands(desk: Desk) -> None:
    shown = desk.good("docs", "already_gone").out

    assert shown.startswith("## `already gone`\n\nNot found, with proof (*Absence, and its proof*).")
    assert "*Glossary: `lapse docs glossary`*" in shown


def test_a_page_is_readable_without_the_site(desk: Desk) -> None:
    """Nothing that only Sphinx or a test of the pages reads is in any."""
    book = manual()
    for page in book.pages:
        text = book.readable(page)
        fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
        assert [] == [info for info in fences if info.startswith("{") or " " in info], page.path
        assert "[](" not in text, page.path
        assert "<!--" not in text, page.path
    assert "python -m pydoc lapse" in desk.good("docs", "python").out


def test_an_unknown_word_names_the_closest_and_ends_with_2(desk: Desk) -> None:
    near = desk.run("docs", "quarantin")
    nothing = desk.run("docs", "xyzzyxyzzy")

    assert (2, "") == (near.code, near.out)
    assert "know no 'quarantin': did you mean quarantine" in near.err
    assert (2, "lapse: the documents know no 'xyzzyxyzzy': `lapse docs` lists the pages\n") == (
        nothing.code,
        nothing.err,
    )


def test_a_terminal_has_it_in_the_pager(desk: Desk) -> None:
    shown = desk.terminal("docs", "overdue", PAGER="sed s/^/through-the-pager:/")

    assert "through-the-pager:How long the oldest due id has been due." in re.sub(r"\x1b\[[0-9;]*m", "", shown.out)


def test_web_opens_the_page_and_says_where_it_is(desk: Desk, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    given = {"LAPSE_DOCS_URL": "https://docs.example/lapse/", "BROWSER": f"{browser} %s"}

    shown = [
        desk.good("docs", "--web", *word, **given).out for word in ((), ("parked",), ("LapseHalted",), ("status",))
    ]

    base = "https://docs.example/lapse"
    pages = ["docs/index", "docs/concepts/glossary", "deploy/runbooks/LapseHalted", "docs/reference/command-line"]
    assert [f"{base}/{page}.html\n" for page in pages] == shown
    assert "".join(shown) == opened.read_text()


def test_web_without_an_address_names_the_variable(desk: Desk) -> None:
    assert "LAPSE_DOCS_URL" not in os.environ
    shown = desk.run("docs", "--web", "parked")

    assert (2, "") == (shown.code, shown.out)
    assert "LAPSE_DOCS_URL is not set" in shown.err


def test_status_and_explain_name_their_words_on_a_terminal_alone(desk: Desk) -> None:
    (first, *_) = desk.seed(2)

    shown = desk.terminal("status").out
    assert "lapse docs observing overdue: what the words mean" in shown
    assert "lapse docs tracked ttl observe: what the words mean" in desk.terminal("explain", "thread", first).out
    assert "lapse docs" not in desk.good("status").out + desk.good("explain", "thread", first).out

    desk.configure(ENFORCED)
    desk.sandbox.faults([{"effect": "sunset"}])
    desk.worker()
    assert "lapse docs enforcing halted endpoint_missing overdue" in desk.terminal("status").out
