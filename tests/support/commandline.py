"""The command line as an operator has it: the real script, a policy file, a registry, a worker when called."""

import asyncio
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse import Registry
from lapse.registry import keys
from lapse.registry.model import Partition
from lapse.runtime.host import Host
from lapse.runtime.jobs import Work
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import die_with_parent
from support import clusters, forked, printed

KEY = "sk-test-0123456789abcdefghij"
DAY = 86400.0
SCRIPT = Path(sys.executable).with_name("lapse")
WAIT = 60

HEAD = """
[registry]
allow_volatile = true
[sweep]
ramp = "off"
lease = "20s"
[audit]
sink = "file:{directory}/audit.jsonl"
[limits]
max_newly_due = "unlimited"
[providers.openai]
type = "openai"
base_url = "{base_url}"
api_key_env = "OPENAI_API_KEY"
rate = "unlimited"
"""
CHAT = """
[policies.chat]
kind = ["conversation", "thread"]
ttl = "7d"
anchor = "created_at"
"""
ENFORCED = CHAT + 'mode = "enforce"\n'


@dataclass(frozen=True, slots=True)
class Result:
    """What one call of the script came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


class Desk:
    """A directory with a policy file, the environment of an operator, and what stands behind it."""

    def __init__(self, directory: Path, url: str, sandbox: Sandbox) -> None:
        self.directory = directory
        self.sandbox = sandbox
        self.environ = {**os.environ, **clusters.environ(url), "OPENAI_API_KEY": KEY}
        self.registry = Registry(clusters.as_lapse_names_it(url), provider="openai", timeout=5)
        self.raw = redis.Redis.from_url(url, decode_responses=True)
        self.config = directory / "config" / "retention.toml"
        self.configure(CHAT)

    def configure(self, policies: str, *, head: str = HEAD, **values: str) -> None:
        """Write the policy file; ``values`` replace lines of its head, such as ``rate = ...``."""
        text = head.format(directory=self.directory, base_url=self.sandbox.url)
        for name, value in values.items():
            lines = [f"{name} = {value}" if line.startswith(f"{name} =") else line for line in text.splitlines()]
            text = "\n".join(lines) + "\n"
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(text + policies)

    def run(self, *arguments: str, given: str = "", **environ: str) -> Result:
        """Run the script without a terminal; what it prints as JSON is held to its schema."""
        with ExitStack() as stack:
            files = [stack.enter_context(os.fdopen(os.memfd_create(name), "w+")) for name in ("in", "out", "err")]
            files[0].write(given)
            files[0].seek(0)
            within = {**self.environ, **environ}
            code = forked.call(arguments, self.directory, within, [file.fileno() for file in files], WAIT)
            for file in files:
                file.seek(0)
            result = Result(code, files[1].read(), files[2].read())
        printed.check(arguments, result.out)
        return result

    def good(self, *arguments: str, given: str = "", **environ: str) -> Result:
        """Run the script, which has to succeed."""
        result = self.run(*arguments, given=given, **environ)
        assert result.code == 0, result
        return result

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run the script beside the test; it ends at the end of the context at the latest."""
        process = subprocess.Popen(
            die_with_parent(sys.executable, str(SCRIPT), *arguments),
            cwd=self.directory,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def terminal(
        self, *arguments: str, width: int = 120, typed: str = "", out: Path | None = None, **environ: str
    ) -> Result:
        """Run the script on a terminal of a width; ``err`` is empty: a terminal shows both as one.

        ``out``: a file for stdout; then ``out`` of the result is what went to the terminal beside it.
        """
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        env = {name: value for name, value in self.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
        with ExitStack() as stack:
            process = subprocess.Popen(
                [SCRIPT, *arguments],
                cwd=self.directory,
                env={**env, "TERM": "xterm-256color", **environ},
                stdin=theirs,
                stdout=stack.enter_context(out.open("w")) if out else theirs,
                stderr=theirs,
                start_new_session=True,
            )
        os.close(theirs)
        if typed:
            os.write(ours, typed.encode() + b"\n")
        shown = b"".join(_until_closed(ours))
        os.close(ours)
        return Result(process.wait(WAIT), shown.decode().replace("\r\n", "\n"), "")

    def worker(self, *, sweeps: int = 1) -> None:
        """Let a worker do its housekeeping and sweep every partition, as often as said."""
        asyncio.run(self._work(sweeps))

    async def _work(self, sweeps: int) -> None:
        host = Host(self.environ, self.directory)
        work = Work(host)
        try:
            await work.housekeep()
            for _ in range(sweeps):
                for rule in host.config.rules:
                    at = rule.partition
                    # Its interval is over: a wake-up that nobody stamped makes no rule run oftener than that.
                    self.raw.hdel(keys.partition("lapse", at.provider, at.kind, at.policy) + keys.RULES, "woken")
                    await work.sweep(at, None)
        finally:
            await work.aclose()

    def erases(self) -> None:
        """Let a worker do its housekeeping, erase for one slice, and note how far that has come."""
        self.raw.hset("lapse:published", "beat", round(time.time() * 1000))
        asyncio.run(self._erase())

    async def _erase(self) -> None:
        work = Work(Host(self.environ, self.directory))
        try:
            await work.housekeep()
            await work.erase()
            await work.housekeep()
        finally:
            await work.aclose()

    def seed(
        self, count: int, *, kind: str = "thread", policy: str = "chat", days: float = 30, **facts: Any
    ) -> list[str]:
        """Create objects at the provider and register them, both as that many days old."""
        at = time.time() - days * DAY
        ids = self.sandbox.seed(kind, count, created_at=int(at))
        self.registry.register_many(
            {"kind": kind, "id": id_, "policy": policy, "created_at": at, "last_active_at": at, **facts} for id_ in ids
        )
        return ids

    def stored(self) -> dict[str, Any]:
        """Return what every key holds: not its DUMP, whose order is that of a table that Redis may be rehashing."""
        raw: Any = self.raw
        read = {
            "string": raw.get,
            "hash": raw.hgetall,
            "set": raw.smembers,
            "zset": lambda key: raw.zrange(key, 0, -1, withscores=True),
            "stream": raw.xrange,
            "list": lambda key: raw.lrange(key, 0, -1),
        }
        return {key: read[raw.type(key)](key) for key in raw.scan_iter()}

    def halts(self, kind: str = "thread") -> dict[str, Any]:
        stored: Any = self.raw.hgetall(f"lapse:{{openai:{kind}}}:halts")
        return {name: json.loads(text) for name, text in stored.items()}

    def rules(self, partition: Partition) -> dict[str, str]:
        stored: Any = self.raw.hgetall(f"lapse:{{{partition.provider}:{partition.kind}}}:{partition.policy}:rules")
        return dict(stored)

    def audit(self, kind: str = "thread") -> list[dict[str, Any]]:
        """Return what waits in the registry to be moved to the sink."""
        slot = keys.slot("lapse", "openai", kind)
        streams: Any = [self.raw.xrange(slot + name) for name in (keys.AUDIT, keys.ACTS)]
        return sorted((json.loads(entry["e"]) for rows in streams for _id, entry in rows), key=lambda one: one["at"])

    def close(self) -> None:
        self.registry.close()
        self.raw.close()


@pytest.fixture
def desk(tmp_path: Path, redis_url: str, sandbox: Sandbox) -> Iterator[Desk]:
    """Return an operator's desk."""
    made = Desk(tmp_path, redis_url, sandbox)
    yield made
    made.close()


def _until_closed(terminal: int) -> Iterator[bytes]:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 1)
        if not ready:
            continue
        try:
            read = os.read(terminal, 65536)
        except OSError:  # Linux: the other side is closed
            return
        if not read:
            return
        yield read
    raise TimeoutError("the script did not end")
