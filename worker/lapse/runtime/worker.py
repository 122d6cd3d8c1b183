"""The programs: Celery's worker, alone and with a heartbeat, and its beat; what they say is lines of the log."""

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from celery.apps import worker as program  # type: ignore[import-untyped]
from celery.apps.beat import Beat as CeleryBeat  # type: ignore[import-untyped]
from celery.apps.worker import Worker as CeleryWorker  # type: ignore[import-untyped]
from celery.bootsteps import StartStopStep  # type: ignore[import-untyped]
from celery.platforms import SecurityWarning  # type: ignore[import-untyped]
from celery.worker.consumer import Consumer as CeleryConsumer  # type: ignore[import-untyped]

from lapse.log import configure
from lapse.log import line as json_line
from lapse.runtime import broker, messages
from lapse.runtime.heartbeat import STALE, TURN, WORKER, Heartbeat
from lapse.runtime.host import show

log = structlog.get_logger("lapse")
_to_a_person = program.safe_say


def _say(text: str, stream: Any = None) -> None:
    """Say what Celery says when a signal comes: to a person as it does, else as a line of the log on stderr.

    Written at once: the signal may have come in the middle of another line's logging.
    """
    if stream is not None and stream.isatty():
        _to_a_person(text, stream)
    else:
        with suppress(OSError):  # that the process ends must not hang on it
            os.write(2, f"{json_line('celery.apps.worker', text)}\n".encode())


program.safe_say = _say


class Turning(StartStopStep):  # type: ignore[misc]
    """Shows that the loop which a worker consumes with turns, and whether there is a connection to consume from."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        conf, blocking = consumer.app.conf, not consumer.hub
        # Without a loop of its own a worker does nothing else while a task runs.
        stale = STALE + (conf.task_time_limit if blocking else 0)
        self._heartbeat = consumer.app.heartbeat = Heartbeat(WORKER, consumer.app.host.environ, stale=stale)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Begin: the broker answers."""
        show(self._heartbeat)
        self._timer = consumer.timer.call_repeatedly(TURN, show, (self._heartbeat,))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's own
        """Show that the connection is lost, or given up because the worker ends."""
        if self._timer:
            self._timer.cancel()
        show(self._heartbeat, connected=False)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """What takes messages: it acts on those of lapse's own form, whatever broker they came by, and drops all others."""

    def ensure_connected(self, conn: Any) -> Any:
        """Return a connection once there is one, and show until then that the loop turns."""
        heartbeat: Heartbeat = self.app.heartbeat
        return super().ensure_connected(broker.waited_for(conn, lambda: show(heartbeat, connected=False)))

    def create_task_handler(self, *given: Any, **said: Any) -> Callable[[Any], None]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*given, **said)

        def checked(message: Any) -> None:
            read = messages.plain(message)
            if why := messages.refusal(read):
                log.error("message.refused", why=why, **messages.named(read))
                message.ack_log_error(log, self.connection_errors)
                return
            message.headers = messages.received(read)["headers"]
            handle(message)

        return checked


class Worker(CeleryWorker):  # type: ignore[misc]
    """A worker that talks to no other worker, and keeps stdout for audit records where nobody is looking at it."""

    def on_before_init(self, quiet: bool = False, **kwargs: Any) -> None:  # noqa: FBT001, FBT002 - Celery's own
        """Leave the banner out unless stdout is a terminal, and what Celery takes for root that is not.

        A group without a name is one: systemd and OpenShift make such. What is warned of root is a line of the log.
        """
        configure(kwargs.get("loglevel") or "WARNING", logfile=kwargs.get("logfile"))
        with warnings.catch_warnings():
            if 0 not in {os.getuid(), os.geteuid(), os.getgid(), os.getegid()}:
                warnings.simplefilter("ignore", SecurityWarning)
            super().on_before_init(quiet=quiet or not sys.stdout.isatty(), **kwargs)

    def prepare_args(self, **kwargs: Any) -> dict[str, Any]:
        """Switch gossip, mingle and heartbeats off."""
        alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
        return dict(super().prepare_args(**{**kwargs, **alone}))


class Beat(CeleryBeat):  # type: ignore[misc]
    """A beat that keeps stdout free where nobody is looking at it, as the worker does."""

    def __init__(self, quiet: bool = False, **kwargs: Any) -> None:  # noqa: FBT001, FBT002 - Celery's own
        super().__init__(quiet=quiet or not sys.stdout.isatty(), **kwargs)
