"""Statements that come late, out of two hosts' spools and between direct calls, never override newer ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lapse import Registry
from lapse.registry.commands import Commands, Operation
from lapse.registry.model import Resource
from lapse.registry.spool import statements
from lapse.registry.spool.statements import Origin

VERBS = ("register", "register elsewhere", "touch", "hold", "unhold", "forget", "expire", "unexpire", "deleted")
DIRECT, HOSTS = "direct", ("one", "two")
THREAD = Resource("openai", "thread", "t1")
NAMED = ("thread", "t1", "openai")
HOLDS = "lapse:{openai:thread}:holds"
COMMANDS = Commands("lapse", "openai")


@dataclass(frozen=True, slots=True)
class Said:
    """One statement: who said it, what, and at which tick of the story."""

    by: str
    verb: str
    tick: int


@dataclass(slots=True)
class Model:
    """What has to hold, whatever the order of arrival; written without a look at the scripts."""

    last: dict[str, int] = field(default_factory=dict)
    policy: str | None = None
    created: int = 0
    active: int = 0
    moved: int = 0
    expires: int | None = None

    def take(self, one: Said) -> None:
        """Let a statement arrive."""
        verb, _, elsewhere = one.verb.partition(" ")
        if verb == "register":
            self._register("trial" if elsewhere else "chat", one.tick)
        elif verb == "touch":
            self.active = max(self.active, one.tick)
        elif verb in {"forget", "deleted"}:
            self._let_go(verb, one.tick)
        elif verb in {"expire", "unexpire"}:
            self._expire(verb, one.tick)
        else:
            self._note(verb, one.tick)

    @property
    def held(self) -> bool:
        """True if the last word was a hold."""
        return self.last.get("hold", 0) > self.last.get("unhold", 0)

    def _note(self, verb: str, tick: int) -> None:
        self.last[verb] = max(self.last.get(verb, 0), tick)

    def _register(self, policy: str, tick: int) -> None:
        if self.policy:
            self.active = max(self.active, tick)
            if policy != self.policy and tick > max(self.created, self.moved):
                self.policy, self.moved = policy, tick
        elif self.last.get("forget", 0) < tick:
            self.policy, self.created, self.active = policy, tick, tick

    def _expire(self, verb: str, tick: int) -> None:
        if tick > max(self.last.get("expire", 0), self.created if self.policy else 0):
            self._note("expire", tick)
            self.expires = tick if self.policy and verb == "expire" else None

    def _let_go(self, verb: str, tick: int) -> None:
        """In doubt it is let go: of a plain registration of a tracked id nobody remembers when it was."""
        if verb == "deleted":
            self._note("unhold", tick)
        since = self.created if self.policy else 0
        if tick < since or (verb == "forget" and tick < self.moved):
            return
        self.policy = self.expires = None
        self._note("forget", tick)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Said], list[Said]]:
    """Return what is said in the order of its saying, and in an order of arrival: each host's own order stays."""
    said = [
        Said(draw(st.sampled_from((DIRECT, *HOSTS))), draw(st.sampled_from(VERBS)), tick)
        for tick in range(1, draw(st.integers(2, 9)) + 1)
    ]
    queues = {host: [one for one in said if one.by == host] for host in HOSTS}
    arrived: list[Said] = []
    for one in [*said, None]:
        for host in HOSTS:
            ready = [late for late in queues[host] if one is None or late.tick < one.tick]
            count = len(ready) if one is None else draw(st.integers(0, len(ready)))
            arrived += ready[:count]
            del queues[host][:count]
        if one is not None and one.by == DIRECT:
            arrived.append(one)
    return said, arrived


class Story:
    """Plays statements on a registry: direct ones as they are, others as they come out of a spool."""

    def __init__(self, raw: redis.Redis, registry: Registry) -> None:
        self._raw, self._registry = raw, registry
        self.times = [self._moved_on()]

    def _moved_on(self) -> int:
        """Return the first millisecond of Redis TIME after all that was done."""
        began = self._now()
        while (now := self._now()) == began:
            pass
        return now

    def _now(self) -> int:
        seconds, micros = self._raw.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def play(self, one: Said) -> None:
        """Let a statement arrive; until then each tick has its time."""
        while len(self.times) <= one.tick:
            self.times.append(self._moved_on())
        if one.by == DIRECT:
            self._registry.say(
                self._registry.protocol.answer(lambda commands, _: operation(commands, one.verb), *NAMED)
            )
            self.times[one.tick] = self._moved_on() - 1
            return
        (kept,) = statements.of(operation(COMMANDS, one.verb), Origin("lapse", 0), 0)
        for call in kept.sent(self.times[one.tick]):
            self._raw.script_load(call.script.text)
            self._raw.evalsha(call.script.sha, 1, call.key, *call.args)


@pytest.fixture
def servers(redis_server: Any, redis_url: str) -> Iterator[tuple[redis.Redis, Registry]]:
    with redis.Redis.from_url(redis_server.url) as raw, Registry(redis_url, provider="openai", timeout=5) as registry:
        yield raw, registry


def operation(commands: Commands, verb: str) -> Operation[Any]:
    made: dict[str, Operation[Any]] = {
        "register": commands.register(commands.registration("thread", "t1", "chat")),
        "register elsewhere": commands.register(commands.registration("thread", "t1", "trial")),
        "touch": commands.touch(THREAD),
        "hold": commands.hold(THREAD, "case 7", None, None),
        "unhold": commands.unhold(THREAD, None),
        "forget": commands.forget(THREAD),
        "expire": commands.expire(THREAD, None),
        "unexpire": commands.unexpire(THREAD),
        "deleted": commands.deleted(THREAD),
    }
    return made[verb]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=stories())
def test_whatever_comes_late_never_overrides_what_was_said_after_it(
    story: tuple[list[Said], list[Said]], servers: tuple[redis.Redis, Registry]
) -> None:
    raw, registry = servers
    raw.flushall()
    said, arrived = story
    model, played = Model(), Story(raw, registry)
    for one in arrived:
        played.play(one)
        model.take(one)

    assert raw.hexists(HOLDS, "t1") == model.held
    record = registry.get("thread", "t1")
    assert (record.policy if record else None) == model.policy
    if record and record.last_active_at:
        at = round(record.last_active_at.timestamp() * 1000)
        assert played.times[model.active - 1] < at
        assert at <= played.times[model.active] or "unexpire" in {one.verb for one in said}
    if record:
        assert (record.expires_at is None) == (model.expires is None)
    if record and record.expires_at and model.expires:
        at = round(record.expires_at.timestamp() * 1000)
        assert played.times[model.expires - 1] < at <= played.times[model.expires]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verbs=st.lists(st.sampled_from(VERBS), min_size=1, max_size=6), again=st.integers(1, 6))
def test_what_is_sent_twice_has_the_effect_of_once(
    verbs: list[str], again: int, servers: tuple[redis.Redis, Registry]
) -> None:
    raw, registry = servers
    states = []
    for repeated in (0, again):
        raw.flushall()
        played = Story(raw, registry)
        story = [Said("one", verb, tick) for tick, verb in enumerate(verbs, 1)]
        for one in [*story, *(story[:repeated] if repeated else ()), *(story if repeated else ())]:
            played.play(one)
        record = registry.get("thread", "t1")
        states.append((record and record.policy, record and record.state, raw.hexists(HOLDS, "t1")))

    assert states[0] == states[1]
