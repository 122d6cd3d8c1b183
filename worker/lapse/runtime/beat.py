"""Beat: what it sends and when, by the newest policy file and by Redis TIME."""

import math
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from types import FrameType
from typing import Any

import redis
import structlog
from celery.beat import BeatLazyFunc  # type: ignore[import-untyped]
from celery.beat import Scheduler as CeleryScheduler

from lapse.policy import Config
from lapse.registry import keys
from lapse.registry.pools.credentials.endpoint import RedisEndpoint
from lapse.registry.pools.opening import threads
from lapse.registry.scripts import Call, packed, script
from lapse.runtime.broker import AGAIN_WITHIN, waited_for
from lapse.runtime.heartbeat import BEAT, Heartbeat
from lapse.runtime.host import Host, show
from lapse.runtime.jobs import REGISTRY_TIMEOUT
from lapse.runtime.messages import HOUSEKEEPING, SWEEP_EXPIRED, SWEEP_ORPHANS

STEP = 1.0  # seconds; by how much a clock that is set back delays what beat sends, at most
STAMPS = 1.0  # seconds; for what is sent within them the registry is asked once

events = structlog.get_logger("lapse")


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


class BeatClock:
    """Beat's own connection to the registry: it stamps ticks with Redis TIME and shows that beat lives."""

    def __init__(self, url: str | RedisEndpoint, namespace: str) -> None:
        self._pool = threads(url, REGISTRY_TIMEOUT, REGISTRY_TIMEOUT)
        self._key = keys.published(namespace)
        self._asked, self._now = -math.inf, 0

    def __call__(self) -> int | None:
        """Publish and return registry time in milliseconds, or None while the registry is away.

        Wake-ups come together, one of each policy: the first of them asks, and the others go by the time since.
        """
        asked = time.monotonic()
        if asked - self._asked > STAMPS:
            answered = self._ask()
            if answered is None:
                return None
            self._asked, self._now = asked, answered
        return self._now + int((asked - self._asked) * 1000)

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()

    def _ask(self) -> int | None:
        try:
            (seconds, micros) = self._said(packed("TIME"))
            now = int(seconds) * 1000 + int(micros) // 1000
            call = Call(script("registry/lua/write"), self._key, ("HSET", "beat", now), int)
            try:
                self._said(call.command())
            except redis.exceptions.NoScriptError:
                self._said(call.load(), call.command())
        except (redis.RedisError, OSError) as error:
            events.warning("beat.unstamped", error=f"the registry did not answer: {error}")
            return None
        return now

    def _said(self, *commands: bytes) -> Any:
        reply = self._pool.exchange(list(commands))[-1]
        if isinstance(reply, redis.RedisError):
            raise reply
        return reply


class Scheduler(CeleryScheduler):  # type: ignore[misc]
    """Beat's schedule, in memory, which follows the config file while beat runs.

    Every entry is due when it appears: what an earlier beat sent last is not known, and a needless message costs
    nothing.
    """

    def setup_schedule(self) -> None:
        """Make the first schedule."""
        host: Host = self.app.host
        self._pulse = BeatClock(host.registry.endpoint, host.config.registry.namespace)
        self._heartbeat = Heartbeat(BEAT, host.environ)
        self._hash = ""
        self._ahead = -math.inf
        self._ended = False
        self._connected, self._again_at = False, math.inf
        self._follow()

    def end_on_signals(self) -> None:
        """End by SIGTERM and SIGINT without taking a lock in their handler.

        Celery's handler closes the broker's connection there and then, and waits for ever if what the signal
        interrupted holds one of its locks. The service closes it too, once the stack is unwound.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ended = True  # Python swallows an exception that meets it in a finalizer: the next tick raises it again
        raise SystemExit

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send one due message, by the newest config."""
        if self._ended:
            raise SystemExit
        self._follow()
        show(self._heartbeat, connected=self._connected)
        return float(super().tick(*args, **kwargs))

    @cached_property
    def connection(self) -> Any:
        """The connection to the broker, which is waited for."""
        return waited_for(self.app.connection_for_write(), lambda: show(self._heartbeat, connected=False))

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Send a message; where that cannot be done, the next one goes over another connection."""
        try:
            sent = super().apply_async(*args, **kwargs)
        except Exception:
            self._connected, self._again_at = False, min(self._again_at, time.monotonic())
            with suppress(Exception):
                self.connection.close()
            for made in ("producer", "connection"):
                self.__dict__.pop(made, None)
            raise
        self._connected, self._again_at = True, math.inf
        return sent

    def close(self) -> None:
        """End: no supervisor has to wait to see it."""
        super().close()
        self._pulse.close()
        self._heartbeat.ended()

    def _follow(self) -> None:
        config: Config = self.app.host.current()
        if self._set_back() or self._back():
            # Entries keep when they were sent last: in the future now, or to a broker that was away.
            self.schedule.clear()
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

    def _back(self) -> bool:
        """Return True if the broker takes messages again after one was lost: what all of them say is late by now."""
        if time.monotonic() < self._again_at:
            return False
        self._again_at = time.monotonic() + AGAIN_WITHIN
        self.apply_entry(self.schedule[HOUSEKEEPING], producer=self.producer)
        return self._connected
