"""The spool's file between processes: who may read it, who sends what is in it, and who waits for whom."""

import grp
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse import Answer, Registry
from lapse.errors import SpoolUnusable
from lapse.registry.commands import Commands, Operation
from lapse.registry.model import Resource
from lapse.registry.spool import place, spool, statements
from lapse.registry.spool.flush import Flushed, Flusher
from lapse.registry.spool.statements import Origin
from lapse.registry.spool.store import SpoolStore
from lapse.sandbox.redis_server import free_port

Wait = Callable[..., None]
COMMANDS = Commands("lapse", "openai")
ORIGIN = Origin("lapse", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "app.spool"


@pytest.fixture
def registry(redis_url: str) -> Iterator[Registry]:
    with Registry(redis_url, provider="openai", timeout=5) as one:
        yield one


@pytest.fixture
def away(path: Path) -> Iterator[Registry]:
    """Return a registry whose Redis never comes back."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    with Registry(url, provider="openai", timeout=0.2, on_error="spool", spool=path) as one:
        one.register("thread", "first", "chat")
        yield one


def leave(path: Path, *operations: Operation[Any], origin: Origin = ORIGIN) -> None:
    """Leave what an ended process said."""
    with SpoolStore(path, wait=5) as store:
        store.append(call for operation in operations for call in statements.of(operation, origin, None))


def registers(*ids: str, **said: Any) -> list[Operation[Any]]:
    return [COMMANDS.register(COMMANDS.registration("thread", id_, "chat", **said)) for id_ in ids]


def talking(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start a process that says a line when it has come so far, and waits for one."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def heard(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    assert process.stdout.readline() == "\n"


def test_two_that_send_at_once_send_everything_once(redis_url: str, registry: Registry, path: Path) -> None:
    ids = [f"t{n}" for n in range(2500)]
    leave(path, *registers(*ids))
    code = (
        "import sys; from lapse.registry.spool.spool import of\n"
        "one = of(sys.argv[1], 'lapse', sys.argv[2])\n"
        "print(flush=True); sys.stdin.readline()\n"
        "flushed = one.flush(); print(flushed.sent if flushed else 0)"
    )
    both = [talking(code, path, redis_url) for _ in range(2)]
    for one in both:
        heard(one)
    for one in both:
        assert one.stdin
        one.stdin.write("now\n")
        one.stdin.flush()
    sent = [int(one.communicate(timeout=30)[0]) for one in both]

    assert sum(sent) == len(ids)
    assert all(registry.get("thread", id_) for id_ in ids[::100])
    with SpoolStore(path) as store:
        assert store.contents() == []


def test_one_that_ended_while_it_was_sending_is_taken_over(redis_url: str, registry: Registry, path: Path) -> None:
    leave(path, *registers("t1"))
    code = (
        "from pathlib import Path; import os, sys, time\n"
        "from lapse.registry.spool.store import SpoolStore\n"
        "assert SpoolStore(Path(sys.argv[1])).lease('it', int(time.time() * 1000))\n"
        "print(flush=True); sys.stdin.read()"
    )
    with talking(code, path) as holder:
        heard(holder)
        assert spool.of(path, "lapse", redis_url).flush() is None
        holder.kill()
        holder.wait()

    assert spool.of(path, "lapse", redis_url).flush() == Flushed(sent=1)
    assert registry.get("thread", "t1")


def test_one_that_stands_still_is_taken_over_after_a_minute(path: Path) -> None:
    now = round(time.time() * 1000)
    with SpoolStore(path) as store:
        assert store.lease("it", now)
        assert not store.lease("another", now + 59_000)
        assert store.lease("another", now + 61_000)
        assert not store.lease("it", now + 61_000)


def test_what_is_for_another_registry_is_kept(redis_url: str, registry: Registry, path: Path) -> None:
    leave(path, *registers("theirs"), origin=Origin("another", 0))
    leave(path, *registers("database"), origin=Origin("lapse", 1))
    leave(path, *registers("epoch"), origin=Origin("lapse", 0, "earlier"))
    leave(path, *registers("ours"))

    assert spool.of(path, "lapse", redis_url).flush() == Flushed(sent=1)
    assert [bool(registry.get("thread", id_)) for id_ in ("theirs", "database", "epoch", "ours")] == [
        False,
        False,
        False,
        True,
    ]
    with SpoolStore(path) as store:
        assert {one.origin for one in store.contents()} == {
            Origin("another", 0),
            Origin("lapse", 1),
            Origin("lapse", 0, "earlier"),
        }


def test_touches_of_an_id_wait_as_one(path: Path) -> None:
    touch = COMMANDS.touch(Resource("openai", "thread", "t1"))
    leave(path, touch, *registers("t2"), touch, COMMANDS.touch(Resource("openai", "thread", "t2")), touch)

    with SpoolStore(path) as store:
        waiting = [one.statement.given for one in store.batch(ORIGIN, 10)]
    assert [(one.get("call"), one["id"]) for one in waiting] == [(None, "t2"), ("touch", "t2"), ("touch", "t1")]


def test_a_group_may_share_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = grp.getgrgid(os.getgid())
    monkeypatch.setenv("LAPSE_SPOOL_GROUP", group.gr_name)
    leave(path, *registers("t1"))

    with SpoolStore(path):
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (path.parent, *path.parent.iterdir())}
    assert modes.pop("state") == 0o2770
    assert set(modes) >= {"app.spool", "app.spool-wal"}
    assert set(modes.values()) == {0o660}
    assert {one.stat().st_gid for one in (path.parent, path)} == {group.gr_gid}


def test_nobody_else_may_read_it_otherwise(path: Path) -> None:
    leave(path, *registers("t1"))

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o600}


def test_a_group_that_is_not_there_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAPSE_SPOOL_GROUP", "no-such-group")
    with pytest.raises(SpoolUnusable, match="no-such-group"):
        SpoolStore(path)


@pytest.mark.parametrize("type_", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, type_: str) -> None:
    mounts = tmp_path / "mountinfo"
    line = f"36 35 98:0 / {tmp_path.resolve()}/far\\040away rw shared:1 - {type_} server:/x rw\n"
    mounts.write_text(f"22 1 0:21 / / rw shared:1 - ext4 /dev/sda1 rw\n{line}", encoding="utf-8")

    with pytest.raises(SpoolUnusable, match=f"lies on {type_}: give spool= a path on a local disk"):
        place.refuse_networked(tmp_path / "far away" / "x" / "one.spool", mounts)
    place.refuse_networked(tmp_path / "near" / "one.spool", mounts)
    place.refuse_networked(tmp_path / "far away" / "one.spool", tmp_path / "no list of mounts")


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert place.default("app") == tmp_path / "lapse" / "app.spool"
    monkeypatch.setenv("LAPSE_SPOOL", str(tmp_path / "one"))
    assert place.default("app") == tmp_path / "one"
    monkeypatch.delenv("LAPSE_SPOOL")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place.default("app") == tmp_path / ".local" / "state" / "lapse" / "app.spool"


def test_one_that_another_process_keeps_locked_costs_50_ms_and_a_line_in_the_log(
    away: Registry, path: Path, caplog: pytest.LogCaptureFixture, wait_until: Wait
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert away.hold("thread", "t1", reason="case 7") is Answer.FAILED
        assert 0.04 < time.monotonic() - began < 0.5
        assert '"id":"t1"' in caplog.text
        db.execute("ROLLBACK")
    with SpoolStore(path) as store:
        wait_until(lambda: sum(one.waiting for one in store.contents()) == 2, what="it is written all the same")


def test_no_call_carries_along_what_waits(redis_url: str, path: Path) -> None:
    leave(path, *registers(*(f"t{n}" for n in range(600))))
    with (
        SpoolStore(path) as other,
        Registry(redis_url, provider="openai", timeout=5, on_error="spool", spool=path) as one,
    ):
        assert other.lease("another", round(time.time() * 1000))
        with redis.Redis.from_url(redis_url) as raw:
            raw.config_resetstat()
            assert one.touch("thread", "t0") is Answer.UNKNOWN
            assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] <= 50
        assert one.spool
        assert one.spool.pending == 600


def test_uses_that_were_refused_late_are_said_to_their_kinds(redis_url: str, registry: Registry, path: Path) -> None:
    for first in range(0, 20_000, 1000):
        registry.register("thread", "t1", "chat", uses=[("file", f"f{n}") for n in range(first, first + 1000)])
    leave(
        path, *registers("t1", uses=[("assistant", "one-too-many")]), COMMANDS.touch(Resource("openai", "thread", "t1"))
    )

    assert spool.of(path, "lapse", redis_url).flush() == Flushed(sent=1, refused=1)
    with redis.Redis.from_url(redis_url) as raw:
        said = raw.hget("lapse:{openai:assistant}:said", "unsaid")
    assert said
    assert said.endswith(b" openai|thread|t1")


def test_a_redis_user_without_the_rights_is_waited_for(redis_url: str, registry: Registry, path: Path) -> None:
    leave(path, *registers("t1"))
    poor = redis_url.replace("redis://", "redis://poor:x@")
    rights = ("on", ">x", "+@all", "%R~lapse:epoch", "~lapse:slots", "~lapse:{openai:thread}:")
    with redis.Redis.from_url(redis_url) as raw:
        try:
            raw.execute_command("ACL", "SETUSER", "poor", *rights)
            with pytest.raises(Exception, match="takes nothing for now"):
                spool.of(path, "lapse", poor).flush()
            raw.execute_command("ACL", "SETUSER", "poor", "~lapse:*")
            assert spool.of(path, "lapse", poor).flush() == Flushed(sent=1)
        finally:
            raw.execute_command("ACL", "DELUSER", "poor")
    assert registry.get("thread", "t1")


def test_calls_of_one_id_are_said_one_after_the_other_within_a_millisecond_too(path: Path, away: Registry) -> None:
    for number in range(50):
        away.hold("thread", "t1", reason=f"case {number}")
        away.unhold("thread", "t1")

    with SpoolStore(path) as store:
        times = [one.statement.at for one in store.batch(ORIGIN, 500) if one.statement.given["id"] == "t1"]
    assert (100, sorted(set(times))) == (len(times), times)


def test_what_waited_too_long_is_kept_as_the_spool_is(
    redis_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = grp.getgrgid(os.getgid())
    monkeypatch.setenv("LAPSE_SPOOL_GROUP", group.gr_name)
    leave(path, *registers("t1"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE record SET at = at - 8 * 86400000")
    spool.of(path, "lapse", redis_url).flush()

    assert 0o660 == stat.S_IMODE(path.with_name("app.spool.old").stat().st_mode)


def test_what_names_many_uses_is_sent_in_parts_that_redis_does_in_time(registry: Registry, path: Path) -> None:
    uses = [("file", f"file-{n:024}") for n in range(1000)]
    leave(
        path,
        *registers(*(f"thread_{n}" for n in range(30)), uses=uses),
        COMMANDS.touch(Resource("openai", "thread", "thread_0")),
    )
    sent: list[int] = []

    def exchange(commands: list[bytes]) -> list[Any]:
        sent.append(sum(map(len, commands)))
        return registry.say(said(commands))

    with SpoolStore(path, wait=5) as store:
        assert Flushed(31) == Flusher(store, exchange, ORIGIN).flush()

    assert 3 < len(sent)
    assert max(sent) < 3_000_000
    assert registry.get("thread", "thread_29")


def said(commands: list[bytes]) -> Any:
    """Say commands as they are."""
    return (yield commands)
