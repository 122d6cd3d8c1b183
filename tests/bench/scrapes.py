"""What a scrape costs the exporter and Prometheus: a million records, twenty partitions, and every counter moved."""

import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import redis

from bench.figures import Figure
from lapse import Registry
from lapse.ledger.reasons import OF_ORPHANS, SHARED
from lapse.metrics.catalog import GUARDS, LAG_BOUNDS, OUTCOMES, REQUEST_BOUNDS, RESULTS
from lapse.metrics.collector import exposition
from lapse.policy import Config
from lapse.policy.reload import ConfigFile
from lapse.registry import keys
from lapse.registry.model import Partition
from lapse.sandbox.redis_server import EmbeddedRedis

RECORDS = 1_000_000
DAY = 86400
PROVIDERS = ("one", "two")
KINDS = ("thread", "conversation")
POLICIES = 5  # of each provider and kind: 20 partitions
OPS = {"delete": ("200", "404", "429", "500", "timeout"), "items": ("200", "429"), "witness": ("200", "404")}
SERIES_OF_A_PARTITION, SERIES_BESIDE = 60, 100

ACCOUNT = """
[providers.{name}]
type = "openai"
base_url = "http://127.0.0.1:9"
api_key_env = "{key}"
"""
POLICY = """
[policies.{provider}-{kind}-{number}]
provider = "{provider}"
kind = "{kind}"
ttl = "7d"
anchor = "created_at"
mode = "enforce"
"""


def measure(rounds: int) -> list[Figure]:
    """Return what one scrape takes, and how many series it has."""
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        file = _config(Path(folder))
        _register(server.url, file.current())
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            _work_for_a_month(client, file.current())
            taken = [_scrape_ms(client, file) for _ in range(4 * rounds + 1)][1:]
            text = exposition(client, file)[1].decode()
    partitions = len(file.current().rules)
    series = len([line for line in text.splitlines() if not line.startswith("#")])
    bound = partitions * SERIES_OF_A_PARTITION + SERIES_BESIDE
    return [
        Figure("scrape at 1 million records and 20 partitions, ms", taken, ("<=", 250)),
        Figure("the slowest of these scrapes, ms", [max(taken)], ("<=", 250)),
        Figure("series of 20 partitions with every counter moved", [series], ("<=", bound)),
    ]


def _config(folder: Path) -> ConfigFile:
    path = folder / "retention.toml"
    text = "".join(ACCOUNT.format(name=name, key=f"{name.upper()}_KEY") for name in PROVIDERS)
    for provider, kind, number in product(PROVIDERS, KINDS, range(POLICIES)):
        text += POLICY.format(provider=provider, kind=kind, number=number)
    path.write_text(text)
    return ConfigFile(path, {})


def _register(url: str, config: Config) -> None:
    """Register a million ids, a tenth of them due, a tenth touched."""
    each = RECORDS // len(config.rules)
    now = time.time()
    for rule in config.rules:
        partition = rule.partition
        with Registry(url, provider=partition.provider, timeout=30) as registry:
            registry.register_many(
                {
                    "kind": partition.kind,
                    "id": f"{partition.policy}_{n:018d}",
                    "policy": partition.policy,
                    "created_at": now - (30 * DAY if n % 10 == 0 else DAY),
                    **({"last_active_at": now - DAY / 2} if n % 10 == 1 else {}),
                }
                for n in range(each)
            )


def _work_for_a_month(client: redis.Redis, config: Config) -> None:
    """Leave the counters as a month does in which everything happened once."""
    for rule in config.rules:
        slot = keys.slot("lapse", rule.partition.provider, rule.partition.kind)
        client.hset(slot + keys.COUNTERS, mapping=dict.fromkeys(_fields(rule.partition), 7))
        client.hset(slot + rule.partition.policy + ":" + keys.RULES, "success", round(time.time() * 1000))
        client.hset(slot + keys.HALTS, f"{rule.partition.policy}|no_witness", '{"since": 1, "detail": "bench"}')


def _fields(at: Partition) -> Iterator[str]:
    yield from (f"deletions|{at.policy}|{at.kind}", f"crashes|{at.policy}", "rate_wait_ms||", f"lag_ms|{at.policy}")
    first = at.policy.endswith("-0")  # counted once for each provider and kind
    guards = [one for one in GUARDS if one not in OF_ORPHANS and (first or one not in SHARED)]
    results = [one for one in RESULTS if one != "undecided"]  # what only a listing can be
    for name, words in (("settled", OUTCOMES), ("sweeps", results), ("guard_trips", guards)):
        yield from (f"{name}|{at.policy}|{word}" for word in words)
    yield from (f"lag|{at.policy}|{bound}" for bound in (*LAG_BOUNDS, "inf"))
    for op, answers in OPS.items():
        yield from (f"requests||{op}|{answer}" for answer in answers)
        yield from (f"request_seconds||{op}|{bound}" for bound in (*REQUEST_BOUNDS, "inf"))
        yield f"request_ms||{op}"


def _scrape_ms(client: redis.Redis, file: ConfigFile) -> float:
    began = time.perf_counter()
    exposition(client, file)
    return (time.perf_counter() - began) * 1000


__all__ = ["measure"]
