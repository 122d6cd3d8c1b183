"""One deployment: a config file, real worker and beat processes, a Redis, and the provider stand-in."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lapse.errors import ConfigError
from lapse.policy.reload import ConfigFile
from lapse.registry.pools.plain import client_of
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import die_with_parent
from oracle import reading
from oracle.history import History, Policy, Violation
from oracle.verdict import violations
from support import clusters, counted, evidence
from support.recording import RecordingRegistry

KEY = "sk-test-0123456789abcdefghij"
RELOADED = 10.0
"""Seconds until a changed file is in force everywhere: beat's interval and a sweep that has begun."""
SLOT = "lapse:{openai:thread}:"

HEAD = """
[registry]
allow_volatile = true
[schedule]
sweep = "1s"
[sweep]
budget = "5s"
lease = "20s"
ramp = "off"
[audit]
sink = "file:{directory}/audit.jsonl"
[limits]
max_deletions = "unlimited"
max_newly_due = "unlimited"
[providers.openai]
type = "openai"
base_url = "{base_url}"
api_key_env = "OPENAI_API_KEY"
rate = "unlimited"
concurrency = 8
"""


def policy(name: str = "chat", *, kind: str = "thread", ttl: str = "1s", mode: str = "enforce", **more: str) -> str:
    """Return a policy's table; further values are TOML."""
    lines = [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(
        [
            f"[policies.{name}]",
            f'kind = "{kind}"',
            f'ttl = "{ttl}"',
            'anchor = "created_at"',
            f'mode = "{mode}"',
            *lines,
            "",
        ]
    )


class Process:
    """One running Celery program and what it wrote."""

    def __init__(
        self, name: str, directory: Path, arguments: tuple[str, ...], environ: dict[str, str], cwd: Path
    ) -> None:
        self.name = name
        self._err, self._out = directory / f"{name}.err", directory / f"{name}.out"
        with self._err.open("a") as err, self._out.open("a") as out:
            self._popen = subprocess.Popen(
                die_with_parent(sys.executable, "-m", "celery", "-A", "lapse.app", *arguments),
                env=environ,
                cwd=cwd,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def events(self, name: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Return the log lines with this event and these fields so far."""
        lines = (line for line in self.stderr.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n"))
        found = [json.loads(line) for line in lines]
        return [
            line
            for line in found
            if (name is None or line["event"] == name) and all(line.get(key) == value for key, value in fields.items())
        ]

    def alive(self) -> bool:
        return self._popen.poll() is None

    def children(self) -> list[int]:
        """Return the ids of the processes of its pool."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                state, parent = entry.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.pid and state != "Z":
                    found.append(int(entry.parent.name))
        return found

    def wait(self, within: float = 20) -> int:
        """Return the exit code."""
        return self._popen.wait(within)

    def stop(self, *, group: bool = False, within: float = 20) -> tuple[int, float]:
        """Send TERM, to the whole process group if asked; return the exit code and the seconds it took."""
        started = time.monotonic()
        (os.killpg if group else os.kill)(self._popen.pid, signal.SIGTERM)
        return self.wait(within), time.monotonic() - started

    def kill(self) -> None:
        """Kill the program and whatever it left behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self.wait()


class Deployment:
    """One config file, one Redis, one provider, and any number of workers and beats."""

    def __init__(self, directory: Path, url: str, provider: Sandbox, wait_until: Callable[..., None]) -> None:
        self.directory = directory
        self.url = url
        self.provider = provider
        self.base_url = provider.url  # as the config file names it
        self.wait_until = wait_until
        self.config = directory / "config" / "retention.toml"
        self.audit = directory / "audit.jsonl"
        self.raw = client_of(url, decode_responses=True)
        self.registry = RecordingRegistry(clusters.as_lapse_names_it(url), provider="openai", timeout=5)
        self.processes: list[Process] = []
        self.began = time.time()
        self.policies: dict[Path, list[Policy]] = {}
        self.bound: float | None = None
        """Within how many seconds what is due has to be settled; None: this test does not wait for it."""
        self.crashes = 0
        """How often a process was killed that may have had requests in flight."""
        self.in_flight = 8
        """How many requests one process of a worker may have in flight."""
        self.config.parent.mkdir()

    def configure(self, *policies: str, head: str = HEAD, path: Path | None = None) -> None:
        """Replace the config file in one step, as careful operators do."""
        path = path or self.config
        fresh = path.with_suffix(".new")
        text = head.format(directory=self.directory, base_url=self.base_url) + "".join(policies)
        fresh.write_text(text)
        fresh.replace(path)
        self._in_force(path, text)

    def _in_force(self, path: Path, text: str) -> None:
        """Note what a file says from now on; sweeps that have begun go on by what it said before."""
        now = time.time()
        try:
            ConfigFile(path, {"OPENAI_API_KEY": KEY})
        except ConfigError:  # an invalid file is never in force
            return
        new = reading.policies(text, now)
        before = self.policies.get(path, [])
        self.policies[path] = [replace(one, until=min(one.until, now + RELOADED)) for one in before] + new

    @property
    def environ(self) -> dict[str, str]:
        """The environment that every program of the deployment gets."""
        return {**os.environ, **clusters.environ(self.url), "OPENAI_API_KEY": KEY}

    def start(self, *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Process:
        """Start a Celery program with ``--loglevel=INFO``; do not wait."""
        name = f"{arguments[0]}{len(self.processes)}"
        given = self.environ | dict(environ or {})
        made = Process(name, self.directory, (*arguments, "--loglevel=INFO"), given, cwd or self.directory)
        self.processes.append(made)
        return made

    def worker(
        self, *arguments: str, children: int = 1, cwd: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> Process:
        """Start a worker and wait until it consumes."""
        made = self.start("worker", f"--concurrency={children}", *arguments, cwd=cwd, environ=environ)
        self.wait_until(
            lambda: not made.alive() or [line for line in made.events() if str(line["event"]).endswith(" ready.")],
            30,
            what="the worker's readiness",
        )
        assert made.alive(), made.stderr
        return made

    def beat(self, *, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Process:
        """Start a beat and wait until it has begun."""
        made = self.start("beat", cwd=cwd, environ=environ)
        self.wait_until(lambda: not made.alive() or made.events("broker.source"), 30, what="beat's start")
        assert made.alive(), made.stderr
        return made

    def seed(self, count: int, policy: str = "chat", kind: str = "thread", **facts: Any) -> list[str]:
        """Create objects at the provider and register them."""
        ids = self.provider.seed(kind, count)
        self.registry.register_many({"kind": kind, "id": id_, "policy": policy, **facts} for id_ in ids)
        return ids

    def alive(self, kind: str = "thread") -> set[str]:
        return self.provider.alive(kind)

    def deletes(self) -> list[dict[str, Any]]:
        """Return the DELETE requests that the provider saw."""
        return [request for request in self.provider.requests() if request["method"] == "DELETE"]

    def counters(self, kind: str = "thread") -> dict[str, int]:
        stored: Any = self.raw.hgetall(f"lapse:{{openai:{kind}}}:counters")
        return {name: int(value) for name, value in stored.items()}

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]

    def stop_all(self) -> None:
        """Send TERM to every program; do not wait."""
        for process in self.processes:
            if process.alive():
                os.kill(process.pid, signal.SIGTERM)

    def verdict(self) -> list[Violation]:
        """End every program gently and return what the oracle finds wrong with all that happened here."""
        self.stop_all()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait()
        texts = {f"{one.name}.{end}": getattr(one, end) for one in self.processes for end in ("stdout", "stderr")}
        lines = [line for text in texts.values() for line in text.splitlines() if '"seq"' in line]
        lines += self.audit.read_text().splitlines() if self.audit.exists() else []
        audit = (*reading.audit(lines), *evidence.pending_audit(self.url))
        history = History(
            tuple(self.registry.calls),
            evidence.traffic(self.provider.requests(), "openai"),
            audit,
            tuple(policy for versions in self.policies.values() for policy in versions),
            tuple(reading.accounts(self.config.read_text())) if self.config.exists() else (),
            evidence.scrape(self.url, self.config, {"OPENAI_API_KEY": KEY}) if self.config.exists() else None,
            ended=time.time(),
            bound=self.bound,
            crashes=self.crashes,
            in_flight=self.in_flight,
            began=self.began,
            alive=evidence.living(self.provider, evidence.named(audit)),
            texts=texts,
            secrets=(KEY,),
        )
        found = violations(history) + evidence.altered(self.audit)
        counted.judged(history, found)
        return found

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.registry.close()
        self.raw.close()
