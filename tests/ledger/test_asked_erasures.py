"""What applications ask to have erased is taken up as fast as the policy file says; what is no request is dropped."""

import json
import uuid
from typing import Any

import pytest

from lapse.ledger.erasure.request import ErasureRequest, State
from lapse.ledger.erasure.requests import every, take_up
from lapse.policy.tables import ErasureSection, Pace
from support.erasing import Erasing
from support.world import World

S = "user:42"
ASKED = "lapse:asked_erasures"
NOW = 1_800_000_000_000
DAY = 86_400_000
TWO_A_DAY = ErasureSection(by_application=True, rate=Pace(2, 86400.0))


def ask(world: World, *, id_: str = "", **said: Any) -> str:
    id_ = id_ or str(uuid.uuid4())
    world.raw.hset(ASKED, id_, json.dumps({"subject": S, "at": NOW, "received": NOW, "actor": "app", **said}))
    return id_


async def taken(world: World, now: int = NOW) -> dict[str, ErasureRequest]:
    ledger = world.context().ledger
    await take_up(ledger, TWO_A_DAY, now)
    return {one.id: one for one in await every(ledger)}


async def test_so_many_in_each_window_whatever_time_they_say(world: World) -> None:
    ids = [ask(world, at=NOW - n * 10 * DAY) for n in range(5)]

    assert set(ids[3:]) == set(await taken(world))
    assert set(ids[3:]) == set(await taken(world, NOW + DAY))
    assert set(ids[1:]) == set(await taken(world, NOW + DAY + 1))
    assert [ids[0]] == list(world.raw.hkeys(ASKED))


async def test_one_that_stands_already_waits_for_no_room(world: World) -> None:
    first, second = ask(world), ask(world)
    await taken(world)
    ask(world, id_=first)
    third = ask(world)

    assert {first, second} == set(await taken(world))
    assert [third] == list(world.raw.hkeys(ASKED))


async def test_what_is_not_its_to_say_is_not_taken_from_it(world: World) -> None:
    id_ = ask(world, at=NOW + DAY, received=NOW + DAY, until=NOW * 2, due=NOW * 2, state="complete", providers=["x"])

    request = (await taken(world))[id_]

    assert (request.at, request.until, request.received, request.due) == (NOW, NOW + DAY, NOW, NOW + 30 * DAY)
    assert (request.state, request.providers, request.by_application) == (State.OPEN, (), True)


NO_REQUESTS: dict[str, tuple[str, bytes]] = {
    "a UUID in another form": (str(uuid.uuid4()).upper(), b'{"subject":"user:42","at":1,"received":1,"actor":"app"}'),
    "no UUID": ("42", b'{"subject":"user:42","at":1,"received":1,"actor":"app"}'),
    **{
        what: (str(uuid.UUID(int=n + 1)), stored)
        for n, (what, stored) in enumerate(
            {
                "no JSON": b"{",
                "no object": b"7",
                "a list": b"[]",
                "a thousand lists": b"[" * 100_000,
                "nobody's": b'{"at":1,"received":1,"actor":"app"}',
                "everybody's": b'{"subject":["a","b"],"at":1,"received":1,"actor":"app"}',
                "at no time": b'{"subject":"user:42","at":NaN,"received":1,"actor":"app"}',
                "at the end of time": b'{"subject":"user:42","at":Infinity,"received":1,"actor":"app"}',
                "a line break": b'{"subject":"user:42","at":1,"received":1,"actor":"app","reason":"a\\nb"}',
                "by nobody": b'{"subject":"user:42","at":1,"received":1}',
                "an unknown state": b'{"subject":"user:42","at":1,"received":1,"actor":"app","state":"x"}',
            }.items()
        )
    },
}


async def test_what_is_no_request_is_dropped_and_the_next_is_taken_up(world: World) -> None:
    for id_, stored in NO_REQUESTS.values():
        world.raw.hset(ASKED, id_, stored)
    good = ask(world)

    assert [good] == list(await taken(world))
    assert not world.raw.exists(ASKED)


async def test_one_whose_id_is_another_subjects_by_now_is_dropped(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    request = await Erasing(world).ask("user:7")
    ask(world, id_=request.id)

    assert "user:7" == (await taken(world))[request.id].subject
    assert not world.raw.exists(ASKED)
    assert "belongs to another subject" in capsys.readouterr().out
