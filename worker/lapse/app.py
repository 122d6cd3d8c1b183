"""The Celery application: ``celery -A lapse.app worker``, ``beat``, or ``worker --beat``.

A message only says which partition to sweep: it carries no id and no time to live, so losing, doubling or delaying
one is harmless. Importing this module reads the config; a wrong one ends the process with code 2 and its text.
"""

import os
import sys
from collections.abc import MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import billiard.pool  # type: ignore[import-untyped]
import redis
import structlog
from celery.app.base import Celery  # type: ignore[import-untyped]
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
from lapse.providers import transport
from lapse.registry.model import Partition
from lapse.runtime import broker, environment, loop
from lapse.runtime.celery_config import settings
from lapse.runtime.heartbeat import Heartbeat, folder
from lapse.runtime.host import Host
from lapse.runtime.messages import ERASE, HOUSEKEEPING, SWEEP_EXPIRED, SWEEP_ORPHANS
from lapse.runtime.worker import Turning

events = structlog.get_logger("lapse")

# A pool process that ends waits until the worker has read what its tasks returned: up to 30 s, where the worker has
# stopped reading before. Nobody wants what ours return.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20  # each 0.1 s

# A server that became a replica goes on answering on the connections that it has. Ours end there, as they do at one
# that loads its data, and the next ones are made to whatever the address leads to then. Who waited for a message hears
# UNBLOCKED at that moment: Celery would take it for the end of the worker.
for said in ("READONLY", "UNBLOCKED"):
    redis.connection.DefaultParser.EXCEPTION_CLASSES[said] = redis.ConnectionError


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
        self.conf.update(settings(host.config, host.broker))

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's own
        """The worker program."""
        return self.subclass_with_self("lapse.runtime.worker:Worker")

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's own
        """The beat program."""
        return self.subclass_with_self("lapse.runtime.worker:Beat")


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
        broker.use()
        broker.demand(made.host.broker, made.host.config.celery.broker_transport_options)
        folder(mine)
    except ConfigError as error:
        refuse(error)
    except FileNotFoundError as error:
        refuse(ConfigError(str(error.strerror)))
    made.ignored = ignored
    return made


app = start(os.environ, Path.cwd())


@app.task(name=SWEEP_EXPIRED, bind=True)  # type: ignore[untyped-decorator]
def sweep_expired(self: Any, provider: str, kind: str, policy: str, sent: int | None = None) -> None:
    """Sweep a partition for one slice of time; what is left then goes to the end of the queue."""
    if again := loop.of(app.host).sweep(Partition(provider, kind, policy), sent):
        self.apply_async((provider, kind, policy), {"sent": again})
    for other, at in loop.of(app.host).freed().items():
        self.apply_async((other.provider, other.kind, other.policy), {"sent": at})


@app.task(name=SWEEP_ORPHANS, bind=True)  # type: ignore[untyped-decorator]
def sweep_orphans(self: Any, provider: str, kind: str, policy: str, sent: int | None = None) -> None:
    """Look for orphans in a partition; a worker whose rules are superseded sends the message on."""
    if again := loop.of(app.host).sweep(Partition(provider, kind, policy), sent):
        self.apply_async((provider, kind, policy), {"sent": again})


@app.task(name=HOUSEKEEPING)  # type: ignore[untyped-decorator]
def housekeeping(sent: int | None = None) -> None:
    """Record that beat's tick arrived, publish what this worker knows, move audit records, clean up."""
    if loop.of(app.host).housekeep(sent):
        erase.apply_async()


@app.task(name=ERASE, bind=True)  # type: ignore[untyped-decorator]
def erase(self: Any) -> None:
    """Delete for open requests to erase subjects for one slice; what is left then goes to the end of the queue."""
    if loop.of(app.host).erase():
        self.apply_async()


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


def _worker_starts(instance: Any, **_: object) -> None:
    app.host.children = instance.concurrency
    _check("worker")


def _beat_starts(sender: Any, **_: object) -> None:
    if not app.host.checked:  # inside a worker, that was done before the fork
        _check("beat")
        sender.scheduler.end_on_signals()


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
