"""A registry whose Redis goes away: what is said meanwhile waits in a file, in order, and is said when it is back."""

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse import Answer, AsyncRegistry, Registry
from lapse.errors import ConfigError, InvalidResource, RegistryUnavailable, SpoolUnusable
from lapse.registry.spool import flush, spool
from lapse.registry.spool.store import SpoolStore
from lapse.sandbox.redis_server import EmbeddedRedis

Wait = Callable[..., None]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a Redis that is away again sooner than after the second that it is."""
    assert spool.ASKED_AGAIN == 1.0
    monkeypatch.setattr(spool, "ASKED_AGAIN", 0.1)


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """Return a server that may be stopped and started, and keeps what it holds."""
    with EmbeddedRedis(persistent=True) as one:
        yield one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "app.spool"


@pytest.fixture
def spooling(server: EmbeddedRedis, path: Path) -> Iterator[Registry]:
    with Registry(server.url, provider="openai", timeout=0.5, on_error="spool", spool=path) as one:
        yield one


@pytest.fixture
def looking(server: EmbeddedRedis) -> Iterator[Registry]:
    """Return a registry that reads what was stored."""
    with Registry(server.url, provider="openai", timeout=5) as one:
        yield one


def pending(registry: Registry | AsyncRegistry) -> int:
    assert registry.spool
    return registry.spool.pending


def is_back(registry: Registry) -> bool:
    try:
        registry.get("thread", "any")
    except RegistryUnavailable:
        return False
    return True


def test_while_redis_is_there_nothing_is_written_and_no_sqlite_loaded(server: EmbeddedRedis, path: Path) -> None:
    code = (
        "import lapse, sys\n"
        f"r = lapse.Registry({server.url!r}, provider='openai', timeout=5, on_error='spool', spool={str(path)!r})\n"
        "assert r.register('thread', 't1', 'chat') and r.touch('thread', 't1')\n"
        "print('sqlite3' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert shown.stdout.strip() == "False"
    assert not path.exists()


def test_what_is_said_while_redis_is_away_is_said_in_order_when_it_is_back(
    server: EmbeddedRedis, spooling: Registry, looking: Registry, path: Path, wait_until: Wait
) -> None:
    spooling.register("thread", "known", "chat")
    server.stop()
    new = spooling.register("thread", "new", "chat", subject="user:1", expires_in="1h", uses=[("file", "f1")])
    said = [
        spooling.hold("thread", "new", reason="case 7"),
        spooling.touch("thread", "known"),
        spooling.unhold("thread", "new"),
        spooling.expire("thread", "known"),
        spooling.hold("thread", "known", reason="case 8"),
        spooling.forget("thread", "gone"),
        spooling.deleted("thread", "gone2"),
    ]

    assert not new
    assert new.governed_by == "spooled"
    assert said == [Answer.SPOOLED] * len(said)
    assert not any(said)
    assert pending(spooling) == 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    at = time.time()
    server.start()
    wait_until(lambda: pending(spooling) == 0, what="the spool is empty")

    record = looking.get("thread", "new")
    assert record
    assert (record.subject, record.hold, [use.id for use in record.uses]) == ("user:1", None, ["f1"])
    assert record.expires_at
    assert abs(record.expires_at.timestamp() - at - 3600) < 5
    known = looking.get("thread", "known")
    assert known
    assert known.hold
    assert known.hold.reason == "case 8"
    assert looking.get("file", "f1") is None
    assert spooling.touch("thread", "new") is Answer.OK


def test_a_request_pays_the_timeout_once(server: EmbeddedRedis, spooling: Registry) -> None:
    spooling.register("thread", "t0", "chat")
    with redis.Redis.from_url(server.url) as raw:
        raw.client_pause(2_500)
        took = []
        for number in range(6):
            began = time.monotonic()
            assert spooling.touch("thread", f"t{number}") is Answer.SPOOLED
            took.append(time.monotonic() - began)

    assert took[0] >= 0.5
    assert max(took[1:]) < 0.4


def test_questions_are_raised_at_once(server: EmbeddedRedis, spooling: Registry) -> None:
    server.stop()
    with pytest.raises(RegistryUnavailable):
        spooling.get("thread", "t1")
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="asked again"):
        spooling.get("thread", "t1")
    with pytest.raises(InvalidResource):
        spooling.hold("thread", "t1", reason="")
    assert time.monotonic() - began < 0.1


def test_many_registrations_wait_each_for_itself(
    server: EmbeddedRedis, spooling: Registry, looking: Registry, wait_until: Wait
) -> None:
    server.stop()
    done = spooling.register_many({"kind": "thread", "id": f"t{n}", "policy": "chat"} for n in range(1200))

    assert (done.registered, done.spooled) == (0, 1200)
    server.start()
    wait_until(lambda: pending(spooling) == 0, what="the spool is empty")
    assert all(looking.get("thread", f"t{n}") for n in (0, 499, 500, 1199))


def test_asyncio_says_the_same(server: EmbeddedRedis, path: Path, looking: Registry, wait_until: Wait) -> None:
    registry = AsyncRegistry(server.url, provider="openai", timeout=0.5, on_error="spool", spool=path)

    async def say() -> list[Any]:
        return list(await asyncio.gather(*(registry.register("thread", f"t{n}", "chat") for n in range(50))))

    server.stop()
    assert {one.governed_by for one in asyncio.run(say())} == {"spooled"}
    server.start()
    wait_until(lambda: pending(registry) == 0, what="the spool is empty")
    assert all(looking.get("thread", f"t{n}") for n in range(50))


def test_a_call_that_is_cancelled_has_gone_into_the_spool(server: EmbeddedRedis, path: Path, wait_until: Wait) -> None:
    registry = AsyncRegistry(server.url, provider="openai", timeout=5, on_error="spool", spool=path)

    async def say() -> None:
        await registry.register("thread", "t0", "chat")
        with redis.Redis.from_url(server.url) as raw:
            raw.client_pause(1_000)
        call = asyncio.ensure_future(registry.register("thread", "t1", "chat"))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(say())
    wait_until(path.exists, what="there is a spool")
    with Registry(server.url, provider="openai", timeout=5) as looking:
        wait_until(lambda: looking.get("thread", "t1"), what="t1 is registered")


def test_an_id_that_waits_is_spoken_of_behind_what_waits(
    server: EmbeddedRedis, spooling: Registry, looking: Registry, path: Path, wait_until: Wait
) -> None:
    server.stop()
    spooling.register("thread", "t1", "chat")
    with SpoolStore(path) as other:
        assert other.lease("another", int(time.time() * 1000))  # nobody flushes
        server.start()
        wait_until(lambda: is_back(spooling), what="Redis is back")

        assert spooling.hold("thread", "t1", reason="case 7") is Answer.SPOOLED
        other.release("another")
    wait_until(lambda: pending(spooling) == 0, what="the spool is empty")
    record = looking.get("thread", "t1")
    assert record
    assert record.hold


def test_a_new_process_sends_what_an_ended_one_left(
    server: EmbeddedRedis, path: Path, looking: Registry, wait_until: Wait
) -> None:
    server.stop()
    code = (
        "import lapse, os\n"
        f"r = lapse.Registry({server.url!r}, provider='openai', timeout=1, on_error='spool', spool={str(path)!r})\n"
        "print(r.register('thread', 't1', 'chat').governed_by, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert shown.stdout.strip() == "spooled"
    server.start()
    with Registry(server.url, provider="openai", timeout=5, on_error="spool", spool=path) as registry:
        registry.touch("thread", "other")
        wait_until(lambda: looking.get("thread", "t1"), what="t1 is registered")


def test_a_child_begins_anew(server: EmbeddedRedis, spooling: Registry, looking: Registry, wait_until: Wait) -> None:
    server.stop()
    spooling.register("thread", "parents", "chat")
    child = os.fork()
    if child == 0:
        answer = spooling.register("thread", "childs", "chat")
        os._exit(0 if answer.governed_by == "spooled" else 1)
    assert os.waitpid(child, 0)[1] == 0
    server.start()
    wait_until(lambda: pending(spooling) == 0, what="the spool is empty")
    assert looking.get("thread", "parents")
    assert looking.get("thread", "childs")


def test_what_too_few_replicas_have_waits_and_keeps_nothing_else_waiting(
    server: EmbeddedRedis,
    spooling: Registry,
    looking: Registry,
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hold that leaves the file once the primary has it is lost with the primary."""
    monkeypatch.setattr(flush, "BATCH", 2)
    monkeypatch.setattr(flush, "WITHIN", 0.1)
    for id_ in ("held", "forgotten"):
        spooling.register("thread", id_, "chat")
    with redis.Redis.from_url(server.url) as admin:
        admin.hset("lapse:published", "replicas", 1)
    server.stop()
    said = [spooling.hold("thread", "held", reason="case 7"), spooling.forget("thread", "forgotten")]
    assert [Answer.SPOOLED] * 2 == said
    spooling.register_many({"kind": "thread", "id": f"t{i}", "policy": "chat"} for i in range(5))
    server.start()
    wait_until(lambda: is_back(spooling) and pending(spooling) == 2, what="all but what replicas have to have")

    assert all(looking.get("thread", f"t{i}") for i in range(5))
    record = looking.get("thread", "held")
    assert record is not None
    assert record.state == "held"
    said_so = "2 of hold, unhold and forget are written, and fewer than 1 replicas have them: they wait still"
    wait_until(lambda: said_so in caplog.text, what="the line that says so")
    options = ("--replicaof", f"127.0.0.1 {server.port}", "--repl-diskless-sync-delay", "0")
    with EmbeddedRedis(*options) as replica, redis.Redis.from_url(replica.url) as promoted:
        wait_until(lambda: pending(spooling) == 0, what="the replica")
        assert promoted.hexists("lapse:{openai:thread}:holds", "held")
        assert promoted.zscore("lapse:{openai:thread}:forgotten", "forgotten")
    wait_until(lambda: spooling.touch("thread", "t1") == Answer.OK, what="an answer of Redis itself")


