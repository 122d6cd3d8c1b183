"""Everything real, and a proxy on either side: an application, Redis with AOF, workers, beat, exporter, provider."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import redis

from faults.application import Application
from faults.proxy import Proxy
from faults.traffic import Traffic
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port
from oracle import reading
from oracle.history import History, Violation
from oracle.verdict import violations
from support import counted, evidence
from support.deployment import HEAD, KEY, Deployment, Process
from support.sandbox_process import SandboxProcess

if TYPE_CHECKING:
    from lapse.sandbox import Sandbox

RIG = HEAD.replace('lease = "20s"', 'lease = "5s"').replace("allow_volatile = true", "allow_volatile = false")
BEGINNING = 30.0
IN_FLIGHT = 8  # requests of one process: the config's concurrency
BUSY = ("claims", "waiting", "suspects")
LAPSE = Path(sys.executable).with_name("lapse")


class Taps:
    """Shows what passes to and from Redis to whoever asked for it; that one may raise ``Cut``."""

    def __init__(self, rig: "Rig") -> None:
        self._rig = rig

    def sent(self, data: bytes) -> None:
        """Take what a worker sent."""
        if self._rig.on_command is not None:
            self._rig.on_command(data)

    def answered(self, data: bytes) -> None:
        """Take what Redis answered."""
        if self._rig.on_reply is not None:
            self._rig.on_reply(data)

    def ended(self) -> None:
        """Take note of the end."""


class Rig(Deployment):
    """A deployment whose workers reach Redis and the provider through proxies only; the application does not.

    Attributes:
        server: The Redis, which may be stopped and started.
        to_redis: What workers and beats connect to.
        to_provider: What workers connect to.
        traffic: What went through it.
        application: Who registers.
        command: The command line.
        killed: When processes of workers were killed so far, seconds since 1970.
        server_kills: How often Redis was killed.
        stops: How often Redis was stopped.

    """

    def __init__(
        self, directory: Path, server: EmbeddedRedis, provider: SandboxProcess, wait_until: Callable[..., None]
    ) -> None:
        # A process has all of the methods that are used here.
        super().__init__(directory, server.url, cast("Sandbox", provider), wait_until)
        self.server = server
        self.traffic = Traffic()
        self.on_command: Callable[[bytes], None] | None = None
        self.on_reply: Callable[[bytes], None] | None = None
        self.to_redis = Proxy(server.port, watch=lambda: Taps(self))
        self.to_provider = Proxy(int(provider.root.rpartition(":")[2]), watch=self.traffic.watcher)
        self.base_url = f"http://127.0.0.1:{self.to_provider.port}/v1"
        self.application = Application(self.registry)
        self.killed: list[float] = []
        self.stood_still: list[float] = []
        self.server_kills = self.stops = 0
        self.command = (sys.executable, str(LAPSE))
        self._metrics = free_port()
        self._exporter: subprocess.Popen[bytes] | None = None

    @property
    def kills(self) -> int:
        """How many processes of workers were killed so far."""
        return len(self.killed)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of workers and beats: they reach Redis through the proxy."""
        to_redis = f"redis://127.0.0.1:{self.to_redis.port}/0"
        return {**super().environ, "REDIS_URL": to_redis, "LAPSE_STATE_DIR": str(self.directory / "state")}

    @property
    def beside(self) -> dict[str, str]:
        """The environment of the exporter, and of an operator's command line."""
        return {**super().environ, "LAPSE_CONFIG": str(self.config)}

    def configure(self, *policies: str, head: str = RIG, path: Path | None = None) -> None:
        """Replace the config file in one step."""
        super().configure(*policies, head=head, path=path)

    def seed(self, count: int, policy: str = "chat", kind: str = "thread", **facts: Any) -> list[str]:
        """Create objects at the provider and register them."""
        ids = self.provider.seed(kind, count)
        self.application.register_many(ids, policy, **facts)
        return ids

    def witness(self) -> None:
        """Register one id that lives: it shows that this is the right place where others are gone already."""
        self.seed(1, expires_in="1d")

    def gone(self, ids: Sequence[str], within: float, kind: str = "thread") -> float:
        """Wait until the provider has none of these ids any more; return the seconds that took."""
        began, wanted = time.monotonic(), set(ids)
        self.wait_until(lambda: not wanted & self.alive(kind), within, what=f"the end of {len(ids)} {kind}s")
        return time.monotonic() - began

    def settled(self, within: float = 150, kind: str = "thread") -> None:
        """Wait until no claim is out, nothing is to be tried again, and every audit record has reached the file.

        What was not found, and not proven gone, is tried again after a minute.
        """
        slot = f"lapse:{{openai:{kind}}}:"

        def quiet() -> bool:
            indexes = [name for index in BUSY for name in self.raw.scan_iter(f"{slot}*:{index}")]
            return not any(self.raw.zcard(name) for name in indexes) and not sum(
                self.raw.xlen(slot + name) for name in ("audit", "acts")
            )

        self.wait_until(quiet, within, what="the last outcomes and audit records")

    def quarantined(self, policy: str, kind: str = "thread") -> set[str]:
        """Return the ids of a policy that wait for an operator."""
        return {str(id_) for id_ in self.raw.zrange(f"lapse:{{openai:{kind}}}:{policy}:quarantine", 0, -1)}

    def kill_child(self, worker: Process, choose: Callable[[Sequence[int]], int]) -> None:
        """Kill one process of a worker's pool, if it has any at the moment."""
        if children := worker.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(choose(children), signal.SIGKILL)
                self.killed.append(time.time())

    def kill_worker(self, worker: Process) -> None:
        """Kill a worker; its children die with it."""
        worker.kill()
        self.killed.append(time.time())

    def hold_worker(self, worker: Process) -> None:
        """Let a worker stand still, and its children: what is answered meanwhile, nobody reads in time."""
        for pid in (worker.pid, *worker.children()):
            os.kill(pid, signal.SIGSTOP)
        self.stood_still.append(time.time())

    def scrape(self) -> str:
        """Return what the exporter shows; start it first, if it is not running."""
        if self._exporter is None:
            command = die_with_parent(*self.command, "metrics", "--port", str(self._metrics))
            with (self.directory / "exporter.log").open("ab") as log:
                self._exporter = subprocess.Popen(command, env=self.beside, cwd=self.directory, stdout=log, stderr=log)
        shown = ""

        def answers() -> bool:
            nonlocal shown
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics") as page,
            ):
                shown = page.read().decode()
            return bool(shown)

        self.wait_until(answers, BEGINNING, what="the exporter's answer")
        return shown

    def history(self, *, bound: float | None, crashes: int = 0) -> History:
        """Return all that was seen; every program is ended before.

        Args:
            bound: Within how many seconds what is due had to be settled.
            crashes: How often a process may have died with requests in flight.

        """
        metrics = self.scrape()
        self.stop_all()
        for process in self.processes:
            process.wait()
        lines = self.audit.read_text().splitlines() if self.audit.exists() else []
        audit = (*reading.audit(lines), *evidence.pending_audit(self.url))
        return History(
            calls=tuple(self.registry.calls),
            requests=tuple(one.as_request("openai") for one in self.traffic.exchanges()),
            audit=audit,
            policies=tuple(policy for versions in self.policies.values() for policy in versions),
            metrics=metrics,
            ended=time.time(),
            bound=bound,
            crashes=crashes,
            in_flight=IN_FLIGHT,
            breaks=(*self.killed, *self.stood_still, *self.to_provider.breaks),
            alive=evidence.living(self.provider, evidence.named(audit)),
            began=self.began,
            texts={path.name: path.read_text() for path in self.directory.iterdir() if path.is_file()},
            secrets=(KEY,),
        )

    def judge(self, *, within: float, crashes: int = 0) -> History:
        """Fail if anything is wrong with what happened; return what was seen."""
        self.settled()
        history = self.history(bound=within, crashes=crashes)
        assert self.verdict_on(history) == []
        return history

    def verdict_on(self, history: History) -> list[Violation]:
        """Return what is wrong with what happened, and count it."""
        found = violations(history) + evidence.altered(self.audit)
        broken = self.to_redis.broken + self.to_provider.broken + self.stops
        counted.judged(history, found, kills=self.kills + self.server_kills, faults=broken)
        return found

    def stop_server(self, *, kill: bool = False) -> None:
        """Stop Redis, or kill it."""
        self.server.stop(kill=kill)
        if kill:
            self.server_kills += 1
        else:
            self.stops += 1

    def fail_over(self, to: EmbeddedRedis) -> None:
        """Make a replica the primary, losing nothing; the old one goes on answering whoever is connected to it."""
        old, self.raw = self.raw, redis.Redis.from_url(to.url, decode_responses=True)
        old.execute_command("FAILOVER", "TO", "127.0.0.1", to.port, "TIMEOUT", 5000)
        self.wait_until(lambda: self.raw.role()[0] == "master" and old.role()[0] == "slave", 10, what="the failover")
        old.close()
        self.stops += 1
        self.url = to.url
        self.to_redis.lead_to(to.port)

    def close(self) -> None:
        """End everything."""
        super().close()
        if self._exporter is not None:
            self._exporter.kill()
            self._exporter.wait()
        self.to_redis.close()
        self.to_provider.close()


@contextlib.contextmanager
def rig_on(directory: Path, provider: SandboxProcess, wait_until: Callable[..., None]) -> Iterator[Rig]:
    """Give a rig with a Redis of its own."""
    with EmbeddedRedis(persistent=True) as server:
        made = Rig(directory, server, provider, wait_until)
        try:
            yield made
        finally:
            made.close()
