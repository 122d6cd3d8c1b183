"""Deletions a second of one whole Celery worker process, and of what it is compared with, by the provider's own log."""

import contextlib
import os
import resource
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
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent
from support.sandbox_process import SandboxProcess

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
concurrency = {concurrency}
"""
POLICY = """
[policies.{name}]
kind = "thread"
ttl = "1d"
anchor = "last_active_at"
mode = "enforce"
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a deployment is built: how far the provider is, how many worker processes and policies there are."""

    latency: str = "20ms"
    concurrency: int = CONCURRENCY
    workers: int = 1
    policies: tuple[str, ...] = ("chat",)
    crowded: bool = True


@dataclass(frozen=True, slots=True)
class Drain:
    """One round of lapse: DELETEs a second by the provider's log, ids a second all told, CPU microseconds an id.

    ``redis``: microseconds an id of the Redis thread that carries commands out.
    """

    rate: float
    whole: float
    cpu: float
    redis: float


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
    with deployed(Shape()) as deployment:
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
    """One registry, one provider, and running workers of one process each."""

    shape: Shape
    registry: Registry
    raw: Any  # a redis.Redis: typed, every reply could be awaitable
    provider: SandboxProcess
    broker: Celery
    workers: Sequence["subprocess.Popen[bytes]"]

    def drain(self, count: int) -> Drain:
        """Let the workers delete so many ids, and check by every account that they did."""
        self.provider.reset()
        ids = self.provider.seed("thread", count)
        times = {"created_at": LONG_AGO, "last_active_at": LONG_AGO}
        policies = self.shape.policies
        shares = [(name, ids[n :: len(policies)]) for n, name in enumerate(policies)]
        for name, share in shares:
            self.registry.register_many({"kind": "thread", "id": id_, "policy": name, **times} for id_ in share)
            self.registry.register("thread", share[0], name, last_active_at=LONG_AGO + 1)  # a use: it is counted from
        expected = self._deleted() + count
        spent, carried, began = self._spent(), self._carried(), time.perf_counter()
        for name in policies:
            self.broker.send_task("lapse.sweep_expired", ("bench", "thread", name), queue="lapse", ignore_result=True)
        self._wait(lambda: self._deleted() >= expected and not self.raw.xlen(f"{SLOT}{keys.AUDIT}"))
        whole, spent = time.perf_counter() - began, self._spent() - spent
        carried = self._carried() - carried
        if self._deleted() != expected or self.provider.alive("thread"):
            raise RuntimeError(f"of {count} ids, not every one was deleted, or one was counted twice")
        return Drain(_rate(self.provider, count), count / whole, spent / count * 1e6, carried / count * 1e6)

    def baseline(self, name: str, count: int, concurrency: int = CONCURRENCY) -> float:
        """Run one program of baselines.py on so many ids; return DELETEs a second."""
        return self.compared(name, count, concurrency)[0]

    def compared(self, name: str, count: int, concurrency: int) -> tuple[float, float]:
        """Run one program of baselines.py; return DELETEs a second, and CPU microseconds an id, its start left out."""
        self.provider.reset()
        ids = "\n".join(self.provider.seed("thread", count))
        command = [sys.executable, str(BASELINES), name, self.provider.url, str(concurrency)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(
            command, input=ids.encode(), env=_environ(), check=True, timeout=120, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime - float(ended.stdout or 0)
        return _rate(self.provider, count), spent / count * 1e6

    def _spent(self) -> float:
        return sum(_cpu(worker.pid) for worker in self.workers)

    def _carried(self) -> float:
        said = self.raw.info("cpu")
        return float(said["used_cpu_user_main_thread"] + said["used_cpu_sys_main_thread"])

    def _deleted(self) -> int:
        names = [f"deletions|{name}|thread" for name in self.shape.policies]
        return sum(int(n or 0) for n in self.raw.hmget(f"{SLOT}{keys.COUNTERS}", names))

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline or any(worker.poll() is not None for worker in self.workers):
                raise RuntimeError(f"the workers did not delete everything within {PATIENCE:.0f} s")
            time.sleep(0.01)


SLOT = keys.slot("lapse", "bench", "thread")


@contextlib.contextmanager
def deployed(shape: Shape) -> Iterator[Deployment]:
    """Start a deployment, and end it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lapse-bench-")))
        server = stack.enter_context(EmbeddedRedis(persistent=True))
        provider = stack.enter_context(SandboxProcess(latency=shape.latency))
        registry = stack.enter_context(Registry(server.url, provider="bench", timeout=10))
        raw = stack.enter_context(redis.Redis.from_url(server.url))
        if shape.crowded:
            gather(registry, raw, SLOT)
        broker = stack.enter_context(Celery(set_as_current=False))
        options = {"global_keyprefix": "lapse:{broker}:"}
        broker.conf.update(broker_url=server.url, broker_transport_options=options)
        config = CONFIG.format(url=provider.url, audit=folder / "audit.jsonl", concurrency=shape.concurrency)
        (folder / "retention.toml").write_text(config + "".join(POLICY.format(name=name) for name in shape.policies))
        workers = [stack.enter_context(_worker(folder, n, server)) for n in range(shape.workers)]
        yield Deployment(shape, registry, raw, provider, broker, workers)


@contextlib.contextmanager
def _worker(folder: Path, n: int, server: EmbeddedRedis) -> Iterator["subprocess.Popen[bytes]"]:
    config, log, runs = folder / "retention.toml", folder / f"worker-{n}.log", folder / f"run-{n}"
    more = {"LAPSE_CONFIG": str(config), "LAPSE_REGISTRY__URL": server.url, "LAPSE_RUNTIME_DIR": str(runs)}
    environ = _environ(BENCH_KEY=KEY, **more)
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
