"""The shipped users: each can do its work, and nothing else."""

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse import Registry, RegistryRefused
from lapse.cli.transfer.dump import Dump
from lapse.cli.transfer.format import Header
from lapse.cli.transfer.load import Load
from lapse.registry import keys
from lapse.registry.codec import dump
from lapse.registry.subjects import Subjects
from lapse.sandbox.redis_server import EmbeddedRedis
from support import acl
from support.commandline import SCRIPT
from support.lua import named

SAID = ("register", "touch", "hold", "unhold", "forget", "expire", "get", "refer", "unrefer", "count_uses", "unsaid")
SUBJECTS = ("say_subject", "copy_subjects", "apply_subject", "ids_of_subject", "ask_erasure")
SLOT = "lapse:{openai:thread}:"


@pytest.fixture
def application(guarded: EmbeddedRedis) -> Iterator[Any]:
    """Return the application's user as a plain client."""
    with redis.Redis.from_url(acl.as_user(guarded.url, acl.APPLICATION), decode_responses=True) as client:
        yield client


def test_an_application_says_all_it_has_to_say(guarded: EmbeddedRedis) -> None:
    with Registry(acl.as_user(guarded.url, acl.APPLICATION), provider="openai", timeout=5) as registry:
        assert registry.register("thread", "t1", "chat", uses=[("assistant", "a1")], labels={"team": "x"}).new
        assert (
            registry.register_many({"kind": "thread", "id": f"m{n}", "policy": "chat"} for n in range(600)).new == 600
        )
        assert registry.register("thread", "t1", "other", expires_in="7d", subject="s").new is False
        for call in (registry.touch, registry.expire, registry.unhold, registry.forget):
            assert registry.hold("thread", "t1", reason="a test") == "ok"
            call("thread", "t1")
        assert registry.get("thread", "t1") is None
        assert registry.register("thread", "t2", "chat", subject="user:42").new
        assert registry.hold_subject("user:42", reason="a test").changed == 1
        assert registry.register("file", "f2", "chat", subject="user:42").new
        assert registry.hold_subject("user:43", reason="another, so that a list is copied")
        assert len(registry.resources(subject="user:42").records) == 2
        assert registry.expire_subject("user:42").changed == 2
        assert registry.unhold_subject("user:42")
        assert registry.get("thread", "m1") is not None
    with redis.Redis.from_url(guarded.url, decode_responses=True) as administrator:
        assert "openai/thread" in administrator.smembers(keys.slots("lapse"))


def test_what_an_application_says_of_a_subject_that_is_erased_counts_for_that(guarded: EmbeddedRedis) -> None:
    request, fact = str(uuid.uuid4()), {"at": 1, "until": 1 << 50}
    with (
        redis.Redis.from_url(guarded.url, decode_responses=True) as administrator,
        Registry(guarded.url, provider="openai", timeout=5) as worker,
        Registry(acl.as_user(guarded.url, acl.APPLICATION), provider="openai", timeout=5) as registry,
    ):
        administrator.hset(keys.published("lapse"), "erasure", "by_application")
        worker.say(Subjects(worker.protocol.commands).erase("user:9", request, dump({"id": request, **fact})))
        for id_ in ("e1", "e2", "e3"):
            registry.register("thread", id_, "chat", subject="user:9")
        assert (registry.forget("thread", "e1"), registry.deleted("thread", "e2")) == ("ok", "ok")
        asked = [registry.erase("user:9", request) for _ in range(2)]

        outcomes = {
            id_: json.loads(said)["o"] for id_, said in administrator.hgetall(SLOT + f"withdrawn:{request}").items()
        }
        assert outcomes == {"e1": "forgotten", "e2": "deleted"}
        assert not administrator.exists(SLOT + f"erased:{request}")
        forged = redis.Redis.from_url(acl.as_user(guarded.url, acl.APPLICATION))
        with forged, pytest.raises(redis.exceptions.NoPermissionError):
            forged.hset(SLOT + f"erased:{request}", "e1", '{"o":"erased"}')
        assert administrator.smembers(SLOT + keys.JOINED) == {"user:9"}
        assert asked == ["asked", "asked"]
        assert list(administrator.hgetall(keys.asked_erasures("lapse"))) == [request]
        assert not administrator.exists(keys.erasures("lapse"))


