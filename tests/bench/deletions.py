"""Deletions a second of one whole Celery worker process, and of what it is compared with, by the provider's own log."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, ratio
from lapse import Registry
from lapse.embedded import EmbeddedRedis, die_with_parent
from lapse.sandbox import SandboxProcess

BASELINES = Path(__file__).with_name("baselines.py")
SCRIPTS = Path(sys.executable).parent
CONCURRENCY = 64
LONG_AGO = 1_600_000_000
KEY = "sk-bench-0123456789abcdef"
CONFIG = """
# What production must not copy: enforce without approval, no ramp, no limits.
[schedule]
sweep = "1s"
[sweep]
ramp = "off"
batch = 64
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
anchor = "created_at"
mode = "enforce"
"""


def measure(rounds: int) -> list[Figure]:
    """Interleave lapse and the baselines, and return the figures."""
    runs: dict[str, list[tuple[float, float]]] = {"lapse": [], "openai": [], "notebook": [], "ceiling": []}
    with (
        tempfile.TemporaryDirectory(prefix="lapse-bench-") as folder,
        EmbeddedRedis(persistent=True) as redis,
        SandboxProcess(latency="20ms") as provider,
        _worker(Path(folder), redis, provider) as worker,
        Registry(redis.url, provider="bench", timeout=10) as registry,
    ):
        for i in range(rounds + 1):
            measured = {
                "lapse": _lapse(registry, provider, worker, 4000),
                "openai": _baseline("openai", provider, 2000),
                "notebook": _baseline("notebook", provider, 60),
                "ceiling": _baseline("ceiling", provider, 4000),
            }
            for name, one in measured.items() if i else ():  # the first round warms up
                runs[name].append(one)
    rates = {name: [rate for rate, _cpu in found] for name, found in runs.items()}
    return [
        Figure("deletions/s, lapse: one worker process", rates["lapse"], None),
        Figure("deletions/s, AsyncOpenAI loop, 64 at a time", rates["openai"], None),
        Figure("deletions/s, notebook loop", rates["notebook"], None),
        Figure("deletions/s, ceiling of the stand-in at 20 ms, 64 at a time", rates["ceiling"], None),
        ratio("deletions/s, lapse to AsyncOpenAI", rates["lapse"], rates["openai"], ">=", 2.0),
        ratio("deletions/s, lapse to the notebook loop", rates["lapse"], rates["notebook"], ">=", 40),
        Figure("CPU per deletion, lapse's process tree, us", [cpu for _rate, cpu in runs["lapse"]], ("<=", 400)),
    ]


@contextmanager
def _worker(folder: Path, redis: EmbeddedRedis, provider: SandboxProcess) -> Iterator[int]:
    config = folder / "retention.toml"
    config.write_text(CONFIG.format(url=provider.url, audit=folder / "audit.jsonl"))
    environ = os.environ | {"LAPSE_CONFIG": str(config), "LAPSE_REGISTRY__URL": redis.url, "BENCH_KEY": KEY}
    command = [sys.executable, str(SCRIPTS / "celery"), "-A", "lapse.app", "worker", "--beat", "-c", "1"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(die_with_parent(*command), env=environ, cwd=folder, stdout=log, stderr=log)
    try:
        yield process.pid
    except BaseException:
        sys.stderr.write((folder / "worker.log").read_text()[-3000:])
        raise
    finally:
        process.terminate()
        process.wait(20)


def _lapse(registry: Registry, provider: SandboxProcess, worker: int, count: int) -> tuple[float, float]:
    provider.reset()
    ids = provider.seed("thread", count)
    before = _cpu(worker)
    times = {"created_at": LONG_AGO, "last_active_at": LONG_AGO}
    registry.register_many({"kind": "thread", "id": id_, "policy": "chat", **times} for id_ in ids)
    deadline = time.monotonic() + 60
    while provider.alive("thread"):
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not delete everything within 60 s")
        time.sleep(0.1)
    return _rate(provider), (_cpu(worker) - before) / count * 1e6


def _baseline(name: str, provider: SandboxProcess, count: int) -> tuple[float, float]:
    provider.reset()
    ids = "\n".join(provider.seed("thread", count))
    command = [sys.executable, str(BASELINES), name, provider.url, str(CONCURRENCY)]
    subprocess.run(command, input=ids.encode(), check=True, timeout=120)
    return _rate(provider), 0.0


def _rate(provider: SandboxProcess) -> float:
    """Return DELETEs a second from the first to the last one in the provider's log."""
    times = sorted(one["time"] for one in provider.requests() if one["method"] == "DELETE")
    return float((len(times) - 1) / (times[-1] - times[0]))


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
    family, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grew = bool(more)
    return sum(spent.get(pid, 0.0) for pid in family)


__all__ = ["measure"]
