"""export, and the import of an export: as a copy, as a move, cut, changed, twice, and lost on the way."""

import json
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from faults.proxy import Blind, Proxy
from lapse import Registry
from lapse.cli.context import Invocation
from lapse.cli.exit_codes import Refused
from lapse.cli.transfer.dump import Dump
from lapse.cli.transfer.format import Chunk, Header
from lapse.cli.transfer.load import Load
from lapse.ledger.halts import REWIND
from lapse.registry.model import PURGED
from support.commandline import ENFORCED, Desk
from support.held import held

FILES = '[policies.files]\nkind = "file"\nttl = "1d"\nanchor = "created_at"\nmode = "enforce"\n'
THREADS = "lapse:{openai:thread}:"
REQUEST = "0e8a3ad6-5a0e-4d6f-8d5e-00c2f3f0a9b1"
OTHER = {"LAPSE_REGISTRY__NAMESPACE": "other"}


@pytest.fixture
def used(desk: Desk) -> Desk:
    """Return a desk whose registry an application has used, and that a worker opened once."""
    desk.configure(ENFORCED)
    desk.seed(2, days=1, subject="ü\U0001f600")
    desk.seed(1, days=30)
    desk.registry.register("thread", "thread_user", "chat", uses=[("assistant", "asst_1")])
    desk.registry.hold("thread", "thread_held", reason="case")
    desk.registry.hold_subject("user:held", reason="case 2")
    desk.registry.forget("thread", "thread_forgotten")
    desk.raw.hset("lapse:erasures", REQUEST, '{"subject":"user:7","state":"complete"}')
    desk.raw.hset("lapse:asked_erasures", REQUEST.replace("0", "1"), '{"subject":"user:8"}')
    desk.raw.hset(f"{THREADS}erased:{REQUEST}", "thread_gone", '{"o":"erased"}')
    desk.raw.sadd(THREADS + "joined", "user:7")
    desk.raw.set("lapse:erasing", "a worker", px=60_000)
    desk.raw.hset("lapse:epoch", mapping={"id": "fedcba987654", "created": 1, "sequence": 7, "at": 1, "salt": "00ff"})
    desk.raw.hset(THREADS + "marks", "fence", 3)
    desk.raw.xadd(THREADS + "audit", {"e": "{}"}, maxlen=0, approximate=False)
    return desk


def clear(desk: Desk) -> None:
    for name in desk.raw.scan_iter("lapse:*"):
        desk.raw.delete(name)


def test_a_copy_in_another_namespace_is_the_same_registry(used: Desk) -> None:
    shown = used.good("export", "-o", "r.jsonl")
    file = used.directory / "r.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in used.directory.iterdir() if ".r.jsonl" in one.name] == []
    assert json.loads(file.read_text().splitlines()[-1])["end"]["sha256"] in shown.err

    copied = used.good("import", "r.jsonl", **OTHER)

    assert "This is a copy" in copied.err
    assert held(used.raw, "lapse") == held(used.raw, "other")
    epoch: Any = used.raw.hgetall("other:epoch")
    before: Any = used.raw.hgetall("lapse:epoch")
    assert f"stamp|lapse/{before['id']}" in epoch
    assert (epoch["id"], epoch["sequence"]) == (before["id"], before["sequence"])
    assert used.raw.hget("other:{openai:thread}:marks", "fence") == str(3 + REWIND)
    there = used.run("import", "r.jsonl")
    assert (there.code, "this registry is not empty, it has lapse:" in there.err) == (2, True)
    twice = used.run("import", "r.jsonl", **OTHER)
    assert (twice.code, "imported here before" in twice.err) == (2, True)


def test_a_move_halts_the_old_registry_and_the_new_one_goes_on(used: Desk) -> None:
    due = used.sandbox.alive("thread")
    moved = used.good("export", "--move", "--to", "redis-b", "-o", "r.jsonl")
    assert "moved to redis-b" in moved.err
    used.worker()
    assert used.sandbox.alive("thread") == due
    assert set(used.halts()) == {"*|moved"}
    before: Any = used.raw.hgetall("lapse:epoch")
    wrong = used.run("resume", "--reason", "back", "--confirm=openai", "--moved-to", "redis-c")
    assert (wrong.code, set(used.halts())) == (6, {"*|moved"})

    clear(used)
    shown = used.good("import", "r.jsonl", "--json")

    assert shown.json["moved"] == "redis-b"
    assert used.halts() == {}
    assert int(used.raw.hget("lapse:epoch", "sequence")) >= int(before["sequence"]) + REWIND - 1  # type: ignore[arg-type]
    used.worker()
    assert len(due - used.sandbox.alive("thread")) == 1


