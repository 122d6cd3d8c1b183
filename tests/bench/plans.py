"""What ``lapse plan -o`` and ``lapse apply`` take where much is due: seconds, memory, and the file.

``LAPSE_BENCH_IDS`` says how many ids, a million if it is not set. Each was touched, as an application's are, and is as
long as a conversation's.
"""

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from bench.figures import Figure
from lapse.registry import keys
from lapse.sandbox.redis_server import EmbeddedRedis

IDS = int(os.environ.get("LAPSE_BENCH_IDS", "1000000"))
SCRIPT = Path(sys.executable).with_name("lapse")
NAMES = ("plan.json", "plan.json.gz")
MEGA = 1_000_000
CONFIG = """
[registry]
url = "{url}"
allow_volatile = true
[providers.bench]
type = "openai"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "BENCH_KEY"
rate = "unlimited"
[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "last_active_at"
touches = "none"
mode = "enforce"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One command: its seconds, and the most memory that it had, in MiB."""

    seconds: float
    memory: float


def measure(rounds: int) -> list[Figure]:
    """Return the figures; all that the plan names has gone when it is applied, so that no provider is waited for."""
    with TemporaryDirectory() as folder, EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        home = Path(folder)
        (home / "retention.toml").write_text(CONFIG.format(url=server.url), encoding="utf-8")
        plans, applied = list[Run](), list[Run]()
        for _ in range(rounds):
            _fill(client)
            plans += [_run(home, "plan", "-o", name) for name in NAMES]
            client.flushall()
            applied.append(_run(home, "apply", "plan.json", "--confirm=bench"))
        sizes = [(home / name).stat().st_size / MEGA for name in NAMES]
    ids = f"{IDS:,} ids"
    return [
        Figure(f"lapse plan -o of {ids}, s", [one.seconds for one in plans], ("<=", 30)),
        Figure(f"lapse plan -o of {ids}, MiB in memory", [one.memory for one in plans], ("<=", 200)),
        Figure(f"the file of {ids}, MB", sizes[:1], None),
        Figure(f"the file of {ids}, packed, MB", sizes[1:], ("<=", 60)),
        Figure(f"lapse apply of {ids} that are gone, s", [one.seconds for one in applied], None),
        Figure(f"lapse apply of {ids} that are gone, MiB in memory", [one.memory for one in applied], ("<=", 200)),
    ]


def _fill(client: redis.Redis) -> None:
    """Leave ids as registering and touching them does."""
    prefix = keys.partition("lapse", "bench", "conversation", "chat")
    long_ago = round((time.time() - 90 * 86400) * 1000)
    for start in range(0, IDS, 10_000):
        ids = {
            f"conv_{hashlib.sha256(b'%d' % n).hexdigest()[:48]}": long_ago + n
            for n in range(start, min(IDS, start + 10_000))
        }
        client.zadd(prefix + keys.CREATED, ids)
        client.zadd(prefix + keys.ACTIVE, {id_: at + 1000 for id_, at in ids.items()})
    client.sadd(keys.slot("lapse", "bench", "conversation") + keys.POLICIES, "chat")


def _run(home: Path, *arguments: str) -> Run:
    environ = {**os.environ, "LAPSE_CONFIG": str(home / "retention.toml"), "BENCH_KEY": "sk-bench"}
    began = time.perf_counter()
    process = subprocess.Popen([SCRIPT, *arguments], cwd=home, env=environ, stdout=subprocess.DEVNULL)
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"lapse {arguments[0]} ended with {process.returncode}")
    return Run(time.perf_counter() - began, used.ru_maxrss / 1024)


__all__ = ["measure"]
