"""Every command with --json has a schema of what it prints, and prints that: in each test, and here once."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cli import test_examples as examples
from cli.test_json import WITHOUT, printing
from lapse.cli.main import lapse
from support.commandline import Desk
from support.printed import COMMANDS, SCHEMA, validator

OPEN = {"explain.answer", "receipt verify.receipt", "spool status.refused"}
"""What is as others wrote it: an audit record, a receipt, a call of an application's."""


def prints(example: str, command: str) -> bool:
    """Return True for an example of this command that goes on to its end, and writes no file in place of its answer."""
    words = shlex.split(example)[1:]
    mine = " ".join(words[: len(command.split())]) == command and " ".join(words[:2]) not in {*COMMANDS, *WITHOUT} - {
        command
    }
    return (
        mine and not examples.serves(example) and not {"-o", "--live"} & set(words) and examples.ASKS.get(example) != 8
    )


SHOWN = {
    command: example for command in COMMANDS for example in reversed(examples.EXAMPLES) if prints(example, command)
}
"""Command -> its first example that prints its answer."""


def of_user(desk: Desk) -> None:
    desk.registry.register("thread", "thread_42", "chat", subject="user:42")


BEFORE = {"quarantine list": examples.quarantine, "ls": of_user, "explain": of_user}
"""What there has to be for these to print something."""


def objects(schema: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, list):
        for one in schema:
            yield from objects(one, at)
    elif isinstance(schema, dict):
        if schema.get("type") == "object" or "properties" in schema:
            yield at, schema
        for name, one in schema.items():
            named = schema is not SCHEMA and name not in {"anyOf", "oneOf", "allOf", "items", "properties"}
            yield from objects(one, f"{at}.{name}".strip(".") if named or at == "" else at)


def test_every_command_with_json_has_a_schema_and_no_other() -> None:
    found = {name for name, one in printing(lapse) if any("--json" in option.opts for option in one.params)}

    assert sorted(found) == sorted(COMMANDS)


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for command in COMMANDS:
        Draft202012Validator.check_schema(validator(command).schema)


def test_what_has_a_shape_is_closed() -> None:
    wide = [at for at, one in objects(SCHEMA, "") if one.get("additionalProperties", True) is True]

    assert len(OPEN) == len(wide), wide


def test_a_member_more_or_less_is_found() -> None:
    good = {"path": "a.toml", "schema": "a.schema.json"}
    assert validator("init").is_valid(good)
    assert not validator("init").is_valid({**good, "more": 1})
    assert not validator("init").is_valid({"path": "a.toml"})


def test_each_has_an_example() -> None:
    assert sorted(COMMANDS) == sorted(SHOWN)


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_prints_what_its_schema_says(desk: Desk, command: str) -> None:
    """``desk.run`` holds it to that."""
    example = SHOWN[command]
    examples.furnish(desk)
    if example in examples.FIRST:
        examples.FIRST[example](desk)
    if command in BEFORE:
        BEFORE[command](desk)

    shown = desk.run(*shlex.split(example)[1:], *([] if "--json" in example else ["--json"]))

    assert examples.ASKS.get(example, 0) == shown.code, shown
    assert shown.out, shown