def test_who_names_the_target_goes_on_with_the_old_registry(used: Desk) -> None:
    used.good("export", "--move", "--to", "redis-b", "-o", "r.jsonl")
    again = used.run("export", "--move", "--to", "redis-c", "-o", "s.jsonl")
    assert (again.code, "moved to redis-b before" in again.err) == (6, True)
    used.good("export", "--move", "--to", "redis-b", "-o", "s.jsonl")

    back = used.good("resume", "--reason", "back", "--confirm=openai", "--moved-to", "redis-b")

    assert "decided about here again" in back.err
    assert used.halts() == {}
    used.worker()
    assert used.halts() == {}


def lease(desk: Desk, until: int, policy: str = "chat", id_: str = "thread_leased", **more: object) -> None:
    """Lease an id as a worker does that is not heard of any more."""
    record = {"p": policy, "s": "claimed", "f": 1_700_000_000_000, "t": 1, "d": until, **more}
    desk.raw.zadd(f"{THREADS}{policy}:claims", {id_: until})
    desk.raw.hset(THREADS + "aside", id_, json.dumps(record))


def test_what_a_purge_leased_is_carried_as_what_it_is_to_the_registry(used: Desk) -> None:
    lease(used, 1, PURGED, "thread_foreign", z=1, q=1)
    lease(used, 1, PURGED, "thread_registered_since", z=1, l="chat")

    used.good("export", "-o", "r.jsonl")
    used.good("import", "r.jsonl", **OTHER)

    copied = "other:{openai:thread}:"
    assert not used.raw.hexists(copied + "aside", "thread_foreign")
    assert ["thread_registered_since"] == used.raw.zrange(copied + "chat:suspects", 0, -1)


@pytest.mark.parametrize("policy", ["chat", PURGED])
def test_a_move_waits_for_deletions_in_flight_and_gives_up_without_a_trace(used: Desk, policy: str) -> None:
    lease(used, int(time.time() * 1000) + 600_000, policy)

    late = used.run("export", "--move", "--to", "b", "--wait", "1s", "-o", "r.jsonl")

    assert (late.code, "1 deletion did not come to an end" in late.err) == (4, True)
    assert not (used.directory / "r.jsonl").exists()
    assert used.halts() == {}
    assert not used.raw.hexists("lapse:epoch", "moved")


def test_what_is_leased_comes_out_as_waiting(used: Desk) -> None:
    lease(used, int(time.time() * 1000) + 600_000)
    used.good("export", "-o", "r.jsonl")
    option = used.run("import", "r.jsonl", "--policy", "chat", **OTHER)
    assert (option.code, "takes no --policy" in option.err) == (2, True)

    used.good("import", "r.jsonl", **OTHER)

    record = json.loads(used.raw.hget("other:{openai:thread}:aside", "thread_leased"))  # type: ignore[arg-type]
    assert (record["s"], record["x"], record["u"], "t" in record) == ("waiting", 1, 1, False)
    assert used.raw.zrange("other:{openai:thread}:chat:suspects", 0, -1) == ["thread_leased"]
    assert not used.raw.exists("other:{openai:thread}:chat:claims")


def test_through_a_pipe(used: Desk) -> None:
    written_out = used.good("export").out

    used.good("import", "-", given=written_out, **OTHER)

    assert held(used.raw, "lapse") == held(used.raw, "other")


def test_a_reader_that_goes_away_ends_a_move(used: Desk) -> None:
    with used.start("export", "--move", "--to", "b") as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(timeout=60)

    assert (process.returncode, "before its end" in said, used.halts()) == (5, True, {}), said


def test_every_byte_and_every_time_to_live_is_carried(used: Desk) -> None:
    with redis.Redis.from_url(used.environ["REDIS_URL"]) as client:
        client.hset(THREADS + "facts", b"thread_\xff\x00", b"\xed\xa0\x80\r\n\xc3")
        client.zadd(THREADS + "chat:fresh", {b"\xfe": 1.5})
        client.pexpire(THREADS + "facts", 3_600_000)
        used.good("export", "-o", "r.jsonl")
        used.good("import", "r.jsonl", **OTHER)

        assert client.hget("other:{openai:thread}:facts", b"thread_\xff\x00") == b"\xed\xa0\x80\r\n\xc3"
        assert client.zscore("other:{openai:thread}:chat:fresh", b"\xfe") == 1.5
        assert 3_000_000 < client.pttl("other:{openai:thread}:facts") <= 3_600_000


