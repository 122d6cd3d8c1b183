"""What a page shows, read at most once in five seconds. Ids, subjects, actors and texts that somebody wrote stay out.

They are left where they are read: nothing that makes a page has them in its hands.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from lapse.cli.context import Invocation
from lapse.cli.inspect import troubles
from lapse.cli.inspect.status import PolicyStanding, standings_of
from lapse.errors import RegistryError
from lapse.ledger import failures
from lapse.ledger.failures import Failing
from lapse.ledger.halts import Halt
from lapse.ledger.housekeeping.creations import Building
from lapse.ledger.housekeeping.subjects import IndexProgress
from lapse.metrics import causes
from lapse.metrics.erasures import ErasureStanding
from lapse.metrics.server import TIMEOUT, ExporterParts, came_back, ticked
from lapse.metrics.snapshot import View
from lapse.metrics.views import SlotView
from lapse.policy import Config
from lapse.registry.pools.plain import reader_of

LASTS = 5.0
"""Seconds for which a reading is shown before the registry is asked again."""
_CLASS = re.compile("[a-z_]{1,40}")
_PLAN = re.compile("[0-9a-f]{12}")
_FREE = ("cause_detail", "cause_key")


@dataclass(frozen=True, slots=True)
class RegistryReading:
    """One reading of the registry; times are its own, in milliseconds.

    Attributes:
        now: When it was read.
        standings: How each policy stands.
        pauses: Scope -> since when.
        flows: Provider -> its request budget, Retry-After and breaker.
        slots: Each (provider, kind) that the policies are of.
        strange: Those of providers that the file does not have, if anything is held there.
        failing: Sweeps that ended badly again and again.
        gone: Sentences on hosts whose workers have not shown themselves lately.
        indexing: Policies that wait for an index.
        subjects: How far an index of subjects is.
        erasures: The requests to erase a subject.
        beat: Whether a wake-up was sent lately, and a sentence on it.
        tick: The same of one that came back through a worker.
        workers: Who kept house last, and the version of the policy file that it uses; None before there was one.
        began: When the registry was begun; 0: no worker has begun it.

    """

    now: int
    standings: Sequence[PolicyStanding]
    pauses: Mapping[str, int]
    flows: Mapping[str, Mapping[str, str]]
    slots: Sequence[SlotView]
    strange: Sequence[SlotView]
    failing: Sequence[Failing]
    gone: Sequence[str]
    indexing: Sequence[Building]
    subjects: IndexProgress
    erasures: ErasureStanding
    beat: tuple[bool, str]
    tick: tuple[bool, str]
    workers: tuple[str, str] | None
    began: int


@dataclass(frozen=True, slots=True)
class PageReading:
    """What all viewers are shown for a while; times in seconds since 1970, by this host's clock.

    Attributes:
        config: The policy file in use.
        sound: False while the file on disk is not the one in use.
        at: When it was read.
        registry: What the registry said; None: it did not answer.
        answered: When it last did; None: not since this process began.

    """

    config: Config
    sound: bool
    at: float
    registry: RegistryReading | None
    answered: float | None


class RegistryReader:
    """Reads the registry for every viewer at once; may be asked by several threads."""

    def __init__(self, parts: ExporterParts, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None
        self._answered: float | None = None
        self._reading: PageReading | None = None
        self._read_at = 0.0

    def latest(self) -> PageReading:
        """Return a reading of the last five seconds; who comes while it is made waits for it."""
        with self._lock:
            if self._reading is None or self._clock() - self._read_at >= LASTS:
                self._reading = self._read()
                self._read_at = self._clock()
            return self._reading

    def _read(self) -> PageReading:
        config = self._parts.file.current()
        try:
            found: RegistryReading | None = _registry(self._session(config), self._parts)
        except (redis.RedisError, OSError, RegistryError):
            found = None
        at = time.time()
        if found:
            self._answered = at
        return PageReading(config, self._parts.file.ok, at, found, self._answered)

    def _session(self, config: Config) -> Invocation:
        """Return what a command would work with, on the exporter's own config, and on one connection that stays."""
        session = Invocation()
        session.config, session.endpoint = config, self._parts.endpoint
        session.namespace = config.registry.namespace
        if self._client is None:
            self._client = reader_of(self._parts.endpoint, TIMEOUT)
        session.client = self._client
        session.view = View(session.client, session.namespace, self._parts.continuity)
        return session


def _registry(session: Invocation, parts: ExporterParts) -> RegistryReading:
    config, view = session.config, session.view
    standings = [_bare(one) for one in standings_of(session, config.rules)]
    partitions = [one.view.partition for one in standings]
    published, now = view.published(), view.now()
    known = {(at.provider, at.kind) for at in partitions}
    strange = [slot for slot in view.known_slots((), {}) if slot[0] not in config.accounts]
    return RegistryReading(
        now=now,
        standings=standings,
        pauses={scope: int(why["since"]) for scope, why in view.pauses().items()},
        flows={name: _without(flow) for name, flow in view.flows(config.accounts).items()},
        slots=[_quiet(slot) for slot in view.slots(sorted(known))],
        strange=[_quiet(slot) for slot in view.slots(strange) if slot.held],
        failing=[
            replace(row, detail="", result=class_of(row.result))
            for row in failures.look(session.client, session.namespace, partitions)
        ],
        gone=causes.gone(view.workers(), now),
        indexing=troubles.indexing(session, partitions),
        subjects=troubles.found_by_subject(session),
        erasures=parts.erasures.read(session.client, session.namespace),
        beat=ticked(config, published.get("beat"), now, never="beat has never sent one"),
        tick=came_back(config, published.get("tick"), now),
        workers=_keeper(published),
        began=int(view.epoch().get("created", 0)),
    )


def class_of(text: str) -> str:
    """Return a class of trouble, which is one word; whatever else stands there is not shown."""
    return text if _CLASS.fullmatch(text) else "unknown"


def _bare(standing: PolicyStanding) -> PolicyStanding:
    view = standing.view
    return replace(standing, view=replace(view, halts=tuple(_bare_halt(halt) for halt in view.halts)))


def _bare_halt(halt: Halt) -> Halt:
    plan = halt.plan if halt.plan and _PLAN.fullmatch(halt.plan) else None
    return replace(halt, reason=class_of(halt.reason), detail="", plan=plan)


def _without(flow: Mapping[str, str]) -> dict[str, str]:
    bare = {name: value for name, value in flow.items() if name not in _FREE}
    return bare | ({"breaker": class_of(bare["breaker"])} if "breaker" in bare else {})


def _quiet(slot: SlotView) -> SlotView:
    """Return a slot without the answer that opened its breaker, which may name an id."""
    return replace(slot, shut=(class_of(slot.shut[0]), "", slot.shut[2]) if slot.shut else None)


def _keeper(published: Mapping[str, str]) -> tuple[str, str] | None:
    about: Any = json.loads(published.get("config", "{}"))
    return (str(about["worker"]), str(about["hash"])) if about else None
