"""An application that goes on when the registry is away; what it said, and heard, is in ``registry.calls``."""

from collections.abc import Callable, Sequence
from typing import Any

from lapse.errors import LapseError
from oracle.history import Call
from support.recording import RecordingRegistry


class Application:
    """Says things of resources of one kind; an answer that never came is an empty text."""

    def __init__(self, registry: RecordingRegistry, kind: str = "thread") -> None:
        self.registry = registry
        self.kind = kind

    def register(self, id_: str, policy: str, **facts: Any) -> bool:
        """Register one id; return whether that was acknowledged."""
        return self._answer(lambda: self.registry.register(self.kind, id_, policy, **facts)) != ""

    def register_many(self, ids: Sequence[str], policy: str, **facts: Any) -> None:
        """Register many ids, as many at once as go in one round trip."""
        for at in range(0, len(ids), 500):
            chosen = ids[at : at + 500]
            self.registry.register_many({"kind": self.kind, "id": id_, "policy": policy, **facts} for id_ in chosen)

    def touch(self, id_: str) -> str:
        """Touch one id; return the answer."""
        return self._answer(lambda: self.registry.touch(self.kind, id_))

    def hold(self, id_: str) -> str:
        """Hold one id; return the answer."""
        return self._answer(lambda: self.registry.hold(self.kind, id_, reason="a test"))

    def unhold(self, id_: str) -> str:
        """End a hold; return the answer."""
        return self._answer(lambda: self.registry.unhold(self.kind, id_))

    def forget(self, id_: str) -> str:
        """Stop tracking one id; return the answer."""
        return self._answer(lambda: self.registry.forget(self.kind, id_))

    def expire(self, id_: str) -> str:
        """Make one id due now; return the answer."""
        return self._answer(lambda: self.registry.expire(self.kind, id_))

    def said(self, *verbs: str) -> list[Call]:
        """Return the calls of some sorts so far."""
        return [one for one in list(self.registry.calls) if one.verb in verbs]

    def acknowledged(self) -> set[str]:
        """Return the ids whose registration was acknowledged."""
        return {one.resource.id for one in self.said("register") if one.acknowledged is not None}

    def _answer(self, call: Callable[[], object]) -> str:
        try:
            return str(call())
        except LapseError:
            return ""
