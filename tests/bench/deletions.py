"""Deletions a second of one whole Celery worker process, and of what it is compared with, by the provider's own log."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from celery.app.base import Celery  # type: ignore[import-untyped]

from bench.baselines import KEY
from bench.crowd import gather
from bench.figures import Figure, ratio
from lapse import Registry
from lapse.registry import keys
from lapse.sandbox import SandboxProcess
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent

BASELINES = Path(__file__).with_name("baselines.py")
CONCURRENCY = 64
MANY = 256  # enough to keep the stand-in busy through its own latency
LONG_AGO = 1_600_000_000
PATIENCE = 60.0
FOREIGN = ("LAPSE_", "OPENAI_", "REDIS_", "CELERY_")
CONFIG = """
# What production must not copy: enforce without approval, no ramp, no limits.
[sweep]
ramp = "off"
[audit]
sink = "file:{audit}"
[limits]
max_deletions = "unlimited"
max_newly_due = "unlimited"
[providers.bench]
type = "openai"
base_url = "{url}"
api_key_env = "BENCH_KEY"
rate = "unlimited"
concurrency = 64
[policies.chat]
kind = "thread"
ttl = "1d"
anchor = "last_active_at"
mode = "enforce"
"""


@dataclass(frozen=True, slots=True)
class Drain:
    """One round of lapse: DELETEs a second by the provider's log, ids a second all told, CPU microseconds an id."""

    rate: float
    whole: float
    cpu: float


