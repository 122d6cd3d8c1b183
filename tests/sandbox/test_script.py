"""Fault scripts: what a rule matches, how often, and what is said of a wrong one."""

from pathlib import Path
from typing import Any

import pytest

from lapse.errors import ConfigError
from lapse.sandbox import Sandbox, faults
from sandbox.asking import Asker


async def statuses(ask: Asker, count: int, path: str = "/v1/threads/thread_x", method: str = "DELETE") -> list[int]:
    return [(await ask(method, path)).status for _ in range(count)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, [500] * 8),
        ({"first": 3}, [500] * 3 + [404] * 5),
        ({"after": 5}, [404] * 5 + [500] * 3),
        ({"after": 2, "first": 2}, [404] * 2 + [500] * 2 + [404] * 4),
        ({"every": 3}, [404, 404, 500, 404, 404, 500, 404, 404]),
        ({"every": 2, "first": 2}, [404, 500, 404, 500, 404, 404, 404, 404]),
        ({"after": 1, "every": 3}, [404, 404, 404, 500, 404, 404, 500, 404]),
    ],
)
async def test_counts_say_which_requests(
    ask: Asker, sandbox: Sandbox, counts: dict[str, int], expected: list[int]
) -> None:
    sandbox.faults([{"effect": "error", "status": 500, **counts}])

    assert await statuses(ask, 8) == expected


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({"method": "DELETE"}, True),
        ({"method": ["GET", "POST"]}, False),
        ({"kind": "thread"}, True),
        ({"kind": ["assistant", "conversation"]}, False),
        ({"path": "/v1/threads/*"}, True),
        ({"path": "/v1/*_x"}, True),
        ({"path": "/v1/threads"}, False),
        ({"ids": ["thread_x", "thread_y"]}, True),
        ({"ids": ["thread_y"]}, False),
        ({"page": 1}, False),
        ({"method": "DELETE", "kind": "thread", "ids": ["thread_x"]}, True),
        ({"method": "DELETE", "kind": "thread", "ids": ["thread_y"]}, False),
    ],
)
async def test_all_that_a_rule_names_has_to_match(
    ask: Asker, sandbox: Sandbox, match: dict[str, Any], *, hit: bool
) -> None:
    sandbox.faults([{"effect": "error", "status": 500, **match}])

    assert await statuses(ask, 1) == [500 if hit else 404]


