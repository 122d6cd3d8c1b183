"""A running lapse in which every state was provoked: worker, beat, two exporters, three providers, a real Redis."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port
from support import erasures
from support.deployment import Deployment, Process, policy
from tools.prometheus import Prometheus

DAY = 86400
HEAD = """
[registry]
allow_volatile = true
[schedule]
sweep = "1s"
orphans = "1s"
[sweep]
budget = "5s"
lease = "20s"
ramp = "off"
[audit]
sink = "file:{directory}/missing/audit.jsonl"
[limits]
max_deletions = "unlimited"
max_newly_due = "unlimited"
"""
ACCOUNT = """
[providers.{name}]
type = "openai"
base_url = "{url}"
api_key_env = "OPENAI_API_KEY"
rate = "600/m"
"""
ORPHANS = """
[policies.idle]
provider = "openai"
kind = "assistant"
orphan = { min_age = "1s", seen = 1000, uses = "none" }
mode = "enforce"
"""
OPENAI = {"provider": '"openai"'}
POLICIES = (
    policy("chat", **OPENAI),
    policy("gone", **OPENAI),
    policy("stuck", ttl="1d", **OPENAI),
    policy("odd", **OPENAI),
    policy("slow", max_deletions='{ amount = 2, window = "1h" }', expect_gone="true", **OPENAI),
    policy("looks", mode="observe", **OPENAI),
    policy("jumped", max_newly_due="{ percent = 10, at_least = 1 }", **OPENAI),
    policy("resting", **OPENAI),
    policy("kept", kind="conversation", ttl="30d", **OPENAI),
    policy("stores", kind="vector_store", cascade='{ file = "delete" }', **OPENAI),
    ORPHANS,
    policy("locked", provider='"refused"'),
    policy("throttled", provider='"busy"'),
)


@dataclass(slots=True)
class Stage:
    """What runs. Policy chat is well; what each other one is, its name and ``provoke`` say."""

    lapse: Deployment
    redis: EmbeddedRedis
    prometheus: Prometheus
    ports: list[int]
    exporters: "list[subprocess.Popen[bytes]]"
    accounts: dict[str, Sandbox]
    worker: Process | None = None
    beat: Process | None = None

    def configure(self, *more: str) -> None:
        """Write the policy file."""
        accounts = [ACCOUNT.format(name=name, url=account.url) for name, account in self.accounts.items()]
        self.lapse.configure(*accounts, *POLICIES, *more, head=HEAD)

    def seed(
        self, count: int, name: str, *, kind: str = "thread", provider: str = "openai", days: float = 0
    ) -> list[str]:
        """Create objects at a provider and register them under a policy."""
        ids = self.accounts[provider].seed(kind, count)
        self.register(ids, name, kind=kind, provider=provider, days=days)
        return ids

    def register(
        self, ids: list[str], name: str, *, kind: str = "thread", provider: str = "openai", days: float = 0
    ) -> None:
        """Register ids under a policy, as that many days old."""
        then = time.time() - days * DAY
        one = {"kind": kind, "policy": name, "provider": provider, "created_at": then, "last_active_at": then}
        self.lapse.registry.register_many({"id": id_, **one} for id_ in ids)

    def provoke(self) -> None:
        """Bring about every state that lapse knows, with the worker's and beat's own work."""
        self.seed(9, "chat")
        (held,) = self.seed(1, "chat")
        self.lapse.registry.hold("thread", held, reason="case 7")
        stuck, odd = self.seed(3, "stuck", days=3), self.seed(2, "odd")
        self.register([f"thread_{n:024d}" for n in range(25)], "gone")
        self.seed(10, "slow")
        self.seed(4, "looks")
        self.seed(6, "jumped")
        self.seed(5, "resting")
        self.seed(10, "kept", kind="conversation")
        self.seed(3, "idle", kind="assistant", days=3)
        theirs = self.accounts["openai"].seed("file", 2)  # nobody registered them
        self.register(self.accounts["openai"].seed("vector_store", 1, file_ids=theirs), "stores", kind="vector_store")
        self.seed(3, "nowhere")
        self.seed(2, "locked", provider="refused")
        self.seed(2, "throttled", provider="busy")
        self.accounts["openai"].faults(
            [
                {"method": "DELETE", "ids": stuck, "effect": "error", "status": 500},
                {"method": "DELETE", "ids": odd, "effect": "error", "status": 422},
            ]
        )
        self.accounts["refused"].faults([{"effect": "error", "status": 401}])
        self.accounts["busy"].faults([{"effect": "error", "status": 429, "headers": {"Retry-After": "1"}}])
        self.ask_for_erasures()
        self.run("pause", "openai/thread/resting", "--reason", "a test")
        self.worker, self.beat = self.lapse.worker(children=2), self.lapse.beat()

    def ask_for_erasures(self) -> None:
        """Write a request that is due in three days and may still find something, and two that are complete."""
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            at = erasures.now(client)
            erasures.store(
                client, erasures.request(at, age=27, left=3, until=at + 1000 * DAY), *erasures.settled(at, 2)
            )

    def run(self, *command: str) -> str:
        """Run one command of lapse to its end."""
        done = subprocess.run(
            [str(LAPSE), *command],
            env=self.lapse.environ,
            cwd=self.lapse.directory,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout


LAPSE = Path(sys.executable).parent / "lapse"


@contextmanager
def staged(directory: Path, wait_until: Callable[..., None]) -> Iterator[Stage]:
    """Start Redis, providers, exporters and Prometheus; no worker yet, so that Prometheus sees the first increments."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        accounts = {name: stack.enter_context(Sandbox()) for name in ("openai", "refused", "busy")}
        deployment = Deployment(directory, server.url, accounts["openai"], wait_until)
        stack.callback(deployment.close)
        ports = [free_port(), free_port()]
        stage = Stage(deployment, server, stack.enter_context(Prometheus(directory, ports)), ports, [], accounts)
        stage.configure()
        for port in ports:
            stage.exporters.append(_exporter(stack, stage, port))
        wait_until(
            lambda: (
                len(stage.prometheus.query('up{job="lapse"} == 1')) == 2
                and stage.prometheus.query("max(lapse_deletions_total)")
            ),
            60,
            what="Prometheus scrapes both exporters",
        )
        yield stage


def _exporter(stack: ExitStack, stage: Stage, port: int) -> "subprocess.Popen[bytes]":
    log = stack.enter_context((stage.lapse.directory / f"metrics-{port}.log").open("wb"))
    command = die_with_parent(sys.executable, str(LAPSE), "metrics", "--port", str(port))
    process = subprocess.Popen(command, env=stage.lapse.environ, cwd=stage.lapse.directory, stdout=log, stderr=log)

    def end() -> None:
        process.kill()
        process.wait(10)

    stack.callback(end)
    return process
