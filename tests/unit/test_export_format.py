"""The file of an export: what is written is read again, and what was cut, changed or made up is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapse.cli.exit_codes import Refused
from lapse.cli.transfer.format import BEGINS, Chunk, Header, checked, chunk_of, written
from lapse.registry import keys

HEADER = Header("0123456789abcdef", "lapse", "fedcba987654", (("openai", "thread"),), 1_800_000_000_000, "redis-b")
CHUNKS = (
    Chunk("{openai:thread}:chat:fresh", "zset", (("thread_1", 5), ("thread_\udcff", 1.5))),
    Chunk("{openai:thread}:facts", "hash", (("thread_1", '{"subject":"\u00fc\n"}'),), ttl=1000),
    Chunk("{openai:thread}:audit", "stream", (), last="1-1"),
    Chunk("{openai:thread}:erased:0e8a3ad6-5a0e-4d6f-8d5e-00c2f3f0a9b1", "hash", (("thread_2", "{}"),)),
    Chunk("{openai}:flow", "hash", (("tokens", "3"),)),
    Chunk("slots", "set", ("openai/thread",)),
)
texts = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def lines(*chunks: Chunk) -> list[bytes]:
    return [line for line, _counts in written(HEADER, chunks)]


def plain(value: Any) -> Any:
    """Return lists for tuples, as JSON has them."""
    return json.loads(json.dumps(value))


@given(st.lists(st.tuples(texts, texts), max_size=4))
def test_what_is_written_is_read_again(members: list[tuple[str, str]]) -> None:
    chunks = (*CHUNKS, Chunk("{openai:thread}:said", "hash", tuple(members)))
    made = lines(*chunks)

    header, counts = checked(made)

    assert made[0].startswith(BEGINS)
    assert header == HEADER
    assert (counts.lines, counts.keys, counts.members) == (8, 7, 6 + len(members))
    read = [chunk_of(line, number) for number, line in enumerate(made[1:-1], 2)]
    assert [(one.key, one.type, plain(one.members), one.ttl, one.last) for one in read] == [
        (one.key, one.type, plain(one.members), one.ttl, one.last) for one in chunks
    ]


def test_the_parts_of_a_name() -> None:
    assert [(one.slot, one.index) for one in CHUNKS] == [
        ("{openai:thread}:", "fresh"),
        ("{openai:thread}:", "facts"),
        ("{openai:thread}:", "audit"),
        ("{openai:thread}:", "0e8a3ad6-5a0e-4d6f-8d5e-00c2f3f0a9b1"),
        ("{openai}:", "flow"),
        ("", "slots"),
    ]
    assert CHUNKS[0].ids == ("thread_1", "thread_\udcff")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda made: made[:-1], "the last line is missing"),
        (lambda made: [*made[:-1], made[-1][:-1]], "the last line is missing"),
        (lambda made: [made[0]], "the last line is missing"),
        (lambda _made: [], "the last line is missing"),
        (lambda made: [made[0], made[2], made[1], *made[3:]], "was changed, or damaged"),
        (lambda made: [made[0], *made[2:]], "was changed, or damaged"),
        (
            lambda made: [made[0].replace(b'"version":1', b'"version":2'), *made[1:]],
            "of version 2, and this lapse reads 1",
        ),
        (lambda made: [made[0].replace(b'"slots"', b'"slits"'), *made[1:]], "line 1 is no header"),
        (lambda made: [made[0], b"[]\n", *made[1:]], "line 2 is no JSON object"),
        (lambda made: [made[0], b"{\n", *made[1:]], "line 2 is no JSON object"),
        (lambda made: [made[0], b'{"key":"slots"}\n', *made[1:]], "line 2 is no part of an export"),
    ],
    ids=[
        "without its last line", "within its last line", "only a header", "empty", "in another order", "a line less",
        "another version", "a strange header", "an array", "no JSON", "half a chunk",
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused(spoil: Callable[[list[bytes]], list[bytes]], says: str) -> None:
    with pytest.raises(Refused, match=says):
        checked(spoil(lines(*CHUNKS)))


@pytest.mark.parametrize(
    "key",
    [
        "broker", "workers", "{openai:thread}:mover", "{openai:thread}:chat:used", "{openai:thread}:chat:aside",
        "{openai:thread}:fresh", "{openai}:slots", "flow", "{openai:thread}:epoch", "{a b:thread}:facts", "fresh",
        "a:b", "{openai:thread}:erased:x", "{openai:thread}:facts:0e8a3ad6-5a0e-4d6f-8d5e-00c2f3f0a9b1",
        "{openai:thread}:chat:erased", "erasing",
    ],
)  # fmt: skip
def test_a_key_that_no_export_has_is_refused(key: str) -> None:
    with pytest.raises(Refused, match="no export has a key"):
        chunk_of(json.dumps({"key": key, "type": "hash", "members": []}).encode(), 2)


def test_every_key_has_a_decision() -> None:
    wide = {
        "flow", "epoch", "published", "slots", "stamped", "nonces", "held_subjects", "erasures", "asked_erasures",
        "erasing", "control", "workers",
    }  # fmt: skip
    known = {*keys.PARTITION_KEYS, *keys.SLOT_KEYS, *wide}

    assert keys.CARRIED | keys.LEFT_OUT.keys() == known, "say in registry/keys.py whether an export carries it"
    assert not keys.CARRIED & keys.LEFT_OUT.keys()
    assert keys.LEFT_OUT_FIELDS.keys() <= keys.CARRIED