def test_a_user_with_the_rights_of_before_says_all_that_it_had_to_say(guarded: EmbeddedRedis) -> None:
    newer = ("subjects", "subject_holds", "subject_index", "last_said", "joined", "erasures", "asked_erasures")
    (line,) = [line for line in acl.SHIPPED.read_text().splitlines() if line.startswith(f"user {acl.APPLICATION} ")]
    rights = [word for word in line.split()[4:] if word.rpartition(":")[2] not in {*newer, "held_subjects"}]
    rights = [word for word in rights if ":withdrawn:" not in word and ":erased:" not in word]
    rights = [word for word in rights if word not in {"+hgetall", "+hkeys", "+zlexcount", "+zrangebyscore"}]
    with redis.Redis.from_url(guarded.url) as administrator:
        administrator.execute_command("ACL", "SETUSER", "before", "on", ">x", *rights)
    with Registry(guarded.url.replace("redis://", "redis://before:x@"), provider="openai", timeout=5) as registry:
        for id_ in ("b1", "b2"):
            assert registry.register("thread", id_, "chat", subject="user:42", uses=[("assistant", "a1")]).new
            assert registry.hold("thread", id_, reason="a test") == "ok"
            assert registry.unhold("thread", id_) == "ok"
            for call in (registry.touch, registry.expire, registry.forget if id_ == "b1" else registry.deleted):
                assert call("thread", id_) == "ok"
        assert registry.register("thread", "b1", "chat", subject="user:42").new
        found = registry.get("thread", "b1")
        assert found
        assert found.subject == "user:42"
        with pytest.raises(RegistryRefused):
            registry.hold_subject("user:42", reason="a test")


def test_a_worker_s_user_exports_and_imports(guarded: EmbeddedRedis) -> None:
    with (
        redis.Redis.from_url(acl.as_user(guarded.url, acl.WORKER), decode_responses=True) as client,
        Registry(acl.as_user(guarded.url, acl.APPLICATION), provider="openai", timeout=5) as registry,
    ):
        registry.register("thread", "t1", "chat", uses=[("assistant", "a1")])
        registry.hold("thread", "t1", reason="a test")
        client.set(SLOT + keys.CHAIN, "openai/thread/0/0/0")
        export = Dump(client, "lapse", {})
        chunks, header = list(export.chunks()), Header("1", "lapse", None, export.slots, 1)
        for chunk in chunks:
            client.delete(f"lapse:{chunk.key}")
        load = Load(client, "lapse", header)
        applied = list(load.apply(enumerate(chunks, 2), load.begin()))
        load.finish()

        assert {"set", "hash", "zset", "stream", "string"} == {chunk.type for chunk in chunks}
        assert len(applied) == len(chunks)
        assert registry.get("thread", "t1") is not None


