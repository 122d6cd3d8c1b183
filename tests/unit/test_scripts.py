"""Each Lua file is one commented step that something uses."""

import hashlib
import re
from pathlib import Path

import pytest

from lapse.registry.scripts import PACKAGE, Call, Script, packed, script
from support.lua import PARTS, SCRIPTS, named, source

PYTHON = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
INCLUDE = re.compile(r"^-- @include ([\w/]+)$", re.MULTILINE)


def header(name: str) -> str:
    """Return the comment that a file begins with."""
    lines = source(name).splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(line for line in lines[:end] if not line.startswith("-- @include"))


def test_there_are_scripts() -> None:
    """The tests below go over what the package holds, by names that each stand for one file."""
    assert len(SCRIPTS) > 10
    assert "slot" in PARTS
    assert len(SCRIPTS | PARTS) == len(list(PACKAGE.rglob("*.lua")))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_used(name: str) -> None:
    assert f'"{SCRIPTS[name]}"' in PYTHON or (SCRIPTS[name] == f"registry/lua/{name}" and f'"{name}"' in PYTHON)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_included(name: str) -> None:
    users = [user for user in SCRIPTS | PARTS if PARTS[name] in INCLUDE.findall(source(user))]

    assert users


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_does_what_it_takes_and_what_it_returns(name: str) -> None:
    said = header(name)

    assert re.match(r"-- [A-Z][^\n]{20,}", said)
    assert re.search(r"^-- Returns |\. Returns ", said, re.MULTILINE)
    used = {int(number) for number in re.findall(r"\bARGV\[(\d+)\]", source(name).replace(said, ""))}
    assert used <= documented(said) | {1, 2}


def documented(said: str) -> set[int]:
    """Return the arguments that a header names: ``[4]``, ``[4...]``, ``[8]..[12]``."""
    found = {int(number) for number in re.findall(r"\[(\d+)(?:\.\.\.)?\]", said)}
    for first, last in re.findall(r"\[(\d+)\]\.\.\[(\d+)\]", said):
        found |= set(range(int(first), int(last) + 1))
    return found


@pytest.mark.parametrize("name", PARTS)
def test_a_part_says_what_it_is(name: str) -> None:
    assert re.match(r"-- [A-Z][^\n]{20,}", header(name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_holds_each_of_its_parts_once_before_it(name: str) -> None:
    text = named(name).text
    places = [text.index(source(Path(part).name)) for part in INCLUDE.findall(source(name))]

    assert text.endswith(source(name))
    assert all(place < len(text) - len(source(name)) for place in places)
    for part in PARTS:
        assert text.count(source(part)) <= 1


@pytest.mark.parametrize("name", [*SCRIPTS, *PARTS])
def test_an_include_exists(name: str) -> None:
    assert set(INCLUDE.findall(source(name))) <= set(PARTS.values())


def test_a_part_comes_after_the_parts_it_needs() -> None:
    text = named("claim").text
    order = ["slot", "record", "due", "candidates", "budget", "edges", "lease"]
    places = {name: text.index(source(name)) for name in order}

    assert places["slot"] < places["record"] < places["due"] < places["candidates"] < text.index(source("claim"))
    assert places["record"] < places["edges"] < places["lease"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_never_reads_another_clock(name: str) -> None:
    """Times are Redis TIME, so that no two hosts disagree."""
    assert not re.search(r"\bos\.(time|clock|date)\b", named(name).text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_scans_no_keyspace(name: str) -> None:
    assert not re.search(r"call\('(KEYS|SCAN|FLUSHALL|FLUSHDB|RANDOMKEY)'", named(name).text)


def test_a_script_is_known_by_the_digest_of_its_text() -> None:
    touch = script("registry/lua/touch")

    assert ("touch", hashlib.sha1(touch.text.encode(), usedforsecurity=False).hexdigest()) == (touch.name, touch.sha)
    assert touch is script("registry/lua/touch")


def test_a_name_without_a_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(Path("ledger") / "lua" / "no_such.lua"))):
        script("ledger/lua/no_such")


def unpacked(command: bytes) -> list[bytes]:
    """Read an array of bulk strings by its own lengths."""
    head, rest = command.split(b"\r\n", 1)
    found = []
    for _ in range(int(head[1:])):
        size, rest = rest.split(b"\r\n", 1)
        found.append(rest[: int(size[1:])])
        assert rest[int(size[1:]) :].startswith(b"\r\n")
        rest = rest[int(size[1:]) + 2 :]
    assert b"" == rest
    return found


@pytest.mark.parametrize("text", ["", "a", "a b", "ä", "\u2028 ü", "x" * 5000])
def test_text_is_packed_by_its_bytes(text: str) -> None:
    assert [b"PING", text.encode()] == unpacked(packed("PING", text))


def test_a_call_is_run_by_digest_on_one_key_and_loads_its_text() -> None:
    call = Call(Script("name", "return 1", "abc"), "lapse:{a:b}:", ("a", "b", 3, 0.5), int)

    assert [b"EVALSHA", b"abc", b"1", b"lapse:{a:b}:", b"a", b"b", b"3", b"0.5"] == unpacked(call.command())
    assert [b"SCRIPT", b"LOAD", b"return 1"] == unpacked(call.load())
    assert 5 == call.parse("5")
