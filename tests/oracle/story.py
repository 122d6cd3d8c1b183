"""A run told by hand, second by second, for tests of the oracle itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oracle.history import Call, History, Policy, Request, Resource
from oracle.verdict import violations

DAY = 86400.0
START = 1_800_000_000.0
CHAT = Policy("openai", "thread", "chat", 7 * DAY, "last_active_at", touches=False)
KEY = "sk-planted-0123456789"


def thread(name: str) -> Resource:
    return Resource("openai", "thread", f"thread_{name}")


@dataclass
class Story:
    """A run told by hand, second by second."""

    calls: list[Call] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0

    def say(self, verb: str, who: Resource, at: float, **facts: Any) -> None:
        given = {"acknowledged": START + at + 0.01, "policy": "chat" if verb == "register" else "", **facts}
        self.calls.append(Call(verb, who, START + at, **given))

    def record(self, event: str, who: Resource, at: float, **facts: Any) -> None:
        about = {"provider": who.provider, "kind": who.kind, "id": who.id, "policy": "chat"}
        self.audit.append({"at": round((START + at) * 1000), "event": event, **about, **facts})

    def claim(
        self, who: Resource, at: float, *, by: str = "ttl", policy: str = "chat", due: float = 0.0, parent: str = ""
    ) -> int:
        self.tokens += 1
        due_at = round((START + due) * 1000)
        more = {"parent": parent} if parent else {}
        self.record("intent", who, at, token=self.tokens, by=by, due=due_at, policy=policy, **more)
        return self.tokens

    def ask(self, who: Resource, at: float, *, status: int = 200, confirmed: bool = True) -> None:
        begun = START + at
        path = f"/v1/{who.kind}s/{who.id}"
        self.requests.append(Request(who.provider, begun, begun + 0.05, "DELETE", path, status, confirmed=confirmed))

    def settle(self, who: Resource, at: float, token: int, outcome: str = "deleted", event: str = "settled") -> None:
        self.record(event, who, at, token=token, outcome=outcome)

    def delete(self, who: Resource, at: float, **claim: Any) -> None:
        token = self.claim(who, at, **claim)
        self.ask(who, at + 0.1)
        self.settle(who, at + 0.2, token)

    def history(self, **more: Any) -> History:
        told: dict[str, Any] = {"policies": (CHAT,), "ended": START + 100 * DAY, "began": START, **more}
        return History(tuple(self.calls), tuple(self.requests), tuple(self.audit), **told)


def metrics(**values: Mapping[str, float]) -> str:
    return "".join(
        f"{name}{{{labels}}} {value}\n" for name, series in values.items() for labels, value in series.items()
    )


def found(history: History) -> list[str]:
    return [one.promise for one in violations(history)]


A, B = thread("a"), thread("b")
AT_CHAT = 'kind="thread",policy="chat",provider="openai"'
TRUE_METRICS = {
    "lapse_deletions_total": {AT_CHAT: 1.0},
    "lapse_settled_total": {f'{AT_CHAT},outcome="deleted"': 1.0},
    "lapse_requests_total": {'kind="thread",op="delete",provider="openai",status="200"': 1.0},
    "lapse_registered": {AT_CHAT: 1.0},
}


def true_story() -> Story:
    """Return a true story: two registered, one deleted when it was due, one touched and alive."""
    told = Story()
    told.say("register", A, 0)
    told.say("register", B, 0)
    told.say("touch", B, 5 * DAY)
    told.delete(A, 7 * DAY + 1)
    return told