def test_what_redis_refuses_is_put_aside_and_blocks_nobody(
    server: EmbeddedRedis, spooling: Registry, looking: Registry, path: Path, wait_until: Wait,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with redis.Redis.from_url(server.url) as raw:
        raw.sadd("lapse:{openai:thread}:policies", *(f"p{n}" for n in range(64)))
    server.stop()
    spooling.register("thread", "t1", "one-too-many")
    spooling.register("thread", "t2", "p1")
    server.start()
    wait_until(lambda: looking.get("thread", "t2"), what="t2 is registered")
    wait_until(lambda: pending(spooling) == 0, what="the spool is empty")

    with SpoolStore(path) as store:
        ((statement, why),) = store.refused()
    assert statement.given["id"] == "t1"
    assert "LAPSE-POLICIES" in why
    assert '"id":"t1"' in caplog.text


def test_a_full_redis_is_waited_for(
    server: EmbeddedRedis, spooling: Registry, looking: Registry, wait_until: Wait
) -> None:
    with redis.Redis.from_url(server.url) as raw:
        raw.config_set("maxmemory", "1")
        assert spooling.register("thread", "t1", "chat").governed_by == "spooled"
        raw.config_set("maxmemory", "0")
    wait_until(lambda: looking.get("thread", "t1"), what="t1 is registered")


def test_another_epochs_records_are_kept_and_shown(
    server: EmbeddedRedis, spooling: Registry, path: Path, wait_until: Wait
) -> None:
    with redis.Redis.from_url(server.url) as raw:
        raw.hset("lapse:epoch", "id", "one")
        spooling.touch("thread", "t0")
    server.stop()
    spooling.register("thread", "t1", "chat")
    with EmbeddedRedis(persistent=True, directory=server.directory) as other, redis.Redis.from_url(other.url) as raw:
        raw.hset("lapse:epoch", "id", "two")
    server.start()
    wait_until(lambda: is_back(spooling), what="Redis is back")

    assert pending(spooling) == 1
    with SpoolStore(path) as store:
        (one,) = store.contents()
    assert (one.origin.epoch, one.waiting) == ("one", 1)
    assert spooling.touch("thread", "t1") is Answer.UNKNOWN


def test_what_waited_too_long_goes_to_a_file_and_is_named(
    server: EmbeddedRedis, spooling: Registry, looking: Registry, path: Path, wait_until: Wait,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server.stop()
    spooling.register("thread", "t1", "chat")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE record SET at = at - 8 * 86400000")
    server.start()
    wait_until(lambda: pending(spooling) == 0, what="the spool is empty")

    assert looking.get("thread", "t1") is None
    assert json.loads(Path(f"{path}.old").read_text(encoding="utf-8"))["id"] == "t1"
    assert '"id":"t1"' in caplog.text


@pytest.mark.parametrize("cause", ["read-only folder", "another version", "no spool", "full"])
def test_a_spool_that_cannot_be_used_is_said_once_and_calls_are_logged(
    server: EmbeddedRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    path = tmp_path / "one.spool"
    if cause == "read-only folder":
        path = Path("/proc/nowhere/one.spool")
    elif cause == "another version":
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE theirs (x)")
            db.execute("PRAGMA user_version=7")
    elif cause == "no spool":
        path.write_text("something else, and long enough to be no database " * 30, encoding="utf-8")
    else:
        monkeypatch.setattr("lapse.registry.spool.store.MOST_BYTES", 7 * 4096)
    before = path.read_bytes() if cause in {"another version", "no spool"} else b""
    server.stop()
    with Registry(server.url, provider="openai", timeout=0.5, on_error="spool", spool=path) as registry:
        answers = [registry.hold("thread", f"t{n}", reason="x" * 500) for n in range(30)]

    assert answers[-2:] == [Answer.FAILED] * 2
    assert caplog.text.count("what cannot be said is logged instead") == 1
    for number, answer in enumerate(answers):
        assert (f'"id":"t{number}"' in caplog.text) == (answer is Answer.FAILED)
    if before:
        assert path.read_bytes() == before
        with pytest.raises(SpoolUnusable, match=str(path)):
            SpoolStore(path)


def test_where_no_thread_is_to_be_had_calls_are_logged(
    server: EmbeddedRedis, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ending(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with Registry(server.url, provider="openai", timeout=0.5, on_error="spool", spool=path) as registry:
        registry.touch("thread", "t1")
        server.stop()
        monkeypatch.setattr(threading.Thread, "start", ending)
        assert registry.hold("thread", "t1", reason="case 7") is Answer.FAILED
        assert registry.hold("thread", "t2", reason="case 7") is Answer.FAILED
    assert caplog.text.count("what cannot be said is logged instead") == 1
    assert '"id":"t1"' in caplog.text


def test_a_spool_is_for_that_mode_alone() -> None:
    with pytest.raises(ConfigError, match="spool="):
        Registry("redis://localhost", spool="x")