def measure(rounds: int) -> list[Figure]:
    """Interleave lapse and the baselines, and return the figures; a first round warms up."""
    drains: list[Drain] = []
    baselines = {
        "openai": (4000, CONCURRENCY, "openai"),
        "notebook": (60, 1, "notebook"),
        "raw": (8000, CONCURRENCY, "raw"),
        "capacity": (16000, MANY, "raw"),
    }
    rates: dict[str, list[float]] = {name: [] for name in baselines}
    with _deployment() as deployment:
        for _ in range(rounds + 1):
            drains.append(deployment.drain(8000))
            for name, (count, concurrency, program) in baselines.items():
                rates[name].append(deployment.baseline(program, count, concurrency))
    drains, rates = drains[1:], {name: found[1:] for name, found in rates.items()}
    ours = [drain.rate for drain in drains]
    return [
        Figure("deletions/s, lapse: one worker process", ours, None),
        Figure("deletions/s, lapse: from wake-up to settled and audited", [drain.whole for drain in drains], None),
        Figure("deletions/s, AsyncOpenAI loop, 64 at a time", rates["openai"], None),
        Figure("deletions/s, notebook loop", rates["notebook"], None),
        Figure("deletions/s, raw sockets, 64 at a time (20 ms: at most 3,200)", rates["raw"], None),
        Figure("deletions/s, ceiling of the stand-in, 256 at a time", rates["capacity"], None),
        ratio("deletions/s, lapse to AsyncOpenAI", ours, rates["openai"], ">=", 2.0),
        ratio("deletions/s, lapse to the notebook loop", ours, rates["notebook"], ">=", 40),
        ratio("deletions/s, ceiling of the stand-in to lapse", rates["capacity"], ours, ">=", 1.0),
        Figure("CPU per deletion, lapse's process tree, us", [drain.cpu for drain in drains], ("<=", 400)),
    ]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One registry, one provider 20 ms away, one running worker."""

    registry: Registry
    raw: Any  # a redis.Redis: typed, every reply could be awaitable
    provider: SandboxProcess
    broker: Celery
    worker: "subprocess.Popen[bytes]"

    def drain(self, count: int) -> Drain:
        """Let the worker delete so many ids, and check by every account that it did."""
        self.provider.reset()
        ids = self.provider.seed("thread", count)
        times = {"created_at": LONG_AGO, "last_active_at": LONG_AGO}
        self.registry.register_many({"kind": "thread", "id": id_, "policy": "chat", **times} for id_ in ids)
        self.registry.register("thread", ids[0], "chat", last_active_at=LONG_AGO + 1)  # a use: it is counted from
        expected = self._deleted() + count
        spent, began = _cpu(self.worker.pid), time.perf_counter()
        self.broker.send_task("lapse.sweep_expired", ("bench", "thread", "chat"), queue="lapse", ignore_result=True)
        self._wait(lambda: self._deleted() >= expected and not self.raw.xlen(f"{SLOT}{keys.AUDIT}"))
        whole, spent = time.perf_counter() - began, _cpu(self.worker.pid) - spent
        if self._deleted() != expected or self.provider.alive("thread"):
            raise RuntimeError(f"of {count} ids, not every one was deleted, or one was counted twice")
        return Drain(_rate(self.provider, count), count / whole, spent / count * 1e6)

    def baseline(self, name: str, count: int, concurrency: int = CONCURRENCY) -> float:
        """Run one program of baselines.py on so many ids; return DELETEs a second."""
        self.provider.reset()
        ids = "\n".join(self.provider.seed("thread", count))
        command = [sys.executable, str(BASELINES), name, self.provider.url, str(concurrency)]
        subprocess.run(command, input=ids.encode(), env=_environ(), check=True, timeout=120)
        return _rate(self.provider, count)

    def _deleted(self) -> int:
        return int(self.raw.hget(f"{SLOT}{keys.COUNTERS}", "deletions|chat|thread") or 0)

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline or self.worker.poll() is not None:
                raise RuntimeError(f"the worker did not delete everything within {PATIENCE:.0f} s")
            time.sleep(0.01)


SLOT = keys.slot("lapse", "bench", "thread")


@contextlib.contextmanager
def _deployment() -> Iterator[Deployment]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lapse-bench-")))
        server = stack.enter_context(EmbeddedRedis(persistent=True))
        provider = stack.enter_context(SandboxProcess(latency="20ms"))
        registry = stack.enter_context(Registry(server.url, provider="bench", timeout=10))
        raw = stack.enter_context(redis.Redis.from_url(server.url))
        gather(registry, raw, SLOT)
        broker = stack.enter_context(Celery(set_as_current=False))
        options = {"global_keyprefix": "lapse:{broker}:"}
        broker.conf.update(broker_url=server.url, broker_transport_options=options)
        worker = stack.enter_context(_worker(folder, server, provider))
        yield Deployment(registry, raw, provider, broker, worker)


@contextlib.contextmanager
def _worker(folder: Path, server: EmbeddedRedis, provider: SandboxProcess) -> Iterator["subprocess.Popen[bytes]"]:
    config, log = folder / "retention.toml", folder / "worker.log"
    config.write_text(CONFIG.format(url=provider.url, audit=folder / "audit.jsonl"))
    environ = _environ(LAPSE_CONFIG=str(config), LAPSE_REGISTRY__URL=server.url, BENCH_KEY=KEY)
    command = [sys.executable, "-m", "celery", "-A", "lapse.app", "worker", "-c", "1", "--loglevel=INFO"]
    with log.open("wb") as out:
        process = subprocess.Popen(die_with_parent(*command), env=environ, cwd=folder, stdout=out, stderr=out)
    try:
        yield process
    except BaseException:
        sys.stderr.write(log.read_text()[-3000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _environ(**more: str) -> dict[str, str]:
    """Return an environment that points at nothing real, and past every proxy."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return ours | {"NO_PROXY": "*"} | more


def _rate(provider: SandboxProcess, count: int) -> float:
    """Return DELETEs a second from the first to the last one in the provider's log."""
    times = sorted(one["time"] for one in provider.requests() if one["method"] == "DELETE")
    if len(times) != count:
        raise RuntimeError(f"the provider saw {len(times)} DELETEs of {count} ids")
    return float((count - 1) / (times[-1] - times[0]))


def _cpu(root: int) -> float:
    """Return the CPU seconds, user and system, of a process and its descendants, the ended ones included."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            spent[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    family = _descendants(root, parents)
    return sum(spent.get(pid, 0.0) for pid in family)


def _descendants(root: int, parents: dict[int, int]) -> Sequence[int]:
    family = [root]
    for member in family:  # grows while it is read
        family += [pid for pid, parent in parents.items() if parent == member]
    return family


__all__ = ["measure"]
