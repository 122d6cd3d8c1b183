"""What an application says of all that a piece of its code creates: whose it is, under which policy, how long."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import Any, Self

from lapse.registry import facts, keys
from lapse.registry.codec import Span


@dataclass(frozen=True, slots=True)
class ContextFacts:
    """What holds for objects created here.

    Attributes:
        subject: Whose data they are.
        policy: The rule's name, for every kind that ``track`` has a policy for.
        labels: Pairs of text.
        expires_in: Their own expiry, from their creation.
        tracked: False inside ``untracked``.
        collect: Told of each statement, and of the exchange that made it, inside a scope.

    """

    subject: str | None = None
    policy: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    expires_in: Span | None = None
    tracked: bool = True
    collect: Callable[[Any, Any], None] | None = None


_NONE = ContextFacts()
_current: ContextVar[ContextFacts] = ContextVar("lapse", default=_NONE)


def current() -> ContextFacts:
    """Return what holds where this is called."""
    return _current.get()


class Within:
    """ContextFacts for what is created inside ``with`` or ``async with``; an inner one adds to the outer one's."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._tokens: list[Token[ContextFacts]] = []

    def __enter__(self) -> Self:
        outer = _current.get()
        labels = {**outer.labels, **self._given.get("labels", {})}
        self._tokens.append(_current.set(replace(outer, **{**self._given, "labels": labels})))
        return self

    def __exit__(self, *_raised: object) -> None:
        _current.reset(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *raised: object) -> None:
        self.__exit__(*raised)


def context(
    *,
    subject: str | None = None,
    policy: str | None = None,
    labels: Mapping[str, str] | None = None,
    expires_in: Span | None = None,
) -> Within:
    """Say for all that tracked clients create inside ``with`` or ``async with`` whose it is, and how long it lives.

    It belongs to the context (``contextvars``): tasks that are made inside are in it, and threads that are handed a
    copy of it. An executor's threads are not.

    Args:
        subject: Whose data it is.
        policy: The rule's name, in place of the one that ``track`` has for a kind; kinds that ``track`` does not name
            stay unregistered.
        labels: At most 16 pairs of text, added to those of an outer context.
        expires_in: Their own expiry from creation: seconds, a timedelta, or ``"7d"``.

    Raises:
        InvalidResource: one of these cannot be stored.

    """
    given = {"subject": subject, "labels": labels, "expires_in": expires_in}
    facts.facts(given)
    if policy is not None:
        keys.name(policy, "policy")
    return Within({name: value for name, value in {**given, "policy": policy}.items() if value is not None})


def untracked() -> Within:
    """Leave what tracked clients do inside ``with`` alone: nothing is registered, touched or settled."""
    return Within({"tracked": False})