def test_an_application_imports_what_it_had_before(guarded: EmbeddedRedis, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id,created_at,subject\nold,2026-03-01,user:42\nheld,,\ngone,,\n")
    url = acl.as_user(guarded.url, acl.APPLICATION)
    with Registry(url, provider="openai", timeout=5) as registry:
        registry.hold("thread", "held", reason="a test")
        registry.register("thread", "gone", "chat")
        registry.deleted("thread", "gone")
        asked = ("import", "ids.csv", "--kind", "thread", "--policy", "chat", "--json")
        environ = {**os.environ, "LAPSE_REGISTRY__URL": url, "LAPSE_PROVIDER": "openai"}
        done = subprocess.run([SCRIPT, *asked], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)

        assert (told["new"], told["settled"]) == (2, 1)
        assert registry.get("thread", "old") is not None


def test_the_application_has_the_commands_of_its_scripts_and_no_other() -> None:
    used = {name for one in (*SAID, *SUBJECTS) for name in re.findall(r"redis\.p?call\('([A-Z]+)'", named(one).text)}
    (line,) = [line for line in acl.SHIPPED.read_text().splitlines() if line.startswith(f"user {acl.APPLICATION} ")]
    granted = set(re.findall(r" \+(\S+)", line))

    assert granted == {name.lower() for name in used} | {
        "ping",
        "client|setinfo",
        "evalsha",
        "script|load",
        "hgetall",
        "wait",
        "select",
    }


@pytest.mark.parametrize("user", [acl.APPLICATION, acl.WORKER])
def test_a_registry_may_have_a_database_of_its_own(guarded: EmbeddedRedis, user: str) -> None:
    url = acl.as_user(guarded.url, user).removesuffix("/0") + "/3"
    with Registry(url, provider="openai", timeout=5) as registry:
        assert registry.register("thread", f"of-{user}", "chat").new


@pytest.mark.parametrize("user", [acl.APPLICATION, acl.WORKER])
@pytest.mark.parametrize("shipped", [acl.SHIPPED, acl.SHIPPED_62, acl.SHIPPED_CLUSTER], ids=lambda path: path.stem)
def test_select_and_wait_are_granted_by_name(shipped: Path, user: str) -> None:
    """Redis 6.2 has both in @keyspace alone, which nobody is given."""
    (line,) = [line for line in shipped.read_text().splitlines() if line.startswith(f"user {user} ")]
    assert {"+select", "+wait"} <= set(line.split())


REFUSED = [
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("INFO",),
    ("MONITOR",),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
    ("SCRIPT", "FLUSH"),
    ("EVAL", "return 1", "0"),
    ("DEL", SLOT + keys.HOLDS),
    ("XRANGE", SLOT + keys.AUDIT, "-", "+"),
    ("GET", "session:1"),
    ("HGET", "session:1", "f"),
    ("HSET", keys.control("lapse"), "*", "{}"),
    ("HGET", keys.control("lapse"), "*"),
    ("HSET", keys.erasures("lapse"), "id", "{}"),
    ("HGET", keys.erasing("lapse"), "x"),
    ("HSET", keys.epoch("lapse"), "id", "x"),
    ("HSET", keys.published("lapse"), "policies", "[]"),
    ("HSET", keys.throttle("lapse", "openai"), "tat", "0"),
    ("ZADD", "lapse:{broker}:lapse", "1", "x"),
    ("HSET", "other:{openai:thread}:holds", "id", "{}"),
    ("SADD", "lapse:{broker}:unacked", "x"),
]


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_an_application_can_do_nothing_else(application: Any, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        application.execute_command(*command)


def test_a_script_gives_an_application_no_right_that_it_does_not_have(application: Any) -> None:
    sha = application.script_load("return redis.call('GET', 'session:1')")

    with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|can't run|ACL"):
        application.evalsha(sha, 1, SLOT)


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("GET", "session:1"),
        ("SCRIPT", "FLUSH"),
        ("ACL", "LIST"),
        ("FUNCTION", "FLUSH"),
        ("SHUTDOWN",),
        ("SWAPDB", "0", "1"),
        ("EVAL", "return 1", "0"),
    ],
    ids=" ".join,
)
def test_a_worker_stays_within_the_namespace(guarded: EmbeddedRedis, command: tuple[str, ...]) -> None:
    with (
        redis.Redis.from_url(acl.as_user(guarded.url, acl.WORKER)) as worker,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        worker.execute_command(*command)


def test_the_shipped_file_lets_in_nobody_without_a_name_and_keeps_what_it_is_told() -> None:
    lines = acl.SHIPPED.read_text(encoding="utf-8").splitlines()

    assert {"user default off", "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(lines)
