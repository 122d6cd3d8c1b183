"""Applications and workers are updated at different times: each version with the other one's keys.

``older/*.lua`` is what clients and workers sent before an application's marks, acts and moves had keys of their own.
"""

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lapse.audit.shipper import Mover
from lapse.registry import keys
from support.world import DAY, World

if TYPE_CHECKING:
    from collections.abc import Callable

OLDER = Path(__file__).parent / "older"


def assembled(name: str, parts: dict[str, str]) -> dict[str, str]:
    """Return a script's parts in the order of need."""
    text = (OLDER / f"{name}.lua").read_text(encoding="utf-8")
    for included in re.findall(r"(?m)^-- @include (\w+)$", text):
        if f"{included}.inc" not in parts:
            assembled(f"{included}.inc", parts)
    parts[name] = text
    return parts


def older(world: World, name: str, *args: object, kind: str = "thread") -> Any:
    """Run a script as the version before sent it."""
    text = "\n".join(assembled(name, {}).values())
    return world.raw.eval(text, 1, world.slot(kind), "openai", kind, *map(str, args))


def millis(days: float) -> int:
    return round((time.time() - days * DAY) * 1000)


def registered(world: World, count: int) -> list[str]:
    """Return ids that an application registered with the version before, and nothing else is in the registry."""
    ids = world.seed(count)
    world.raw.delete(*world.raw.keys(f"{world.slot()}*"))
    for id_ in ids:
        older(world, "register", id_, "chat", json.dumps(dict.fromkeys(("created", "active"), millis(30))))
    return ids


class Lines:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, lines: bytes) -> None:
        self.text += lines

    def written(self, chain: str) -> dict[int, bytes]:  # noqa: ARG002 - it is asked by nobody again
        return {}


async def test_what_an_older_client_says_counts(world: World) -> None:
    _due, held, touched = registered(world, 3)
    older(world, "hold", held, json.dumps({"reason": "case 7", "actor": "a@b", "since": 1}), "")
    older(world, "touch", touched)
    world.registry.touch("thread", touched)

    report = await world.sweep(anchor="last_active_at")

    assert {"deleted": 1} == dict(report.outcomes)
    assert {held, touched} == world.sandbox.alive("thread")
    assert {} == world.halts()


async def test_its_first_touch_and_its_first_use_are_no_reason_to_halt(world: World) -> None:
    (id_,) = registered(world, 1)
    older(world, "touch", id_)
    older(world, "refer", f"openai|thread|{id_}", "asst_1", kind="assistant")
    context = world.context()
    await context.ledger.adopt(world.rule)

    assert (await context.ledger.survey(world.rule)).touched
    assert world.raw.hexists(f"{world.slot('assistant')}{keys.MARKS}", "edges")


async def test_what_it_forgot_stays_forgotten_and_goes_to_the_audit(world: World) -> None:
    (id_,) = registered(world, 1)
    older(world, "forget", id_)
    world.registry.hold("thread", id_, reason="said by the version of now")
    await world.sweep()
    sink = Lines()
    await Mover(world.carrier, "lapse", sink).move("openai", "thread", at_most=100)

    assert {id_} == world.sandbox.alive("thread")
    assert ["forget", "rules", "hold"] == [json.loads(line)["event"] for line in sink.text.splitlines()]
    assert [0, 0] == [world.raw.xlen(f"{world.slot()}{name}") for name in (keys.AUDIT, keys.ACTS)]
    world.registry.forget("thread", id_)  # for whoever counts what was registered


@pytest.mark.parametrize("say", ["hold", "touch", "forget", "expire", "register", "nothing"])
async def test_an_older_worker_deletes_what_is_due_and_keeps_what_a_client_of_now_said(world: World, say: str) -> None:
    """Its claim comes first: it is too late for this attempt, and not for the next one."""
    (id_,) = world.seed(1)
    published = json.dumps({"mode": "enforce", "ttl": 7 * DAY * 1000, "anchor": "last_active_at"})
    assert "adopted" == older(world, "adopt", "chat", "digest000000", "host", published, "[]", "", 3_600_000)
    claim = ("chat", "digest000000", 10, 60_000, 0, -1, 0, -1, "w", 1000, "", "", "")
    status, _now, token, _parked, claimed, due, _by, _attempts, _unknown = older(world, "claim", *claim)
    assert ("ok", id_) == (status, claimed)
    calls: dict[str, Callable[[], str]] = {
        "hold": lambda: world.registry.hold("thread", id_, reason="case 7"),
        "touch": lambda: world.registry.touch("thread", id_),
        "forget": lambda: world.registry.forget("thread", id_),
        "expire": lambda: world.registry.expire("thread", id_, time.time() + DAY),
        "register": lambda: world.registry.register("thread", id_, "chat").governed_by,
        "nothing": lambda: "too_late",
    }
    assert calls[say]() in {"too_late", "claimed"}

    outcome = {
        "id": id_, "token": token, "policy": "chat", "due": due, "act": "retry", "outcome": "error", "delay": 0,
        "counted": True, "unknown": False, "detail": "500", "left": {}, "extra": 0, "items": 0,
    }  # fmt: skip
    batch = {"batch": "b", "identity": "i", "worker": "w", "attempts": 3, "listable": False, "counters": {}}
    reply = older(world, "settle", json.dumps({**batch, "settled": [outcome]}))

    assert 2 == len(reply)  # it was not refused
    again = older(world, "claim", *claim)[4:5]
    assert ([id_] if say == "nothing" else []) == again
    record = world.registry.get("thread", id_)
    assert (record is None) == (say == "forget")
    assert say != "hold" or (record and record.state == "held")
