"""lapse audit verify: what workers wrote, from the claim to the verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from lapse.sandbox.redis_server import free_port
from support.commandline import ENFORCED, HEAD, Desk

KEYED = HEAD.replace("[audit]", '[audit]\nkey_file = "{directory}/audit.key"')


@pytest.fixture
def file(desk: Desk) -> Path:
    """Return what a worker with a key wrote about ten deletions."""
    key(desk)
    desk.configure(ENFORCED, head=KEYED)
    desk.seed(10)
    desk.worker()
    return desk.directory / "audit.jsonl"


def key(desk: Desk, name: str = "audit.key", text: bytes = b"k" * 32) -> None:
    (desk.directory / name).write_bytes(text)
    (desk.directory / name).chmod(0o600)


def ends(desk: Desk) -> list[str]:
    return [chain["end"] for chain in desk.good("audit", "verify", "audit.jsonl", "--json").json["chains"]]


def test_what_workers_wrote_verifies_with_the_key_of_the_policy_file(desk: Desk, file: Path) -> None:
    shown = desk.good("audit", "verify", str(file))

    assert "all as they were written" in shown.err
    epoch: Any = desk.raw.hget("lapse:epoch", "id")
    (thread,) = (line for line in shown.lines if line.startswith("openai/thread: "))
    assert "openai/thread: lines 1 to 21, " in thread  # the rules, and two for each id
    assert f"registry {epoch}, key " in thread
    assert [f"  --expect {end}" for end in ends(desk)] == [line for line in shown.lines if "--expect" in line]
    assert b"k" * 32 not in (shown.out + shown.err).encode() + file.read_bytes()


def test_it_needs_neither_redis_nor_a_policy_file(desk: Desk, file: Path) -> None:
    desk.config.unlink()
    away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}

    assert "is sealed with key" in desk.run("audit", "verify", str(file), **away).out
    desk.good("audit", "verify", str(file), "--key-file", "audit.key", **away)


def test_one_flipped_byte_is_5_and_named(desk: Desk, file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b'"event":"', b'"event":"x')
    file.write_bytes(b"".join(lines))

    told = desk.run("audit", "verify", "audit.jsonl")
    assert (5, 1) == (told.code, len([line for line in told.lines if line.startswith("audit.jsonl:")]))
    assert "audit.jsonl:8: was altered: line " in told.out
    found = desk.run("audit", "verify", "audit.jsonl", "--json")
    assert 5 == found.code
    (wrong,) = found.json["wrong"]
    assert (False, "audit.jsonl", 8) == (found.json["ok"], wrong["file"], wrong["line"])


def test_of_many_faults_the_first_are_told_and_the_others_counted(desk: Desk, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"event":"', b'"event":"x'))

    told = desk.run("audit", "verify", "audit.jsonl").lines

    assert 10 == len([line for line in told if line.startswith("audit.jsonl:")])
    assert "and 12 more" == told[-1]


def test_an_end_that_was_kept_shows_what_was_cut_off(desk: Desk, file: Path) -> None:
    kept = [word for end in ends(desk) for word in ("--expect", end)]
    desk.seed(1)
    desk.worker()
    desk.good("audit", "verify", "audit.jsonl", *kept)

    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-6]))
    desk.good("audit", "verify", "audit.jsonl")
    cut = desk.run("audit", "verify", "audit.jsonl", *kept)
    assert 5 == cut.code
    assert "the end: lines " in cut.out
    assert "its end was cut off" in cut.out


def test_rotated_files_and_a_changed_key_are_one_story(desk: Desk, file: Path) -> None:
    file.rename(desk.directory / "audit.jsonl.1")
    key(desk, "new.key", b"n" * 40)
    desk.configure(ENFORCED, head=KEYED, key_file=f'"{desk.directory}/new.key"')
    desk.seed(3)
    desk.worker()

    both = ("--key-file", "audit.key", "--key-file", "new.key")
    shown = desk.good("audit", "verify", "audit.jsonl", "audit.jsonl.1", *both, "--json").json
    (thread,) = (one for one in shown["chains"] if one["kind"] == "thread" and one["after"])
    assert thread["after"] in [one["end"] for one in shown["chains"]]
    assert 5 == desk.run("audit", "verify", "audit.jsonl", "audit.jsonl.1").code


def test_without_a_key_it_is_said_that_there_is_none(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.worker()

    assert all(line.endswith("no key") for line in desk.good("audit", "verify", "audit.jsonl").lines[::2])
    key(desk)
    told = desk.run("audit", "verify", "audit.jsonl", "--key-file", "audit.key")
    assert (5, True) == (told.code, "anybody could have made it" in told.out)


def test_what_cannot_be_verified_is_2_with_what_to_do(desk: Desk, file: Path) -> None:
    for arguments, said in (
        (("none.jsonl",), "none.jsonl"),
        ((), "FILE"),
        ((str(file), "--expect", "x"), "copy it from"),
        ((str(file), "--key-file", "none"), "openssl rand"),
    ):
        told = desk.run("audit", "verify", *arguments)
        assert (2, True) == (told.code, said in told.err), told
    (desk.directory / "bad.gz").write_bytes(b"x")
    assert 2 == desk.run("audit", "verify", "bad.gz").code


def test_records_wait_while_the_key_cannot_be_used_and_are_sealed_afterwards(desk: Desk, file: Path) -> None:
    before = file.read_bytes()
    (desk.directory / "audit.key").chmod(0o644)
    desk.seed(2)
    desk.worker()
    assert before == file.read_bytes()
    assert 4 == len(desk.audit())

    (desk.directory / "audit.key").chmod(0o600)
    desk.worker()
    assert [] == desk.audit()
    assert 25 == json.loads(file.read_bytes().splitlines()[-1])["n"]
    desk.good("audit", "verify", "audit.jsonl")


def test_what_no_chain_vouches_for_is_5_and_other_output_is_named(desk: Desk, file: Path) -> None:
    file.write_bytes(b'a word\n{"event":"settled","seq":"1-0","id":"forged"}\n' + file.read_bytes())

    told = desk.run("audit", "verify", "audit.jsonl")
    assert 5 == told.code
    assert "audit.jsonl:2: belongs to no chain" in told.out
    assert "1 line of other output, the first at audit.jsonl:1" in told.err
    found = desk.run("audit", "verify", "audit.jsonl", "--json").json
    assert (1, 1, "audit.jsonl:1") == (found["unsealed"], found["other"], found["first_other"])


def test_an_export_reads_each_line_one_way_and_says_what_it_leaves_out(desk: Desk, file: Path) -> None:
    count = len(desk.good("audit", "export").lines)
    file.write_bytes(b'{"seq":"1-0","id":"a","id":"b"}\n\xff\n[1]\n{"seq":7,"at":"x"}\n' + file.read_bytes())
    texts: list[str | bytes] = ["{", "[1]", '{"id":"a","id":"b"}', b"\xff\x1b"]
    for text in texts:
        desk.raw.xadd("lapse:{openai:thread}:audit", {"e": text})

    shown = desk.good("audit", "export")

    assert count + 5 == len(shown.records)
    assert texts[:3] == [record["garbled"] for record in shown.records if "garbled" in record][:3]
    for number in (1, 2, 3):
        assert f"audit.jsonl:{number}: " in shown.err
