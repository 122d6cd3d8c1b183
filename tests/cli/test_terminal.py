"""What a person sees: tables, colour and questions on a terminal, and none of them anywhere else."""

import json
import re

import pytest

from support.commandline import CHAT, ENFORCED, Desk

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in CONTROL.sub("", text).splitlines()]


def test_a_pipe_gets_no_colour_and_no_header(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    for command in (("status",), ("ls", "threads"), ("plan",), ("explain", "thread", id_), ("check-config",)):
        shown = desk.good(*command)
        assert not COLOUR.search(shown.out + shown.err)
    assert desk.good("ls", "threads").out.startswith(id_)


def test_a_terminal_gets_a_table_in_colour(desk: Desk) -> None:
    desk.seed(3)
    shown = desk.terminal("status").out
    assert COLOUR.search(shown)
    header, conversations, threads, *_ = plain(shown)
    assert ["policy", "state", "registered", "due"] == header.split()[:4]
    assert ["openai/conversation/chat", "observing", "0", "0"] == conversations.split()[:4]
    assert ["openai/thread/chat", "observing", "3", "3"] == threads.split()[:4]


def test_no_color_is_honoured(desk: Desk) -> None:
    desk.seed(3)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", desk.terminal("status", NO_COLOR="1").out)


@pytest.mark.parametrize("width", [40, 60, 70, 100, 160])
def test_a_table_fits_the_terminal(desk: Desk, width: int) -> None:
    """Columns go before ids are cut: an id is to be copied."""
    (id_,) = desk.seed(1)
    shown = plain(desk.terminal("ls", "threads", width=width).out)
    assert all(len(line) <= width for line in shown)
    assert any(line.startswith(id_) for line in shown) or width < len(id_) + 20
    for line in plain(desk.terminal("status", width=width).out):
        assert len(line) <= width or " " not in line.strip()


def test_a_wide_terminal_shows_what_a_narrow_one_leaves_out(desk: Desk) -> None:
    desk.seed(1)
    (narrow, *_), (wide, *_) = (plain(desk.terminal("ls", "threads", width=width).out) for width in (70, 160))
    assert "created" not in narrow
    assert "created" in wide


@pytest.mark.parametrize("command", [("status",), ("ls", "threads"), ("quarantine", "list"), ("erase", "list")])
def test_what_is_left_out_is_named_and_wide_shows_it(desk: Desk, command: tuple[str, ...]) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 400}])
    desk.worker()
    desk.good("erase", "--subject", "user:42", "--request-id", "0190a5c2-7d0e-7b1c-9f2a-3c5d8e7f6a10", "--no-wait")

    narrow, wide = (plain(desk.terminal(*command, *option, width=50).out) for option in ((), ("--wide",)))

    assert all(len(line) <= 50 or " " not in line.strip() or line.startswith(" ") for line in narrow)
    said = (
        " ".join(" ".join(narrow).split()).partition("Left out at this width: ")[2].partition(". --wide shows all.")[0]
    )
    left = said.split(", ") if said else []
    assert left
    assert [] == [title for title in left if title in narrow[0] or title not in wide[0]], (narrow, wide)
    assert max(map(len, wide)) > 50
    assert "Left out" not in " ".join(wide)


def test_nothing_is_left_out_of_a_pipe_and_nothing_is_said(desk: Desk) -> None:
    desk.seed(1)
    plainly, wide = (desk.good("ls", "threads", *option, COLUMNS="50") for option in ((), ("--wide",)))
    assert 7 == len(plainly.lines[0].split("\t"))
    assert (plainly.out, "") == (wide.out, wide.err)


def test_a_sweep_asks_a_person_to_type_the_providers_name(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(3)
    refused = desk.terminal("sweep", "threads", typed="yes")
    assert 8 == refused.code
    assert "Type openai to delete up to 3 objects there" in " ".join(plain(refused.out))
    assert 3 == len(desk.sandbox.alive("thread"))
    done = desk.terminal("sweep", "threads", typed="openai")
    assert 0 == done.code
    assert "openai/thread/chat: completed: 3 deleted" in plain(done.out)
    assert set() == desk.sandbox.alive("thread")


def test_what_answers_a_halt_is_wrapped_between_words(desk: Desk) -> None:
    desk.configure(ENFORCED)
    halt = {"since": 1, "detail": "the detail", "plan": "3f2a91c0d4e5"}
    desk.raw.hset("lapse:{openai:thread}:halts", "chat|cutoff_jumped", json.dumps(halt))
    shown = plain(desk.terminal("status", width=80).out)
    assert [] == [line for line in shown if len(line) > 80 and not line.startswith("  lapse ")]
    assert "  lapse approve 3f2a91c0d4e5 --confirm=PROVIDER" in shown
    assert "    the halt ends by itself, whichever worker reads it first." in shown


def test_json_on_a_terminal_is_indented_and_without_colour(desk: Desk) -> None:
    shown = desk.terminal("status", "--json").out
    assert not COLOUR.search(shown)
    assert '\n  "partitions": [' in shown


def test_an_empty_list_says_so_to_a_person(desk: Desk) -> None:
    assert ["No threads at openai."] == plain(desk.terminal("ls", "threads").out)
    assert ["Nothing is in quarantine."] == plain(desk.terminal("quarantine", "list").out)


def test_ls_tells_a_person_how_far_away_things_are(desk: Desk) -> None:
    desk.configure(CHAT.replace("7d", "400d"))
    desk.seed(1, days=1)
    _header, row = plain(desk.terminal("ls", "threads").out)
    assert "in 39" in row
    assert "1d" in row
