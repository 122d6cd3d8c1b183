"""docs/stored-format.md: the table names every key, makes the shipped users, and says what an application may do."""

import re
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from lapse import Registry
from lapse.registry import keys
from lapse.sandbox.redis_server import EmbeddedRedis
from support import acl

TOOL = runpy.run_path(str(acl.REDIS / "acl.py"))
ROWS = tuple(TOOL["rows"]())
"""Patterns of keys, their types, and what an application's user may do with them."""
READS = {
    "zset": ("ZSCORE", "a"),
    "hash": ("HGET", "a"),
    "set": ("SMEMBERS",),
    "stream": ("EXISTS",),
    "string": ("EXISTS",),
}
WRITES = {
    "zset": ("ZADD", "1", "a"),
    "hash": ("HSET", "a", "1"),
    "set": ("SADD", "a"),
    "stream": ("XADD", "*", "e", "{}"),
    "string": ("HSET", "a", "1"),
}


def key(pattern: str) -> str:
    """Return a key that a pattern of the table stands for."""
    return (
        pattern.replace("lapse:{*:*}:*:", "lapse:{openai:thread}:chat:")
        .replace("{*:*}", "{openai:thread}")
        .replace("*", "x")
    )


def answer(client: Any, name: str, command: tuple[str, ...]) -> str:
    """Return whether a command on a key is allowed or refused."""
    try:
        client.execute_command(command[0], name, *command[1:])
    except redis.exceptions.NoPermissionError:
        return "refused"
    except redis.exceptions.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
    return "allowed"


@pytest.fixture(scope="module", params=[acl.SHIPPED, acl.SHIPPED_62], ids=["current", "6.2"])
def application(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, bool]]:
    """Return the application's user of each shipped file as a plain client, and whether it may read alone."""
    options = acl.options(tmp_path_factory.mktemp("acl"), request.param)
    with (
        EmbeddedRedis(*options) as server,
        redis.Redis.from_url(acl.as_user(server.url, acl.APPLICATION), decode_responses=True) as client,
    ):
        yield client, request.param == acl.SHIPPED


@pytest.mark.parametrize(("pattern", "type_", "right"), ROWS, ids=[row[0] for row in ROWS])
def test_an_application_may_do_with_each_key_what_the_table_says(
    application: tuple[Any, bool], pattern: str, type_: str, right: str
) -> None:
    client, reading_alone = application
    expected = {"-": ("refused", "refused"), "r": ("allowed", "refused"), "rw": ("allowed", "allowed")}[right]
    if right == "r" and not reading_alone:
        expected = ("allowed", "allowed")

    assert expected == (answer(client, key(pattern), READS[type_]), answer(client, key(pattern), WRITES[type_]))


def test_the_table_names_every_key() -> None:
    named = {row[0].rsplit(":", 1)[1] if not row[0].endswith(":*") else row[0].split(":")[-2] for row in ROWS}
    spaced = {
        function("lapse").removeprefix("lapse:")
        for function in (
            keys.epoch,
            keys.nonces,
            keys.stamped,
            keys.slots,
            keys.held_subjects,
            keys.erasures,
            keys.asked_erasures,
            keys.erasing,
            keys.control,
            keys.published,
            keys.workers,
        )
    }

    assert {*keys.PARTITION_KEYS, *keys.SLOT_KEYS, *spaced, "flow"} == named


def test_every_key_of_the_table_is_carried_by_an_export_or_left_out_as_the_document_says() -> None:
    document = (acl.REDIS.parents[1] / "docs" / "stored-format.md").read_text(encoding="utf-8")
    section = document.partition("## An export\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"(?m)^\| `(\w+)[:`]", section))
    table = {row[0].rsplit(":", 1)[1] if not row[0].endswith(":*") else row[0].split(":")[-2] for row in ROWS}

    assert told == keys.LEFT_OUT.keys()
    assert table == keys.CARRIED | keys.LEFT_OUT.keys()


def test_the_shipped_files_are_made_from_the_table() -> None:
    made = TOOL["current"](acl.SHIPPED.read_text(encoding="utf-8"))

    assert made == acl.SHIPPED.read_text(encoding="utf-8")
    assert TOOL["older"](made) == acl.SHIPPED_62.read_text(encoding="utf-8")
    assert TOOL["clustered"](made) == acl.SHIPPED_CLUSTER.read_text(encoding="utf-8")


def test_what_an_application_may_not_touch_is_what_no_script_of_one_declares() -> None:
    """On a cluster its user would be refused the whole call."""
    told = {
        row[0].rsplit(":", 1)[1] if not row[0].endswith(":*") else row[0].split(":")[-2]
        for row in ROWS
        if row[2] == "-"
    }

    assert keys.WORKERS_ALONE == told & {*keys.PARTITION_KEYS, *keys.SLOT_KEYS}


def test_the_older_file_lets_an_application_say_all_it_has_to_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = acl.options(tmp_path_factory.mktemp("acl"), acl.SHIPPED_62)
    with (
        EmbeddedRedis(*options) as server,
        Registry(acl.as_user(server.url, acl.APPLICATION), provider="openai", timeout=5) as registry,
    ):
        assert registry.register("thread", "t1", "chat", uses=[("assistant", "a1")]).new
        for call in (registry.touch, registry.expire, registry.unhold, registry.forget):
            assert registry.hold("thread", "t1", reason="a test") == "ok"
            call("thread", "t1")
