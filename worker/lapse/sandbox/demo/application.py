"""The demo's application: it creates, registers, uses and holds, and remembers what it said and when."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from lapse import Registry
from lapse.sandbox.control import Control

IDLE = 8.0
DAY = 86400.0


@dataclass(slots=True)
class Expectation:
    """What the application's own log says of one object: due at ``due`` (seconds since 1970), or never."""

    kind: str
    id: str
    group: str
    due: float | None
    registered: bool = True

    @property
    def title(self) -> str:
        """What it is counted with."""
        return f"{self.kind}s, {self.group}"


class Group(NamedTuple):
    """Objects of one kind that are registered alike: due at ``due``, or never."""

    kind: str
    policy: str
    name: str
    due: float | None = None


@dataclass(slots=True)
class Application:
    """Registers in groups; ``objects`` is its log, kept without asking lapse anything."""

    provider: Control
    registry: Registry
    objects: dict[str, Expectation] = field(default_factory=dict)

    def populate(self) -> None:
        """Create and register everything: at least 2,000 threads and conversations, and a few assistants."""
        self._idle("thread", 900, "left alone")
        self._idle("conversation", 400, "left alone", items=2)
        self._idle("thread", 100, "in use")
        self._idle("conversation", 50, "in use", items=1)
        self._idle("thread", 100, "used once more")
        self._register(Group("thread", "archive", "archived"), self.provider.seed("thread", 150))
        self._register(Group("conversation", "archive", "archived"), self.provider.seed("conversation", 150, items=1))
        past, own = self.provider.seed("thread", 60), self.provider.seed("thread", 60)
        long_ago = time.time() - 40 * DAY
        self._register(Group("thread", "archive", "past 30 days", time.time()), past, created_at=long_ago)
        self._register(Group("thread", "archive", "own expiry", time.time() + 4), own, expires_in="4s")
        self._register(Group("thread", "no-such-policy", "unmanaged"), self.provider.seed("thread", 60))
        self._hold()
        self._assistants()

    def use(self, group: str) -> None:
        """Touch every object of a group, as an application does when a user comes back."""
        for one in self.of(group):
            said = time.time()
            if self.registry.touch(one.kind, one.id) and one.due is not None:
                one.due = said + IDLE

    def of(self, group: str) -> list[Expectation]:
        """Return the objects of a group."""
        return [one for one in self.objects.values() if one.group == group]

    def settle(self) -> None:
        """Let the ones in use count as alive: they are touched until the end."""
        for one in self.of("in use"):
            one.due = None

    def _idle(self, kind: str, count: int, group: str, **given: int) -> None:
        ids = self.provider.seed(kind, count, **given)
        self._register(Group(kind, "chat", group, time.time() + IDLE), ids)

    def _register(self, group: Group, ids: list[str], **facts: float | str) -> None:
        self.registry.register_many({"kind": group.kind, "id": id_, "policy": group.policy, **facts} for id_ in ids)
        for id_ in ids:
            self.objects[id_] = Expectation(group.kind, id_, group.name, group.due)

    def _hold(self) -> None:
        self._register(Group("thread", "chat", "held"), self.provider.seed("thread", 60))
        for one in self.of("held"):
            self.registry.hold(one.kind, one.id, reason="demo: a legal case")

    def _assistants(self) -> None:
        # Providers tell whole seconds: what is as old as the registry to the second may be older, and would wait.
        time.sleep(1)
        used, orphans = self.provider.seed("assistant", 6), self.provider.seed("assistant", 6)
        users = self.of("archived")
        for assistant, user in zip(used, users, strict=False):
            self.registry.register(user.kind, user.id, "archive", uses=[("assistant", assistant)])
        made = time.time()
        self._register(Group("assistant", "assistants", "used by a thread"), used)
        self._register(Group("assistant", "assistants", "used by nothing", made + 10), orphans)
        for id_ in self.provider.seed("assistant", 4):
            self.objects[id_] = Expectation("assistant", id_, "somebody else's", None, registered=False)
