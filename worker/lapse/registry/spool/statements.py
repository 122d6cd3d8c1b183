"""What is kept of a call: whom it is for, when it was said, and what to send. No I/O."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lapse.registry import codec
from lapse.registry.commands import Operation
from lapse.registry.keys import slot
from lapse.registry.scripts import Call, as_it_is, script

KEPT_FOR = 7 * 86_400_000
"""Milliseconds for which a statement may wait: a slot remembers longer what was said last (``include/late.lua``)."""

SAID_AT = {"touch": 4, "deleted": 4, "unexpire": 4, "unhold": 5, "expire": 5, "forget": 5, "hold": 6}
"""Script -> the place in its ARGV, from 1, of the time at which a late statement was said."""
NAMING = ("register", "hold", "forget", "deleted", "use")
"""Scripts that may be the first to write into a slot."""

LASTING = ("hold", "unhold", "forget")
"""Calls that wait until replicas have them, as ``Operation.lasting`` says of those that meet Redis."""

Subject = tuple[object, object, object]
"""Provider, kind and id: whom a call is about."""


class Origin(NamedTuple):
    """Which registry a statement is for: a record of another one is never sent to it.

    Attributes:
        namespace: The first part of its keys.
        database: Number of the Redis database.
        epoch: Id of the registry's epoch; "" where it was not known.

    """

    namespace: str
    database: int
    epoch: str = ""


class SpooledCall(NamedTuple):
    """One call as it waits.

    Attributes:
        origin: Which registry it is for.
        at: When it was said, in milliseconds of this host's clock.
        ahead: How far Redis TIME was ahead of that clock, in milliseconds; None where it was not known.
        calls: The scripts to run, each [name, provider, kind, argument, ...], as JSON.
        described: The call as one line of the log has it, as JSON.

    """

    origin: Origin
    at: int
    ahead: int | None
    calls: str
    described: str

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for, as the log would have it; a registration as ``lapse register --from`` takes it."""
        given: dict[str, Any] = json.loads(self.described)
        return given

    @property
    def repeats(self) -> str | None:
        """Whose place it takes: the last touch of an id says all that those before it said. None for other calls."""
        given = self.given
        return json.dumps([*self.origin, *names(given)]) if given.get("call") == "touch" else None

    @property
    def lasting(self) -> bool:
        """True if replicas have to have it before it waits no longer."""
        return self.given.get("call") in LASTING

    @property
    def prefix(self) -> str:
        """What the keys of its slot begin with."""
        provider, kind, _ = names(self.given)
        return slot(self.origin.namespace, str(provider), str(kind))

    def said(self, ahead: int, now: int) -> int:
        """Return when it was said, in milliseconds of Redis TIME, never later than now.

        Args:
            ahead: How far Redis TIME is ahead of this host's clock, for one that did not know it.
            now: Redis TIME.

        """
        return min(self.at + (ahead if self.ahead is None else self.ahead), now)

    def sent(self, said: int) -> list[Call[Any]]:
        """Return the scripts to run for it."""
        return [_late(name, said, self.origin.namespace, arguments) for name, *arguments in json.loads(self.calls)]


def of(operation: Operation[Any], origin: Origin, ahead: int | None, at: int | None = None) -> list[SpooledCall]:
    """Return what is kept of an operation, each of its ids for itself; ``at``: when it was said, if not now."""
    at = codec.now_millis() if at is None else at
    return [
        SpooledCall(
            origin,
            at,
            ahead,
            codec.dump([[call.script.name, *call.args] for call in one.calls]),
            json.dumps(one.describe()[0], separators=(",", ":"), default=str),
        )
        for one in operation.apart(operation)
    ]


def names(described: Mapping[str, object]) -> Subject:
    """Return whom a described call is about."""
    return described["provider"], described["kind"], described["id"]


def unsaid(sent: Iterable[Call[Any]]) -> list[Call[Any]]:
    """Return what says of a call that was refused to the kinds that it would have named: not all uses are known."""
    refers = {call.key: call for call in sent if call.script.name == "refer"}
    return [Call(script("registry/lua/unsaid"), key, call.args[:3], as_it_is) for key, call in refers.items()]


def _late(name: str, said: int, namespace: str, arguments: list[Any]) -> Call[Any]:
    if name == "register":
        facts = json.loads(arguments[4]) if arguments[4] else {}
        arguments = [*arguments[:4], codec.dump({**facts, "said": said})]
    elif name in SAID_AT:
        missing = SAID_AT[name] - 1 - len(arguments)
        arguments = [*arguments, *[""] * missing, said]
    return Call(script(f"registry/lua/{name}"), slot(namespace, arguments[0], arguments[1]), tuple(arguments), as_it_is)
