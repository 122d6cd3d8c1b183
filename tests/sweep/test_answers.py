"""Every answer, to one id, to a kind, to everything, in every operation: nothing is lost, and nobody else is stopped.

The cells are the product of the tables below, each a test of its own. What a row says of an answer is what it means for
the ids that were not told so for their own sake: nothing is deleted or believed gone, none is charged an attempt, and
somebody is told.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from cells.answers import FAULTS
from lapse.policy import Keep, Orphan
from lapse.registry.model import Partition
from lapse.sweep.report import Report
from support.documented import columns, rows, table
from support.world import World

IDS = 6
ROUNDS = 3
FLOW = "lapse:{openai}:flow"


@dataclass(frozen=True, slots=True)
class Said:
    """One answer.

    ``told`` is how an operator learns that everybody gets it: a breaker, of the kind or of the provider, a halt, or ""
    where it ends by itself. ``kept``: no id may go to quarantine for it.
    """

    name: str
    fault: dict[str, Any]
    told: str = "breaker"

    @property
    def kept(self) -> bool:
        return self.told != "halt"


HEADING = "Answers of a provider"
SCOPES = ("id", "kind", "everything")


def answer(name: str) -> Said:
    """Return an answer as the document has it."""
    word = table(HEADING)[name, "delete, kind"]
    return Said(name, FAULTS[name], "" if word == "passes" else word)


ANSWERS = [answer(name) for name in FAULTS]


@dataclass(frozen=True, slots=True)
class Operation:
    """Where a sweep meets the answer: requests of a method (and path) about a kind, swept under some rule."""

    name: str
    kind: str
    method: str
    path: str = ""
    keep: tuple[Keep, ...] = ()


OPERATIONS = (
    Operation("delete", "file", "DELETE"),
    Operation("read", "assistant", "GET", keep=(Keep("never-*", {}),)),
    Operation("list of items", "conversation", "GET", "*/items"),
    Operation("delete of items", "conversation", "DELETE", "*/items/*"),
)
OTHER = "vector_store"


class Cell:
    """One answer in one operation, swept again and again beside another kind."""

    def __init__(self, world: World, operation: Operation, said: Said) -> None:
        self.world = world
        self.operation = operation
        self.said = said
        given = {"items": 1} if operation.kind == "conversation" else {}
        self.ids = world.sandbox.seed(operation.kind, IDS, **given)
        for id_ in self.ids:
            world.registry.register(operation.kind, id_, "chat", created_at=1_600_000_000)
        self.others = 0
        self.patient = False
        """True if time passes before the other kind is swept, too."""
        world.settings = replace(world.settings, budget=1.5)  # a wait for Retry-After ends a sweep
        self.context = world.context()

    def break_(self, scope: str) -> None:
        """Let the server answer so: to one id, to the kind, or to everything."""
        rule = {"method": self.operation.method, **self.said.fault}
        if self.operation.path:
            rule["path"] = self.operation.path
        if scope == "id":
            rule["ids"] = [self.ids[2]]
        if scope == "kind" and not self.operation.path:
            rule["kind"] = self.operation.kind
        if scope == "everything":
            rule = {name: value for name, value in rule.items() if name not in {"method", "path", "kind"}}
        self.world.sandbox.faults([rule])

    async def sweep(self) -> Report:
        """Sweep the kind and then another, as if time had passed since the last time."""
        world, kind = self.world, self.operation.kind
        self.pass_time()
        partition = Partition("openai", kind, "chat")
        report = await world.sweep(partition=partition, keep=self.operation.keep, context=self.context)
        if self.patient:
            self.let_through()
        await self.sweep_another()
        return report

    async def sweep_another(self) -> None:
        world = self.world
        for id_ in world.sandbox.seed(OTHER, 1):
            world.registry.register(OTHER, id_, "chat", created_at=1_600_000_000)
        report = await world.sweep(partition=Partition("openai", OTHER, "chat"), keep=(), context=self.context)
        self.others += report.outcomes["deleted"]

    def pass_time(self) -> None:
        world, slot = self.world, self.world.slot(self.operation.kind)
        waiting = world.raw.zrange(f"{slot}chat:waiting", 0, -1)
        if waiting:
            now = int(world.raw.time()[0]) * 1000 - 1
            world.raw.zadd(f"{slot}chat:waiting", dict.fromkeys(waiting, now))
            for id_ in waiting:
                record = json.loads(world.raw.hget(f"{slot}aside", id_))
                world.raw.hset(f"{slot}aside", id_, json.dumps(record | {"d": now}))
        for name, text in world.raw.hgetall(f"{slot}marks").items():
            if name.startswith("answers|"):
                state = json.loads(text)
                aged = state | ({"s": state["s"] - 61_000} if "s" in state else {})
                world.raw.hset(f"{slot}marks", name, json.dumps(aged))
        if world.raw.hexists(FLOW, "errors_since"):
            world.raw.hincrby(FLOW, "errors_since", -6000)

    def let_through(self) -> None:
        """Ten seconds later, a breaker lets one request through."""
        for slot in (self.world.slot(self.operation.kind), self.world.slot(OTHER)):
            if self.world.raw.hexists(f"{slot}marks", "shut_until"):
                self.world.raw.hset(f"{slot}marks", "shut_until", 0)
        if self.world.raw.hexists(FLOW, "breaker_until"):
            self.world.raw.hset(FLOW, "breaker_until", 0)
        self.world.raw.hdel(FLOW, "blocked_until")

    def told(self) -> set[str]:
        """Return how an operator is told that not everything is well."""
        kind = self.operation.kind
        found = {"halt"} if self.world.halts(kind) else set[str]()
        shut = self.world.raw.hexists(f"{self.world.slot(kind)}marks", "shut_since")
        if shut or self.world.raw.hexists(FLOW, "breaker_since"):
            found.add("breaker")
        return found

    def left(self) -> set[str]:
        """Return what is alive at the provider."""
        return self.world.sandbox.alive(self.operation.kind) & set(self.ids)

    def quarantined(self) -> list[str]:
        return [id_ for id_ in self.ids if self.world.state(id_, self.operation.kind) == "quarantined"]

    def attempts(self) -> dict[str, int]:
        records = {id_: self.world.registry.get(self.operation.kind, id_) for id_ in self.ids}
        return {id_: record.attempts for id_, record in records.items() if record and record.attempts}

    def mend(self) -> None:
        self.world.sandbox.faults([])
        self.world.raw.delete(f"{self.world.slot(self.operation.kind)}halts")

    async def heal(self) -> None:
        """Mend the server, and sweep as time passes until nothing is left, or nothing more will go."""
        self.mend()
        for _ in range(2):
            self.let_through()
            await self.sweep()


def cells(*scopes: str) -> list[Any]:
    return [
        pytest.param(operation, said, scope, id=f"{operation.name}-{said.name}-{scope}")
        for operation in OPERATIONS
        for said in ANSWERS
        for scope in scopes
        if table(HEADING)[said.name, f"{operation.name}, {scope}"]
    ]


def test_the_document_has_every_answer_in_every_operation() -> None:
    asked = {f"{operation.name}, {scope}" for operation in OPERATIONS for scope in SCOPES}
    assert (asked, list(FAULTS)) == (set(columns(HEADING)), rows(HEADING))
    assert {"own", "breaker", "halt", "passes", ""} == set(table(HEADING).values())
    for one in ANSWERS:
        for operation in OPERATIONS:
            words = {table(HEADING)[one.name, f"{operation.name}, {scope}"] for scope in ("kind", "everything")}
            assert words in ({one.told or "passes"}, {""})


@pytest.mark.parametrize(("operation", "said", "scope"), cells("kind", "everything"))
async def test_what_all_of_a_kind_are_told_costs_no_id_anything(
    world: World, operation: Operation, said: Said, scope: str
) -> None:
    cell = Cell(world, operation, said)
    cell.break_(scope)
    sent = len(world.sandbox.requests())

    for _ in range(ROUNDS):
        await cell.sweep()

    assert set(cell.ids) == cell.left()
    assert all(world.state(id_, operation.kind) for id_ in cell.ids)
    assert {} == cell.attempts()
    assert not (said.kept and cell.quarantined())
    assert {said.told} - {""} <= cell.told()
    assert scope == "everything" or cell.others or said.name in {"401", "429 for 31 years"}
    about = [one for one in world.sandbox.requests()[sent:] if one["kind"] == operation.kind]
    assert len(about) <= ROUNDS * (IDS + 2)
    await cell.heal()
    assert set(cell.quarantined()) == cell.left()
    assert said.kept is False or set() == cell.left()
    assert said.told != "breaker" or "breaker" not in cell.told()


@pytest.mark.parametrize(("operation", "said", "scope"), cells("id"))
async def test_what_one_id_is_told_stops_nobody_else(
    world: World, operation: Operation, said: Said, scope: str
) -> None:
    cell = Cell(world, operation, said)
    cell.break_(scope)
    cell.patient = True

    for _ in range(3 * ROUNDS):
        cell.let_through()
        await cell.sweep()
        if {cell.ids[2]} == cell.left():
            break

    assert {cell.ids[2]} == cell.left()
    assert len(cell.attempts()) <= 1
    assert world.state(cell.ids[2], operation.kind) in {"tracked", "waiting", "quarantined"}
    assert cell.others
    assert "breaker" not in cell.told()
    cell.mend()
    for _ in range(2):
        cell.let_through()
        await cell.sweep()
    assert set(cell.quarantined()) == cell.left()


# --- whose refusal it is


FILES = Partition("openai", "file", "chat")


def refuse(world: World, ids: list[str], status: int = 403) -> None:
    world.sandbox.faults([{"method": "DELETE", "ids": ids, "effect": "error", "status": status}])


@pytest.mark.parametrize("refused", [1, 2])
async def test_a_refusal_is_an_ids_own_once_others_are_deleted_after_it(world: World, refused: int) -> None:
    cell = Cell(world, OPERATIONS[0], ANSWERS[2])
    mine = cell.ids[:refused]
    refuse(world, mine)
    await cell.sweep()
    assert (set(mine), {}) == (cell.left(), cell.attempts())

    seen = []
    for _ in range(ROUNDS + 2):
        world.seed(1, kind="file")
        await cell.sweep()
        seen.append(cell.attempts())

    assert [1, 2] == sorted({n for attempts in seen for n in attempts.values()})[:2]
    assert (sorted(mine), set()) == (sorted(cell.quarantined()), cell.told())


async def test_without_such_a_deletion_it_never_is(world: World) -> None:
    cell = Cell(world, OPERATIONS[0], ANSWERS[2])
    refuse(world, cell.ids[:2])
    await cell.sweep()
    for _ in range(3):
        await cell.sweep()

    await cell.sweep()

    assert [] == cell.quarantined()


async def test_what_a_read_finds_gone_does_not_show_that_a_key_may_delete(world: World) -> None:
    """A key that may only read: what is gone is recognised, and each living id is refused."""
    cell = Cell(world, OPERATIONS[1], ANSWERS[2])
    refuse(world, cell.ids)
    for round_ in range(ROUNDS):
        world.registry.register("assistant", f"asst_gone{round_}", "chat", created_at=1_500_000_000)
        cell.let_through()
        await cell.sweep()

    assert ({}, [], {"breaker"}) == (cell.attempts(), cell.quarantined(), cell.told())


async def test_three_refused_ids_open_the_breaker_and_one_good_answer_closes_it(world: World) -> None:
    cell = Cell(world, OPERATIONS[0], ANSWERS[2])
    refuse(world, cell.ids)

    report = await world.sweep(partition=FILES)

    assert ("breaker", 3, 3) == (report.result, report.outcomes["forbidden"], len(world.deletes()))
    assert ["breaker_opened"] == [one["event"] for one in world.audit("file") if "breaker" in one["event"]]
    assert "breaker" == (await world.sweep(partition=FILES)).result
    assert 3 == len(world.deletes())
    cell.let_through()
    await world.sweep(partition=FILES)
    assert 4 == len(world.deletes())  # one at a time
    world.sandbox.faults([])
    cell.let_through()
    cell.pass_time()
    report = await world.sweep(partition=FILES)
    assert IDS == report.outcomes["deleted"]
    assert ["breaker_opened", "breaker_closed"] == [
        one["event"] for one in world.audit("file") if "breaker" in one["event"]
    ]


async def test_behind_an_open_breaker_the_oldest_do_not_hide_the_others(world: World) -> None:
    """Thirty are refused for their own sake; tried in turn, the younger ones would wait for minutes."""
    bad, good = world.seed(30, kind="file", days=40), world.seed(30, kind="file", days=30)
    refuse(world, bad)
    assert "breaker" == (await world.sweep(partition=FILES)).result

    for _ in range(40):
        world.raw.hset(f"{world.slot('file')}marks", "shut_until", 0)
        await world.sweep(partition=FILES)
        if not set(good) & world.sandbox.alive("file"):
            break

    assert not set(good) & world.sandbox.alive("file")
    assert set(bad) == world.sandbox.alive("file")


async def test_another_principals_deletions_do_not_speak_for_this_one(world: World) -> None:
    cell = Cell(world, OPERATIONS[0], ANSWERS[2])
    refuse(world, cell.ids[:2])
    await world.sweep(partition=FILES, context=world.context(key="sk-test-another-0123456789"))
    cell.pass_time()

    await world.sweep(partition=FILES)

    assert {} == cell.attempts()


# --- lists, probes, witnesses


LIST_ANSWERS = [said for said in ANSWERS if table(HEADING)[said.name, "read, kind"]]


@pytest.mark.parametrize("said", LIST_ANSWERS, ids=lambda said: said.name)
@pytest.mark.parametrize("scope", ["kind", "everything"])
async def test_a_list_that_cannot_be_read_decides_nothing(world: World, said: Said, scope: str) -> None:
    world.long_ago()
    ids = world.seed(3, kind="assistant", policy="chat", days=3)
    rule: dict[str, Any] = {
        "partition": Partition("openai", "assistant", "chat"),
        "ttl": None,
        "anchor": None,
        "orphan": Orphan(min_age=0, seen=2, max_share=None, uses_stated=True),
    }
    at = {"path": "/v1/assistants", "method": "GET"} if scope == "kind" else {}
    world.sandbox.faults([{**at, **said.fault}])
    for _ in range(3):
        await world.orphans(**rule)
        world.raw.hdel(FLOW, "blocked_until", "breaker_until")

    assert (set(ids), []) == (world.sandbox.alive("assistant"), world.deletes())
    assert {} == world.halts("assistant")
    world.sandbox.faults([])
    for _ in range(3):
        world.raw.hdel(FLOW, "blocked_until", "breaker_until")
        await world.orphans(**rule)
    assert set() == world.sandbox.alive("assistant")


@pytest.mark.parametrize("said", LIST_ANSWERS, ids=lambda said: said.name)
async def test_a_probe_that_fails_condemns_no_id(world: World, said: Said) -> None:
    cell = Cell(world, OPERATIONS[0], said)
    unknown = {
        "method": "DELETE",
        "ids": cell.ids[:1],
        "effect": "error",
        "status": 404,
        "message": "Not here any more",
    }
    world.sandbox.faults([unknown, {"method": "GET", "path": "/v1/files", **said.fault}])

    for _ in range(2):
        cell.let_through()
        await cell.sweep()

    assert ([], {}) == (cell.quarantined(), cell.attempts())
    assert cell.ids[0] in cell.left()
    await cell.heal()
    assert set() == cell.left()


@pytest.mark.parametrize("said", LIST_ANSWERS, ids=lambda said: said.name)
async def test_a_witness_that_does_not_answer_condemns_no_id(world: World, said: Said) -> None:
    """What is not there is not believed gone while nothing shows that this is the right place."""
    gone = [f"file-gone{number}" for number in range(3)]
    for id_ in gone:
        world.registry.register("file", id_, "chat", created_at=1_600_000_000)
    world.seed(3, kind="file", policy="chat", days=1)
    world.sandbox.faults([{"method": "GET", **said.fault}])

    for _ in range(2):
        await world.sweep(partition=FILES)

    assert [] == [one for one in world.audit("file") if one["event"] in {"settled", "quarantined"}]
    assert all(world.state(id_, "file") in {"tracked", "waiting"} for id_ in gone)


# --- absurd values


@pytest.mark.parametrize("value", ["978307200", "NaN", "inf", "1795514400000", "-1", "soon", ""])
@pytest.mark.parametrize("status", [429, 503])
async def test_an_absurd_retry_after_stops_nobody_for_long(world: World, status: int, value: str) -> None:
    ids = world.seed(4)
    world.settings = replace(world.settings, budget=1)
    fault = {"effect": "error", "status": status, "headers": {"Retry-After": value}}
    world.sandbox.faults([{"method": "DELETE", "ids": ids[:1], **fault}])

    await world.sweep()

    blocked = int(world.raw.hget(FLOW, "blocked_until") or 0)
    seconds, _ = world.raw.time()
    assert blocked <= (seconds + 6) * 1000
    if value in {"", "-1"}:
        return  # nothing was asked for
    for _ in range(2):
        world.raw.hdel(FLOW, "blocked_until")
        await world.sweep()
    assert set(ids[:1]) == world.sandbox.alive("thread")
    assert any(repr(value) in one.get("detail", "") for one in world.audit())


async def test_an_activity_in_the_future_is_one_of_now(world: World) -> None:
    """Otherwise the id would never be due again."""
    (id_,) = world.sandbox.seed("vector_store", 1)
    world.registry.register("vector_store", id_, "chat", created_at=1_600_000_000, last_active_at=1_600_000_000)
    shown = {"id": id_, "object": "vector_store", "created_at": 1, "last_active_at": 9_999_999_999}
    text = json.dumps(shown)
    world.sandbox.faults([{"method": "GET", "effect": "error", "status": 200, "text": text}])

    report = await world.sweep(
        partition=Partition("openai", "vector_store", "chat"), anchor="last_active_at", touches_stated=True
    )

    assert 1 == report.outcomes["active"]
    active = world.record(id_, "vector_store").last_active_at
    seconds, _ = world.raw.time()
    assert active
    assert abs(active.timestamp() - seconds) < 60


async def test_a_strange_id_in_a_list_hides_no_orphan(world: World) -> None:
    world.long_ago()
    ids = world.seed(3, kind="assistant", policy="chat", days=3)
    objects = [{"id": id_, "created_at": 1_600_000_000} for id_ in ("s3://bucket/one", *ids)]
    text = json.dumps({"object": "list", "data": objects, "has_more": False})
    world.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 200, "text": text}])
    rule = replace(
        world.rule,
        partition=Partition("openai", "assistant", "chat"),
        ttl=None,
        anchor=None,
        orphan=Orphan(min_age=0, seen=2, max_share=None, uses_stated=True),
    )
    for _ in range(2):
        await world.orphans(partition=rule.partition, ttl=None, anchor=None, orphan=rule.orphan)

    assert set(ids) == set(world.deletes())
    counts = json.loads(world.raw.hget(f"{world.slot('assistant')}chat:rules", "orphans"))
    assert 1 == counts["unaddressable"]


async def test_a_list_that_lags_is_not_shrunken_by_our_own_deletions(world: World) -> None:
    """It shows what was deleted for a while, and then all of that goes from it at once."""
    world.long_ago()
    rule: dict[str, Any] = {
        "partition": Partition("openai", "assistant", "chat"),
        "ttl": None,
        "anchor": None,
        "orphan": Orphan(min_age=0, seen=2, max_share=None, uses_stated=True),
    }
    ids = world.seed(20, kind="assistant", policy="chat", days=3)
    others = world.sandbox.seed("assistant", 4)
    await world.orphans(**rule)
    stale = [{"id": id_, "created_at": 1_600_000_000} for id_ in (*ids, *others)]
    text = json.dumps({"object": "list", "data": stale, "has_more": False})
    world.sandbox.faults([{"method": "GET", "path": "/v1/assistants", "effect": "error", "status": 200, "text": text}])
    for _ in range(3):
        await world.orphans(**rule)
    assert set(ids) == set(world.deletes())

    world.sandbox.faults([])
    reports = [await world.orphans(**rule) for _ in range(3)]

    assert ["completed"] * 3 == [report.result for report in reports]
    assert {} == world.halts("assistant")


@pytest.mark.parametrize("liar", [False, True])
async def test_opaque_ids_are_deleted_where_the_server_tells_what_it_does_not_know(world: World, *, liar: bool) -> None:
    world.account = replace(world.account, ids="opaque")
    ids = world.seed(IDS, kind=OTHER)
    about = {} if liar else {"ids": ids}
    world.sandbox.faults([{"method": "DELETE", "effect": "other_id", "execute": True, **about}])
    world.unpromised = {"record", "unconfirmed", "count", "uncounted"}  # to the oracle, a confirmation names its id

    report = await world.sweep(partition=Partition("openai", OTHER, "chat"))

    asked = [id_ for id_ in world.deletes() if id_ not in ids]
    if liar:
        assert (0, 3, 1) == (report.outcomes["deleted"], report.outcomes["unconfirmed"], len(asked))
    else:
        assert (IDS, 1, set()) == (report.outcomes["deleted"], len(asked), world.sandbox.alive(OTHER))
