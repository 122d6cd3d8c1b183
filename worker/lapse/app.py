"""The Celery application: ``celery -A lapse.app worker``, ``beat``, or ``worker --beat``.

A message only says which partition to sweep: it carries no id and no time to live, so losing, doubling or delaying
one is harmless. Importing this module reads the config; a wrong one ends the process with code 2 and its text.
"""

import math
import os
import sys
import time
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import billiard.pool  # type: ignore[import-untyped]
import redis
import structlog
from celery.app.base import Celery  # type: ignore[import-untyped]
from celery.apps.worker import Worker as CeleryWorker  # type: ignore[import-untyped]
from celery.beat import BeatLazyFunc  # type: ignore[import-untyped]
from celery.beat import Scheduler as CeleryScheduler
from celery.bootsteps import StartStopStep  # type: ignore[import-untyped]
from celery.platforms import set_pdeathsig  # type: ignore[import-untyped]
from celery.signals import (  # type: ignore[import-untyped]
    beat_embedded_init,
    beat_init,
    celeryd_after_setup,
    setup_logging,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)

from lapse import log
from lapse.errors import ConfigError
from lapse.policy import Config
from lapse.providers import transport
from lapse.registry import keys
from lapse.registry.scripts import script
from lapse.runtime import broker, environment, loop
from lapse.runtime.celery_config import settings
from lapse.runtime.heartbeat import BEAT, STALE, TURN, WORKER, Heartbeat, folder
from lapse.runtime.host import Host
from lapse.runtime.jobs import REGISTRY_TIMEOUT
from lapse.runtime.messages import HOUSEKEEPING, SWEEP_EXPIRED, SWEEP_ORPHANS

STEP = 1.0  # seconds; by how much a clock that is set back delays what beat sends, at most

events = structlog.get_logger("lapse")

# A pool process that ends waits until the worker has read what its tasks returned: up to 30 s, where the worker has
# stopped reading before. Nobody wants what ours return.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20  # each 0.1 s

# A server that became a replica goes on answering on the connections that it has. Ours end there, as they do at one
# that loads its data, and the next ones are made to whatever the address leads to then. Who waited for a message hears
# UNBLOCKED at that moment: Celery would take it for the end of the worker.
for said in ("READONLY", "UNBLOCKED"):
    redis.connection.DefaultParser.EXCEPTION_CLASSES[said] = redis.ConnectionError


def schedule(config: Config, now: Callable[[], int | None]) -> dict[str, dict[str, Any]]:
    """Return beat's entries: one a rule, and housekeeping. ``now`` stamps each message when it is sent."""
    entries = {
        str(rule.partition): {
            "task": SWEEP_ORPHANS if rule.orphan else SWEEP_EXPIRED,
            "schedule": timedelta(seconds=rule.every),
            "args": (rule.partition.provider, rule.partition.kind, rule.partition.policy),
            "kwargs": {"sent": BeatLazyFunc(now)},
        }
        for rule in config.rules
    }
    house = {
        "task": HOUSEKEEPING,
        "schedule": timedelta(seconds=config.schedule.sweep),
        "kwargs": {"sent": BeatLazyFunc(now)},
    }
    return {HOUSEKEEPING: house, **entries}


class Pulse:
    """Beat's own connection to the registry: it stamps ticks with Redis TIME and shows that beat lives."""

    def __init__(self, url: str, namespace: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=REGISTRY_TIMEOUT, socket_connect_timeout=REGISTRY_TIMEOUT
        )
        self._key = keys.published(namespace)
        self._write = self._client.register_script(script("registry/lua/write").text)

    def __call__(self) -> int | None:
        """Publish and return registry time in milliseconds, or None while the registry is away."""
        try:
            reply: Any = self._client.time()
            now = int(reply[0]) * 1000 + int(reply[1]) // 1000
            self._write(keys=[self._key], args=["HSET", "beat", now])
        except (redis.RedisError, OSError) as error:
            events.warning("beat.unstamped", error=f"the registry did not answer: {error}")
            return None
        return now


class Scheduler(CeleryScheduler):  # type: ignore[misc]
    """Beat's schedule, in memory, which follows the config file while beat runs.

    Every entry is due when it appears: what an earlier beat sent last is not known, and a needless message costs
    nothing.
    """

    def setup_schedule(self) -> None:
        """Make the first schedule."""
        host: Host = self.app.host
        self._pulse = Pulse(host.registry.url, host.config.registry.namespace)
        self._heartbeat = Heartbeat(BEAT, host.environ)
        self._hash = ""
        self._ahead = -math.inf
        self._follow()

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's own
        """Send one due message, by the newest config."""
        self._follow()
        _show(self._heartbeat)
        return float(super().tick(*args, **kwargs))

    def close(self) -> None:
        """End: no supervisor has to wait to see it."""
        super().close()
        self._heartbeat.ended()

    def _follow(self) -> None:
        config: Config = self.app.host.current()
        if self._set_back():
            self.schedule.clear()  # entries keep when they were sent last: in the future now
        elif config.hash == self._hash:
            return
        wanted = schedule(config, self._pulse)
        for entry in wanted.values():
            entry["last_run_at"] = self.app.now() - entry["schedule"]
        self.merge_inplace(wanted)
        self._hash = config.hash
        self._heap = None  # an entry that changed in place is not noticed otherwise

    def _set_back(self) -> bool:
        """Return True if this machine's clock was set back since the last tick: by it, nothing is due for as long."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        return self._ahead < before - STEP


class Turning(StartStopStep):  # type: ignore[misc]
    """Shows, while a worker consumes, that the loop it consumes with turns."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(consumer, **kwargs)
        conf, blocking = consumer.app.conf, not consumer.hub
        # Without a loop of its own a worker does nothing else while a task runs.
        stale = STALE + (conf.task_time_limit if blocking else 0)
        self._heartbeat = consumer.app.heartbeat = Heartbeat(WORKER, consumer.app.host.environ, stale=stale)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's own
        """Begin: the broker answers."""
        _show(self._heartbeat)
        self._timer = consumer.timer.call_repeatedly(TURN, _show, (self._heartbeat,))

    def stop(self, consumer: Any) -> None:  # noqa: ANN401, ARG002 - Celery's own
        """Show nothing while there is no connection to consume from."""
        if self._timer:
            self._timer.cancel()