def test_a_file_that_is_cut_changes_nothing(used: Desk) -> None:
    used.good("export", "-o", "r.jsonl")
    file = used.directory / "r.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))

    refused = used.run("import", "r.jsonl", **OTHER)

    assert (refused.code, "the last line is missing" in refused.err) == (2, True), refused
    assert list(used.raw.scan_iter("other:*")) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--move", "-o", "r.jsonl"), "--move and --to NAME go together"),
        (("-o", "there.jsonl"), "there.jsonl is there already"),
        (("--move", "--to", "b", "-o", "nowhere/r.jsonl"), "nowhere/r.jsonl cannot be written"),
    ],
    ids=["no target", "a file that is there", "no folder"],
)
def test_an_export_that_cannot_be_changes_nothing(used: Desk, arguments: tuple[str, ...], says: str) -> None:
    (used.directory / "there.jsonl").write_text("")

    refused = used.run("export", *arguments)

    assert (refused.code, says in refused.err) == (2, True), refused
    assert (used.halts(), used.raw.hget("lapse:epoch", "moved")) == ({}, None)


class Breaking(Blind):
    """Ends the connection over which a word is sent: before the server has it, or before its answer is passed on."""

    def __init__(self, breaks: list[tuple[bytes, bool]]) -> None:
        self._breaks = breaks
        self._ends = False

    def sent(self, data: bytes) -> None:
        if self._breaks and self._breaks[0][0] in data:
            _word, self._ends = self._breaks.pop(0)
            if not self._ends:
                raise ConnectionResetError

    def answered(self, data: bytes) -> None:
        if self._ends:
            raise ConnectionResetError(data)


@pytest.fixture
def breaks(used: Desk) -> Iterator[list[tuple[bytes, bool]]]:
    """Return what ends the connections of commands: (what is sent, True if the server gets it)."""
    found: list[tuple[bytes, bool]] = []
    url = used.environ["REDIS_URL"]
    with Proxy(urlsplit(url).port or 0, watch=lambda: Breaking(found)) as proxy:
        used.environ["REDIS_URL"] = url.replace(f":{urlsplit(url).port}", f":{proxy.port}")
        yield found


def test_a_registry_that_is_lost_during_an_export_leaves_no_file(used: Desk, breaks: list[tuple[bytes, bool]]) -> None:
    breaks.append((b"HSCAN", False))

    lost = used.run("export", "--move", "--to", "b", "-o", "r.jsonl")

    assert (lost.code, "did not answer" in lost.err) == (4, True)
    assert [one.name for one in used.directory.iterdir() if "r.jsonl" in one.name] == []
    assert used.halts() == {}


def test_a_registry_that_is_lost_during_an_import_stands_still_until_it_is_whole(
    used: Desk, breaks: list[tuple[bytes, bool]]
) -> None:
    used.good("export", "--move", "--to", "b", "-o", "r.jsonl")
    before, due = held(used.raw, "lapse"), used.sandbox.alive("thread")
    clear(used)
    used.configure(ENFORCED + FILES)
    line = b"importing_line\r\n$1\r\n%d\r\n"

    noted = b"lapse:epoch\r\n$14\r\n" + line
    for said, carried_out in ((line % 4, False), (line % 6, True), (noted % 8, False), (noted % 9, True)):
        breaks.append((said, carried_out))
        lost = used.run("import", "r.jsonl")
        assert (lost.code, "To go on: lapse import r.jsonl" in lost.err, breaks) == (4, True, [])
        used.worker()
        assert (used.sandbox.alive("thread"), set(used.halts())) == (due, {"*|half_imported"})
        assert used.halts("file") == {}, "what a worker halts there it would count and write down"
    other = used.run("export", "-o", "s.jsonl")
    assert (other.code, "half imported" in other.err) == (2, True)
    used.good("import", "r.jsonl")

    after = held(used.raw, "lapse")
    counted = {name for name in before if name.endswith((":counters", ":halts"))}  # the worker's sweeps, the move
    assert {name: before[name] for name in before.keys() - counted} == {
        name: after.get(name) for name in before.keys() - counted
    }
    assert used.halts() == {}
    used.worker()
    assert len(due - used.sandbox.alive("thread")) == 1


