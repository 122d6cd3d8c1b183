"""An application in a thread: it creates, registers, uses, holds and forgets, and keeps its own log of all that."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lapse import Registry
from lapse.errors import LapseError


@dataclass(frozen=True, slots=True)
class Said:
    """One call of the application.

    Attributes:
        op: register, touch, hold, unhold, forget or expire.
        kind: The resource's kind.
        id: The resource's id.
        sent: When the call began, seconds since 1970.
        acknowledged: When the registry had answered; None if it did not.
        answer: ok, unknown or too_late; empty without an answer.
        facts: What else was said: policy, expires_in, ...

    """

    op: str
    kind: str
    id: str
    sent: float
    acknowledged: float | None
    answer: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Application:
    """Says things of resources; ``log`` is its memory, kept without asking lapse anything."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.log: list[Said] = []
        self._lock = threading.Lock()

    def register(self, kind: str, id_: str, policy: str, **facts: Any) -> bool:
        """Register one id; return whether that was acknowledged."""
        return self._say(
            "register", kind, id_, lambda: self.registry.register(kind, id_, policy, **facts), policy=policy, **facts
        )

    def register_many(self, kind: str, ids: Sequence[str], policy: str, **facts: Any) -> None:
        """Register many ids at once."""
        sent = time.time()
        self.registry.register_many({"kind": kind, "id": id_, "policy": policy, **facts} for id_ in ids)
        acknowledged = time.time()
        with self._lock:
            self.log += [
                Said("register", kind, id_, sent, acknowledged, "ok", {"policy": policy, **facts}) for id_ in ids
            ]

    def touch(self, kind: str, id_: str) -> str:
        """Touch one id; return the answer."""
        return self._answer("touch", kind, id_, lambda: self.registry.touch(kind, id_))

    def hold(self, kind: str, id_: str) -> str:
        """Hold one id; return the answer."""
        return self._answer("hold", kind, id_, lambda: self.registry.hold(kind, id_, reason="a test"))

    def unhold(self, kind: str, id_: str) -> str:
        """End a hold; return the answer."""
        return self._answer("unhold", kind, id_, lambda: self.registry.unhold(kind, id_))

    def forget(self, kind: str, id_: str) -> str:
        """Stop tracking one id; return the answer."""
        return self._answer("forget", kind, id_, lambda: self.registry.forget(kind, id_))

    def expire(self, kind: str, id_: str) -> str:
        """Make one id due now; return the answer."""
        return self._answer("expire", kind, id_, lambda: self.registry.expire(kind, id_))

    def said(self, op: str) -> list[Said]:
        """Return the calls of one sort so far."""
        with self._lock:
            return [one for one in self.log if one.op == op]

    def _say(self, op: str, kind: str, id_: str, call: Callable[[], object], **facts: Any) -> bool:
        return self._answer(op, kind, id_, call, **facts) != ""

    def _answer(self, op: str, kind: str, id_: str, call: Callable[[], object], **facts: Any) -> str:
        sent = time.time()
        try:
            answer = call()
        except LapseError:
            acknowledged, said = None, ""
        else:
            acknowledged, said = time.time(), str(getattr(answer, "value", "ok"))
        with self._lock:
            self.log.append(Said(op, kind, id_, sent, acknowledged, said, facts))
        return said