def _show(heartbeat: Heartbeat) -> None:
    known = heartbeat.error
    if not heartbeat.turned() and heartbeat.error != known:
        events.warning("heartbeat.unwritten", error=heartbeat.error)


class Worker(CeleryWorker):  # type: ignore[misc]
    """A worker that talks to no other worker, and keeps stdout for audit records where nobody is looking at it."""

    def on_before_init(self, quiet: bool = False, **kwargs: Any) -> None:  # noqa: ANN401, FBT001, FBT002 - Celery's own
        """Leave the banner out unless stdout is a terminal."""
        super().on_before_init(quiet=quiet or not sys.stdout.isatty(), **kwargs)

    def prepare_args(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - Celery's own
        """Switch gossip, mingle and heartbeats off."""
        alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
        return dict(super().prepare_args(**{**kwargs, **alone}))


class Lapse(Celery):  # type: ignore[misc]
    """A Celery application that knows its host, and whose workers are ours."""

    def __init__(self, host: Host) -> None:
        # No fixups: one of them would set up another application's Django.
        super().__init__("lapse", set_as_current=False, loader="celery.loaders.app:AppLoader", fixups=())
        self.host = host
        self.heartbeat: Heartbeat | None = None
        self.ignored: list[str] = []
        """Variables of other Celery applications, which change nothing."""
        self.steps["consumer"].add(Turning)
        self.conf.update(settings(host.config, host.broker.url))

    @cached_property
    def Worker(self) -> Any:  # noqa: ANN401, N802 - Celery's own
        """The worker program."""
        return self.subclass_with_self("lapse.app:Worker")


def refuse(error: ConfigError) -> NoReturn:
    """End the process with what is wrong and how to put it right."""
    sys.stderr.write(f"lapse: {log.redact(str(error))}\n")
    raise SystemExit(2)


def start(environ: MutableMapping[str, str], cwd: Path) -> Lapse:
    """Read the config and make the application; a wrong config ends the process.

    What other Celery applications left in the environment is taken out of it, before Celery looks.
    """
    try:
        mine, ignored = environment.take(environ)
        made = Lapse(Host(mine, cwd))
        folder(mine)
    except ConfigError as error:
        refuse(error)
    except FileNotFoundError as error:
        refuse(ConfigError(str(error.strerror)))
    made.ignored = ignored
    broker.use()
    return made


app = start(os.environ, Path.cwd())


def _check(role: str) -> None:
    try:
        app.host.check(role, broker=True)
        if app.ignored:
            events.warning("environment.ignored", role=role, variables=app.ignored)
        if role == "worker":
            transport.demand()
    except ConfigError as error:
        refuse(error)
    except Exception:  # noqa: BLE001 - nothing may start unchecked
        # Celery would log what a signal's receiver raises, and go on without the check.
        events.exception("preflight.failed", role=role)
        raise SystemExit(1) from None


def _log(loglevel: int | str | None = None, logfile: str | None = None, **_: object) -> None:
    log.configure(loglevel or "WARNING", logfile=logfile)


def _worker_starts(instance: Any, **_: object) -> None:  # noqa: ANN401 - Celery's own
    app.host.children = instance.concurrency
    _check("worker")


def _beat_starts(**_: object) -> None:
    if not app.host.checked:  # inside a worker, that was done before the fork
        _check("beat")


def _embedded_beat_starts(**_: object) -> None:
    set_pdeathsig("SIGTERM")  # a worker that is killed takes its beat with it
    if os.getppid() != app.host.pid:  # it was killed before that
        raise SystemExit


def _worker_ends(**_: object) -> None:
    app.host.stop.set()


def _worker_ended(**_: object) -> None:
    loop.close()
    if app.heartbeat:
        app.heartbeat.ended()


def _process_ends(**_: object) -> None:
    loop.close()


setup_logging.connect(_log)
celeryd_after_setup.connect(_worker_starts)
beat_init.connect(_beat_starts)
beat_embedded_init.connect(_embedded_beat_starts)
worker_shutting_down.connect(_worker_ends)
worker_process_shutdown.connect(_process_ends)
worker_shutdown.connect(_worker_ended)