async def test_a_rule_counts_only_what_it_matches(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.faults([{"method": "DELETE", "ids": ["thread_y"], "effect": "error", "status": 500, "first": 1}])

    assert await statuses(ask, 3) == [404] * 3
    assert await statuses(ask, 2, "/v1/threads/thread_y") == [500, 404]


async def test_the_first_rule_with_an_effect_decides(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.faults(
        [
            {"latency": "1ms"},
            {"effect": "error", "status": 503, "first": 1},
            {"effect": "error", "status": 500, "first": 1},
        ]
    )

    assert await statuses(ask, 3) == [503, 500, 404]


async def test_an_items_rule_may_name_its_conversation(ask: Asker, sandbox: Sandbox) -> None:
    [id_] = sandbox.seed("conversation", items=1)
    [item] = sandbox.alive("conversation_item")
    sandbox.faults([{"kind": "conversation_item", "ids": [id_], "effect": "error", "status": 500}])

    assert (await ask("DELETE", f"/v1/conversations/{id_}/items/{item}")).status == 500
    assert (await ask("DELETE", f"/v1/conversations/{id_}")).status == 200


async def test_probability_repeats_itself(ask: Asker, sandbox: Sandbox) -> None:
    rules = [{"effect": "error", "status": 500, "probability": 0.3}]
    sandbox.faults(rules, seed=4)
    first = await statuses(ask, 200)
    sandbox.faults(rules, seed=4)
    second = await statuses(ask, 200)
    sandbox.faults(rules, seed=5)
    third = await statuses(ask, 200)

    assert first == second
    assert first != third
    assert 30 < first.count(500) < 90


def test_a_script_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(
        """
        seed = 7

        [[rule]]
        name = "busy"
        method = ["DELETE", "GET"]
        kind = "thread"
        effect = "error"
        status = 429
        headers = { Retry-After = "2" }
        latency = "20ms"
        every = 10

        [[rule]]
        effect = "hang"
        execute = true
        ids = ["thread_a"]
        """
    )

    busy, hang = faults.load(path).rules

    assert (busy.name, busy.method, busy.kind, busy.status) == ("busy", ("DELETE", "GET"), ("thread",), 429)
    assert (busy.headers, busy.latency, busy.every) == ({"Retry-After": "2"}, 0.02, 10)
    assert (hang.effect, hang.execute, hang.ids) == ("hang", True, frozenset({"thread_a"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rule = 3", "write each rule as a [[rule]] table"),
        ("rules = []", "unknown key 'rules'"),
        ('seed = "x"', "seed: 'x' is not a whole number"),
        ("seed = true", "seed: True is not a whole number"),
        ("[[rule]", "Expected ']]'"),
        ("[[rule]]", "rule 1: does nothing: give it an effect"),
        ('[[rule]]\nlatency = "1ms"\n[[rule]]\nname = "x"', "rule 2: does nothing"),
        ('[[rule]]\neffect = "hang"\nstauts = 1', "rule 1: unknown key 'stauts': did you mean 'status'?"),
        ('[[rule]]\neffect = "hang"\nqqqqqq = 1', "rule 1: unknown key 'qqqqqq': a rule has after, body"),
        ('[[rule]]\neffect = "hnag"', "rule 1: effect: 'hnag' is not one of error, hang"),
        ('[[rule]]\neffect = "hnag"', "did you mean 'hang'?"),
        ('[[rule]]\neffect = "error"', "status: an error needs one"),
        ('[[rule]]\neffect = "error"\nstatus = 99', "status: 99 is not a whole number from 200 to 599"),
        ('[[rule]]\neffect = "error"\nstatus = true', "status: True is not a whole number"),
        ('[[rule]]\neffect = "error"\nstatus = 500\nbody = "xml"', "body: 'xml' is not one of json, html, empty"),
        ('[[rule]]\neffect = "error"\nstatus = 500\nbody = "html"\ntext = "x"', "body, text: give one of them"),
        ('[[rule]]\neffect = "error"\nstatus = 500\nmessage = "m"\ntext = "x"', "text, message: give one of them"),
        ('[[rule]]\neffect = "hang"\nstatus = 500', 'status: only effect = "error" has it'),
        ('[[rule]]\neffect = "hang"\nbody = "html"', 'body: only effect = "error" and "sunset" have it'),
        ('[[rule]]\neffect = "sunset"\nexecute = true', "execute: effect = 'sunset' says by itself what is done"),
        ('[[rule]]\nlatency = "1ms"\nexecute = true', "execute: effect = '' says by itself what is done"),
        ('[[rule]]\neffect = "hang"\nexecute = 1', "execute: 1 is neither true nor false"),
        ("[[rule]]\nlatency = 20", "latency: 20 has no unit"),
        ('[[rule]]\neffect = "hang"\nmethod = "delete"', "method: 'delete' is not one of GET"),
        ('[[rule]]\neffect = "hang"\nkind = ["thread", "robot"]', "kind: 'robot' is not one of thread"),
        ('[[rule]]\neffect = "hang"\nids = "thread_a"', "ids: 'thread_a' is not a list of ids"),
        ('[[rule]]\neffect = "hang"\nids = []', "ids: [] is not a list of ids"),
        ('[[rule]]\neffect = "hang"\nids = [1]', "ids: 1 is not a text"),
        ('[[rule]]\neffect = "hang"\nprobability = 0', "probability: 0 is not a share"),
        ('[[rule]]\neffect = "hang"\nprobability = 1.5', "probability: 1.5 is not a share"),
        ('[[rule]]\neffect = "hang"\nfirst = 0', "first: 0 is not a whole number from 1"),
        ('[[rule]]\neffect = "hang"\npath = 3', "path: 3 is not a text"),
        ('[[rule]]\neffect = "html"\nheaders = "x"', "headers: 'x' is not a table"),
        ('[[rule]]\neffect = "html"\nheaders = { Retry-After = 2 }', "headers: 2 is not a text"),
        ('[[rule]]\neffect = "html"\nheaders = { "a b" = "2" }', "a b: '2' is not a header"),
        ('[[rule]]\neffect = "html"\nheaders = { X = "a\\nb" }', "is not a header that HTTP can carry"),
    ],
)
def test_a_wrong_script_says_where_and_why(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        faults.parse(text, "faults.toml")

    assert str(caught.value).startswith("faults.toml: ")
    assert says in str(caught.value)


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        faults.load(tmp_path / "none.toml")


async def test_a_wrong_rule_leaves_those_before_in_force(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.faults([{"effect": "error", "status": 500}])
    with pytest.raises(ConfigError):
        sandbox.faults([{"effect": "nothing"}])
    assert await statuses(ask, 1) == [500]

    sandbox.faults('[[rule]]\neffect = "error"\nstatus = 418')
    assert await statuses(ask, 1) == [418]

    sandbox.faults()
    assert await statuses(ask, 1) == [404]


def test_every_effect_is_explained() -> None:
    assert all(faults.EFFECTS.values())
    assert faults.EFFECTS.keys() > faults.EXECUTABLE
