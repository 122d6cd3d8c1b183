"""The demo's processes: a private Redis, the stand-in; worker, beat and exporter as the Procfile starts them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from lapse.sandbox.control import Control
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port

KEY = "demo-key-that-is-no-secret"
SCRIPTS = Path(sys.executable).parent


class StageError(RuntimeError):
    """A process of the demo did not come up, or ended; the text holds the end of its log."""


class Stage:
    """Everything the demo runs, in one temporary folder; leaving it ends every process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lapse-demo-")
        self.folder = Path(self._folder.name)
        self.redis = EmbeddedRedis(persistent=True, directory=self.folder)
        self.provider_log = self.folder / "provider.jsonl"
        self._provider, self._metrics = free_port(), free_port()
        self.provider = Control(f"http://127.0.0.1:{self._provider}")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LAPSE_", "REDIS_", "CELERY_", "OPENAI_"))
        }

    def start(self, tell: Callable[[str], None]) -> None:
        """Start everything and wait until it answers.

        Raises:
            StageError: something did not come up within 20 s.

        """
        tell("starting a private Redis and the provider stand-in")
        self.redis.start()
        config = self.folder / "retention.toml"
        template = Path(__file__).with_name("retention.toml").read_text(encoding="utf-8")
        config.write_text(template.replace("@BASE_URL@", self.provider.url), encoding="utf-8")
        self.environ |= {
            "LAPSE_CONFIG": str(config),
            "LAPSE_REGISTRY__URL": self.redis.url,
            "LAPSE_RUNTIME_DIR": str(self.folder / "run"),
            "DEMO_API_KEY": KEY,
        }
        self._run("provider", "lapse", "sandbox", "--port", str(self._provider), "--log", str(self.provider_log))
        self._until("provider", lambda: not self.provider.alive("thread"))
        tell("starting the worker, beat and the exporter, as the Procfile does")
        self._run("worker", "celery", "-A", "lapse.app", "worker", "--loglevel=INFO", "--concurrency=2")
        self._run("beat", "celery", "-A", "lapse.app", "beat", "--loglevel=INFO")
        self._run("metrics", "lapse", "metrics", "--port", str(self._metrics))
        self._until("metrics", self._working)

    def check(self) -> None:
        """Raise StageError if a process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise StageError(f"{name} ended with code {process.returncode}:\n{self.log(name)[-2000:]}")

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        path = self.folder / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def metrics(self) -> str:
        """Scrape the exporter."""
        return self._get("metrics")

    def close(self) -> None:
        """End every process, gently first."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=8)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.redis.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def _run(self, name: str, program: str, *args: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then ends them in order.
            self._processes[name] = subprocess.Popen(
                die_with_parent(sys.executable, str(SCRIPTS / program), *args),
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.check()
            try:
                if ready():
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise StageError(f"{name} did not answer within 20 s:\n{self.log(name)[-2000:]}")

    def _working(self) -> bool:
        """Say whether beat has sent wake-ups and a worker has published what it knows."""
        try:
            checks = json.loads(self._get("readyz?verbose"))["checks"]
        except urllib.error.HTTPError as not_ready:
            with not_ready:
                checks = json.load(not_ready)["checks"]
        return all(checks.get(name, {}).get("ok") for name in ("registry", "beat", "worker"))

    def _get(self, page: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/{page}", timeout=5) as reply:
            return str(reply.read().decode())