def session(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Invocation:
    monkeypatch.setenv("LAPSE_REGISTRY__URL", desk.environ["REDIS_URL"])
    return Invocation(str(desk.config))


def loaded(client: redis.Redis, namespace: str, header: Header, chunks: list[Chunk]) -> None:
    load = Load(client, namespace, header)
    assert list(load.apply(enumerate(chunks, 2), load.begin())) == list(range(2, len(chunks) + 2))
    load.finish()


def test_who_moves_while_a_copy_is_made_stands_once_and_as_last_said(
    used: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key is read, and then the application goes on."""
    client, registry = session(used, monkeypatch).exact, used.registry
    for id_ in ("touched", "expired", "held", "forgotten", "let_go"):
        registry.register("thread", id_, "chat")
    registry.hold("thread", "let_go", reason="case")
    registry.expire("thread", "thread_user")
    used.raw.hset(THREADS + "aside", "between", '{"p":"chat","s":"waiting","f":1,"n":1,"d":5}')
    used.raw.hset(THREADS + "aside", "garbled", "{")
    says: dict[str, list[Callable[[], object]]] = {
        "fresh": [lambda: registry.touch("thread", "touched"), lambda: registry.touch("thread", "expired")],
        "active": [lambda: registry.expire("thread", "expired")],
        "explicit": [lambda: registry.hold("thread", "held", reason="case")],
        "aside": [lambda: registry.forget("thread", "forgotten"), lambda: registry.forget("thread", "let_go")],
        "holds": [lambda: registry.hold("thread", "thread_late", reason="case")],
    }

    dump, chunks = Dump(client, "lapse", {}), list[Chunk]()
    for chunk in dump.chunks():
        chunks.append(chunk)
        for say in says.pop(chunk.index, ()):
            say()
    assert says == {}
    loaded(client, "other", Header("1", "lapse", None, dump.slots, 1), chunks)

    ids = ("touched", "expired", "held", "forgotten", "let_go", "between")
    assert {id_: places(used, id_) for id_ in ids} == {
        "touched": {"active", "created"},
        "expired": {"explicit", "capped"},
        "held": {"parked"},
        "forgotten": set(),
        "let_go": set(),
        "between": {"waiting"},
    }
    aside: Any = used.raw.hkeys("other:{openai:thread}:aside")
    assert set(aside) == {"held", "between", "garbled"}
    counted: Any = used.raw.hget("other:{openai:thread}:protected", "holds")
    marker: Any = used.raw.hget("other:{openai:thread}:holds", ".")
    assert int(counted) == json.loads(marker)["n"], "the holds are whole"


def test_who_comes_back_to_an_index_that_was_read_is_in_the_copy(used: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    client, registry = session(used, monkeypatch).exact, used.registry
    for id_ in ("let_go", "let_go_and_forgotten"):
        registry.register("thread", id_, "chat")
        registry.touch("thread", id_)
        registry.hold("thread", id_, reason="case")
    registry.expire("thread", "thread_user")

    dump, chunks = Dump(client, "lapse", {}), list[Chunk]()
    for chunk in dump.chunks():
        chunks.append(chunk)
        if chunk.index == "explicit":  # the last one that is read before what stands aside
            registry.unhold("thread", "let_go")
            registry.forget("thread", "let_go_and_forgotten")
    loaded(client, "other", Header("1", "lapse", None, dump.slots, 1), chunks)

    assert {"active", "created"} == places(used, "let_go")
    assert set() == places(used, "let_go_and_forgotten")


def places(desk: Desk, id_: str) -> set[str]:
    names = desk.raw.scan_iter("other:{openai:thread}:chat:*")
    zsets = [name for name in names if desk.raw.type(name) == "zset"]
    return {name.rpartition(":")[2] for name in zsets if desk.raw.zscore(name, id_) is not None}


def test_who_writes_to_a_registry_while_it_is_imported_stops_that(used: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    client = session(used, monkeypatch).exact
    dump = Dump(client, "lapse", {})
    chunks, header = list(dump.chunks()), Header("1", "lapse", None, dump.slots, 1)
    load = Load(client, "other", header)
    steps = load.apply(enumerate(chunks, 2), load.begin())
    next(steps)
    with Registry(used.environ["REDIS_URL"], namespace="other", provider="openai", timeout=5) as early:
        early.register("thread", "early", "chat")

    with pytest.raises(Refused, match="somebody wrote other:"):
        list(steps)
    with pytest.raises(Refused, match="half of another export is here"):
        Load(client, "other", Header("2", "lapse", None, dump.slots, 1)).begin()
