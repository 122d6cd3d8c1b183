"""A real exporter's page in six states of a deployment: ``make test-tools`` looks at each in a browser."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from lapse import Registry
from lapse.ledger.halts import Halts
from lapse.ledger.reasons import HaltReason
from lapse.policy.reload import ConfigFile
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.codec import dump
from lapse.registry.model import Partition
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port

HOUR, DAY = 3600, 86400
EVIL = "<script>alert(1)</script>\x1b[31m\ud800\"'&<b>"
RAW = EVIL.encode("utf-8", "surrogatepass")
NEVER = "seen-by-nobody"
"""Stands in every text that no page shows."""
HEAD = """
[registry]
allow_volatile = true
deployment = "production"
[providers.openai]
type = "openai"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "OPENAI_API_KEY"
rate = "60/m"
[providers.foundry]
type = "openai"
base_url = "http://127.0.0.1:10/v1"
api_key_env = "OPENAI_API_KEY"
rate = "600/m"
"""
POLICIES = """
[policies.chat]
provider = "openai"
kind = ["thread", "conversation"]
ttl = "30d"
anchor = "last_active_at"
touches = "none"
mode = "enforce"
[policies.uploads]
provider = "openai"
kind = "file"
ttl = "7d"
anchor = "created_at"
mode = "enforce"
keep = [{ name = "contract*" }]
[policies.trial]
provider = "foundry"
kind = "thread"
ttl = "1d"
anchor = "created_at"
mode = "observe"
"""
ONE = """
[policies.customer-{n:02d}]
provider = "{provider}"
kind = "thread"
ttl = "{days}d"
anchor = "created_at"
mode = "{mode}"
"""
MANY = "".join(
    ONE.format(
        n=n, provider="openai" if n % 3 else "foundry", days=7 + n % 30, mode="observe" if n % 5 == 4 else "enforce"
    )
    for n in range(64)
)


@dataclass
class Furnished:
    """A registry that real calls and real writers bring into a state, and its policy file."""

    directory: Path
    server: EmbeddedRedis
    policies: str = POLICIES
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.directory / "retention.toml"
        self.path.write_text(HEAD + self.policies)
        self.config = ConfigFile(self.path, {}).current()
        self.raw = redis.Redis.from_url(self.server.url, decode_responses=True)

    def register(self, policy: str, count: int, *, kind: str = "thread", provider: str = "openai", age: float) -> None:
        """Register ids that are that many days old."""
        at = time.time() - age * DAY
        with Registry(self.server.url, provider=provider, timeout=5) as registry:
            registry.register_many(
                {
                    "kind": kind,
                    "id": f"{kind}_{policy}{age:g}{n}",
                    "policy": policy,
                    "created_at": at,
                    "last_active_at": at,
                }
                for n in range(count)
            )

    def works(self, *, silent: float = 20) -> None:
        """Let beat and a worker have been here so many seconds ago."""
        now = round(time.time() * 1000)
        then = now - round(silent * 1000)
        about = {"worker": "worker-1:4711", "hash": self.config.hash, "path": str(self.path), "ok": True}
        published: dict[Any, Any] = {"beat": then, "tick": then, "config": dump(about)}
        self.raw.hset(keys.published("lapse"), mapping=published)
        self.raw.hset(keys.workers("lapse"), "worker-1:4711", dump({"at": then, "hash": self.config.hash}))
        self.raw.hset(keys.epoch("lapse"), mapping={"id": "0f6d9a3f4a11", "created": now - 90 * DAY * 1000})
        for n, rule in enumerate(self.config.rules):
            at = rule.partition
            swept: dict[Any, Any] = {
                "woken": then - n * 1000,
                "digest": rule.digest,
                "success": then - n * 1000,
            }
            self.raw.hset(keys.partition("lapse", at.provider, at.kind, at.policy) + keys.RULES, mapping=swept)

    def ask(self, work: Callable[[Halts], Awaitable[object]]) -> None:
        """Let an operator or a guard say something."""

        async def inside() -> None:
            carrier = Carrier(self.server.url, 5)
            await work(Halts(carrier, "lapse"))
            await carrier.aclose()

        asyncio.run(inside())


def healthy(made: Furnished) -> None:
    made.register("chat", 812, age=3)
    made.register("chat", 96, kind="conversation", age=1)
    made.register("uploads", 240, kind="file", age=2)
    made.register("trial", 31, provider="foundry", age=3)
    made.works()


def halted(made: Furnished) -> None:
    healthy(made)
    made.register("uploads", 1284, kind="file", age=30)
    files, threads = Partition("openai", "file", "uploads"), Partition("openai", "thread", "chat")
    detail = "1,284 ids would become due: thread_secret"
    made.ask(lambda halts: halts.halt(files, HaltReason.CUTOFF_JUMPED, detail, plan="0f3c9d1e77aa"))
    made.ask(lambda halts: halts.halt(threads, HaltReason.NO_WITNESS, "thread_secret", whole_kind=True))
    made.ask(lambda halts: halts.pause("foundry", "the move of ann", "ann"))
    made.raw.hset(
        keys.throttle("lapse", "foundry"),
        mapping={
            "breaker": "auth",
            "breaker_since": round((time.time() - 600) * 1000),
            "breaker_until": round((time.time() + 45) * 1000),
            "cause_detail": "401 secret",
        },
    )
    made.register("left-over", 7, age=1)


def overdue(made: Furnished) -> None:
    made.register("chat", 950, age=3)
    made.register("chat", 4120, age=34)
    made.register("uploads", 77, kind="file", age=19)
    quarantine = keys.partition("lapse", "openai", "file", "uploads") + keys.QUARANTINE
    made.raw.zadd(quarantine, {f"file_{n}": 1 for n in range(3)})
    made.works(silent=2 * HOUR)


def empty(made: Furnished) -> None:
    """Leave it as it is in the first hour: a policy file, a registry, and nothing else."""


def many(made: Furnished) -> None:
    for n in range(64):
        made.register(f"customer-{n:02d}", 3 + n * 7 % 40, provider="openai" if n % 3 else "foundry", age=n % 20)
    made.works()


def hostile(made: Furnished) -> None:
    """Write such a text wherever the registry keeps one that was given."""
    raw = redis.Redis.from_url(made.server.url)
    slot = keys.slot("lapse", "openai", "thread").encode()
    told = EVIL + NEVER
    named = EVIL.replace("\ud800", "").encode()
    for name in (RAW, named):
        raw.sadd(slot + b"policies", name)
        raw.zadd(slot + name + b":fresh", {b"thread_" + RAW: 1})
    raw.sadd("lapse:slots", RAW + b"/thread", b"a/b/c", RAW)
    raw.hset(b"lapse:{" + RAW + b":thread}:holds", mapping={b"x": json.dumps({"reason": told}), b"\x01": b"1"})
    halt = json.dumps({"since": 1, "detail": told, "plan": told})
    planned = json.dumps({"since": 1, "detail": told, "plan": NEVER})
    raw.hset(slot + b"halts", mapping={b"chat|" + RAW: halt, b"chat|cutoff_jumped": planned, b"*|no_witness": halt})
    raw.hset("lapse:control", mapping={RAW: json.dumps({"since": 1, "actor": told, "reason": told})})
    raw.hset("lapse:control", "openai/file", json.dumps({"since": 1, "actor": told, "reason": told}))
    flow: dict[Any, Any] = {"breaker": RAW, "cause_detail": told.encode("utf-8", "surrogatepass"), "cause_key": NEVER}
    raw.hset("lapse:{openai}:flow", mapping=flow)
    raw.hset(slot + b"marks", mapping={"shut": RAW, "shut_detail": RAW + NEVER.encode(), "shut_until": 1})
    rules: dict[Any, Any] = {
        "failing_since": 1,
        "failing_times": 9,
        "failing_result": RAW,
        "failing_detail": RAW + NEVER.encode(),
        "orphans": json.dumps({EVIL: 3}),
        "digest": RAW,
    }
    raw.hset(slot + b"chat:rules", mapping=rules)
    raw.hset("lapse:workers", mapping={RAW + b":1": json.dumps({"at": 1, "hash": told})})
    about = json.dumps({"worker": EVIL, "hash": EVIL, "path": told, "ok": True})
    raw.hset("lapse:published", mapping={"config": about, "slots": json.dumps([[EVIL, "thread"], ["gone", EVIL]])})
    raw.hset(slot + b"counters", mapping={b"deletions|" + RAW + b"|thread": 5})
    raw.close()


STATES: dict[str, Callable[[Furnished], None]] = {
    "healthy": healthy,
    "halted": halted,
    "overdue": overdue,
    "registry away": healthy,
    "empty": empty,
    "64 policies": many,
}


@contextmanager
def page_of(name: str, directory: Path) -> Iterator[str]:
    """Bring about a state, and serve its page; yields the address."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        made = Furnished(directory, server, MANY if name == "64 policies" else POLICIES)
        (hostile if name == "hostile" else STATES[name])(made)
        made.raw.close()
        url = stack.enter_context(exporter(directory, made.path, server.url))
        if name == "registry away":
            server.stop()
        yield url


@contextmanager
def exporter(directory: Path, config: Path, url: str) -> Iterator[str]:
    """Run ``lapse metrics --page``; yields the address of its page."""
    port = free_port()
    command = (str(Path(sys.executable).with_name("lapse")), "metrics", "--page", "--port", str(port))
    environ = {**os.environ, "LAPSE_CONFIG": str(config), "REDIS_URL": url}
    with (directory / "exporter.log").open("wb") as log:
        process = subprocess.Popen(die_with_parent(sys.executable, *command), env=environ, stdout=log, stderr=log)
    try:
        _until_it_listens(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait(10)


def _until_it_listens(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5):
                return
        except OSError:
            assert process.poll() is None, "lapse metrics ended"
            assert time.monotonic() < deadline, "lapse metrics does not listen"
            time.sleep(0.05)
