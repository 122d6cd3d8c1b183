"""What lapse costs where nothing is due: Redis commands a second, CPU, and memory of each process.

Six policies, a worker with one child, beat, and an exporter that is scraped every 15 s. Commands are counted by the
server: those inside scripts are among them.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

from bench.deletions import _cpu, _environ
from bench.figures import Figure
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port
from support.sandbox_process import SandboxProcess

SECONDS = float(os.environ.get("LAPSE_BENCH_IDLE", "60"))
SETTLED, SCRAPE = 30.0, 15.0
POLICIES = 6
HEAD = """
[audit]
sink = "file:{audit}"
[providers.bench]
type = "openai"
base_url = "{url}"
api_key_env = "BENCH_KEY"
"""
POLICY = """
[policies.policy-{n}]
kind = "thread"
ttl = "30d"
anchor = "last_active_at"
mode = "enforce"
"""
SCRIPTS = Path(sys.executable).parent
WORKER = (sys.executable, "-m", "celery", "-A", "lapse.app", "worker", "-c", "1", "--loglevel=WARNING")
BEAT = (sys.executable, "-m", "celery", "-A", "lapse.app", "beat", "--loglevel=WARNING")


def measure(_rounds: int) -> list[Figure]:
    """Return the figures of one idle stretch; ``LAPSE_BENCH_IDLE`` says how many seconds it lasts."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lapse-idle-")))
        server = stack.enter_context(EmbeddedRedis(persistent=True))
        provider = stack.enter_context(SandboxProcess())
        client = stack.enter_context(redis.Redis.from_url(server.url))
        port = free_port()
        config = folder / "retention.toml"
        text = HEAD.format(url=provider.url, audit=folder / "audit.jsonl")
        config.write_text(text + "".join(POLICY.format(n=n) for n in range(POLICIES)), encoding="utf-8")
        environ = _environ(LAPSE_CONFIG=str(config), LAPSE_REGISTRY__URL=server.url, BENCH_KEY="sk-bench")
        exporter = (sys.executable, str(SCRIPTS / "lapse"), "metrics", "--port", str(port))
        commands = {"worker": WORKER, "beat": BEAT, "exporter": exporter}
        running = {name: stack.enter_context(_started(said, environ, folder)) for name, said in commands.items()}
        time.sleep(SETTLED)
        return _figures(client, port, {name: process.pid for name, process in running.items()})


def _figures(client: redis.Redis, port: int, pids: Mapping[str, int]) -> list[Figure]:
    spent, before, began = {name: _cpu(pid) for name, pid in pids.items()}, _calls(client), time.monotonic()
    total = _commands(client)
    scrapes = 0
    while (passed := time.monotonic() - began) < SECONDS:
        if passed >= scrapes * SCRAPE:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read()
            scrapes += 1
        time.sleep(0.2)
    lasted = time.monotonic() - began
    commands = (_commands(client) - total - 1) / lasted
    after = _calls(client)
    for name in sorted(after, key=lambda one: before.get(one, 0) - after[one]):
        if (rate := (after[name] - before.get(name, 0)) / lasted) >= 0.05:
            sys.stderr.write(f"  {name:20} {rate:6.2f}/s\n")
    cpu = {name: (_cpu(pid) - spent[name]) / lasted * 100 for name, pid in pids.items()}
    memory = {
        "worker's parent": _rss(pids["worker"]),
        "worker's child": statistics.fmean(map(_rss, _children(pids["worker"]))),
    }
    memory |= {name: _rss(pids[name]) for name in ("beat", "exporter")}
    return [
        Figure(f"idle: Redis commands/s, {POLICIES} policies", [commands], ("<=", 5)),
        Figure("idle: CPU of all processes, % of a core", [sum(cpu.values())], ("<=", 1)),
        *(Figure(f"idle: CPU of {name}, % of a core", [value], None) for name, value in cpu.items()),
        *(Figure(f"idle: RSS of {name}, MiB", [value], None) for name, value in memory.items()),
    ]


@contextlib.contextmanager
def _started(command: tuple[str, ...], environ: dict[str, str], folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    with (folder / f"{len(list(folder.iterdir()))}.log").open("wb") as out:
        process = subprocess.Popen(die_with_parent(*command), env=environ, cwd=folder, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def _commands(client: redis.Redis) -> int:
    return int(client.info("stats")["total_commands_processed"])


def _calls(client: redis.Redis) -> dict[str, int]:
    stats: Any = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _rss(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


__all__ = ["measure"]
