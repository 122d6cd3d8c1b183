"""Which keys a call declares, by its script's text and what its client knows of the slot."""

import hashlib
import json

import pytest
import redis

from lapse.registry import keys, scripts
from lapse.registry.pools.declared import ALWAYS, Declaring, names
from lapse.registry.pools.unpacking import key_of, unpacked
from lapse.registry.scripts import Call, Script, packed
from support.lua import SCRIPTS, named

PREFIX = "lapse:{openai:thread}:"


def called(name: str, *args: str | float, prefix: str = PREFIX) -> bytes:
    return Call(named(name), prefix, ("openai", "thread", *args), str).command()


def declared(command: bytes) -> list[str]:
    parts, _ = unpacked(command)
    return [part.decode() for part in parts[3 : 3 + int(parts[2])]]


def again(what: str, *found: str) -> redis.ResponseError:
    return redis.ResponseError(f"LAPSE-AGAIN {what} {json.dumps(found)} script: abc, on @user_script:3.")


def test_a_call_declares_keys_of_the_slot_and_of_the_policies_it_names() -> None:
    found = declared(Declaring().command(called("register", "t1", "chat", "", "t2", "import", "")))

    assert [PREFIX + name for name in ALWAYS] == found[:2]
    assert {f"{PREFIX}chat:rules", f"{PREFIX}import:fresh", f"{PREFIX}facts"} <= set(found)
    assert PREFIX not in found
    assert len(set(found)) == len(found)


def test_what_a_slot_says_that_it_has_is_declared_from_then_on() -> None:
    declaring, command = Declaring(), called("forget", "t1")

    assert declaring.learned(command, again("policies", "chat", "idle"))
    assert declaring.learned(command, again("requests", "0a0a"))

    assert {f"{PREFIX}chat:fresh", f"{PREFIX}idle:fresh", f"{PREFIX}withdrawn:0a0a"} <= set(
        declared(declaring.command(command))
    )
    other = called("forget", "t1", prefix="lapse:{openai:file}:")
    assert "lapse:{openai:file}:chat:fresh" not in declared(declaring.command(other))


@pytest.mark.parametrize("reply", ["ok", redis.ResponseError("LAPSE-USES"), redis.ConnectionError("gone"), None])
def test_other_replies_teach_nothing(reply: object) -> None:
    assert not Declaring().learned(called("get", "t1"), reply)


@pytest.mark.parametrize("name", [name for name, path in SCRIPTS.items() if path.startswith("registry/")])
def test_an_application_declares_nothing_that_its_user_may_not_touch(name: str) -> None:
    found = names(named(name))

    assert found is None or not keys.WORKERS_ALONE & {*found.slot, *found.policy}


def test_arguments_go_on_behind_the_keys_as_they_were() -> None:
    said = json.dumps({"name": "n1", "policy": "chat"})
    command = called("claim", said)

    made, _ = unpacked(Declaring().command(command))

    assert [b"openai", b"thread", said.encode()] == made[3 + int(made[2]) :]
    assert f"{PREFIX}claim:n1" in declared(Declaring().command(command))
    assert f"{PREFIX}chat:claims" in declared(Declaring().command(command))


def test_a_name_that_is_left_out_is_no_key() -> None:
    found = declared(Declaring().command(called("claim_purged", json.dumps({"name": "n1"}))))

    assert not [key for key in found if key.endswith(":") or "::" in key]


def test_a_key_may_be_named_outright() -> None:
    found = declared(Declaring().command(called("count_ranges", "chat", "[]")))

    assert {f"{PREFIX}chat:{name}" for name in ("fresh", "active", "created", "explicit", "capped")} <= set(found)


def test_policies_may_be_a_list() -> None:
    said = ("chat", "d1", "host-1", "{}", '["old","older"]', "", 5)

    found = declared(Declaring().command(called("adopt", *said)))

    assert {f"{PREFIX}{name}:used:host-1" for name in ("chat", "old", "older")} <= set(found)


def test_a_script_of_one_key_declares_that_one() -> None:
    call = Call(named("take"), "lapse:{openai}:flow", (1, 2, 3, 0), str)

    assert call.command() == Declaring().command(call.command())
    made, _ = unpacked(Declaring().command(call.command(), text=True))
    assert [b"EVAL", call.script.text.encode(), b"1", b"lapse:{openai}:flow"] == made[:4]


def test_other_commands_stay_as_they_are() -> None:
    for command in (packed("HGET", "lapse:epoch", "id"), packed("EVALSHA", "0" * 40, 1, "a"), packed("TIME")):
        assert command == Declaring().command(command)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("HGET", "a", "b"), b"a"),
        (("EVALSHA", "0" * 40, 1, "b", "c"), b"b"),
        (("EVAL", "return\r\n{x}", 1, "ä", "c"), "ä".encode()),
        (("EVAL", "return 1", 0), None),
        (("TIME",), None),
        (("SCRIPT", "LOAD", "return 1"), None),
        (("EXISTS", "a", "b"), b"a"),
    ],
)
def test_where_a_command_has_its_key(command: tuple[str, ...], key: bytes | None) -> None:
    assert key == key_of(packed(*command))


def test_a_script_is_found_by_its_digest() -> None:
    made = scripts.script(SCRIPTS["touch"])

    assert made is scripts.of_digest(hashlib.sha1(made.text.encode(), usedforsecurity=False).hexdigest().encode())
    assert scripts.of_digest(b"another") is None
    assert Script("a", "return 1", "b").application
